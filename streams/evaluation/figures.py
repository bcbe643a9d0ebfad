"""The charts of a report: which series there are, how each arm looks in all of them, and what is said below."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from schemas.messages import Value
from streams.evaluation import drawing
from streams.evaluation.axes import Axis
from streams.evaluation.drawing import Band, Dot, Look, Panel, Series, Strip
from streams.evaluation.losses import in_order, loss
from streams.evaluation.phrasing import Measure, listed, title_of
from streams.evaluation.report import BASE, SUBJECT, Evaluation
from streams.evaluation.results import CaseResult

#: The same in all charts: families share a colour, and within one dashes differ.
LOOKS: Mapping[str, Look] = {
    "zero_shot": Look("grey", width=2.2),
    "fhc": Look("vermilion", width=2.2),
    "memprompt_summary_concat": Look("orange"),
    "memprompt_error_retrieval": Look("orange", dash="6 4"),
    "published_loop": Look("vermilion", dash="6 4"),
    "ledger_only": Look("green"),
    "llm_as_rnn": Look("blue", width=3.2),
    "llm_as_rnn_free_text": Look("purple"),
    "llm_as_rnn_blank": Look("sky", dash="7 4"),
    "llm_as_rnn_enumerated": Look("sky", dash="2 4"),
    "llm_as_rnn_random": Look("olive", dash="6 4"),
    "rules_executed": Look("purple", dash="2 4"),
}
#: The naive ones, in turn.
_NAIVE_DASHES = ("1 4", "8 3 1 3", "3 3", "12 4", "5 2 1 2 1 2")
#: Cases of a chart at most; the newest ones are drawn, or several to a cell.
_NEWEST, _CELLS = 300, 240
#: Entities and streams whose numbers are drawn.
_DRAWN = 4
#: Cases over which tokens by step are averaged.
_SMOOTHED = 10


def look_of(name: str, names: Sequence[str]) -> Look:
    """How an arm is drawn; naive forecasters by their turn in `names`."""
    if name in LOOKS:
        return LOOKS[name]
    naive = [other for other in names if other not in LOOKS]
    return Look("grey", dash=_NAIVE_DASHES[naive.index(name) % len(_NAIVE_DASHES)], width=1.2)


def tokens_by_step(results: Sequence[CaseResult], over: int = _SMOOTHED) -> list[float]:
    """Tokens of each case, prompts and answers of all purposes, as the mean of the last `over` cases."""
    spent = [float(sum(one.prompt_tokens + one.output_tokens for one in row.spent.values())) for row in in_order(results)]
    windows = (spent[max(0, at + 1 - over) : at + 1] for at in range(len(spent)))
    return [sum(window) / len(window) for window in windows]


def curves(report: Mapping[str, Any], measure: Measure) -> Markup | None:
    """The faded score of every arm as the stream goes on."""
    names = [name for name, arm in report["arms"].items() if arm["learning_curve"]]
    if not names:
        return None
    curves = {name: report["arms"][name]["learning_curve"] for name in names}
    # The first cases alone are means over next to nothing: they would set the scale, so they may be cut off.
    settled = [value for curve in curves.values() for value in curve[min(10, len(curve) // 2) :]]
    room = (max(settled) - min(settled)) * 0.08 or 0.02
    if measure.percent:
        low, high = max(0.0, min(settled) - room), min(1.0, max(settled) + room)
    else:
        low, high = 0.0, max(settled) + room
    series = [Series(title_of(name), _thinned(curves[name]), look_of(name, names)) for name in names]
    ends = ", ".join(f"{title_of(name)} {measure.say(curves[name][-1])}" for name in names)
    return drawing.lines(
        "learning-curves",
        [Panel(Axis(f"faded {measure.name}, {measure.direction}", low, high, percent=measure.percent), series, height=330)],
        Axis("labelled step", low=1, whole=True),
        title=f"Learning curves: {measure.name} by step",
        description=f"Each arm's {measure.name} with older cases weighing less. At the end: {ends}.",
    )


def _thinned(values: Sequence[float], most: int = 600) -> list[tuple[float, float | None]]:
    """Points at steps from 1; of long series every so many and the last."""
    every = max(1, -(-len(values) // most))
    return [(at + 1.0, value) for at, value in enumerate(values) if at % every == 0 or at == len(values) - 1]


def cost(report: Mapping[str, Any], measure: Measure) -> Markup | None:
    """Tokens per step against the score; nothing where no arm asked a model."""
    names = list(report["arms"])
    dots = [
        Dot(
            title_of(name),
            arm["tokens_per_step"] if arm.get("calls") else None,
            arm[measure.key],
            look_of(name, names),
            arm.get(f"{measure.key}_low"),
            arm.get(f"{measure.key}_high"),
            f"{measure.say(arm[measure.key])}, {arm['tokens_per_step']:,.0f} tokens per step",
        )
        for name, arm in report["arms"].items()
        if measure.key in arm
    ]
    if not any(dot.x for dot in dots):
        return None
    return drawing.scatter(
        "cost",
        dots,
        Axis("tokens per labelled step (logarithmic)", log=True),
        Axis(f"{measure.name}, {measure.direction}", percent=measure.percent),
        title=f"Cost against {measure.name}",
        description="; ".join(f"{dot.name}: {dot.said}" for dot in dots),
        without="no model call",
    )


def tokens(streams: Sequence[Evaluation]) -> Markup | None:
    """Tokens by step, of the first stream: all are made alike."""
    asked = {
        name: run
        for name, run in (streams[0].arms.items() if streams else ())
        if any(spent.calls for row in run.results for spent in row.spent.values())
    }
    if not asked:
        return None
    curves = {name: tokens_by_step(run.results) for name, run in asked.items()}
    series = [Series(title_of(name), _thinned(curve), LOOKS.get(name, Look())) for name, curve in curves.items()]
    return drawing.lines(
        "tokens",
        [Panel(Axis(f"tokens per step, mean of {_SMOOTHED}", low=0), series, height=250)],
        Axis("labelled step", low=1, whole=True),
        title="Tokens per step",
        description="At the end: " + ", ".join(f"{title_of(name)} {curve[-1]:,.0f}" for name, curve in curves.items()) + ".",
    )


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with what stands below it."""

    chart: Markup
    caption: str


