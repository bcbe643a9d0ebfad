"""Re-keying: an input whose key is not the entity is first written by entity into `<app>-<input>-by-entity`.

Nothing is judged here: every record goes on with its bytes as they are, its source's coordinates in a header, and its timestamp;
one without a readable entity goes by its source partition. A restart may send a record twice; the receiving side counts
offsets per source partition, so the second one is a no-op. One idempotent producer keeps each source partition's order.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import aiokafka
import faust
from faust.types import TP

from schemas.mapping import Record
from streams.dead_letters import KEPT
from streams.kafka import client_options
from streams.partitioner import state_partition
from streams.positions import Entry, Tracker
from streams.records import OVERSIZE_HEADER, SOURCE_HEADER, SOURCE_KEY_HEADER, Role, entity_of, timestamp_ms

if TYPE_CHECKING:
    from streams.app import PalimpsestApp

log = logging.getLogger(__name__)

#: Bytes of a record's frame and of our headers' names.
RECORD_OVERHEAD = 1_024


class Rekeying:
    """Sends records of foreign keys on by entity."""

    def __init__(self, app: PalimpsestApp) -> None:
        self._app = app
        self._producer: aiokafka.AIOKafkaProducer | None = None
        self._sending: set[asyncio.Future[Any]] = set()
        self._limits: dict[str, int] = {}

    async def start(self, limits: Mapping[str, int]) -> None:
        """`limits`: the largest record that each internal topic takes, in bytes."""
        self._limits = dict(limits)
        self._producer = aiokafka.AIOKafkaProducer(
            **client_options(self._app.settings.kafka),
            enable_idempotence=True,
            linger_ms=5,
            max_request_size=max(limits.values()),
            # As the writers': rides out a restarting broker.
            request_timeout_ms=60_000,
        )
        await self._producer.start()

    async def stop(self) -> None:
        if self._producer is not None:
            await self._producer.stop()

    async def drain(self, deadline: float) -> None:
        if self._sending:
            await asyncio.wait(set(self._sending), timeout=deadline)

    async def feed(self, role: Role, target: str, stream: faust.Stream) -> None:
        async for event in stream.noack().events():
            try:
                await self._forward(role, target, event.message)
            except Exception as error:
                self._app.broken(error)

    async def _forward(self, role: Role, target: str, message: Any) -> None:
        lease = await self._app.intake.admit(role, message)
        if lease is None:
            return
        tp = TP(message.tp.topic, message.tp.partition)
        tracker = lease.trackers[tp]
        settings, partitions, stamp = self._app.settings, self._app.partitions, timestamp_ms(message)
        entry = tracker.open(message.offset, stamp)
        record = Record(tp.topic, tp.partition, message.offset, stamp, message.key, message.value)
        entity = entity_of(record, settings, role) if message.value is not None else None
        partition = tp.partition % partitions if entity is None else state_partition(settings, entity, partitions)
        source = f"{tp.topic}//{tp.partition}/{message.offset}/{stamp}"
        headers = [(name, value) for name, value in _pairs(message.headers)] + [(SOURCE_HEADER, source.encode())]
        if message.key is not None:
            headers.append((SOURCE_KEY_HEADER, message.key))
        value = message.value
        room = self._limits[target] - RECORD_OVERHEAD - sum(len(name) + len(content) for name, content in headers)
        if value is not None and len(value) > room - len(entity or "") * 4:
            # Compressed, or by other settings, the source took it; here its beginning goes on, to the dead letters.
            headers.append((OVERSIZE_HEADER, f"{len(value)}/{hashlib.sha256(value).hexdigest()}".encode()))
            value = value[:KEPT]
        assert self._producer is not None
        sent = await self._producer.send(
            target,
            value,
            key=None if entity is None else entity.encode(),
            partition=partition,
            timestamp_ms=stamp,
            headers=headers,
        )
        self._sending.add(sent)
        sent.add_done_callback(lambda done: self._sent(done, tracker, entry))

    def _sent(self, done: asyncio.Future[Any], tracker: Tracker, entry: Entry) -> None:
        self._sending.discard(done)
        error = None if done.cancelled() else done.exception()
        if done.cancelled() or error is not None:
            # Later records may have gone through; only reading again from the committed position keeps all of them.
            self._app.broken(error or RuntimeError("sending on by entity was cancelled"))
            return
        tracker.close(entry)


def _pairs(headers: Any) -> list[tuple[str, bytes]]:
    raw = headers.items() if hasattr(headers, "items") else headers or ()
    return [(name, value) for name, value in raw]
