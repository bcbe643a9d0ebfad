"""`palimpsest replay`: files into the input topics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from schemas.settings import Settings
from streams import exits, replaying
from streams.cli.console import note, print_json, record_progress
from streams.cli.options import Config, Json, Limit, settings_of

#: Records between two plain lines of progress.
LINE_EVERY = 10_000


def parse_speed(text: str) -> float | None:
    """`max`, or a positive number of stream seconds per second.

    Examples
    --------
    >>> parse_speed("max"), parse_speed("3600")
    (None, 3600.0)
    """
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise typer.BadParameter(f'{text!r} is no speed; write "max", or stream seconds per second such as 3600')
    return speed


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Observations: CSV (.csv, .tsv) with a header, or JSON lines.")],
    config: Config = None,
    truths: Annotated[
        Path | None,
        typer.Option("--truths", metavar="FILE", help="Truths, sent between them by their time.", show_default=False),
    ] = None,
    speed: Annotated[str, typer.Option("--speed", metavar="N|max", help="Stream seconds per second: 3600 sends an hour a second.")] = "max",
    entity_field: Annotated[
        str | None,
        typer.Option("--entity-field", metavar="FIELD", help="Field of the entity, if not the mapping's.", show_default=False),
    ] = None,
    time_field: Annotated[
        str | None, typer.Option("--time-field", metavar="FIELD", help="Field of the time, if not the mapping's.", show_default=False)
    ] = None,
    entity: Annotated[
        str | None, typer.Option("--entity", metavar="NAME", help="The entity of every line, for a file about one.", show_default=False)
    ] = None,
    limit: Limit = None,
    event_timestamps: Annotated[
        bool, typer.Option("--event-timestamps", help="Give records their event time as timestamp; retention may delete old ones at once.")
    ] = False,
    json: Json = False,
) -> int:
    """Send a file's lines as observations, in the order of their times, keyed and placed by entity.

    The whole file is read and checked before the first record is sent. Lines go out as they are, so the settings' mapping must fit them;
    --entity-field, --time-field and --entity put these two where the mapping looks. Times without an offset are taken as UTC.
    Set `time = "replay"` in the worker's settings for data of the past.

    Example: palimpsest replay weather.csv --entity seattle --time-field date --speed 86400
    """
    settings = settings_of(config)
    pace = replaying.Pace(parse_speed(speed))
    fields = replaying.Fields(entity_field, time_field, entity)
    extent = replaying.measure(replaying.read_files(file, truths, settings, fields, limit))
    if not extent.records:
        note(f"{file}: no lines, nothing to send")
    elif extent.first is not None and extent.last is not None:
        note(f"{extent.records} records from {extent.first.isoformat()} to {extent.last.isoformat()}")
    lines = replaying.read_files(file, truths, settings, fields, limit)
    started = time.monotonic()
    sent = asyncio.run(_send(settings, lines, extent, pace, event_timestamps))
    seconds = time.monotonic() - started
    if json:
        first, last = (moment.isoformat() if moment else None for moment in (extent.first, extent.last))
        print_json({"sent": sent, "first": first, "last": last, "seconds": round(seconds, 3)})
    else:
        note(f"sent {sent} records in {seconds:.1f} s")
    return exits.OK


async def _send(
    settings: Settings, lines: Iterable[replaying.Line], extent: replaying.Extent, pace: replaying.Pace, event_timestamps: bool
) -> int:
    done = 0
    with record_progress(extent.records, "replaying") as bar:

        def on_sent(line: replaying.Line) -> None:
            nonlocal done
            done += 1
            if bar is not None:
                bar.update(bar.task_ids[0], completed=done, at=line.time.date().isoformat())
            elif done % LINE_EVERY == 0:
                note(f"{done} of {extent.records} sent, at {line.time.isoformat()}")

        try:
            async with replaying.sending(settings, event_timestamps=event_timestamps) as send:
                return await replaying.replay(lines, send, pace, on_sent)
        except asyncio.CancelledError:
            note(f"interrupted after {done} of {extent.records} records")
            raise