def predictions(streams: Sequence[Evaluation], measure: Measure) -> Iterator[Figure]:
    """Answers and truths: for numbers lines of some entities, else right and wrong of every arm."""
    for number, stream in enumerate(streams[:_DRAWN]):
        if not any(run.results for run in stream.arms.values()):
            continue
        of = f" (seed {stream.dataset.seed})" if len(streams) > 1 else ""
        if measure.percent:
            yield _hits(f"hits-{number}", stream, of)
        else:
            counts = Counter(row.entity for row in next(iter(stream.arms.values())).results)
            for place, (entity, _) in enumerate(counts.most_common(max(1, _DRAWN // len(streams)))):
                yield _lines(f"numbers-{number}-{place}", stream, entity, measure, of, entities=len(counts))


def _hits(name: str, stream: Evaluation, of: str) -> Figure:
    target, names = stream.settings.target, list(stream.arms)
    longest = max(len(run.results) for run in stream.arms.values())
    every = -(-longest // _CELLS)
    rows = []
    for arm, run in stream.arms.items():
        right = [1.0 - loss(row, target) for row in in_order(run.results)]
        cells = [right[at : at + every] for at in range(0, len(right), every)]
        shares = [sum(cell) / len(cell) for cell in cells]
        rows.append(Strip(title_of(arm), shares, look_of(arm, names), f"{sum(right):.0f} of {len(right)} right"))
    cell = "a case" if every == 1 else f"{every} cases"
    chart = drawing.strips(
        name,
        rows,
        Axis("labelled step", low=0, high=-(-longest // every) * every, whole=True),
        title=f"Right and wrong by step{of}",
        description="; ".join(f"{row.name}: {row.said}" for row in rows),
    )
    return Figure(chart, f"Each column is {cell}{of}: a full bar was right, a low grey tick was wrong.")


def _lines(name: str, stream: Evaluation, entity: str, measure: Measure, of: str, *, entities: int) -> Figure:
    shown = [arm for arm in (SUBJECT, "fhc", BASE) if arm in stream.arms] or list(stream.arms)[:1]
    rows = {arm: [row for row in in_order(stream.arms[arm].results) if row.entity == entity] for arm in shown}
    numbered = {arm: list(enumerate(of_arm, start=1))[-_NEWEST:] for arm, of_arm in rows.items()}
    low, high = _room(row for of_arm in numbered.values() for _, row in of_arm)
    panels = [_panel(arm, numbered[arm], Axis(measure.unit or "value", low, high)) for arm in shown]
    longest = max(map(len, rows.values()))
    whose = f"{entity}{of}" + (f", one of {entities} entities" if entities > 1 else "")
    cut = f", the newest {_NEWEST} of {longest} cases" if longest > _NEWEST else ""
    chart = drawing.lines(
        name,
        panels,
        Axis("labelled step", whole=True),
        title=f"Predictions and truths of {whose}",
        description=f"For {listed([title_of(arm) for arm in shown])}: the arm's answers and what came true, by step{cut}.",
    )
    return Figure(chart, f"{whose}{cut}: what each arm said, and what came true. Answers far from all truths lie beyond the scale.")


def _room(rows: Iterable[CaseResult]) -> tuple[float, float]:
    """One scale for all arms: that of all numbers, but at most three times what the truths take, for an answer may be anything."""
    known = list(rows)
    truths = [value for row in known if (value := _number(row.truth)) is not None]
    said = [value for row in known if (value := _number(row.answer.value)) is not None]
    width = max(truths) - min(truths) or max(1.0, abs(truths[0]))
    margin = 0.05 * width
    return max(min(truths + said), min(truths) - width) - margin, min(max(truths + said), max(truths) + width) + margin


def _panel(arm: str, numbered: Sequence[tuple[int, CaseResult]], y: Axis) -> Panel:
    spans = [
        (float(at), row.interval.low, row.interval.high)
        for at, row in numbered
        if row.interval is not None and row.interval.low is not None and row.interval.high is not None
    ]
    truths = Series("what came true", [(at, _number(row.truth)) for at, row in numbered], Look("ink", width=1.3))
    look = Look(LOOKS[arm].colour if arm in LOOKS else "grey", width=2)
    answers = Series(title_of(arm), [(at, _number(row.answer.value)) for at, row in numbered], look)
    bands = [Band("prediction interval", spans, "blue")] if arm == SUBJECT and len(spans) > 1 else []
    return Panel(y, [truths, answers], bands, heading=title_of(arm), height=190)


def _number(value: Value) -> float | None:
    return None if isinstance(value, str) else float(value)
