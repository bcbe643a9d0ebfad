"""`palimpsest compare`: which of two applications on the same stream forecasts better."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from schemas.messages import Outcome
from schemas.settings import Settings, load_settings
from schemas.times import parse_time
from streams import exits
from streams.cli.console import note, print_json, print_table, print_text
from streams.cli.options import Json
from streams.evaluation import outcomes
from streams.evaluation.outcomes import Joined, Side, Verdict
from streams.evaluation.pairs import Comparison
from streams.evaluation.scores import score

#: Figures of one application, in the order in which they are told, with what they are.
FIGURES: Mapping[str, str] = {
    "mae": "mean absolute error",
    "rmse": "root mean square error",
    "mase": "MAE as a share of the last value's",
    "accuracy": "accuracy",
    "top_k": "truth among the first ranks",
    "interval_coverage": "truths inside the interval",
    "interval_level": "of which it promises",
}


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return parse_time(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def compare(
    first: Annotated[Path, typer.Argument(metavar="A.toml", help="Settings of one application: the champion.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="B.toml", help="Settings of the other one: the challenger.", show_default=False)],
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Only observations from then on, such as 2024-03-01T00:00Z.", show_default=False),
    ] = None,
    entity: Annotated[str | None, typer.Option("--entity", metavar="NAME", help="Only this entity.", show_default=False)] = None,
    json: Json = False,
) -> int:
    """Compare two applications that run on the same stream, on the outcomes that both have published.

    The last word on each prediction counts; pairs are the same observation with the same truth. Published forecasts and the models' own
    answers are compared with the paired tests of an evaluation. Ends with 0 whatever the verdict is.

    Example: palimpsest compare champion.toml challenger.toml --since 2024-03-01T00:00Z
    """
    settings = load_settings(first), load_settings(second)
    sides = asyncio.run(outcomes.read_both(*settings, since=_moment(since), entity=entity))
    joined = outcomes.join(*sides)
    verdict = outcomes.judge(joined, settings[0])
    if json:
        print_json(_as_json(sides, joined, verdict, settings[0]))
        return exits.OK
    columns = ("", *(side.app for side in sides))
    print_table(columns, _rows(sides, joined, verdict, settings[0]))
    print_text("")
    for what, comparison in (("Published forecasts", verdict.published), ("The models' own answers", verdict.model)):
        print_text(f"{what}: {_sentence(sides, comparison)}")
        if remark := _remark(comparison):
            print_text(f"  {remark}")
    for remark in _left_out(sides, joined):
        note(remark)
    return exits.OK


def _sentence(sides: tuple[Side, Side], comparison: Comparison) -> str:
    """The verdict with names: its figures give the second application's first."""
    first, second = (side.app for side in sides)
    opening, _, figures = comparison.verdict.partition(": ")
    if comparison.better:
        opening = f"{second} is better than {first}"
    elif comparison.worse:
        opening = f"{first} is better than {second}" + (", by less than the margin" if comparison.non_inferior else "")
    elif comparison.non_inferior:
        opening = f"{second} is not worse than {first} by more than the margin, and not shown to be better"
    else:
        opening = f"{first} and {second} are not distinguishable at n = {comparison.n}"
    return f"{opening}: {second} {figures}"


def _remark(comparison: Comparison) -> str:
    if comparison.better or comparison.worse:
        return ""
    wanted = outcomes.needed(comparison)
    if wanted is None or wanted <= comparison.n:
        return ""
    return f"Should the difference stay what it is, it takes some {_round(wanted)} outcomes to show it."


def _round(number: int) -> int:
    """Two digits: more would pretend to be known."""
    return int(float(f"{number:.2g}"))


def _scores(rows: Sequence[Outcome], settings: Settings, *, own: bool) -> dict[str, Any]:
    found = score(outcomes.results(rows, own=own), settings.target)
    return {name: found[name] for name in FIGURES if name in found}


def _rows(sides: tuple[Side, Side], joined: Joined, verdict: Verdict, settings: Settings) -> list[tuple[str, ...]]:
    pairs = (joined.first, joined.second)
    rows: list[tuple[str, ...]] = [
        ("outcomes with a truth", *(str(len(side.outcomes)) for side in sides)),
        ("compared", *(str(len(rows)) for rows in pairs)),
        ("compared without a model's answer", *(str(count) for count in verdict.unanswered)),
    ]
    for name, own in (("published", False), ("model's own", True)):
        one, other = (_scores(side, settings, own=own) for side in pairs)
        known = [key for key in FIGURES if key in one and key in other]
        rows += [(f"{name}: {FIGURES[key]}", f"{one[key]:.4g}", f"{other[key]:.4g}") for key in known]
    return rows


def _left_out(sides: tuple[Side, Side], joined: Joined) -> list[str]:
    remarks = []
    for side, only in zip(sides, (joined.only_first, joined.only_second), strict=True):
        parts = [f"{side.left_out[reason]} {reason}" for reason in outcomes.LEFT_OUT if side.left_out.get(reason)]
        parts += [f"{only} that the other has not"] if only else []
        if parts:
            remarks.append(f"{side.app}: left out {', '.join(parts)}")
    if joined.truths_differ:
        remarks.append(f"left out {joined.truths_differ} whose truths differ: a correction that one has heard of and the other has not")
    return remarks


def _as_json(sides: tuple[Side, Side], joined: Joined, verdict: Verdict, settings: Settings) -> dict[str, Any]:
    pairs = (joined.first, joined.second)
    named = {}
    for place, (name, side) in enumerate(zip(("a", "b"), sides, strict=True)):
        named[name] = {
            "app": side.app,
            "topic": side.topic,
            "outcomes": len(side.outcomes),
            "left_out": dict(side.left_out),
            "only": (joined.only_first, joined.only_second)[place],
            "unanswered": verdict.unanswered[place],
            "published": _scores(pairs[place], settings, own=False),
            "model": _scores(pairs[place], settings, own=True),
        }
    return {
        **named,
        "n": len(joined.first),
        "entities": len({outcome.entity for outcome in joined.first}),
        "first": joined.first[0].time.isoformat(),
        "last": joined.first[-1].time.isoformat(),
        "truths_differ": joined.truths_differ,
        "b_against_a": {name: _compared(sides, found) for name, found in (("published", verdict.published), ("model", verdict.model))},
    }


def _compared(sides: tuple[Side, Side], comparison: Comparison) -> dict[str, Any]:
    return {**comparison.model_dump(), "sentence": _sentence(sides, comparison), "outcomes_needed": outcomes.needed(comparison)}
