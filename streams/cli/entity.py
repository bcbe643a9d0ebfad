"""`palimpsest entity`: an entity's live state, asked of the workers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Annotated

import typer

from schemas.messages import ArmScore
from schemas.queries import EntityReport, Served, Unanswered
from schemas.times import Time
from streams import exits
from streams.cli.console import note, print_json, print_table, print_text
from streams.cli.options import Config, Json, settings_of
from streams.fleet import ask


def entity(
    entity: Annotated[str, typer.Argument(metavar="ENTITY", help="The entity's id, as in the observations.")],
    config: Config = None,
    json: Json = False,
) -> int:
    """Print an entity's live state: memory, scores, what waits for its truth, and how fresh that is.

    It is asked of a worker, over HTTP; `palimpsest memory show` reads the audit log instead, and needs no worker. With --json the whole
    answer, with the latest outcomes and the pending predictions.

    Ends with 1 if there is no such entity, with 69 if no worker can answer now.

    Example: palimpsest entity seattle
    """
    answer = asyncio.run(ask(settings_of(config), entity))
    if isinstance(answer, Unanswered):
        note("; ".join(answer.reasons) + (f" ({_freshness(answer.served)})" if answer.served is not None else ""))
        return exits.FAILED
    if json:
        print_json(answer.model_dump(mode="json"))
        return exits.OK
    print_table(("ENTITY", answer.entity), list(_facts(answer)))
    if answer.memory.text:
        print_text(f"\n{answer.memory.text}")
    note(_freshness(answer.served))
    return exits.OK


def _facts(answer: EntityReport) -> Iterator[tuple[str, str]]:
    memory = answer.memory
    made = f", {memory.cause}, {_time(memory.made_at)}" if memory.cause is not None else ""
    yield "memory", f"revision {memory.revision}{made}, {memory.words} words"
    if answer.frozen or answer.forgotten:
        yield "state", "forgotten" if answer.forgotten else "frozen"
    yield "newest", _time(answer.newest)
    yield "outcomes", str(answer.outcomes)
    for arm, score in answer.scores.items():
        yield f"  {arm}", _score(score)
    yield "pending", str(len(answer.pending))
    yield "early truths", str(answer.early)
    yield "feedback", str(len(answer.feedback) + answer.folded.count)
    if answer.rewrite_wanted is not None:
        yield "rewrite", f"wanted since {_time(answer.rewrite_wanted)}"
    if answer.due is not None:
        yield "due", _time(answer.due)


def _score(score: ArmScore) -> str:
    kept = {"mae": score.mae, "mse": score.mse, "accuracy": score.accuracy, "top k": score.top_k, "faded": score.faded}
    return ", ".join([f"{name} {value:.4g}" for name, value in kept.items() if value is not None] + [f"n {score.n}"])


def _time(time: Time | None) -> str:
    return "-" if time is None else f"{time:%Y-%m-%d %H:%M:%S}Z"


def _freshness(served: Served) -> str:
    """Where it was read and what it may lack, in a line."""
    waiting = [f"{one.lag} {one.input}" for one in served.inputs if one.lag]
    unknown = [one.input for one in served.inputs if one.lag is None]
    lacks = f"{' and '.join(waiting)} of its partition not applied yet" if waiting else "all of its partition's records applied"
    lacks += f", those of {' and '.join(unknown)} not known" if unknown else ""
    return f"partition {served.partition} at {served.worker}, {_time(served.at)}: {lacks}"
