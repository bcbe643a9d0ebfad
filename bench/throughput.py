"""Events a second through a worker with an instant model, beside a plain Faust agent on the same events.

    python -m bench.throughput [--rounds 5] [--steps 20] [--profile] [--json FILE]

In every round each program finds the same backlog of observations and truths waiting in topics of its own and works it off, one after the
other, in an order that turns around from round to round. `worker` is ours; `same job` is a plain Faust agent that asks the same
forecaster; `faust i/o` is one that only reads and writes as much (`bench.plain_agent`). Ratios are those of the medians. A shared
machine disturbs rates more than processor time, so both are said.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from aiokafka.structs import TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from bench import load
from bench.outputs import Pace, pace
from bench.process import WORKER, Process
from bench.report import conditions, save, show, spread
from bench.sampler import IMPORTS
from deploy.services import KafkaCluster
from streams import topics
from streams.cli.console import note, print_table, step_progress
from streams.kafka import admin, consumer

PLAIN = (sys.executable, "-m", "bench.plain_agent")
KINDS = ("worker", "same job", "faust i/o")


@dataclass(frozen=True, slots=True)
class Sizes:
    """Mean bytes of a state record and of an output, as the worker writes them."""

    state: int
    output: int


@dataclass(frozen=True, slots=True)
class Run:
    """One program's way through one backlog. `transactions` a second, and events in each, are the worker's alone."""

    kind: str
    rate: float
    cpu_ms: float
    memory_mb: float
    load: float
    transactions: float | None = None
    per_transaction: float | None = None


class Track:
    """Runs programs on backlogs of the same events."""

    def __init__(self, root: Path, kafka: str, entities: int, steps: int) -> None:
        self._root, self._kafka, self._entities, self._steps = root, kafka, entities, steps
        #: Known once a worker has run.
        self.sizes: Sizes | None = None

    async def run(self, kind: str, program: Sequence[str] | None = None) -> Run:
        """Let a program work off a backlog; `program` runs it in another way than usual."""
        app = f"bench-{secrets.token_hex(4)}"
        process = Process(self._root, app, app, self._kafka)
        await topics.create(process.settings)
        try:
            sent = await load.send(process.settings, load.events(self._entities, self._steps))
            await process.launch(program or self._program(kind))
            outputs = (process.settings.topics.predictions, process.settings.topics.outcomes)
            run = await self._measured(kind, process, await pace(process, outputs, sent))
        finally:
            await process.end()
            await _delete_topics(process, app)
        return run

    def _program(self, kind: str) -> Sequence[str]:
        if kind == "worker":
            return (*WORKER, "worker", "-c")
        if kind == "same job":
            return (*PLAIN, "core")
        assert self.sizes is not None, "a worker's run comes first: it says how large records are"
        return (*PLAIN, "io", str(self.sizes.state), str(self.sizes.output))

    async def _measured(self, kind: str, process: Process, found: Pace) -> Run:
        memory = process.peak_memory() / 1e6
        about = Run(kind, found.rate, found.cpu * 1000, memory, conditions()["load"])
        if kind != "worker":
            return about
        if self.sizes is None:
            self.sizes = Sizes(await _mean_state(process), round(found.output_bytes))
        transactions, writes = await _transactions(process)
        each = writes / max(1.0, transactions)
        return Run(**{**asdict(about), "transactions": found.rate / max(each, 1e-9), "per_transaction": each})


async def _mean_state(process: Process) -> int:
    """Mean bytes of the records in the worker's changelog."""
    topic, count, size = topics.changelog_topic(process.settings), 0, 0
    async with consumer(process.settings.kafka, isolation_level="read_committed", auto_offset_reset="earliest") as reader:
        reader.assign([TopicPartition(topic, n) for n in range(process.settings.topics.partitions)])
        while batches := await reader.getmany(timeout_ms=500):
            for records in batches.values():
                count += len(records)
                size += sum(len(record.value or b"") for record in records)
    return size // max(1, count)


async def _transactions(process: Process) -> tuple[float, float]:
    """How many transactions the worker has committed, and how many items' writes in all."""
    families = text_string_to_metric_families((await process.get("/metrics")).text)
    samples = {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}
    return samples["palimpsest_transaction_writes_count"], samples["palimpsest_transaction_writes_sum"]


