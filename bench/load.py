"""The events of the benchmarks: what a network of weather stations might send, one reading and one truth for each station at each step.

The same seed gives the same events, byte for byte. Record timestamps are event times, as a producer beside the station would set them,
and the last step is now: retention leaves such records alone, and the worker's alignment has something to align.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from schemas.settings import Settings
from streams.kafka import producer
from streams.records import Role

#: Seconds of event time from one step to the next; a truth comes one step after its observation.
STEP_SECONDS = 60
WINDS = ("north", "east", "south", "west")


@dataclass(frozen=True, slots=True)
class Event:
    """One input record. `timestamp` is Kafka's, milliseconds since the epoch."""

    role: Role
    key: bytes
    value: bytes
    timestamp: int


def entity_name(number: int) -> str:
    return f"station-{number:06d}"


def events(entities: int, steps: int, *, seed: int = 0, end: float | None = None) -> Iterator[Event]:
    """Yield `2 * entities * steps` events in order of time.

    Parameters
    ----------
    end
        Event time of the last truth, seconds since the epoch; now if None.
    """
    chance = random.Random(seed)
    last = int(time.time() if end is None else end)
    levels = [10 + 10 * chance.random() for _ in range(entities)]
    for step in range(steps):
        at = last - (steps - step) * STEP_SECONDS
        for number in range(entities):
            yield _observation(number, step, at, levels[number], chance)
        for number in range(entities):
            levels[number] += chance.gauss(0, 0.5)
            yield _truth(number, step, at, levels[number])


def _observation(number: int, step: int, at: int, level: float, chance: random.Random) -> Event:
    entity = entity_name(number)
    values: dict[str, Any] = {
        "temperature": round(level, 1),
        "pressure": round(1013 + chance.gauss(0, 6), 1),
        "humidity": chance.randint(30, 95),
        "wind": chance.choice(WINDS),
    }
    message = {"entity": entity, "id": f"{number}-{step}", "time": at, "values": values}
    return Event("observations", entity.encode(), orjson.dumps(message), at * 1000)


def _truth(number: int, step: int, at: int, level: float) -> Event:
    entity, later = entity_name(number), at + STEP_SECONDS
    message = {"entity": entity, "observation_id": f"{number}-{step}", "value": round(level, 1), "time": later}
    return Event("truths", entity.encode(), orjson.dumps(message), later * 1000)


async def send(settings: Settings, wanted: Iterator[Event], *, at_once: int = 5_000) -> int:
    """Send events to the inputs by their keys; return how many, once the broker has them all.

    Parameters
    ----------
    at_once
        Records that are under way at most.
    """
    sent = 0
    async with producer(settings.kafka, linger_ms=20, max_batch_size=256 * 1024) as out:
        waiting: list[asyncio.Future[Any]] = []
        for event in wanted:
            topic = getattr(settings.topics, event.role)
            waiting.append(await out.send(topic, event.value, key=event.key, timestamp_ms=event.timestamp))
            sent += 1
            if len(waiting) >= at_once:
                await asyncio.gather(*waiting)
                waiting.clear()
        await asyncio.gather(*waiting)
    return sent
