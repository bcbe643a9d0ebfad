"""What is sent: an observation of one entity after the other at an even rate, its truth some seconds later, of a few never.

A function of its numbers and its chance. Entities come in a fixed order, so that one that is answered late does not stand in the way of its
own next observation. Each record carries in its header what should become of it, as `tests.chaos.verdict` reads it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from heapq import heappop, heappush
from typing import Literal

import orjson

from bench.load import WINDS, entity_name

ENTITIES = 300
#: Seconds ahead that is forecast; a truth comes after that and by chance up to `LATEST` seconds later, ten in the mean.
HORIZON, LATER, LATEST = 5.0, 10.0, 30.0
#: Share of observations whose truth never comes.
UNANSWERED = 0.02


@dataclass(frozen=True, slots=True)
class Event:
    """One record, and when it is to be sent: seconds since the load began."""

    at: float
    role: Literal["observations", "truths"]
    entity: str
    identity: str
    values: dict[str, float | str]

    @property
    def mark(self) -> str:
        return self.role.removesuffix("s")

    def value(self, now: datetime) -> bytes:
        """The record's value, as of the moment at which it is sent."""
        if self.role == "observations":
            return orjson.dumps({"entity": self.entity, "id": self.identity, "time": now, "values": self.values})
        return orjson.dumps({"entity": self.entity, "observation_id": self.identity, "time": now, "value": self.values["level"]})


def events(seconds: float, rate: float, chance: random.Random, *, entities: int = ENTITIES) -> Iterator[Event]:
    """Yield everything in order of time; what is left of the truths comes after the last observation.

    Parameters
    ----------
    seconds
        In which observations are sent.
    rate
        Observations a second.
    """
    levels = [10 + 10 * chance.random() for _ in range(entities)]
    known: list[tuple[float, int, Event]] = []
    for number in range(round(seconds * rate)):
        at, entity = number / rate, number % entities
        while known and known[0][0] <= at:
            yield heappop(known)[2]
        name, identity = entity_name(entity), f"{entity}-{number // entities}"
        values: dict[str, float | str] = {
            "level": round(levels[entity], 1),
            "pressure": round(1013 + chance.gauss(0, 6), 1),
            "humidity": chance.randint(30, 95),
            "wind": chance.choice(WINDS),
        }
        yield Event(at, "observations", name, identity, values)
        levels[entity] += chance.gauss(0, 0.5) + (0.8 if values["wind"] == "south" else 0.0)
        if chance.random() >= UNANSWERED:
            later = at + HORIZON + min(chance.expovariate(1 / LATER), LATEST)
            heappush(known, (later, number, Event(later, "truths", name, identity, {"level": round(levels[entity], 1)})))
    while known:
        yield heappop(known)[2]


def entity_of(identity: str) -> str:
    """The entity of an observation's id."""
    return entity_name(int(identity.partition("-")[0]))
