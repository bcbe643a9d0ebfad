"""Tests of `streams.demo.view`."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from streams.demo.driver import Driver, Patience
from streams.demo.record import Record
from streams.demo.view import LiveView, PlainView, choose

Make = Callable[..., Any]
PATIENT = Patience(prediction=30, outcome=0.02)


def console(*, width: int = 140, height: int = 40, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=width, height=height, force_terminal=terminal, legacy_windows=False)


async def lines_of(record: Record, worker: Any) -> list[str]:
    out = console()
    view = PlainView(out, record)
    async with view.shown():
        await Driver(record, worker, patience=PATIENT, changed=view.changed).run()
    return out.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


def screen(record: Record, make_settings: Make, *, width: int, height: int) -> str:
    out = console(width=width, height=height)
    out.print(LiveView(out, record, make_settings(record.target)).render())
    return out.file.getvalue()  # type: ignore[attr-defined, no-any-return]


async def test_without_a_terminal_each_day_is_a_line_with_truth_error_and_running_scores(make_record: Make, make_worker: Make) -> None:
    lines = [line for line in await lines_of(make_record(steps=3), make_worker()) if line.startswith("2014")]
    assert [line[:10] for line in lines] == ["2014-04-13", "2014-04-14", "2014-04-15"]
    assert "forecast 16.1  [14.1, 18.1]  model 16.1  truth 20.6  error +4.5  source model  memory 0" in lines[0]
    assert "MAE published" in lines[0]


async def test_an_accepted_revision_is_a_block_and_a_refusal_a_line(make_record: Make, make_worker: Make) -> None:
    lines = await lines_of(make_record(steps=6), make_worker())
    at = next(i for i, line in enumerate(lines) if "revision 1" in line)
    assert lines[at + 2].strip() == "+ - when wind below 3: add +1.0"
    assert any("proposal refused (feedback): duplicate" in line for line in lines)


async def test_a_fallback_prediction_says_so_and_why(make_record: Make, make_worker: Make) -> None:
    lines = await lines_of(make_record(steps=2), make_worker(modelless={1}))
    assert "source fallback (unreachable)" in lines[1]
    assert "model -" in lines[1]


async def test_a_day_without_outcome_is_a_line_too(make_record: Make, make_worker: Make) -> None:
    lines = [line for line in await lines_of(make_record(steps=3), make_worker(unlearned={1, 2})) if line.startswith("2014")]
    assert len(lines) == 3
    assert "no outcome" in lines[1]


async def test_classes_are_hits_and_misses(make_record: Make, make_worker: Make) -> None:
    lines = await lines_of(make_record("class", steps=10), make_worker(target="class"))
    assert any("error hit" in line for line in lines)
    assert any("error miss" in line for line in lines)
    assert any("accuracy published" in line for line in lines)


@pytest.mark.parametrize("target", ["temperature", "class"])
@pytest.mark.parametrize(("width", "height"), [(140, 40), (80, 24), (200, 60)])
async def test_the_dashboard_fits_its_terminal_at_every_stage(
    target: str, width: int, height: int, make_record: Make, make_worker: Make, make_settings: Make
) -> None:
    record = make_record(target, 8)
    screens = [screen(record, make_settings, width=width, height=height)]
    await Driver(
        record,
        make_worker(target=target),
        patience=PATIENT,
        changed=lambda: screens.append(screen(record, make_settings, width=width, height=height)),
    ).run()
    for drawn in screens:
        lines = drawn.rstrip("\n").split("\n")
        assert len(lines) <= height
        assert all(len(line) <= width for line in lines)


async def test_the_dashboard_shows_chart_days_memory_scores_and_cost(make_record: Make, make_worker: Make, make_settings: Make) -> None:
    record = make_record(steps=9)
    await Driver(record, make_worker(), patience=PATIENT).run()
    drawn = screen(record, make_settings, width=140, height=40)
    for piece in (
        "truth",
        "last days",
        "memory, revision 2: feedback",
        "wind below 3: 4:",
        "running scores",
        "persistence",
        "cost",
        "9 of 9 days",
    ):
        assert piece in drawn


async def test_the_last_refusal_is_shown_below_the_memory(make_record: Make, make_worker: Make, make_settings: Make) -> None:
    record = make_record(steps=6)
    await Driver(record, make_worker(), patience=PATIENT).run()
    assert "last proposal refused: duplicate" in screen(record, make_settings, width=140, height=40)


@pytest.mark.parametrize(
    ("terminal", "width", "height", "kind"),
    [(True, 120, 40, LiveView), (True, 70, 40, PlainView), (True, 120, 10, PlainView), (False, 120, 40, PlainView)],
)
def test_only_a_terminal_that_can_draw_it_gets_the_dashboard(
    terminal: bool, width: int, height: int, kind: type, make_record: Make, make_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    assert isinstance(choose(console(width=width, height=height, terminal=terminal), make_record(), make_settings()), kind)


async def test_the_dashboard_gives_the_terminal_back_even_after_a_failure(
    make_record: Make, make_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    out = console(terminal=True)
    view = LiveView(out, make_record(), make_settings())
    with pytest.raises(RuntimeError):
        async with view.shown():
            view.changed()
            raise RuntimeError
    text = out.file.getvalue()  # type: ignore[attr-defined]
    assert text.index("\x1b[?1049h") < text.index("\x1b[?1049l")
