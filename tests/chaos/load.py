"""What a campaign sends: observations, their truths early, late and twice, commands, and messages that nobody can use.

A function of its numbers, its chance and a start time. Each record carries what should become of it in the header `MARK`, so that
whoever reads the inputs afterwards needs nothing else: `observation`, `truth`, `command`, `tombstone`, or `bad:<reason>`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import orjson

from streams.partitioner import partition_of
from streams.topics import InputRole

MARK = "chaos"
BAD = "bad:"

#: Shares on top of the observations and truths: truths and observations sent again, messages nobody can use, commands.
TRUTHS_AGAIN, OBSERVATIONS_AGAIN, BAD_SHARE, COMMAND_SHARE = 0.10, 0.03, 0.03, 0.01
#: Share of truths sent before their observation, and by at most how many other observations.
EARLY, EARLIEST = 0.15, 40
#: How many other observations a truth comes after its own: logarithm of the median, its deviation, and at most.
LATE, LATE_DEVIATION, LATEST = 4.1, 1.0, 600
#: Share of observations whose truth never comes.
UNANSWERED = 0.03
#: Sources whose key places observations that are not keyed by entity.
SITES = 11
SKIES = ("clear", "cloudy", "overcast")


@dataclass(frozen=True, slots=True)
class Event:
    """One record to send."""

    role: InputRole
    key: bytes | None
    #: None is a tombstone.
    value: bytes | None
    partition: int
    mark: str


@dataclass(frozen=True, slots=True)
class Load:
    """The numbers of a campaign's input.

    Attributes
    ----------
    events
        Observations and truths, each counted once; what is sent again, bad messages and commands come on top.
    entities
        How many; some have many times the observations of others.
    key
        How observations are keyed: by entity, or by the site that an entity belongs to.
    partitions
        Of every input.
    """

    events: int
    entities: int
    key: Literal["entity", "any"] = "entity"
    partitions: int = 6

    def __post_init__(self) -> None:
        if self.events < 2 * self.entities:
            raise ValueError(f"{self.events} events are too few for an observation and a truth of each of {self.entities} entities")

    def records(self, chance: random.Random, start: datetime) -> list[Event]:
        """Everything to send, in its order; equal chance gives equal records. `start` is the time of the first observation."""
        placed: list[tuple[float, Event]] = []
        observed = self._observations(chance)
        for place, (entity, number) in enumerate(observed):
            identity, time = f"{entity}-{number}", start + timedelta(seconds=5 * place)
            observation = self._observation(entity, identity, time, chance)
            placed.append((place, observation))
            if chance.random() < OBSERVATIONS_AGAIN:
                placed.append((place + chance.uniform(1, LATEST), observation))
            if chance.random() >= UNANSWERED:
                placed += self._truths(place, entity, identity, time, chance)
            if chance.random() < 2 * COMMAND_SHARE:  # an observation stands for two events
                placed.append((place + chance.uniform(-EARLIEST, LATEST), self._command(f"command-{place}", entity, chance)))
        for _ in range(max(1, round(self.events * BAD_SHARE))):
            placed.append((chance.uniform(0, len(observed)), self._unusable(chance)))
        return [event for _, event in sorted(placed, key=lambda pair: pair[0])]

    def _observations(self, chance: random.Random) -> list[tuple[str, int]]:
        """Entity and running number of each observation, in order: everybody once, the rest unevenly."""
        names = [f"e{number}" for number in range(self.entities)]
        weights = [1.0 / (1 + rank) ** 0.5 for rank in range(self.entities)]
        drawn = names + chance.choices(names, weights, k=self.events // 2 - self.entities)
        chance.shuffle(drawn)
        count = dict.fromkeys(names, 0)
        numbered = []
        for name in drawn:
            numbered.append((name, count[name]))
            count[name] += 1
        return numbered

    def _observation(self, entity: str, identity: str, time: datetime, chance: random.Random) -> Event:
        values = {"t": round(chance.uniform(0, 100), 3), "wind": round(chance.uniform(0, 30), 1), "sky": chance.choice(SKIES)}
        value = orjson.dumps({"entity": entity, "id": identity, "time": time, "values": values})
        key = entity.encode() if self.key == "entity" else b"site-%d" % (int(entity[1:]) % SITES)
        return Event("observations", key, value, partition_of(key, self.partitions), "observation")

    def _truths(self, place: int, entity: str, identity: str, time: datetime, chance: random.Random) -> Iterator[tuple[float, Event]]:
        early = chance.random() < EARLY
        after = -chance.uniform(1, EARLIEST) if early else min(chance.lognormvariate(LATE, LATE_DEVIATION), LATEST)
        value, known = round(chance.uniform(0, 100), 3), time + timedelta(minutes=1)
        truth = orjson.dumps({"entity": entity, "observation_id": identity, "value": value, "time": known})
        # Without a key, over all partitions, as a producer that knows nothing of entities sends them.
        yield place + after, Event("truths", None, truth, chance.randrange(self.partitions), "truth")
        if chance.random() < TRUTHS_AGAIN:
            again = Event("truths", None, truth, chance.randrange(self.partitions), "truth")
            yield place + after + chance.uniform(0, LATEST), again

    def _command(self, identity: str, entity: str, chance: random.Random) -> Event:
        command: dict[str, Any] = {
            "entity": entity,
            "op": chance.choice(("edit", "rewrite", "freeze", "thaw")),
            "by": "chaos",
            "id": identity,
        }
        if command["op"] == "edit":
            command["text"] = f"Notes:\n- Written by hand as {identity}."
        return Event("commands", entity.encode(), orjson.dumps(command), chance.randrange(self.partitions), "command")

    def _unusable(self, chance: random.Random) -> Event:
        entity = f"e{chance.randrange(self.entities)}"
        kinds = _unusable(entity, chance.randrange(10**6))
        # Sites place records anywhere; there is no wrong place.
        role, value, reason = chance.choice([kind for kind in kinds if self.key == "entity" or kind[2] != "wrong-partition"])
        partition = chance.randrange(self.partitions)
        if reason == "wrong-partition":
            partition = (partition_of(entity.encode(), self.partitions) + 1) % self.partitions
        return Event(role, entity.encode(), value, partition, BAD + reason if value is not None else reason)


def _unusable(entity: str, number: int) -> list[tuple[InputRole, bytes | None, str]]:
    """Messages that nobody can use, each with the reason that its dead letter must give; a tombstone gets none.

    `number` tells one from the next.
    """
    observation = {"entity": entity, "id": f"bad-{number}", "time": "2024-05-01T00:00:00Z", "values": {"t": 1.5}}
    truth = {"entity": entity, "observation_id": f"bad-{number}", "value": 3.0}
    return [
        ("observations", b"t=21.4 %d" % number, "not-json"),
        ("observations", orjson.dumps(observation)[:-3], "not-json"),
        ("observations", b'{"entity":"\xff\xfe %d"}' % number, "not-utf8"),
        ("observations", orjson.dumps([observation]), "not-object"),
        ("observations", orjson.dumps({**observation, "time": None}), "missing-time"),
        ("observations", orjson.dumps({**observation, "entity": None}), "missing-entity"),
        ("observations", orjson.dumps({**observation, "values": [1, 2]}), "wrong-type"),
        ("observations", orjson.dumps(observation), "wrong-partition"),
        ("observations", None, "tombstone"),
        ("truths", None, "tombstone"),
        ("truths", b"21.4 degrees %d" % number, "not-json"),
        ("truths", orjson.dumps({**truth, "value": None}), "missing-target"),
        ("truths", orjson.dumps({**truth, "value": "21"}), "wrong-type"),
        ("truths", orjson.dumps({**truth, "observation_id": None}), "no-match"),
        ("truths", orjson.dumps({**truth, "schema_version": 7}), "unsupported-schema"),
    ]
