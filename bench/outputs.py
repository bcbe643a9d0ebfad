"""Following a program's outputs while it works, at little cost to it: when they were written, and what had been spent by then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from aiokafka.structs import TopicPartition

from bench.process import PATIENCE, GaveUp, Process
from streams.kafka import consumer

#: Seconds between two looks at the outputs; more looks would take the processor from what is measured.
LOOK = 0.25
#: The shares of the events between which is measured, so that neither the start nor the end counts.
FROM, TO = 0.1, 0.9


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a backlog was worked off between its marks at 10 and 90 %.

    Attributes
    ----------
    rate
        Events a second, by the outputs' own timestamps.
    cpu
        Seconds of processor time of the program for each event, of all its threads.
    output_bytes
        Mean size of an output's value.
    """

    rate: float
    cpu: float
    output_bytes: float


@dataclass(slots=True)
class _Marks:
    """Processor time at the marks."""

    wanted: list[float]
    passed: list[tuple[int, float]] = field(default_factory=list)

    def look(self, count: int, process: Process) -> None:
        while len(self.passed) < len(self.wanted) and count >= self.wanted[len(self.passed)]:
            self.passed.append((count, process.cpu_time()))


async def pace(process: Process, topics: Sequence[str], events: int) -> Pace:
    """Follow the outputs until there is one for each event.

    Raises
    ------
    GaveUp
        The program ended, or what it should write does not come.
    """
    settings, size = process.settings, 0
    stamps: list[int] = []
    marks = _Marks([FROM * events, TO * events])
    deadline = time.monotonic() + PATIENCE
    async with consumer(settings.kafka, isolation_level="read_committed", auto_offset_reset="earliest") as reader:
        reader.assign([TopicPartition(topic, n) for topic in topics for n in range(settings.topics.partitions)])
        while len(stamps) < events:
            process.check()
            if time.monotonic() > deadline:
                raise GaveUp(f"{process.name}: {len(stamps)} of {events} outputs came:\n{process.tail()}")
            for records in (await reader.getmany(timeout_ms=0)).values():
                stamps += [record.timestamp for record in records]
                size += sum(len(record.value or b"") for record in records)
            marks.look(len(stamps), process)
            await asyncio.sleep(LOOK)
    stamps.sort()
    (first, before), (last, after) = marks.passed
    begin, end = stamps[int(FROM * events)], stamps[int(TO * events) - 1]
    return Pace(
        rate=(TO - FROM) * events / max(1e-3, (end - begin) / 1000),
        cpu=(after - before) / max(1, last - first),
        output_bytes=size / len(stamps),
    )
