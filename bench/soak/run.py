"""One soak: load, faults and looks side by side, until all that was sent is worked off; and what it leaves behind to judge by."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from bench.process import Process
from bench.soak import load, samples, worker
from bench.soak.arrivals import Arrivals
from bench.soak.samples import Sample
from bench.soak.schedule import Phase
from schemas.settings import Settings
from streams import topics
from streams.kafka import producer
from tests.chaos.evidence import Ending, Evidence, collect, positions, read_disks
from tests.chaos.load import MARK
from tests.emulator.kinds import INFERENCE, KINDS
from tests.emulator.process import EmulatorProcess

APP = "soak"
#: Seconds between two looks at the worker, which sets its gauges as often; and between two lines of progress.
LOOK, TELL_EVERY = 2.0, 30.0
#: Records that are under way at most.
AT_ONCE = 500
#: Seconds without any record being worked off after which waiting for the rest is given up.
STANDSTILL = 120.0
#: Seconds that a committed prediction may take to its reader, once all is worked off.
READ = 10.0
#: Seconds between two pieces of an answer that drips: some two seconds for a prediction.
DRIP = 0.04

Tell = Callable[[str], None]


@dataclass(slots=True)
class Result:
    """What a soak leaves behind. Times are seconds since the load began.

    Attributes
    ----------
    seconds
        How long observations were sent.
    outage
        When the long outage really began and ended; None without.
    sent, truths
        When each observation was sent, by id; and its truth, where that was sent.
    arrivals
        Predictions by id; `Arrival.at` less `began` is a time as the others.
    missed
        Looks that the worker did not answer.
    server
        `tests.emulator.journal.Statistics`, as JSON.
    """

    settings: Settings
    seconds: float
    phases: Sequence[Phase]
    began: float = 0.0
    outage: tuple[float, float] | None = None
    sent: dict[str, float] = field(default_factory=dict)
    truths: dict[str, float] = field(default_factory=dict)
    arrivals: Arrivals = field(default_factory=Arrivals)
    samples: list[Sample] = field(default_factory=list)
    missed: int = 0
    server: dict[str, Any] = field(default_factory=dict)
    evidence: Evidence = field(init=False)

    def __post_init__(self) -> None:
        self.evidence = Evidence(self.settings)

    @property
    def now(self) -> float:
        return time.monotonic() - self.began


async def soak(kafka: str, root: Path, seconds: float, phases: Sequence[Phase], seed: int, tell: Tell) -> Result:
    """Run one to its end.

    Parameters
    ----------
    kafka
        Bootstrap servers of a Kafka of its own.
    root
        Directory for configuration, state and log.
    seconds
        Of sending observations.
    phases
        The schedule of faults (`schedule.plan`).
    seed
        Of the load, and of the emulator's answers, latencies and choice of faulty calls.

    Raises
    ------
    GaveUp
        The worker ended; the text has its log's end.
    """
    arguments = {
        "slots": worker.SLOTS,
        "latency": worker.PREDICTION,
        "rewrite-latency": worker.REWRITE,
        "distribution": "lognormal",
        "sigma": worker.SPREAD,
        "drip": DRIP,
        "seed": seed,
    }
    async with EmulatorProcess(*(f"--{name}={value}" for name, value in arguments.items())) as emulator:
        process = Process(root, APP, APP, kafka, config=worker.configuration(emulator.host))
        await topics.create(process.settings)
        result = Result(process.settings, seconds, phases)
        try:
            await process.launch()
            tell(f"the worker is ready after {await process.until_ready():.1f} s")
            await emulator.reset()
            result.began = time.monotonic()
            await _under_load(process, emulator, result, random.Random(f"load {seed}"), tell)
            result.server = await emulator.statistics()
            asked = time.monotonic()
            code = await process.end()
        finally:
            await process.end()
    assert code is not None
    tell("reading everything back")
    places, stuck = result.evidence.sent, result.evidence.stuck
    result.evidence = await collect(result.settings, read_disks(APP, result.settings.state_dir))
    result.evidence.sent, result.evidence.stuck = places, stuck
    result.evidence.endings = [Ending(APP, code, "SIGTERM", time.monotonic() - asked)]
    return result


async def _under_load(process: Process, emulator: EmulatorProcess, result: Result, chance: random.Random, tell: Tell) -> None:
    """Send everything while the rest watches; return when it is worked off, or will not be."""
    async with (
        _beside(result.arrivals.follow(result.settings)) as following,
        _beside(_look(process, emulator, result)) as looking,
        _beside(_break(emulator, result)) as breaking,
        _beside(_tell(result, tell)) as telling,
    ):
        helpers = (following, looking, breaking, telling)
        async with _beside(_send(result, chance)) as sending:
            await _until_done(sending, *helpers)
        tell("everything is sent; waiting for the rest")
        async with _beside(_work_off(result)) as working:
            await _until_done(working, *helpers)
    result.samples.append(await _sample(process, emulator, result))


async def _until_done(work: asyncio.Task[None], *helpers: asyncio.Task[None]) -> None:
    """Await the work; whichever of all these fails first, this fails with it."""
    running = {work, *helpers}
    while not work.done():
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Run something as long as the context is there."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        # How it ended is for whoever awaits it in the context.
        await asyncio.wait([task])


async def _send(result: Result, chance: random.Random) -> None:
    """Send each record at its time, and note when that was and where the broker put it."""
    settings = result.settings
    waiting: list[asyncio.Future[Any]] = []

    async def acknowledged() -> None:
        for record in await asyncio.gather(*waiting):
            result.evidence.sent.add((record.topic, record.partition, record.offset))
        waiting.clear()

    async with producer(settings.kafka, linger_ms=5) as out:
        for event in load.events(result.seconds, worker.RATE, chance):
            if (early := event.at - result.now) > 0:
                await asyncio.sleep(early)
            notes = result.sent if event.role == "observations" else result.truths
            notes[event.identity] = result.now
            topic, headers = getattr(settings.topics, event.role), [(MARK, event.mark.encode())]
            value = event.value(datetime.now(UTC))
            waiting.append(await out.send(topic, value, key=event.entity.encode(), headers=headers))
            if len(waiting) >= AT_ONCE:
                await acknowledged()
        await acknowledged()


async def _break(emulator: EmulatorProcess, result: Result) -> None:
    """Switch faults on and off by the schedule."""
    for phase in result.phases:
        await asyncio.sleep(max(0.0, phase.begin - result.now))
        await emulator.on(phase.fault, share=phase.share, kinds=KINDS if phase.outage else INFERENCE)
        began = result.now
        await asyncio.sleep(max(0.0, phase.end - result.now))
        if phase.outage:
            # Before it is over, not after: what is answered from then on may be the model's.
            result.outage = (began, result.now)
        await emulator.off(phase.fault)


async def _look(process: Process, emulator: EmulatorProcess, result: Result) -> None:
    while True:
        process.check()
        try:
            result.samples.append(await _sample(process, emulator, result))
        except httpx.TimeoutException:
            result.missed += 1
        await asyncio.sleep(LOOK)


async def _sample(process: Process, emulator: EmulatorProcess, result: Result) -> Sample:
    metrics = (await process.get("/metrics")).text
    busy_seconds = (await emulator.statistics())["busy_seconds"]
    return samples.read(result.now, process.memory(), busy_seconds, metrics)


async def _tell(result: Result, tell: Tell) -> None:
    while True:
        await asyncio.sleep(TELL_EVERY)
        on = [phase for phase in result.phases if phase.covers(result.now)]
        last, by = result.samples[-1], result.arrivals.sources
        tell(
            f"{result.now / 60:5.1f} min: sent {len(result.sent)} observations and {len(result.truths)} truths; "
            f"predicted {by['model']} by the model and {by['fallback']} without; {last.memory / 2**20:.0f} MB, "
            f"{last.in_flight} in flight, {last.waiting} wait for the model, breaker {last.breaker_state}"
            + "".join(f", {phase.fault}" for phase in on)
        )


async def _work_off(result: Result) -> None:
    """Return when the group has committed the end of everything that it reads, or, after a standstill, note what is left."""
    settings, least, moved = result.settings, None, time.monotonic()
    while True:
        done, ends = await positions(settings)
        left = {place: end - done.get(place, 0) for place, end in ends.items() if end > done.get(place, 0)}
        total = sum(left.values())
        if not total:
            break
        if least is None or total < least:
            least, moved = total, time.monotonic()
        if time.monotonic() - moved > STANDSTILL:
            result.evidence.stuck = f"nothing was worked off for {STANDSTILL:.0f} s; left over are {left}"
            break
        await asyncio.sleep(1.0)
    with suppress(TimeoutError):
        # Whatever has not come by then is missed by the verdict.
        await asyncio.wait_for(result.arrivals.until(len(result.sent)), READ)