async def _delete_topics(process: Process, app: str) -> None:
    """The next run finds a broker that holds as little as this one did."""
    async with admin(process.settings.kafka) as client:
        await client.delete_topics([name for name in await client.list_topics() if name.startswith(app)])


async def measure(rounds: int, entities: int, steps: int, profile: bool) -> dict[str, Any]:
    began = conditions()
    with tempfile.TemporaryDirectory() as directory, step_progress() as progress:
        root = Path(directory)
        async with KafkaCluster(root=root / "kafka", progress=progress) as cluster:
            track = Track(root, cluster.bootstrap, entities, steps)
            runs = []
            for number in range(rounds):
                for kind in KINDS if number % 2 == 0 else reversed(KINDS):
                    run = await track.run(kind)
                    runs.append(run)
                    note(f"round {number + 1}: {kind:<9} {run.rate:6.0f} events/s, {run.cpu_ms:.2f} ms of processor each, load {run.load}")
            parts = await _profile(track, root) if profile else None
    assert track.sizes is not None
    figures: dict[str, Any] = {"conditions": began, "events": 2 * entities * steps, "entities": entities, "sizes": asdict(track.sizes)}
    figures |= {"runs": [asdict(run) for run in runs], "ratios": ratios(runs)}
    return figures if parts is None else figures | {"parts": parts}


async def _profile(track: Track, root: Path) -> dict[str, int]:
    output = root / "parts.json"
    await track.run("worker", (sys.executable, "-m", "bench.sampler", str(output), "worker", "-c"))
    found: dict[str, int] = orjson.loads(output.read_bytes())
    return found


def ratios(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """The worker's median rate over each plain agent's, and the plain agent's processor time for an event over the worker's."""
    rate = {kind: statistics.median(run.rate for run in runs if run.kind == kind) for kind in KINDS}
    cpu = {kind: statistics.median(run.cpu_ms for run in runs if run.kind == kind) for kind in KINDS}
    return {kind: {"rate": rate["worker"] / rate[kind], "processor": cpu[kind] / cpu["worker"]} for kind in KINDS[1:]}


def tell(figures: dict[str, Any]) -> None:
    rows = []
    for kind in KINDS:
        runs = [run for run in figures["runs"] if run["kind"] == kind]
        cells = [kind, spread([run["rate"] for run in runs]), spread([run["cpu_ms"] for run in runs], ".2f")]
        if kind == "worker":
            cells += ["", "", spread([run["transactions"] for run in runs]), spread([run["per_transaction"] for run in runs], ".1f")]
        else:
            ratio = figures["ratios"][kind]
            cells += [f"{ratio['rate']:.2f}", f"{ratio['processor']:.2f}", "", ""]
        rows.append([*cells, spread([run["memory_mb"] for run in runs])])
    columns = (
        "program",
        "events/s",
        "processor ms/event",
        "worker's rate to it",
        "by processor time",
        "transactions/s",
        "events in each",
        "peak MB",
    )
    sizes = figures["sizes"]
    title = f"{figures['events']} events, {figures['entities']} entities, states of {sizes['state']} bytes, outputs of {sizes['output']}"
    show(title, columns, rows, figures["conditions"])
    if "parts" in figures:
        # What belongs to the start is no part of an event's way.
        busy = {name: count for name, count in figures["parts"].items() if name != IMPORTS}
        note("the worker's processor time once it had started, by part:")
        top = sorted(busy.items(), key=lambda part: -part[1])[:25]
        print_table(("part", "share"), [(name, f"{100 * count / sum(busy.values()):.1f} %") for name, count in top])


def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often each program runs.")] = 5,
    entities: Annotated[int, typer.Option(min=1)] = 500,
    # Plain Faust reads truths ahead of their observations; an entity keeps 64 of them.
    steps: Annotated[int, typer.Option(min=2, max=60, help="Observations, and truths, of each entity.")] = 20,
    profile: Annotated[bool, typer.Option("--profile", help="One more run of the worker, to see where its time goes.")] = False,
    json: Annotated[Path | None, typer.Option(help="Write every figure to this file.")] = None,
) -> None:
    figures = asyncio.run(measure(rounds, entities, steps, profile))
    tell(figures)
    save(json, figures)


if __name__ == "__main__":
    typer.run(main)
