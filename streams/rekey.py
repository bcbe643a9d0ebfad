"""Re-keying: an input whose key is not the entity is first written by entity into `<app>-<input>-by-entity`.

Nothing is judged here: every record goes on with its bytes as they are, its source's coordinates in a header, and its timestamp;
one without a readable entity goes by its source partition. A restart may send a record twice; the receiving side counts
offsets per source partition, so the second one is a no-op. One idempotent producer keeps each source partition's order, and this
worker's partitions of observations and truths are sent on together, in the order of their timestamps (`streams.merge`).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiokafka
import faust
from faust.types import TP

from schemas.mapping import Record
from streams.dead_letters import KEPT
from streams.intake import HOLD_AT, RELEASE_AT
from streams.kafka import client_options
from streams.merge import Merge
from streams.partitioner import state_partition
from streams.positions import Entry, Tracker
from streams.records import OVERSIZE_HEADER, SOURCE_HEADER, SOURCE_KEY_HEADER, Role, entity_of, timestamp_ms
from streams.topics import input_topics, rekeyed_roles

if TYPE_CHECKING:
    from streams.app import PalimpsestApp
    from streams.lease import Lease

log = logging.getLogger(__name__)

#: Bytes of a record's frame and of our headers' names.
RECORD_OVERHEAD = 1_024


@dataclass(slots=True)
class _Passing:
    """A record on its way from its source to the topic by entity."""

    role: Role
    target: str
    message: Any
    entry: Entry
    tracker: Tracker


class Rekeying:
    """Sends records of foreign keys on by entity."""

    def __init__(self, app: PalimpsestApp) -> None:
        self._app = app
        self._producer: aiokafka.AIOKafkaProducer | None = None
        self._sending: set[asyncio.Future[Any]] = set()
        self._limits: dict[str, int] = {}
        self._lease: Lease | None = None
        self._merge: Merge[_Passing] | None = None
        self._merging: asyncio.Task[None] | None = None
        #: Records sent to a partition by entity and not acknowledged yet, and the offset behind the last one that was.
        self._unacknowledged: Counter[TP] = Counter()
        self._written: dict[TP, int] = {}

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
        """Take nothing more, and wait until what was sent is acknowledged."""
        self._stop_merging()
        if self._sending:
            await asyncio.wait(set(self._sending), timeout=deadline)

    def sent_on_to(self, role: Role) -> int | None:
        """Timestamp up to which this worker's sources of an input were sent on; None where they have no more."""
        merge, source = self._merge, input_topics(self._app.settings)[role]
        more = (merge is not None and merge.holds(source)) or any(self._lags(tp) for tp in self._sources() if tp.topic == source)
        if not more:
            return None
        return 0 if merge is None or merge.frontier is None else merge.frontier

    def is_arriving(self, tp: TP) -> bool:
        """Whether something was sent to a partition by entity that was not read back yet."""
        written = self._written.get(tp)
        return self._unacknowledged[tp] > 0 or (written is not None and written > (self._app.received.reached(tp) or 0))

    # -- in the order of time

    def _sources(self) -> list[TP]:
        settings = self._app.settings
        topics = {input_topics(settings)[role] for role in rekeyed_roles(settings) if role in self._app.aligned}
        return [TP(tp.topic, tp.partition) for tp in self._app.consumer.assignment() if tp.topic in topics]

    def _lags(self, tp: TP) -> bool:
        return self._app.intake.lags(tp)

    def _merge_for(self, lease: Lease) -> Merge[_Passing]:
        if self._merge is None or self._lease is not lease:
            self._stop_merging()
            sources = self._sources()
            self._lease = lease
            self._merge = Merge(lambda: sources, self._lags, self._send, self._app.consumer, hold_at=HOLD_AT, release_at=RELEASE_AT)
            self._merging = asyncio.create_task(self._merge.run(self._app.intake.announce), name="re-keying")
            self._merging.add_done_callback(self._ended)
        return self._merge

    def _stop_merging(self) -> None:
        if self._merging is not None:
            self._merging.cancel()
        if self._merge is not None:
            self._merge.stop()
        self._merge = self._merging = self._lease = None

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._app.broken(error)

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
        tracker, stamp = lease.trackers[tp], timestamp_ms(message)
        entry = tracker.open(message.offset, stamp)
        if message.value is None:
            # It says nothing and belongs to nobody; a producer refuses a record with neither key nor value.
            self._app.metrics.processed(role, "tombstone")
            tracker.close(entry)
            return
        passing = _Passing(role, target, message, entry, tracker)
        if role in self._app.aligned:
            self._merge_for(lease).put(tp, stamp, passing)
        else:
            await self._send(passing)

    async def _send(self, passing: _Passing) -> None:
        role, target, message = passing.role, passing.target, passing.message
        settings, partitions, stamp = self._app.settings, self._app.partitions, timestamp_ms(message)
        tp = message.tp
        record = Record(tp.topic, tp.partition, message.offset, stamp, message.key, message.value)
        entity = entity_of(record, settings, role)
        partition = tp.partition % partitions if entity is None else state_partition(settings, entity, partitions)
        source = f"{tp.topic}//{tp.partition}/{message.offset}/{stamp}"
        headers = [(name, value) for name, value in _pairs(message.headers)] + [(SOURCE_HEADER, source.encode())]
        if message.key is not None:
            headers.append((SOURCE_KEY_HEADER, message.key))
        value = message.value
        room = self._limits[target] - RECORD_OVERHEAD - sum(len(name) + len(content) for name, content in headers)
        if len(value) > room - len(entity or "") * 4:
            # Compressed, or by other settings, the source took it; here its beginning goes on, to the dead letters.
            headers.append((OVERSIZE_HEADER, f"{len(value)}/{hashlib.sha256(value).hexdigest()}".encode()))
            value = value[:KEPT]
        assert self._producer is not None
        place, key = TP(target, partition), None if entity is None else entity.encode()
        self._unacknowledged[place] += 1
        try:
            sent = await self._producer.send(target, value, key=key, partition=partition, timestamp_ms=stamp, headers=headers)
        except BaseException:
            self._unacknowledged[place] -= 1
            raise
        self._sending.add(sent)
        sent.add_done_callback(lambda done: self._sent(done, place, passing))

    def _sent(self, done: asyncio.Future[Any], place: TP, passing: _Passing) -> None:
        self._sending.discard(done)
        self._unacknowledged[place] -= 1
        error = None if done.cancelled() else done.exception()
        if done.cancelled() or error is not None:
            # Later records may have gone through; only reading again from the committed position keeps all of them.
            self._app.broken(error or RuntimeError("sending on by entity was cancelled"))
            return
        self._written[place] = max(self._written.get(place, 0), done.result().offset + 1)
        passing.tracker.close(passing.entry)


def _pairs(headers: Any) -> list[tuple[str, bytes]]:
    raw = headers.items() if hasattr(headers, "items") else headers or ()
    return [(name, value) for name, value in raw]
