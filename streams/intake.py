"""From a Faust stream to a lane: delivery is checked, records are put in timestamp order, decoded, and handed to their entity.

One observation's way: `Intake.take` (here: is it the next one?) -> `Inlet` (alignment) -> `records.decode` -> its lane ->
`entities.Entities` (state, core, commit). The agents' bodies never wait for work, so one slow partition does not hold up another:
each input partition has a queue and a pump of its own, and is not fetched further while its queue is long.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import faust
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition
from faust.types import TP

from streams.alignment import Alignment
from streams.cluster import spans
from streams.errors import KafkaUnavailable
from streams.gaps import first_offset_in
from streams.lease import Lease
from streams.positions import Hole
from streams.records import Item, Role, timestamp_ms
from streams.topics import input_topics, rekeyed_roles

if TYPE_CHECKING:
    from streams.app import PalimpsestApp

log = logging.getLogger(__name__)

#: Records waiting in an inlet from which on its partition is not fetched further, and down to which it drains before it is again.
#: Each may be as large as the topic's limit, so this bounds memory; it need only outlast one fetch.
HOLD_AT, RELEASE_AT = 128, 32


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
                if not self._queue:
                    self._alignment.announce()
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
        #: The log's start, and the newest offset that was fetched before it was asked for.
        self._log_starts: dict[TP, tuple[int, int]] = {}
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
        self.app.received.expect(tp, message.offset)
        last = lease.trackers[tp].last
        try:
            if last is None:
                await self._check_first(role, tp, message.offset)
            elif message.offset > last + 1:
                await self._check_jump(role, tp, last + 1, message.offset)
        except Exception:
            if self.app.lease is lease and lease.accepting:
                raise
            log.info("the assignment ended while %s/%d was looked at", tp.topic, tp.partition)
        # The checks ask Kafka; meanwhile the partition may have been handed over.
        if self.app.lease is not lease or not lease.accepting:
            return None
        # Last, and nothing is awaited before it is registered: in between `pass_silence` would take it for done.
        self.app.received.delivered(tp, message.offset)
        return None if last is not None and message.offset <= last else lease

    async def _check_first(self, role: Role, tp: TP, offset: int) -> None:
        committed = self.app.consumer._committed_offset.get(tp)
        start = (await self._starts([tp]))[tp]
        expected = start if committed is None else committed
        if start > expected:
            expected = self._retention_took(role, tp, expected, min(start, offset))
        if offset > expected:
            first = await first_offset_in(self.app.settings.kafka, tp.topic, tp.partition, expected, offset)
            if first is not None:
                raise Hole(f"{tp.topic}/{tp.partition}: offset {first} is there to be read, the stream began with {offset}")

    async def _check_jump(self, role: Role, tp: TP, expected: int, offset: int) -> None:
        # The fetcher got this record next (`Received`), so nothing was dropped; only retention is to be told from compaction. A start that
        # was asked for after the record was fetched tells; so an input full of jumps costs one question a fetch.
        newest, start = self._log_starts.get(tp, (-1, 0))
        if newest < offset:
            newest = self.app.received.newest(tp) or offset
            start = (await self._starts([tp]))[tp]
            self._log_starts[tp] = (newest, start)
        if start > expected:
            self._retention_took(role, tp, expected, min(start, offset))

    async def _starts(self, tps: Iterable[TP]) -> dict[TP, int]:
        """First offset that each log still has. Asked by a client of its own: the fetcher's is waiting for records half of the time."""
        places = {tp: TopicPartition(tp.topic, tp.partition) for tp in tps}
        held = await spans(self.app.settings.kafka, places.values())
        return {tp: held[place].start for tp, place in places.items()}

    async def pass_silence(self, lease: Lease) -> None:
        """Let positions pass what is never delivered at the end of a log: markers, aborted records, what compaction or retention took.

        Otherwise lag would stay above 0, and what waits for the end of an input would wait for ever.
        """
        silent = {tp: end for tp in self._roles_by_place() if (end := self._silent_to(lease, tp)) is not None}
        try:
            starts = await self._starts(silent)
            for tp, end in silent.items():
                await self._pass_to(lease, tp, starts[tp], end)
        except (KafkaError, KafkaUnavailable, TimeoutError) as error:
            log.warning("whether there is more at the end of inputs is not known, it is asked again: %r", error)
        except Hole as error:
            self.app.broken(error)

    async def _pass_to(self, lease: Lease, tp: TP, start: int, end: int) -> None:
        position, tracker = self._position(lease, tp), lease.trackers[tp]
        if tracker.last is None:
            # Nothing was delivered in this lease, so the fetcher's word is not enough: a fetch from before it may have been lost.
            first = await first_offset_in(self.app.settings.kafka, tp.topic, tp.partition, max(start, position or 0), end)
            if first is not None and self._silent_to(lease, tp) == end:
                raise Hole(f"{tp.topic}/{tp.partition}: offset {first} is there to be read, the stream delivered nothing up to {end}")
        if self._silent_to(lease, tp) != end:
            return
        if position is not None and start > position:
            self._retention_took(self._roles_by_place()[tp], tp, position, min(start, end))
        tracker.pass_to(end)

    def _silent_to(self, lease: Lease, tp: TP) -> int | None:
        """The offset up to which an input was read without anything to deliver, everything before it done; None if there is no such."""
        if self.app.lease is not lease or not lease.accepting or lease.trackers[tp].unfinished or self.app.received.waiting(tp):
            return None
        end, position = self.app.received.reached(tp), self._position(lease, tp)
        return end if end is not None and end > (position or 0) else None

    def _position(self, lease: Lease, tp: TP) -> int | None:
        """Up to where everything is done: in this lease, or before it."""
        position: int | None = lease.trackers[tp].position
        return self.app.consumer._committed_offset.get(tp) if position is None else position

    def _roles_by_place(self) -> dict[TP, Role]:
        sources = input_topics(self.app.settings)
        roles: dict[str, Role] = {topic: role for role, topic in self.app.inputs.items()}
        roles |= {sources[role]: role for role in self._rekeyed}
        return {tp: roles[tp.topic] for tp in self.app.consumer.assignment() if tp.topic in roles}

    def _retention_took(self, role: Role, tp: TP, position: int, start: int) -> int:
        log.error(
            "retention of %s overtook the position of partition %d: up to %d records (offsets %d to %d) were never read",
            tp.topic,
            tp.partition,
            start - position,
            position,
            start - 1,
            extra={"topic": tp.topic, "partition": tp.partition},
        )
        self._on_lost(role, tp.partition, start - position)
        return start

    def _alignment(self, partition: int) -> Alignment:
        alignment = self._alignments.get(partition)
        if alignment is None:
            slack = int(self.app.settings.alignment.total_seconds() * 1000)
            alignment = Alignment(
                tuple(self.app.aligned), slack, partial(self._queued, partition), partial(self._lags, partition), self._sent_on_to
            )
            self._alignments[partition] = alignment
        return alignment

    def _queued(self, partition: int, role: Role) -> bool:
        inlet = self._inlets.get(TP(self.app.aligned[role], partition))
        return inlet is not None and len(inlet) > 0

    def _lags(self, partition: int, role: Role) -> bool:
        tp, rekeying = TP(self.app.aligned[role], partition), self.app.rekeying
        return self.lags(tp) or (rekeying is not None and role in self._rekeyed and rekeying.is_arriving(tp))

    def _sent_on_to(self, role: Role) -> int | None:
        rekeying = self.app.rekeying
        return rekeying.sent_on_to(role) if rekeying is not None and role in self._rekeyed else None

    def lags(self, tp: TP) -> bool:
        """Whether more of a partition is on its way from the fetcher, or in Kafka for all that is known."""
        if self.app.received.waiting(tp):
            return True
        end, reached = self.app.consumer.readable_end(tp), self.app.received.reached(tp)
        return end is None or reached is None or end > reached

    def announce(self) -> None:
        """Something has changed that a record may wait for."""
        for alignment in self._alignments.values():
            alignment.announce()

    def stop(self) -> None:
        """End the lease's pumps; what waits in them is read again by whoever has the partitions next."""
        for inlet in self._inlets.values():
            inlet.stop()
        self._inlets.clear()
        self._alignments.clear()
        self._log_starts.clear()
