"""`palimpsest dead-letters`: what could not be used, why, and a second try."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing
from typing import Annotated

import typer

from schemas.mapping import REASONS
from schemas.settings import Settings
from streams import dead_letters, exits
from streams.cli.console import note, print_json, print_json_line, print_table, stderr
from streams.cli.options import Config, Json, Limit, settings_of
from streams.kafka import producer

program = typer.Typer(help="Read records that could not be used, and send them again.", no_args_is_help=True)

#: Characters of a detail or value in the table.
SHOWN = 80


def _known(reasons: list[str]) -> list[str]:
    for reason in reasons:
        if reason not in REASONS:
            raise typer.BadParameter(f"{reason!r} is none of {', '.join(REASONS)}")
    return reasons


Reasons = Annotated[
    list[str],
    typer.Option("--reason", "-r", metavar="REASON", help="Only of this reason; repeatable.", callback=_known, show_default=False),
]


@program.command("list")
def list_letters(reason: Reasons = [], limit: Limit = None, config: Config = None, json: Json = False) -> int:  # noqa: B006 - typer's way
    """List dead letters, by partition from the oldest on, with the count of each reason at the end.

    With --json one letter a line: its headers, and the value as text (bytes that are not UTF-8 replaced).

    Example: palimpsest dead-letters list --reason bad-time --limit 20
    """
    asyncio.run(_list(settings_of(config), reason, limit, json))
    return exits.OK


@program.command("replay")
def replay_letters(
    reason: Reasons = [],  # noqa: B006
    limit: Limit = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed where no reason is given and nobody can be asked.")] = False,
    config: Config = None,
    json: Json = False,
) -> int:
    """Send dead letters back to the topics they came from, with their own keys and bytes: after a mapping was corrected, say.

    They stay in the dead-letters topic, since a log is not edited; what still cannot be used comes back as a new letter. So replay a
    reason once, when its cause is gone. Without a --reason all are sent, which must be confirmed.

    Example: palimpsest dead-letters replay --reason missing-time
    """
    settings = settings_of(config)
    if not reason and not yes:
        if not stderr.is_terminal:
            raise typer.BadParameter("without a --reason this sends every dead letter again; say --yes if that is meant")
        typer.confirm("Send every dead letter again?", abort=True, err=True)
    done = asyncio.run(_replay(settings, reason, limit))
    for letter, cause in done.left:
        note(f"not sent: {letter.about.topic}/{letter.about.partition}, offset {letter.about.offset}: {cause}")
    if json:
        print_json({"sent": dict(done.sent), "left": len(done.left)})
    else:
        note(", ".join(f"{count} sent to {topic}" for topic, count in done.sent.items()) or "nothing to send")
    return exits.FAILED if done.left else exits.OK


async def _list(settings: Settings, reasons: list[str], limit: int | None, json: bool) -> None:
    counts: Counter[str] = Counter()
    rows = []
    async with aclosing(dead_letters.read_letters(settings, reasons)) as letters:
        async for letter in letters:
            counts[letter.about.reason] += 1
            if json:
                print_json_line(_as_json(letter))
            else:
                rows.append(_as_row(letter))
            if limit is not None and counts.total() >= limit:
                break
    if json:
        return
    print_table(("REASON", "TOPIC", "PARTITION", "OFFSET", "SIZE", "DETAIL", "VALUE"), rows)
    note("; ".join(f"{count} {reason}: {REASONS.get(reason, 'unknown')}" for reason, count in counts.most_common()) or "no dead letters")


async def _replay(settings: Settings, reasons: list[str], limit: int | None) -> dead_letters.Replayed:
    async with producer(settings.kafka) as client, aclosing(dead_letters.read_letters(settings, reasons)) as letters:

        async def send(topic: str, key: bytes | None, value: bytes) -> object:
            return await client.send_and_wait(topic, value, key=key)

        return await dead_letters.replay_letters(settings, letters, send, limit=limit)


def _as_row(letter: dead_letters.Letter) -> tuple[str, ...]:
    about = letter.about
    value = letter.value.decode("utf-8", "replace").replace("\n", " ").replace("\t", " ")
    return (about.reason, about.topic, str(about.partition), str(about.offset), str(about.size), _cut(about.detail), _cut(value))


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _as_json(letter: dead_letters.Letter) -> dict[str, object]:
    return {
        **letter.about.model_dump(mode="json", exclude_none=True),
        "key": None if letter.key is None else letter.key.decode("utf-8", "replace"),
        "value": letter.value.decode("utf-8", "replace"),
        "written": letter.written.isoformat(),
    }
