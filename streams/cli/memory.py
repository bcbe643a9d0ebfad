"""`palimpsest memory`: what an entity's memory says, and how it came to say that. Read from the audit log."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.markup import escape

from schemas.codec import encode
from schemas.messages import MemoryRevision
from schemas.settings import Settings
from streams import exits
from streams.cli.console import note, print_json_line, print_text, stdout
from streams.cli.options import Config, Json, settings_of
from streams.cluster import describe
from streams.errors import TopicsUnfit
from streams.findings import Finding
from streams.kafka import admin
from streams.partitioner import state_partition
from streams.reading import read_topic

program = typer.Typer(help="Read the memories of entities, and how they changed.", no_args_is_help=True)

Entity = Annotated[str, typer.Argument(metavar="ENTITY", help="The entity's id, as in the observations.")]
_STYLES = {"+": "green", "-": "red"}


@program.command("show")
def show_memory(entity: Entity, config: Config = None, json: Json = False) -> int:
    """Print an entity's memory as it stands: the text alone on standard output, its revision beside it on standard error.

    Ends with 1 if there is none yet.

    Example: palimpsest memory show seattle > memory.txt
    """
    latest = asyncio.run(_latest(settings_of(config), entity))
    if latest is None:
        note(f"{entity} has no memory yet")
        return exits.FAILED
    if json:
        print_json_line(encode(latest))
    else:
        note(_headline(latest))
        print_text(latest.after)
    return exits.OK


@program.command("history")
def show_history(entity: Entity, config: Config = None, json: Json = False) -> int:
    """Print every change of an entity's memory, oldest first: why, by whom, what changed, and what was refused.

    With --json one revision a line, as in the topic.

    Example: palimpsest memory history seattle --json | jq .cause
    """
    count = asyncio.run(_history(settings_of(config), entity, json))
    if not count:
        note(f"{entity} has no memory yet")
        return exits.FAILED
    return exits.OK


async def _latest(settings: Settings, entity: str) -> MemoryRevision | None:
    latest = None
    async with aclosing(revisions(settings, entity)) as found:
        async for revision in found:
            if revision.accepted:
                latest = revision
    return latest


async def _history(settings: Settings, entity: str, json: bool) -> int:
    count = 0
    async with aclosing(revisions(settings, entity)) as found:
        async for revision in found:
            count += 1
            if json:
                print_json_line(encode(revision))
            else:
                _print_revision(revision)
    return count


async def revisions(settings: Settings, entity: str) -> AsyncGenerator[MemoryRevision, None]:
    """The entries of the audit log about one entity, oldest first.

    Raises
    ------
    KafkaUnavailable, TopicsUnfit
        Kafka does not answer; the topic does not exist.
    """
    topic = settings.topics.memories
    async with admin(settings.kafka) as client:
        state = (await describe(client, [topic])).get(topic)
    if state is None:
        raise TopicsUnfit([Finding("fail", topic, "missing", "the topic does not exist.", "`palimpsest topics create` makes it.")])
    key = entity.encode()
    async with aclosing(read_topic(settings.kafka, topic, [state_partition(settings, entity, state.partitions)])) as records:
        async for record in records:
            if record.key != key or record.value is None:
                continue
            try:
                yield MemoryRevision.model_validate_json(record.value)
            except ValidationError as error:
                note(f"{topic}/{record.partition}, offset {record.offset}: not a memory revision ({error.error_count()} faults)")


def _headline(revision: MemoryRevision) -> str:
    who = f", by {revision.by}" if revision.by else ""
    return f"revision {revision.revision}, {revision.cause}{who}, {revision.made_at:%Y-%m-%d %H:%M:%S}Z, {revision.words} words"


def _print_revision(revision: MemoryRevision) -> None:
    verdict = "" if revision.accepted else f" REFUSED ({revision.reason})" if revision.reason else " REFUSED"
    _line(_headline(revision) + verdict, "bold" if revision.accepted else "bold yellow")
    if revision.why:
        _line(f"  why: {revision.why}")
    for line in changes(revision.before, revision.after):
        _line(f"  {line}", _STYLES.get(line[:1], ""))
    for rejection in revision.rejected:
        detail = f" ({rejection.detail})" if rejection.detail else ""
        _line(f"  ! {rejection.guard}{detail}: {rejection.statement}", "yellow")


def _line(text: str, style: str = "") -> None:
    stdout.print(escape(text), style=style, soft_wrap=True, highlight=False)


def changes(before: str, after: str) -> Iterator[str]:
    """The lines that differ, with what is left of them: `- ` gone, `+ ` new, two spaces kept.

    Examples
    --------
    >>> list(changes("a\\nb", "a\\nc"))
    ['  a', '- b', '+ c']
    """
    return (line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if not line.startswith("?"))
