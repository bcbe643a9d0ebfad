"""From a Faust stream to a lane: delivery is checked, records are put in timestamp order, decoded, and handed to their entity.

One observation's way: `Intake.take` (here: is it the next one?) -> `Inlet` (alignment) -> `records.decode` -> its lane ->
`entities.Entities` (state, core, commit). The agents' bodies never wait for work, so one slow partition does not hold up another:
each input partition has a queue and a pump of its own, and is not fetched further while its queue is long.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import faust
from faust.types import TP

from streams import upstream
from streams.alignment import Alignment
from streams.gaps import first_offset_from
from streams.lease import Lease
from streams.positions import Hole
from streams.records import Item, Role, timestamp_ms
from streams.topics import rekeyed_roles

if TYPE_CHECKING:
    from streams.app import PalimpsestApp

log = logging.getLogger(__name__)

#: Records waiting in an inlet from which on its partition is not fetched further, and down to which it drains before it is again.
#: Each may be as large as the topic's limit, so this bounds memory; it need only outlast one fetch.
HOLD_AT, RELEASE_AT = 128, 32
#: Seconds for which a known log start is good enough to tell retention from compaction.
LOG_START_AGE = 30.0


class Inlet:
    """The queue and pump of one input partition within one lease."""

    def __init__(self, intake: Intake, role: Role, tp: TP, lease: Lease, alignment: Alignment) -> None:
        self._intake, self._role, self._tp, self._lease, self._alignment = intake, role, tp, lease, alignment
        self._queue: deque[Item] = deque()
        self._filled = asyncio.Event()
        self._task = asyncio.create_task(self._pump(), name=f"inlet {tp.topic}/{tp.partition}")
        self._task.add_done_callback(self._ended)

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, item: Item) -> None:
        self._queue.append(item)
        self._filled.set()
        if len(self._queue) >= HOLD_AT:
            self._intake.app.consumer.hold(self._tp)

    async def _pump(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._queue:
                item = self._queue[0]
                await self._alignment.turn(self._role, item.record.timestamp)
                await self._intake.dispatch(item, self._lease)
                self._queue.popleft()
                if len(self._queue) == RELEASE_AT:
                    self._intake.app.consumer.release(self._tp)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._intake.app.broken(error)

    def stop(self) -> None:
        self._task.cancel()
        self._intake.app.consumer.release(self._tp)


class Intake:
    """Everything between the agents and the lanes."""

    def __init__(self, app: PalimpsestApp, dispatch: Callable[[Item, Lease], Any], on_lost: Callable[[Role, int, int], None]) -> None:
        """`dispatch` puts an item into its lane; `on_lost(role, partition, count)` counts what retention took."""
        self.app = app
        self.dispatch = dispatch
        self._on_lost = on_lost
        self._inlets: dict[TP, Inlet] = {}
        self._alignments: dict[int, Alignment] = {}
        self._log_starts: dict[TP, tuple[float, int]] = {}
        self._rekeyed = frozenset(rekeyed_roles(app.settings))

    async def feed(self, role: Role, stream: faust.Stream) -> None:
        """The body of an input's agent. Faust's acknowledgements are not used (`upstream.OwnCommits`)."""
        async for event in stream.noack().events():
            try:
                await self.take(role, event.message)
            except Exception as error:
                # Faust would acknowledge the event and start the agent again; it would be lost.
                self.app.broken(error)

    async def take(self, role: Role, message: Any) -> None:
        """Take one delivered record.

        Raises
        ------
        Hole
            An event before it is missing. Nothing was registered for it.
        """
        lease = await self.admit(role, message)
        if lease is None:
            return
        tp = TP(message.tp.topic, message.tp.partition)
        tracker = lease.trackers[tp]
        entry = tracker.open(message.offset, timestamp_ms(message))
        inlet = self._inlets.get(tp)
        if inlet is None:
            inlet = self._inlets[tp] = Inlet(self, role, tp, lease, self._alignment(tp.partition))
        item = Item.from_message(role, tp, message, entry, tracker, rekeyed=role in self._rekeyed)
        self.app.metrics.consumed(role, tp.partition, item.record.timestamp)
        inlet.put(item)

    async def admit(self, role: Role, message: Any) -> Lease | None:
        """The lease under which a delivered record is to be worked on; None if it is not.

        Raises
        ------
        Hole
            As `take`.
        """
        lease, tp = self.app.lease, TP(message.tp.topic, message.tp.partition)
        if lease is None or not lease.accepting or message.generation_id != lease.generation:
            # Delivered under an assignment that has ended; its next owner reads it from the committed position.
            return None
        self.app.received.delivered(tp, message.offset)
        last = lease.trackers[tp].last
        if last is not None and message.offset <= last:
            return None
        try:
            if last is None:
                await self._check_first(role, tp, message.offset)
            elif message.offset > last + 1:
                await self._check_jump(role, tp, last + 1)
        except Exception:
            if self.app.lease is lease and lease.accepting:
                raise
            log.info("the assignment ended while %s/%d was looked at", tp.topic, tp.partition)
        # The checks ask Kafka; meanwhile the partition may have been handed over.
        return lease if self.app.lease is lease and lease.accepting else None

    async def _check_first(self, role: Role, tp: TP, offset: int) -> None:
        committed = self.app.consumer._committed_offset.get(tp)
        start = await self._log_start(tp, max_age=0.0)
        expected = start if committed is None else committed
        if committed is not None and start > committed:
            self._retention_took(role, tp, start - committed)
            expected = start
        if offset > expected:
            first = await first_offset_from(self.app.settings.kafka, tp.topic, tp.partition, expected)
            if first < offset:
                raise Hole(f"{tp.topic}/{tp.partition}: offset {first} is there to be read, the stream began with {offset}")

    async def _check_jump(self, role: Role, tp: TP, expected: int) -> None:
        # The fetcher got this record next (`Received`), so nothing was dropped; only retention is to be told from compaction.
        start = await self._log_start(tp, max_age=LOG_START_AGE)
        if start > expected:
            self._retention_took(role, tp, start - expected)

    async def _log_start(self, tp: TP, max_age: float) -> int:
        read_at, start = self._log_starts.get(tp, (float("-inf"), 0))
        if time.monotonic() - read_at > max_age:
            start = (await upstream.log_starts(self.app, [tp]))[tp]
            self._log_starts[tp] = (time.monotonic(), start)
        return start

    def _retention_took(self, role: Role, tp: TP, count: int) -> None:
        log.error(
            "retention of %s overtook the committed position of partition %d: up to %d records were never read",
            tp.topic,
            tp.partition,
            count,
            extra={"topic": tp.topic, "partition": tp.partition},
        )
        self._on_lost(role, tp.partition, count)

    def _alignment(self, partition: int) -> Alignment:
        alignment = self._alignments.get(partition)
        if alignment is None:
            slack = int(self.app.settings.alignment.total_seconds() * 1000)
            alignment = Alignment(tuple(self.app.aligned), slack, partial(self._queued, partition), partial(self._lags, partition))
            self._alignments[partition] = alignment
        return alignment

    def _queued(self, partition: int, role: Role) -> bool:
        inlet = self._inlets.get(TP(self.app.aligned[role], partition))
        return inlet is not None and len(inlet) > 0

    def _lags(self, partition: int, role: Role) -> bool:
        tp, lease = TP(self.app.aligned[role], partition), self.app.lease
        if lease is None:
            return True
        end = self.app.consumer.highwater(tp)
        if end is None:
            return True
        last = lease.trackers[tp].last
        if last is None:
            last = (self.app.consumer._committed_offset.get(tp) or 0) - 1
        return bool(end > last + 1)

    def stop(self) -> None:
        """End the lease's pumps; what waits in them is read again by whoever has the partitions next."""
        for inlet in self._inlets.values():
            inlet.stop()
        self._inlets.clear()
        self._alignments.clear()
        self._log_starts.clear()
