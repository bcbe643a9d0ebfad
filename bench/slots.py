"""What the worker makes of the model's slots: are they busy, do rewrites get their share, and do they stand in the way of predictions.

    python -m bench.slots [--rounds 5] [--only backlog,arrivals,rate] [--rewrite 1.0] [--json FILE]

The model is the protocol emulator in a process of its own (`tests.emulator`), so that how long a call takes and how many it computes at
once are known, and it is its journal that says which slot was busy when. The worker runs as its users run it, on a Kafka of its own.

============ ===========================================================================================================
`backlog`    500 ms, 4 slots, 200 entities, observations and truths mixed, each outcome asks for a rewrite: the share of slot time in
             use, and that of rewrites
`arrivals`   observations at random moments (Poisson), 60 % of what the slots can predict: seconds from observation to prediction with
             rewrites and without, on the same observations, with 4 slots and with 1
`rate`       50 ms, 16 slots, 200 entities, observations only: events a second beside what the slots can do, and the order of outputs
============ ===========================================================================================================

All of it takes about 45 minutes with five rounds. Each figure is said beside what it should be, as median and extremes of the rounds.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from bench import load
from bench.peers.backlog import arrive, observations
from bench.peers.cells import HEADLINE
from bench.peers.roster import OURS, PEERS
from bench.peers.track import Track, following
from bench.peers.verdict import Logged, percentile, waits
from bench.process import WORKER, GaveUp, Process
from bench.report import conditions, save, show, spread
from deploy.services import KafkaCluster
from streams import topics
from streams.cli.console import note, step_progress
from streams.reading import read_topic
from tests.emulator.process import EmulatorProcess

PARTS = ("backlog", "arrivals", "rate")
#: What should be: shares, ratios.
BUSY, SHARE, RATIO, RATE = 0.97, 0.15, 1.2, 0.95
#: Of the backlog: slots, seconds of a call, entities, and seconds that are measured.
SLOTS, SECONDS, ENTITIES, WINDOW = 4, 0.5, 200, 60.0
#: So much of the time is spent, at most, until the first rewrites are overdue and have been answered.
BEFORE = 120.0
#: Seconds between two looks at the emulator.
LOOK = 0.5
#: Of arrivals: the share of what the slots can predict, the entities, and the predictions of a run, of which the first only fill the
#: slots and the entities' histories.
LOAD, STATIONS, PREDICTIONS, FIRST = 0.6, 20, 600, 100
#: Slots, and seconds of a prediction, which are fewer where one slot has them to do alone.
ARRIVALS = ((4, 0.2), (1, 0.1))
#: About how long a run of `rate` works.
RATE_SECONDS = 20.0

#: `all`: what a newer observation overtakes is to be predicted all the same. A truth is read off the next observation where it arrives by
#: itself, so that nothing but observations comes at random.
CONFIG = """\
app = "{{app}}"
backlog = "all"
kafka.bootstrap_servers = "{{kafka}}"
topics = {{topics}}
observations.key = "entity"
truths = {{{{ {truths} }}}}
rewrite = {{{{ mode = "background", policy = "{policy}" }}}}
target = {{{{ field = "temperature", unit = "°C" }}}}

[model]
host = "{host}"
slots = {slots}
answer_cache = 0

[worker]
http_port = {{port}}
state_dir = "{{state}}"
"""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Shares of all slot time while observations waited."""

    busy: float
    rewrites: float


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Seconds from an observation to its prediction, as a reader of committed records sees it, and the rewrites' share of slot time."""

    slots: int
    rewriting: bool
    p50: float
    p99: float
    rewrites: float


