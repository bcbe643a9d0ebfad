"""Observations for the job: readings of weather stations, each station's turn by chance.

By turns, which would be simpler, no two observations of an entity stand near each other, and what loses their order would look as if it
kept it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence

import orjson

from bench.load import STEP_SECONDS, Event, entity_name
from schemas.settings import Settings
from streams.kafka import producer

#: Time of the first observation, seconds since 1970.
EPOCH = 1_700_000_000


def observations(entities: int, number: int, *, seed: int) -> Iterator[Event]:
    """Yield observations; the same seed gives the same ones, byte for byte."""
    chance = random.Random(seed)
    levels = [10 + 10 * chance.random() for _ in range(entities)]
    for count in range(number):
        station, at = chance.randrange(entities), EPOCH + count * STEP_SECONDS
        levels[station] += chance.gauss(0, 0.5)
        values = {"temperature": round(levels[station], 1), "humidity": chance.randint(30, 95)}
        message = {"entity": entity_name(station), "id": str(count), "time": at, "values": values}
        yield Event("observations", entity_name(station).encode(), orjson.dumps(message), at * 1000)


async def arrive(settings: Settings, wanted: Sequence[Event], rate: float, *, seed: int) -> None:
    """Send observations at random moments (Poisson), so many a second on average, until all are sent."""
    chance, loop = random.Random(seed), asyncio.get_running_loop()
    due = loop.time()
    async with producer(settings.kafka) as out:
        for event in wanted:
            due += chance.expovariate(rate)
            # From the start, so that a late turn is made up for.
            await asyncio.sleep(max(0.0, due - loop.time()))
            await out.send(settings.topics.observations, event.value, key=event.key)
