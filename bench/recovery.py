"""Rebuilding the state of many entities, beside a bare consumer; and how long a worker takes to come back.

    python -m bench.recovery [--entities 100000] [--rounds 3] [--plain 20000] [--json FILE]

`rebuilt` starts with an empty state directory, `restarted` with the one that the last worker left: after SIGTERM, and after SIGKILL, where
the group waits for the dead member's session unless the worker comes back under its own name (`worker.instance_id`). The bare consumer is a
process of its own that reads the same topic and does nothing else. Plain Faust's recovery is measured on fewer records, which its
changelog holds without transactions: at a transaction's end it would wait for ever.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from bench import plain_agent, states
from bench.process import PATIENCE, Process
from bench.report import conditions, save, show, spread
from deploy.services import KafkaCluster
from streams import topics
from streams.cli.console import note, step_progress

#: What `streams.restoring` says when it is done.
RESTORED = re.compile(r"restored \d+ partitions: (\d+) records in [\d.]+ s \((\d+)/s\)")
#: What `bench.plain_agent` says.
PLAIN_RESTORED = re.compile(r"recovered in ([\d.]+) s")


async def bare_rate(process: Process) -> float:
    """Records a second of a bare consumer."""
    reading = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.bare_consumer", str(process.config), stdout=asyncio.subprocess.PIPE
    )
    raw, _ = await reading.communicate()
    found = orjson.loads(raw)
    return float(found["records"] / found["seconds"])


async def rebuilt(process: Process, entities: int) -> dict[str, float]:
    """Start a worker on an empty state directory, wait until all is scanned, and end it by SIGTERM."""
    shutil.rmtree(process.settings.state_dir, ignore_errors=True)
    begin = process.log.stat().st_size if process.log.exists() else 0
    await process.launch()
    ready = await process.until_ready()
    found = RESTORED.search(process.log.read_text()[begin:])
    assert found is not None and int(found[1]) == entities, process.tail()
    scanned = await _until_scanned(process, entities)
    memory, disk = process.peak_memory(), _size(process.settings.state_dir)
    await process.end()
    return {"rate": float(found[2]), "ready": ready, "scan": scanned, "memory_mb": memory / 1e6, "disk_mb": disk / 1e6}


async def restarted(process: Process, entities: int) -> float:
    """Start a worker on what the last one left; return the seconds until it is ready."""
    await process.launch()
    ready = await process.until_ready()
    await _until_scanned(process, entities)
    return ready


async def _until_scanned(process: Process, entities: int) -> float:
    """Return the seconds from now until the worker has counted all entities."""
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE):
        while True:
            report = (await process.get("/v1/worker")).json()
            if sum(report.get("entities", {}).values()) >= entities:
                return time.monotonic() - began
            await asyncio.sleep(0.05)


def _size(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


async def plain_rate(process: Process, records: int) -> float:
    """Records a second of plain Faust's recovery."""
    await plain_agent.fill_changelog(process.settings, records)
    await process.launch((sys.executable, "-m", "bench.plain_agent", "io", "2000", "600"))
    async with asyncio.timeout(PATIENCE):
        while (found := PLAIN_RESTORED.search(process.log.read_text())) is None:
            process.check()
            await asyncio.sleep(0.1)
    await process.end()
    return records / float(found[1])


async def measure(entities: int, rounds: int, plain: int) -> dict[str, Any]:
    began = conditions()
    figures: dict[str, Any] = {"conditions": began, "entities": entities}
    with tempfile.TemporaryDirectory() as directory, step_progress() as progress:
        root, app = Path(directory), f"bench-{secrets.token_hex(4)}"
        async with KafkaCluster(root=root / "kafka", progress=progress) as cluster:
            worker = Process(root, "worker", app, cluster.bootstrap)
            state = worker.settings.state_dir
            named = Process(root, "named", app, cluster.bootstrap, worker='instance_id = "bench"\n', state=state)
            other = Process(root, "plain", f"bench-{secrets.token_hex(4)}", cluster.bootstrap)
            try:
                await topics.create(worker.settings)
                figures["record_bytes"] = await states.fill(worker.settings, entities) / entities
                note(f"{entities} states of {figures['record_bytes']:.0f} bytes are in the changelog")
                figures["rounds"] = [await _round(worker, named, entities, number) for number in range(rounds)]
                if plain:
                    await topics.create(other.settings)
                    figures["plain"] = await plain_rate(other, plain)
            finally:
                for process in (worker, named, other):
                    await process.end(signal.SIGKILL)
    bare = statistics.median(one["bare"] for one in figures["rounds"])
    figures["ratio"] = statistics.median(one["rebuilt"]["rate"] for one in figures["rounds"]) / bare
    return figures


async def _round(worker: Process, named: Process, entities: int, number: int) -> dict[str, Any]:
    found: dict[str, Any] = {"bare": await bare_rate(worker), "rebuilt": await rebuilt(worker, entities)}
    found["restarted"] = await restarted(worker, entities)
    await worker.end(signal.SIGKILL)
    found["restarted_killed"] = await restarted(worker, entities)
    await worker.end()
    await restarted(named, entities)
    await named.end(signal.SIGKILL)
    found["restarted_named"] = await restarted(named, entities)
    # A named member leaves no word when it ends; the next round's is another one and must not wait for it.
    await named.end()
    await asyncio.sleep(named.settings.worker.session_timeout.total_seconds() + 2.0)
    found["load"] = conditions()["load"]
    note(f"round {number + 1}: {orjson.dumps(found).decode()}")
    return found


def tell(figures: dict[str, Any]) -> None:
    rounds = figures["rounds"]

    def of(name: str, form: str) -> str:
        return spread([one["rebuilt"][name] for one in rounds], form)

    rows = [
        ("bare consumer, records/s", spread([one["bare"] for one in rounds])),
        ("rebuilt, records/s", of("rate", ".0f")),
        ("rebuilt to bare", f"{figures['ratio']:.2f}"),
        ("rebuilt: start to ready, s", of("ready", ".1f")),
        ("headers scanned after that, s", of("scan", ".1f")),
        ("peak memory, MB", of("memory_mb", ".0f")),
        ("state directory, MB", of("disk_mb", ".0f")),
        ("restarted after SIGTERM: start to ready, s", spread([one["restarted"] for one in rounds], ".1f")),
        ("restarted after SIGKILL, s", spread([one["restarted_killed"] for one in rounds], ".1f")),
        ("the same with worker.instance_id, s", spread([one["restarted_named"] for one in rounds], ".1f")),
    ]
    if "plain" in figures:
        rows.append(("plain Faust's recovery, records/s", f"{figures['plain']:.0f}"))
    title = f"{figures['entities']} entities of {figures['record_bytes']:.0f} bytes"
    show(title, ("", "median (extremes)"), rows, figures["conditions"])


def main(
    entities: Annotated[int, typer.Option(min=1)] = 100_000,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    plain: Annotated[int, typer.Option(min=0, help="Records for plain Faust's recovery; 0 leaves it out.")] = 20_000,
    json: Annotated[Path | None, typer.Option(help="Write every figure to this file.")] = None,
) -> None:
    figures = asyncio.run(measure(entities, rounds, plain))
    tell(figures)
    save(json, figures)


if __name__ == "__main__":
    typer.run(main)