@dataclass(frozen=True, slots=True)
class Rate:
    """Outputs a second, the slots' share in use, and outputs that were behind a later one of their entity, lost or doubled."""

    rate: float
    busy: float
    misordered: int
    lost: int
    doubled: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line of the table. `said` is what was measured in words, `value` what is held against the goal."""

    what: str
    said: str
    value: float
    goal: str
    met: bool


class Bench:
    """Runs workers against emulators."""

    def __init__(self, root: Path, kafka: str, rewrite: float) -> None:
        """`rewrite`: what a rewrite takes, in predictions."""
        self._root, self._kafka, self._rewrite = root, kafka, rewrite

    async def backlog(self, seed: int) -> Backlog:
        """Let a worker work on a backlog until rewrites take their turns, and look at a minute of it."""
        steps = round(2 * (BEFORE + WINDOW) * SLOTS / SECONDS / ENTITIES)
        async with self._emulator(SLOTS, SECONDS, seed) as emulator:
            process = self._worker(emulator, SLOTS, truths='key = "entity"', policy="every")
            try:
                await topics.create(process.settings)
                await load.send(process.settings, load.events(ENTITIES, steps, seed=seed))
                await process.launch((*WORKER, "worker", "-c"))
                await self._until(emulator, process, lambda calls: calls.get("rewrite", {}).get("answered", 0) >= SLOTS)
                await emulator.reset()
                await asyncio.sleep(WINDOW)
                found = await emulator.statistics()
                if await self._is_over(process, ENTITIES * steps):
                    raise GaveUp(f"{process.name} was through with its backlog before it was measured")
            finally:
                await process.end()
        return Backlog(found["busy_share"], _share(found, "rewrite"))

    async def arrivals(self, slots: int, seconds: float, seed: int, *, rewriting: bool) -> Arrivals:
        """Let observations arrive at random, and time each one's prediction."""
        wanted = list(observations(STATIONS, PREDICTIONS, seed=seed))
        async with self._emulator(slots, seconds, seed) as emulator:
            policy = "surprise" if rewriting else "never"
            process = self._worker(emulator, slots, truths='source = "next-observation"', policy=policy)
            settings = process.settings
            try:
                await topics.create(settings)
                await process.launch((*WORKER, "worker", "-c"))
                await process.until_ready()
                async with following(process) as follower:
                    sender = asyncio.create_task(arrive(settings, wanted, LOAD * slots / seconds, seed=seed))
                    try:
                        await follower.until(lambda: len(follower.answered) >= FIRST, look=0.0)
                        await emulator.reset()
                        await follower.until(lambda: len(follower.answered) >= PREDICTIONS, look=0.0)
                        found = await emulator.statistics()
                        await sender
                    finally:
                        sender.cancel()
                sent, written = await _logged(process, "observations"), await _logged(process, "predictions")
            finally:
                await process.end()
        read_at = follower.read_at
        read = [replace(one, at=read_at[place]) for one in written if (place := (one.partition, one.offset)) in read_at]
        waited = waits([one for one in sent if int(one.identity) >= FIRST], read)
        return Arrivals(slots, rewriting, percentile(waited, 0.5), percentile(waited, 0.99), _share(found, "rewrite"))

    async def rate(self, seed: int) -> Rate:
        """Let a worker work off a backlog of observations alone: the headline of `bench.peers`."""
        worker = next(peer for peer in PEERS if peer.name == OURS)
        run = await Track(self._root, self._kafka, RATE_SECONDS).run(worker, HEADLINE, seed=seed)
        return Rate(run.rate, run.busy, run.outputs.misordered, run.outputs.lost, run.outputs.doubled)

    def _emulator(self, slots: int, seconds: float, seed: int) -> EmulatorProcess:
        latencies = ("--latency", str(seconds), "--rewrite-latency", str(seconds * self._rewrite))
        return EmulatorProcess("--slots", str(slots), *latencies, "--seed", str(seed))

    def _worker(self, emulator: EmulatorProcess, slots: int, *, truths: str, policy: str) -> Process:
        app = f"bench-{secrets.token_hex(4)}"
        config = CONFIG.format(host=emulator.host, slots=slots, truths=truths, policy=policy)
        return Process(self._root, app, app, self._kafka, config=config)

    async def _until(self, emulator: EmulatorProcess, process: Process, enough: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until the calls that were made are enough.

        Raises
        ------
        GaveUp
            The worker ended, or it took too long.
        """
        try:
            async with asyncio.timeout(BEFORE):
                while not enough((await emulator.statistics())["calls"]):
                    process.check()
                    await asyncio.sleep(LOOK)
        except TimeoutError as error:
            raise GaveUp(f"{process.name} made no rewrites for {BEFORE:g} s:\n{process.tail()}") from error

    @staticmethod
    async def _is_over(process: Process, sent: int) -> bool:
        return len(await _logged(process, "predictions")) >= sent


async def _logged(process: Process, role: str) -> list[Logged]:
    settings = process.settings
    async with aclosing(read_topic(settings.kafka, getattr(settings.topics, role))) as records:
        read = [(record, orjson.loads(record.value)) async for record in records]
    return [Logged(said["entity"], said["id"], one.partition, one.offset, one.timestamp / 1000) for one, said in read]


def _share(found: dict[str, Any], kind: str) -> float:
    """Share of all slot time that calls of a kind held."""
    held: float = found["calls"].get(kind, {}).get("busy_seconds", 0.0)
    slot_time: float = found["seconds"] * found["slots"]
    return held / slot_time


async def measure(rounds: int, parts: Sequence[str], rewrite: float) -> dict[str, Any]:
    began = conditions()
    found: dict[str, list[Any]] = {part: [] for part in parts}
    with tempfile.TemporaryDirectory() as directory, step_progress() as progress:
        root = Path(directory)
        async with KafkaCluster(root=root / "kafka", progress=progress) as cluster:
            bench = Bench(root, cluster.bootstrap, rewrite)
            # Round by round, so that a disturbance of the machine meets all alike.
            for number in range(rounds):
                for part in parts:
                    for run in [run async for run in _runs(bench, part, number)]:
                        note(f"round {number + 1}, {part}: {', '.join(f'{name} {value:.4g}' for name, value in asdict(run).items())}")
                        found[part].append(run)
    figures = {"conditions": began, "rounds": rounds, "rewrite": rewrite}
    return figures | {part: [asdict(run) for run in runs] for part, runs in found.items()}


async def _runs(bench: Bench, part: str, number: int) -> AsyncIterator[Backlog | Arrivals | Rate]:
    """One round of a part."""
    match part:
        case "backlog":
            yield await bench.backlog(number)
        case "arrivals":
            for slots, seconds in ARRIVALS:
                for rewriting in (True, False) if number % 2 == 0 else (False, True):
                    yield await bench.arrivals(slots, seconds, number, rewriting=rewriting)
        case "rate":
            yield await bench.rate(number)


def verdicts(figures: dict[str, Any]) -> Iterator[Verdict]:
    """Yield what was measured beside what should be, for the parts that were."""
    if runs := figures.get("backlog"):
        yield _at_least("backlog: slots busy", [run["busy"] for run in runs], BUSY)
        yield _at_least("backlog: share of rewrites", [run["rewrites"] for run in runs], SHARE)
    if runs := figures.get("arrivals"):
        for slots, seconds in ARRIVALS:
            yield _beside([run for run in runs if run["slots"] == slots], slots, seconds * figures["rewrite"])
    if runs := figures.get("rate"):
        yield _at_least("rate: events/s of what the slots can do", [run["rate"] / HEADLINE.capacity for run in runs], RATE)
        wrong = max(run["misordered"] + run["lost"] + run["doubled"] for run in runs)
        yield Verdict("rate: outputs out of order, lost or doubled", str(wrong), wrong, "0", wrong == 0)


def _at_least(what: str, values: Sequence[float], goal: float) -> Verdict:
    median = statistics.median(values)
    return Verdict(what, spread(values, ".3f"), median, f">= {goal}", median >= goal)


def _beside(runs: Sequence[dict[str, Any]], slots: int, rewrite: float) -> Verdict:
    """Hold the 99th percentile with rewrites against the one without, by the medians of the rounds.

    Parameters
    ----------
    rewrite
        Seconds that a rewrite takes; with one slot it may be in the way once.
    """
    by_arm = {arm: [run["p99"] for run in runs if run["rewriting"] == arm] for arm in (True, False)}
    on, off = (statistics.median(by_arm[arm]) for arm in (True, False))
    said = f"p99 {spread(by_arm[True], '.3f')} s beside {spread(by_arm[False], '.3f')} s"
    what = f"arrivals: {slots} slot{'s' if slots > 1 else ''}, with rewrites"
    if slots > 1:
        return Verdict(what, said, on / off, f"<= {RATIO} x", on <= RATIO * off)
    return Verdict(what, said, on / off, f"<= {RATIO} x + {rewrite:g} s", on <= RATIO * off + rewrite)


def tell(figures: dict[str, Any]) -> None:
    rows = [(one.what, one.said, f"{one.value:.3f}", one.goal, "yes" if one.met else "NO") for one in verdicts(figures)]
    title = f"{figures['rounds']} rounds, a rewrite as long as {figures['rewrite']:g} predictions"
    show(title, ("what", "measured", "figure", "goal", "met"), rows, figures["conditions"])


def _chosen(names: str) -> list[str]:
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if unknown := set(wanted) - set(PARTS):
        raise typer.BadParameter(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return [part for part in PARTS if not wanted or part in wanted]


def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often each part is measured.")] = 5,
    only: Annotated[str, typer.Option(help=f"Parts, with commas between them: {', '.join(PARTS)}.")] = "",
    rewrite: Annotated[float, typer.Option(min=0.1, help="How long a rewrite takes, in predictions.")] = 1.0,
    json: Annotated[Path | None, typer.Option(help="Write every figure to this file.")] = None,
) -> None:
    """Measure what the worker makes of the model's slots."""
    figures = asyncio.run(measure(rounds, _chosen(only), rewrite))
    tell(figures)
    save(json, {**figures, "verdicts": [asdict(one) for one in verdicts(figures)]})


if __name__ == "__main__":
    typer.run(main)
