"""How runs become a table of what was measured beside what should be."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from bench.slots import Verdict, _chosen, verdicts


def arrivals(slots: int, on: float, off: float) -> list[dict[str, Any]]:
    both = ((True, on), (False, off))
    return [{"slots": slots, "rewriting": rewriting, "p50": 0.1, "p99": p99, "rewrites": 0.1} for rewriting, p99 in both]


def table(**figures: Any) -> dict[str, Verdict]:
    return {one.what: one for one in verdicts({"rewrite": 2.0, **figures})}


def test_medians_of_the_rounds_are_held_against_the_goals() -> None:
    runs = [{"busy": busy, "rewrites": rewrites} for busy, rewrites in ((0.99, 0.2), (0.98, 0.1), (0.5, 0.14))]
    found = table(backlog=runs)
    assert [(one.value, one.met) for one in found.values()] == [(0.98, True), (0.14, False)]


@pytest.mark.parametrize(("on", "met"), [(0.47, True), (0.49, False)])
def test_with_several_slots_the_slowest_predictions_may_take_a_fifth_longer_with_rewrites(on: float, met: bool) -> None:
    runs = [run for on_now in (9.0, on, 0.1) for run in arrivals(4, on_now, 0.4)] + arrivals(1, 0.1, 0.1)
    assert table(arrivals=runs)["arrivals: 4 slots, with rewrites"].met is met


# With one slot a prediction takes 0.1 s, so that a rewrite takes 0.2 s.
@pytest.mark.parametrize(("on", "met"), [(0.67, True), (0.69, False)])
def test_with_one_slot_a_rewrite_may_be_in_the_way_once(on: float, met: bool) -> None:
    assert table(arrivals=arrivals(4, 1.0, 1.0) + arrivals(1, on, 0.4))["arrivals: 1 slot, with rewrites"].met is met


def test_one_output_out_of_order_in_one_round_is_one_too_many() -> None:
    well = {"rate": 310.0, "busy": 0.97, "misordered": 0, "lost": 0, "doubled": 0}
    rate, order = table(rate=[well, well, {**well, "misordered": 1}]).values()
    assert (rate.met, order.met) == (True, False)
    assert rate.value == pytest.approx(310 / 320)


def test_parts_are_chosen_by_name_and_an_unknown_one_is_refused() -> None:
    assert _chosen("") == ["backlog", "arrivals", "rate"]
    assert _chosen("rate, backlog") == ["backlog", "rate"]
    with pytest.raises(typer.BadParameter, match="speed"):
        _chosen("speed")
