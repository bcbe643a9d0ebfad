"""`palimpsest state`: the states as a whole: are they sound, start anew, out to a file and in again."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from schemas.settings import Settings
from streams import exits
from streams.cli.console import note, print_finding, print_json, print_json_line, print_table, record_progress, stderr
from streams.cli.options import Config, Json, settings_of
from streams.findings import Finding
from streams.state import resetting
from streams.state.continuity import Positions
from streams.state.dump import End, encode_line
from streams.state.exporting import export
from streams.state.importing import Imported, import_states
from streams.state.resetting import Holdings
from streams.state.verification import Fault, PartitionReport, verify

program = typer.Typer(help="Check the states of all entities, take them out, put them in, or start without any.", no_args_is_help=True)

#: Faults that are printed; programs get up to a thousand of each partition.
SHOWN = 50
#: Seconds between two lines of progress where there is no terminal.
TELL_EVERY = 5.0

STORES = {
    "": "-",
    "same": "as the changelog",
    "stale": "of another time",
    "differs": "differs",
    "unreadable": "unreadable",
}


@program.command("verify")
def verify_states(config: Config = None, json: Json = False) -> int:
    """Hold every record of the changelog against schema and settings, and this machine's RocksDB against the changelog.

    Checked are headers, JSON, fields, bounds, keys, that every entity is on its own partition, that no applied offset is beyond the end of
    its input, and that RocksDB has the same bytes up to the record it goes to. Workers may run. Nothing is changed. Ends with 1 if
    something is wrong.

    Example: palimpsest state verify
    """
    reports = asyncio.run(_verify(settings_of(config)))
    faults = [fault for report in reports for fault in report.faults]
    failed, warned = (sum(report.counts[level] for report in reports) for level in ("fail", "warn"))
    if json:
        print_json({"ok": not failed, "partitions": [_report_as_json(report) for report in reports], "faults": faults})
        return exits.FAILED if failed else exits.OK
    columns = ("PARTITION", "RECORDS", "ENTITIES", "WRONG", "HARMLESS", "ROCKSDB HERE")
    print_table(columns, [_report_as_row(report) for report in reports])
    for fault in faults[:SHOWN]:
        print_finding(_as_finding(fault))
    if failed + warned > SHOWN:
        note(f"and {failed + warned - SHOWN} more; --json has the first thousand of each partition")
    entities = sum(report.entities for report in reports)
    found = f"{_count(failed, 'fault')}, {warned} harmless" if failed or warned else "all sound"
    note(f"{_count(entities, 'entity')}, {found}")
    return exits.FAILED if failed else exits.OK


async def _verify(settings: Settings) -> list[PartitionReport]:
    with _progress("verifying") as tell:
        return [report async for report in verify(settings, lambda done, total: tell("verifying", done, total))]


@program.command("export")
def export_states(
    file: Annotated[Path, typer.Argument(metavar="FILE|-", help="Where to; - is standard output.", allow_dash=True)],
    entity: Annotated[
        str | None, typer.Option("--entity", metavar="ID", help="Only this entity; such a file cannot be imported.", show_default=False)
    ] = None,
    config: Config = None,
    json: Json = False,
) -> int:
    """Write all states as JSON lines: what was read of the inputs, then one entity a line, as in its record.

    Workers may run: every partition is as it was at one moment, and the file says up to where the inputs were read. A record that cannot be
    read is left out, named here and in the last line, and the command ends with 1. One partition's states are held in memory at a
    time. An existing file is replaced when the new one is whole.

    Example: palimpsest state export states.jsonl
    """
    if json and file == Path("-"):
        raise typer.BadParameter("--json describes the export on standard output; give a FILE with it")
    settings = settings_of(config)
    with _target(file) as out:
        end = asyncio.run(_export(settings, out, entity))
    for record in end.left_out:
        note(f"left out: partition {record.partition}, offset {record.offset}, {record.key}: {record.why}")
    if json:
        print_json({"file": str(file), **end.model_dump(exclude={"kind"})})
    else:
        left_out = f", {_count(len(end.left_out), 'record')} left out" if end.left_out else ""
        note(f"{_count(end.entities, 'entity')}{left_out}")
    if entity is not None and not end.entities:
        note(f"{entity} has no state")
        return exits.FAILED
    return exits.FAILED if end.left_out else exits.OK


async def _export(settings: Settings, out: BinaryIO | None, entity: str | None) -> End:
    end = End(entities=0, partitions=0)
    with _progress("exporting") as tell:
        lines = export(settings, now=datetime.now(UTC), entity=entity, on_offsets=lambda done, total: tell("exporting", done, total))
        async with aclosing(lines):
            async for line in lines:
                raw = encode_line(line)
                if out is None:
                    print_json_line(raw.rstrip(b"\n"))
                else:
                    out.write(raw)
                if isinstance(line, End):
                    end = line
    return end


@contextmanager
def _target(file: Path) -> Iterator[BinaryIO | None]:
    """The file, under another name until it is whole; None for standard output."""
    if file == Path("-"):
        yield None
        return
    part = file.with_name(f"{file.name}.part")
    try:
        with part.open("wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
    except OSError as error:
        raise typer.BadParameter(f"{error.filename or file}: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


@program.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A whole export.")],
    positions: Annotated[
        Positions,
        typer.Option(
            "--positions",
            help="Whether the inputs are the topics that were read (keep: go on where the export left off; drop: begin at `start`). "
            "auto finds out for each of them, and asks where it cannot.",
        ),
    ] = "auto",
    config: Config = None,
    json: Json = False,
) -> int:
    """Put the states of an export into an application that has none: after a reset, under a new name, or with another partition count.

    The whole file is checked first. It is refused while workers run, and where there are states or positions already (`state reset`).
    Entities go to the partitions where they belong now. States and positions are written in one Kafka transaction: all or nothing.

    Example: palimpsest state import states.jsonl
    """
    settings = settings_of(config)
    done = asyncio.run(_import(settings, file, positions))
    if json:
        print_json(_import_as_json(done))
        return exits.OK
    for role, passage in done.passages.items():
        begins = f"begins at `start` ({settings.start})"
        if passage.kept:
            goes_on = "goes on where the export left off" if passage.positions else f"nothing was read of it, {begins}"
            note(f"{role} ({passage.topic}): {passage.why}; offsets kept, {goes_on}")
        else:
            note(f"{role} ({passage.topic}): {passage.why}; offsets dropped, {begins}")
        if passage.stranded:
            note(
                f"  {passage.stranded} of its records were not read before it got more partitions. Those of entities that belong elsewhere "
                f'now will be dead-lettered (wrong-partition), unless {role}.key is "any".'
            )
    if done.end.entities != done.entities:
        note(f"the export had {_count(done.end.entities, 'entity')}; lines were taken out of the file, or put in")
    if done.end.left_out:
        note(f"{_count(len(done.end.left_out), 'record')} had been left out of the export")
    places = f"{_count(done.entities, 'entity')} on {_count(done.partitions, 'partition')}"
    note(f"{places}; start the workers, or look first: palimpsest state verify")
    return exits.OK


async def _import(settings: Settings, file: Path, positions: Positions) -> Imported:
    with _progress("reading") as tell:
        return await import_states(settings, file, positions, tell)


@program.command("reset")
def reset_states(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed where nobody can be asked.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, and delete nothing.")] = False,
    config: Config = None,
    json: Json = False,
) -> int:
    """Delete all states, so that the application starts as a new one: it reads its inputs from `start` on, and knows nobody.

    Deleted are the group's positions, the changelog and the topics by entity (they are made anew), and RocksDB on this machine. Inputs and
    outputs stay as they are. It is refused while workers run. The application's name must be typed, or --yes given. Interrupted, run
    it again.

    Example: palimpsest state reset --dry-run
    """
    settings = settings_of(config)
    held = asyncio.run(resetting.look(settings))
    if not json:
        _tell_holdings(settings, held)
    if dry_run:
        if json:
            print_json(_holdings_as_json(held))
        return exits.OK
    asyncio.run(resetting.require_idle(settings))
    if not yes:
        if not stderr.is_terminal:
            raise typer.BadParameter("this deletes all states; say --yes if that is meant")
        if typer.prompt(f"Type the application's name ({settings.app}) to delete them", err=True) != settings.app:
            note("that is another name; nothing was done")
            return exits.FAILED
    asyncio.run(resetting.reset(settings))
    if json:
        print_json(_holdings_as_json(held))
    else:
        note(f"done: {settings.app} begins at `start` ({settings.start}), or goes on with `palimpsest state import`")
    return exits.OK


def _tell_holdings(settings: Settings, held: Holdings) -> None:
    rows = [("positions", name, _count(number, "partition")) for name, number in sorted(held.positions.items())]
    rows += [
        ("topic", name, f"{_count(topic.partitions, 'partition')}, {held.records[name]} offsets") for name, topic in held.topics.items()
    ]
    rows += [("RocksDB", str(path), f"partition {number}") for number, path in held.stores.items()]
    print_table(("WHAT", "WHICH", "HOW MUCH"), rows)
    note(f"{settings.app} has nothing that could be deleted" if not held else "inputs and outputs stay as they are")


@contextmanager
def _progress(what: str) -> Iterator[Callable[[str, int, int], None]]:
    """Tells how much of how much is done: a bar on a terminal, now and then a line elsewhere."""
    with record_progress(0, what) as bar:
        told = time.monotonic()

        def tell(what: str, done: int, total: int) -> None:
            nonlocal told
            if bar is not None:
                bar.update(bar.task_ids[0], description=what, completed=done, total=total)
            elif time.monotonic() - told >= TELL_EVERY:
                told = time.monotonic()
                note(f"{what}: {done / max(total, 1):.0%}")

        yield tell


def _count(number: int, what: str) -> str:
    """A number of things.

    Examples
    --------
    >>> _count(1, "entity"), _count(3, "entity"), _count(0, "fault")
    ('1 entity', '3 entities', '0 faults')
    """
    return f"{number} {what}" if number == 1 else f"{number} {what.removesuffix('y')}ies" if what.endswith("y") else f"{number} {what}s"


def _report_as_row(report: PartitionReport) -> tuple[str, ...]:
    counts = (report.partition, report.records, report.entities, report.counts["fail"], report.counts["warn"])
    return (*(str(count) for count in counts), STORES[report.store])


def _report_as_json(report: PartitionReport) -> dict[str, object]:
    return {
        "partition": report.partition,
        "records": report.records,
        "entities": report.entities,
        "failed": report.counts["fail"],
        "warned": report.counts["warn"],
        "store": report.store or None,
    }


def _as_finding(fault: Fault) -> Finding:
    offset = "" if fault.offset is None else f", offset {fault.offset}"
    key = "" if fault.key is None else f", {fault.key}"
    return Finding(fault.level, f"partition {fault.partition}{offset}{key}", fault.code, fault.text, fault.advice)


def _import_as_json(done: Imported) -> dict[str, object]:
    inputs = {
        role: {
            "topic": passage.topic,
            "kept": passage.kept,
            "why": passage.why,
            "positions": {str(number): offset for number, offset in passage.positions.items()},
            "stranded": passage.stranded,
        }
        for role, passage in done.passages.items()
    }
    return {"entities": done.entities, "partitions": done.partitions, "left_out": len(done.end.left_out), "inputs": inputs}


def _holdings_as_json(held: Holdings) -> dict[str, object]:
    topics = {name: {"partitions": topic.partitions, "offsets": held.records[name]} for name, topic in held.topics.items()}
    return {"positions": dict(held.positions), "topics": topics, "stores": [str(path) for path in held.stores.values()]}
