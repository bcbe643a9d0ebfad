"""One run: a backlog, a program that works it off, and what it left behind."""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
from aiokafka.admin import NewTopic
from aiokafka.structs import ConsumerRecord, TopicPartition

from bench import load
from bench.load import Event
from bench.outputs import FROM, LOOK, TO
from bench.peers import backlog, verdict
from bench.peers.cells import Cell
from bench.peers.roster import Peer
from bench.peers.verdict import Effects, Logged, Outputs
from bench.process import GaveUp, Process
from bench.report import conditions
from streams import topics
from streams.kafka import admin, consumer
from streams.reading import read_topic
from tests.emulator.kinds import INFERENCE
from tests.emulator.process import EmulatorProcess

#: Seconds without a new output after which no more is expected; the longest session timeout among the programs is 60 s, and only when it is
#: over does the group let a program go on that was killed.
QUIET = 120.0
#: Seconds for a program to end in good order.
STOPPING = 120.0
#: Seconds after a death in which the broker may still append what it had received; no program starts as fast.
LAST_WORDS = 0.5
#: Spread of the calls' times around their mean (logarithmic): equal ones would end in the order in which they began, which no model's do.
SIGMA = 0.2
#: The worker's window: its default, and more with many slots, since some of the records that it holds wait for their entity's turn.
WINDOW, WINDOW_OF_SLOT = 64, 4

#: What the emulator says it has.
MODEL = "qwen2.5-coder:1.5b"

CONFIG = """\
app = "{{app}}"
time = "replay"
kafka.bootstrap_servers = "{{kafka}}"
topics = {{topics}}
observations.key = "entity"
truths.source = "none"
rewrite.policy = "never"
target = {{{{ field = "temperature", unit = "°C" }}}}

[model]
name = "{model}"
host = "{host}"
slots = {slots}
# Each observation is to be one call, for the others as for us.
answer_cache = 0

[worker]
http_port = {{port}}
state_dir = "{{state}}"
window = {window}
"""


@dataclass(frozen=True, slots=True)
class Run:
    """What one program did under one condition.

    Attributes
    ----------
    rate
        Outputs a second, between the first and the last tenth of them.
    busy
        Share of the slots' time in which they computed, within the same part.
    p50, p99
        Seconds from an observation to its first output.
    calls
        Of the model, for each observation that got an output.
    recovered
        Seconds from SIGKILL, which a start follows at once, to the next output; None without a crash, or if none came.
    """

    peer: str
    cell: str
    events: int
    rate: float
    busy: float
    p50: float
    p99: float
    calls: float
    outputs: Outputs
    effects: Effects
    recovered: float | None
    load: float


