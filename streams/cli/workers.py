"""`palimpsest workers`: who works on what, and how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer

from schemas.queries import InputProgress, RestoreProgress
from streams import exits
from streams.cli.console import note, print_json, print_table
from streams.cli.options import Config, Json, settings_of
from streams.fleet import FleetPartition, FleetWorker, muster, ranges

#: Stands where there is nothing to say, so that columns stay columns.
_NOTHING = "-"
_WORKER_COLUMNS = ("WORKER", "STATE", "PARTITIONS", "STANDBY", "LAG", "RESTORED", "ENTITIES", "IN FLIGHT")
_PARTITION_COLUMNS = ("PARTITION", "WORKER", "STANDBY", "LAG", "INPUTS (APPLIED/END)", "ENTITIES", "RESTORED")


def workers(
    config: Config = None,
    partitions: Annotated[bool, typer.Option("--partitions", help="One line for each partition, with its inputs.")] = False,
    json: Json = False,
) -> int:
    """List the workers of the application: state, partitions, standbys, lag, how far state is restored, entities, work in flight.

    The group's members are asked of Kafka, and each is then asked at the URL it gave (worker.http_url); one that does not answer is
    listed as `silent`, with what the group says of it. Lag counts records that are not applied yet. With --json workers and partitions,
    always both.

    Ends with 1 if the group has no members.

    Example: palimpsest workers --partitions
    """
    fleet = asyncio.run(muster(settings_of(config)))
    if json:
        print_json(fleet.model_dump(mode="json"))
    elif partitions:
        print_table(_PARTITION_COLUMNS, [_partition_row(partition) for partition in fleet.partitions])
    elif fleet.workers:
        print_table(_WORKER_COLUMNS, [_worker_row(worker) for worker in fleet.workers])
    if not json:
        for worker in fleet.workers:
            if worker.reasons:
                note(f"{worker.url or worker.member} ({worker.host}): {'; '.join(worker.reasons)}")
        for text in fleet.notes:
            note(text)
    return exits.OK if fleet.workers else exits.FAILED


def _worker_row(worker: FleetWorker) -> Sequence[str]:
    active = [one for one in worker.restoring if one.role == "active"]
    return (
        worker.url or worker.member,
        worker.state,
        ranges(worker.partitions) or _NOTHING,
        ranges(worker.standby) or _NOTHING,
        _number(worker.lag),
        _restored(active),
        _number(worker.entities),
        _number(worker.in_flight),
    )


def _partition_row(partition: FleetPartition) -> Sequence[str]:
    return (
        str(partition.partition),
        partition.worker or _NOTHING,
        " ".join(partition.standby) or _NOTHING,
        _number(partition.lag),
        ", ".join(_input(one) for one in partition.inputs) or _NOTHING,
        _number(partition.entities),
        _restored([] if partition.restoring is None else [partition.restoring]),
    )


def _input(one: InputProgress) -> str:
    return f"{one.input} {_number(one.position)}/{_number(one.end)}"


def _restored(parts: Iterable[RestoreProgress]) -> str:
    parts = list(parts)
    whole = sum(one.end - one.start for one in parts)
    return f"{sum(one.position - one.start for one in parts) / whole:.0%}" if whole else _NOTHING


def _number(value: int | None) -> str:
    return _NOTHING if value is None else str(value)
