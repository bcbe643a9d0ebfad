"""From a worker's death to the first prediction for one of its entities, with a standby on the other worker.

    python -m bench.failover [--times 5] [--session 6] [--rate 200] [--json FILE]

Two workers under a steady load; one is killed by SIGKILL, and the outputs are read as a consumer of them would (`read_committed`). The
group cannot know of the death before the session has ended, so what is beyond that is said too. Then it is started again and everything
waits until each has its half and its standbys are current.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from aiokafka.structs import TopicPartition

from bench.load import entity_name
from bench.process import PATIENCE, Process
from bench.report import conditions, save, show, spread
from deploy.services import KafkaCluster
from schemas.settings import Settings
from streams import topics
from streams.cli.console import note, step_progress
from streams.kafka import consumer, producer

ENTITIES = 200


@asynccontextmanager
async def steady_load(settings: Settings, rate: float) -> AsyncIterator[None]:
    """Send `rate` observations a second until the block ends."""

    async def send() -> None:
        async with producer(settings.kafka, linger_ms=5) as out:
            began = time.monotonic()
            for number in itertools.count():
                entity = entity_name(number % ENTITIES)
                message = {"entity": entity, "id": str(number), "time": time.time(), "values": {"temperature": number % 30}}
                await out.send(settings.topics.observations, orjson.dumps(message), key=entity.encode())
                # From the start, so that a late turn is made up for.
                await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))

    task = asyncio.create_task(send())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def partitions_of(worker: Process) -> set[int]:
    return set((await worker.get("/v1/worker")).json()["partitions"])


async def until_settled(workers: Sequence[Process], partitions: int) -> None:
    """Wait until each worker runs its share of the partitions and stands by, up to date, for the rest."""
    async with asyncio.timeout(PATIENCE):
        while True:
            reports = [(await worker.get("/v1/worker")).json() for worker in workers]
            running = all(report["state"] == "running" and not report.get("restoring") for report in reports)
            owned = [set(report.get("partitions", ())) for report in reports]
            spare = [set(report.get("standby", ())) for report in reports]
            everything = set(range(partitions))
            if (
                running
                and all(owned)
                and set.union(*owned) == everything
                and all(a | b == everything for a, b in zip(owned, spare, strict=True))
            ):
                return
            await asyncio.sleep(0.2)


async def one_failover(victim: Process, settings: Settings) -> dict[str, float]:
    """Kill a worker; return the seconds to the first prediction on one of its partitions, and on the last of them."""
    orphaned = await partitions_of(victim)
    async with consumer(settings.kafka, isolation_level="read_committed", auto_offset_reset="latest") as reader:
        places = [TopicPartition(settings.topics.predictions, n) for n in sorted(orphaned)]
        reader.assign(places)
        await reader.seek_to_end(*places)
        killed, wall = time.monotonic(), time.time() * 1000
        await victim.end(signal.SIGKILL)
        seen: dict[int, float] = {}
        async with asyncio.timeout(PATIENCE):
            while seen.keys() != orphaned:
                for place, records in (await reader.getmany(timeout_ms=50)).items():
                    # What the dead one had written is older.
                    if any(record.timestamp > wall for record in records):
                        seen.setdefault(place.partition, time.monotonic() - killed)
    return {"first": min(seen.values()), "all": max(seen.values())}


async def measure(times: int, session: float, rate: float) -> dict[str, Any]:
    began, chance = conditions(), random.Random(0)
    found = []
    with tempfile.TemporaryDirectory() as directory, step_progress() as progress:
        root, app = Path(directory), f"bench-{secrets.token_hex(4)}"
        async with KafkaCluster(root=root / "kafka", progress=progress) as cluster:
            lines = f'session_timeout = "{session:g}s"\nstandby_replicas = 1\n'
            workers = [Process(root, name, app, cluster.bootstrap, worker=lines) for name in ("first", "second")]
            settings = workers[0].settings
            await topics.create(settings)
            try:
                async with steady_load(settings, rate):
                    for worker in workers:
                        await worker.launch()
                        await worker.until_ready()
                    for number in range(times):
                        await until_settled(workers, settings.topics.partitions)
                        # Anywhere between two heartbeats, commits and transactions.
                        await asyncio.sleep(2.0 + chance.random())
                        victim = workers[number % 2]
                        found.append({**await one_failover(victim, settings), "load": conditions()["load"]})
                        first, everything = found[-1]["first"], found[-1]["all"]
                        note(f"{number + 1}: first prediction after {first:.1f} s, all partitions after {everything:.1f} s")
                        await victim.launch()
                        await victim.until_ready()
            finally:
                for worker in workers:
                    await worker.end(signal.SIGKILL)
    return {"conditions": began, "session_timeout": session, "rate": rate, "failovers": found}


def tell(figures: dict[str, Any]) -> None:
    session = figures["session_timeout"]
    rows = []
    for name, key in (("first prediction", "first"), ("every partition", "all")):
        seconds = [one[key] for one in figures["failovers"]]
        beyond = spread([one - session for one in seconds], "+.1f")
        rows.append((name, spread(seconds, ".1f"), f"session timeout {beyond}"))
    title = f"{len(figures['failovers'])} failovers at {figures['rate']:g} observations/s, session timeout {session:g} s, one standby"
    show(title, ("after SIGKILL", "s", "beside the session timeout"), rows, figures["conditions"])


def main(
    times: Annotated[int, typer.Option(min=1)] = 5,
    session: Annotated[float, typer.Option(min=1.0, help="Session timeout in seconds.")] = 6.0,
    rate: Annotated[float, typer.Option(min=1.0, help="Observations a second.")] = 200.0,
    json: Annotated[Path | None, typer.Option(help="Write every figure to this file.")] = None,
) -> None:
    figures = asyncio.run(measure(times, session, rate))
    tell(figures)
    save(json, figures)


if __name__ == "__main__":
    typer.run(main)
