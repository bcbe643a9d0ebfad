"""When each prediction could be read, by a consumer that reads committed records only, and who made it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from dataclasses import dataclass

import orjson
from aiokafka.structs import TopicPartition

from schemas.messages import Source
from schemas.settings import Settings
from streams.kafka import consumer

#: Milliseconds that a fetch waits at most: how exactly the time is known.
FETCH = 100


@dataclass(frozen=True, slots=True)
class Arrival:
    """A prediction. `at`: when it was read, by `time.monotonic`; `error`: why there is no model's answer in it."""

    at: float
    source: Source
    answered: bool
    error: str


class Arrivals:
    """Follows the predictions, from their topic's beginning until it is cancelled."""

    def __init__(self) -> None:
        #: By the observation's id, each time that one was predicted.
        self.of: defaultdict[str, list[Arrival]] = defaultdict(list)
        self.sources: Counter[Source] = Counter()
        self._came = asyncio.Event()

    async def follow(self, settings: Settings) -> None:
        topic = settings.topics.predictions
        async with consumer(settings.kafka, isolation_level="read_committed", auto_offset_reset="earliest") as reader:
            reader.assign([TopicPartition(topic, number) for number in range(settings.topics.partitions)])
            while True:
                for records in (await reader.getmany(timeout_ms=FETCH)).values():
                    now = time.monotonic()
                    for record in records:
                        self._take(now, record.value)
                    self._came.set()

    async def until(self, observations: int) -> None:
        """Return when so many observations have a prediction."""
        while len(self.of) < observations:
            self._came.clear()
            await self._came.wait()

    def _take(self, now: float, value: bytes) -> None:
        said = orjson.loads(value)
        call = said.get("model") or {}
        self.of[said["id"]].append(Arrival(now, said["source"], said.get("model_answer") is not None, call.get("error", "")))
        self.sources[said["source"]] += 1
