"""How the replay reaches a worker: messages in, and what the worker publishes out.

The driver knows only the protocol; `KafkaTransport` is what the demo uses, and tests put a fake worker behind the same two coroutines.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Literal, Protocol, Self

from aiokafka.structs import TopicPartition

from schemas.codec import encode
from schemas.messages import DeadLetter, MemoryRevision, Observation, Outcome, Prediction, Truth
from schemas.settings import Settings
from streams.dead_letters import from_headers
from streams.kafka import consumer, producer

Input = Literal["observations", "truths"]
Output = type[Prediction] | type[Outcome] | type[MemoryRevision]
Received = Prediction | Outcome | MemoryRevision | DeadLetter

#: Seconds without a record after which a topic counts as read to its end, once the worker has stopped.
QUIET = 1.0


class Transport(Protocol):
    """A way to a worker."""

    async def send(self, role: Input, message: Observation | Truth) -> None:
        """Hand a message over; returns when the other side has it for good."""
        ...

    async def receive(self) -> list[Received]:
        """Wait for what the worker publishes, in order per topic; cancelling loses nothing."""
        ...


class KafkaTransport:
    """Produces to a run's input topics and reads its output topics from their beginning, committed transactions only.

    It has no consumer group: nothing else reads on from where the demo stopped.

    Parameters
    ----------
    settings
        The run's settings; its topics must exist when the context is entered.

    Raises
    ------
    KafkaUnavailable
        On entering the context: no broker answers.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings.kafka
        topics = settings.topics
        self._inputs: dict[Input, str] = {"observations": topics.observations, "truths": topics.truths}
        self._outputs: dict[str, Output | None] = {
            topics.predictions: Prediction,
            topics.outcomes: Outcome,
            topics.memories: MemoryRevision,
            topics.dead_letters: None,
        }
        self._clients = contextlib.AsyncExitStack()
        self._producer: Any = None
        self._consumer: Any = None

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as opening:
            self._producer = await opening.enter_async_context(producer(self._settings))
            self._consumer = await opening.enter_async_context(
                consumer(self._settings, auto_offset_reset="earliest", isolation_level="read_committed")
            )
            partitions = {topic: await self._producer.partitions_for(topic) for topic in self._outputs}
            self._consumer.assign([TopicPartition(topic, number) for topic, numbers in partitions.items() for number in sorted(numbers)])
            self._clients = opening.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._clients.aclose()

    async def send(self, role: Input, message: Observation | Truth) -> None:
        await self._producer.send_and_wait(
            self._inputs[role],
            encode(message),
            key=message.entity.encode(),
            headers=[("content-type", b"application/json"), ("schema-version", b"1")],
        )

    async def receive(self) -> list[Received]:
        while True:
            batches = await self._consumer.getmany(timeout_ms=60_000)
            if batches:
                return self._decode(batches)

    async def rest(self) -> list[Received]:
        """Read what is left in the output topics after the worker has stopped."""
        rest: list[Received] = []
        while batches := await self._consumer.getmany(timeout_ms=int(QUIET * 1000)):
            rest.extend(self._decode(batches))
        return rest

    def _decode(self, batches: Mapping[Any, list[Any]]) -> list[Received]:
        return [read(record, self._outputs[record.topic]) for records in batches.values() for record in records if record.value is not None]


def read(record: Any, kind: Output | None) -> Received:
    """Decode a record of an output topic; without a kind it is a dead letter, which is described by its headers alone."""
    if kind is not None:
        return kind.model_validate_json(record.value)
    return from_headers(record.headers or ())