class Track:
    """Runs programs on backlogs of the same observations.

    Parameters
    ----------
    root
        A directory for configurations, logs and states.
    seconds
        About how long a program works on a backlog.
    """

    def __init__(self, root: Path, kafka: str, seconds: float) -> None:
        self._root, self._kafka, self._seconds = root, kafka, seconds

    async def run(self, peer: Peer, cell: Cell, *, seed: int) -> Run:
        """Let a program do the job under a condition.

        Raises
        ------
        GaveUp
            It ended, or wrote nothing at all.
        Foreign
            It wrote what nobody asked for.
        """
        async with _emulator(cell, seed) as emulator:
            app = f"bench-{secrets.token_hex(4)}"
            window = max(WINDOW, WINDOW_OF_SLOT * cell.slots)
            config = CONFIG.format(model=MODEL, host=emulator.host, slots=cell.slots, window=window)
            process = Process(self._root, app, app, self._kafka, config=config)
            try:
                await _create_topics(process)
                if peer.prepare is not None:
                    await peer.prepare(process)
                events = list(backlog.observations(cell.entities, cell.events(self._seconds, at_once=peer.at_once(cell)), seed=seed))
                async with following(process) as follower:
                    ready, recovered = await self._work(await peer.program(process.settings), cell, follower, events, seed=seed)
                calls = [call for call in await emulator.calls() if call["kind"] in INFERENCE]
                await _ended(process)
                return await self._judged(peer, cell, follower, calls, ready, recovered)
            finally:
                await process.end(signal.SIGKILL)
                await _delete_topics(process, app)

    async def _work(
        self, program: Sequence[str], cell: Cell, follower: Follower, events: Sequence[Event], *, seed: int
    ) -> tuple[int, float | None]:
        """Have the observations worked off; return how many of them only showed that the program runs, and the seconds to recover."""
        process, recovered = follower.process, None
        settings = process.settings
        first = len(events) if cell.arrivals is None else cell.slots
        await load.send(settings, iter(events[:first]))
        await process.launch(program)
        if cell.crash:
            await follower.until(lambda: len(follower.answered) >= len(events) // 2, look=0.0)
            await process.end(signal.SIGKILL)
            killed = time.time()
            await process.launch(program)
            await follower.until(lambda: follower.newest > killed + LAST_WORDS)
            recovered = follower.newest - killed if follower.newest > killed + LAST_WORDS else None
        await follower.until(lambda: len(follower.answered) >= first)
        if cell.arrivals is not None:
            sender = asyncio.create_task(backlog.arrive(settings, events[first:], cell.arrivals, seed=seed))
            try:
                await follower.until(lambda: len(follower.answered) >= len(events), look=0.0)
                await sender
            finally:
                sender.cancel()
            return first, None
        return 0, recovered

    async def _judged(
        self, peer: Peer, cell: Cell, follower: Follower, calls: Sequence[dict[str, Any]], ready: int, recovered: float | None
    ) -> Run:
        process, names = follower.process, follower.process.settings.topics
        sent, written = await _logged(process, names.observations), await _logged(process, names.predictions)
        if not written:
            raise GaveUp(f"{peer.name} wrote nothing:\n{process.tail()}")
        outputs, effects = verdict.outputs(sent, written), verdict.effects(sent, await peer.counts(process))
        stamps = sorted(record.at for record in written)
        begin, end = stamps[int(FROM * len(stamps))], stamps[int(TO * len(stamps)) - 1]
        length = max(1e-3, end - begin)
        spans = [(call["began"], call["freed"]) for call in calls if call["freed"] is not None]
        if cell.arrivals is not None:
            # A live reader waits for the transaction's end, too.
            read_at = follower.read_at
            written = [replace(record, at=read_at[place]) for record in written if (place := (record.partition, record.offset)) in read_at]
        waits = verdict.waits([record for record in sent if int(record.identity) >= ready], written)
        return Run(
            peer=peer.name,
            cell=cell.name,
            events=len(sent),
            rate=(int(TO * len(stamps)) - 1 - int(FROM * len(stamps))) / length,
            busy=verdict.overlap(spans, begin, end) / (length * cell.slots),
            p50=verdict.percentile(waits, 0.5),
            p99=verdict.percentile(waits, 0.99),
            calls=len(calls) / (len(sent) - outputs.lost),
            outputs=outputs,
            effects=effects,
            recovered=recovered,
            load=conditions()["load"],
        )


@dataclass(slots=True)
class Follower:
    """Reads a program's output while it works, as anybody would who reads committed records only.

    Attributes
    ----------
    answered
        The observations that have an output.
    read_at
        When each record could be read, by partition and offset; seconds since 1970. As exact as the looks of `until` are frequent.
    newest
        When the broker appended the newest record; 0 before the first.
    """

    process: Process
    reader: Any
    answered: set[str] = field(default_factory=set)
    read_at: dict[tuple[int, int], float] = field(default_factory=dict)
    newest: float = 0.0

    async def until(self, enough: Callable[[], bool], *, look: float = LOOK) -> None:
        """Read until it is enough, or for `QUIET` seconds no observation was answered that had not been.

        Parameters
        ----------
        look
            Seconds between two looks; more looks take the processor from what is measured.

        Raises
        ------
        GaveUp
            The program ended.
        """
        changed = time.monotonic()
        while not enough() and time.monotonic() - changed < QUIET:
            self.process.check()
            before = len(self.answered)
            for records in (await self.reader.getmany(timeout_ms=0 if look else 50)).values():
                now = time.time()
                for record in records:
                    self.answered.add(orjson.loads(record.value)["id"])
                    self.read_at[record.partition, record.offset] = now
                    self.newest = max(self.newest, record.timestamp / 1000)
            if len(self.answered) > before:
                changed = time.monotonic()
            await asyncio.sleep(look)


@asynccontextmanager
async def following(process: Process) -> AsyncIterator[Follower]:
    settings = process.settings
    async with consumer(settings.kafka, isolation_level="read_committed", auto_offset_reset="earliest") as reader:
        reader.assign([TopicPartition(settings.topics.predictions, number) for number in range(settings.topics.partitions)])
        yield Follower(process, reader)


async def _ended(process: Process) -> None:
    """End a program as its users do, so that it writes what it still has."""
    try:
        async with asyncio.timeout(STOPPING):
            await process.end()
    except TimeoutError as error:
        raise GaveUp(f"{process.name} did not end within {STOPPING:g} s of SIGTERM:\n{process.tail()}") from error


def _emulator(cell: Cell, seed: int) -> EmulatorProcess:
    latency = ("--latency", str(cell.latency), "--distribution", "lognormal", "--sigma", str(SIGMA))
    return EmulatorProcess("--model", MODEL, "--slots", str(cell.slots), *latency, "--seed", str(seed))


async def _create_topics(process: Process) -> None:
    """Make all topics; where observations come from and predictions go to, the broker's clock says when."""
    settings = process.settings
    stamped = {"message.timestamp.type": "LogAppendTime"}
    async with admin(settings.kafka) as client:
        names = (settings.topics.observations, settings.topics.predictions)
        await client.create_topics([NewTopic(name, settings.topics.partitions, 1, topic_configs=stamped) for name in names])
    await topics.create(settings)


async def _logged(process: Process, topic: str) -> list[Logged]:
    async with aclosing(read_topic(process.settings.kafka, topic)) as records:
        return [_as_logged(record) async for record in records]


def _as_logged(record: ConsumerRecord) -> Logged:
    said = orjson.loads(record.value)
    return Logged(said["entity"], said["id"], record.partition, record.offset, record.timestamp / 1000)


async def _delete_topics(process: Process, app: str) -> None:
    """The next run finds a broker that holds as little as this one did."""
    async with admin(process.settings.kafka) as client:
        await client.delete_topics([name for name in await client.list_topics() if app in name])
