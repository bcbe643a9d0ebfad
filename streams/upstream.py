"""Counter-measures against what Faust 0.15.3 and aiokafka 0.14.0 get wrong, and the versions they were written for.

Each replaces a private part of the library, so other versions are refused at start (`check_versions`). What is replaced, and
what would happen without it (all seen on Apache Kafka 4.1):

`OwnCommits.force_commit` (faust#606, robinhood/faust#682)
    Acknowledgements out of order commit past work that is not done; a crash loses it.
`OwnCommits._getmany`, `perform_seek`, `seek` (faust#596)
    An event that Faust drops between the fetch and the stream is committed past. Here the gap is seen and the worker ends.
`OwnCommits.on_buffer_drop` (not filed)
    A partition that is held for back pressure is fetched again as soon as one buffered event leaves; and one that may be fetched again
    waits up to a second, until the fetch that left it out gives up waiting for others.
`OwnCommits._add_gap` (not filed)
    Every jump in offsets (compaction, a transaction's marker) is kept for ever, and each one costs more: 2 000 of them 25 s, 6 000 250 s,
    during which nothing else runs.
`ReadCommittedThread.seek_to_committed` (not filed)
    A partition at position 0, or without one, stays where aiokafka's fetcher stands; what that had read before the seek is not read again.
`ReadCommittedThread._fetch_records` (not filed)
    Of what was fetched, one partition is emptied before the next is looked at: tens of thousands of records that wait in one hold up all.
`ReadCommittedThread` (no setting outside of `exactly_once`)
    Recovery and inputs see records of aborted transactions.
`SafeRecovery.on_recovery_completed` (faust#596)
    Source events delivered between the end of recovery and the seek are skipped or delivered twice.
`SafeRecovery._build_highwaters` (not filed)
    The last owner of a partition can still write after its changelog was read to the end.
`SafeRecovery.add_standby`, `_build_offsets` (no setting)
    Changelogs are read record by record, at some thousand records a second.
`RoamingAssignor.on_assignment` (not filed)
    A static member that comes back within its session at another URL (a container's new name, a free port) fails an assertion in
    aiokafka's own task: it stays up, is out of the group, and never gets partitions again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import aiokafka
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from faust.assignor.client_assignment import ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

if TYPE_CHECKING:
    from streams.app import PalimpsestApp

log = logging.getLogger(__name__)

PINNED = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0"}


class UnsupportedVersion(RuntimeError):
    """An upstream library has another version than the counter-measures were written and tested for."""


def check_versions(installed: Mapping[str, str] | None = None) -> None:
    """Refuse to run on versions whose private parts were not looked at.

    Raises
    ------
    UnsupportedVersion
        Names the library, both versions, and how to check a new one.
    """
    for name, wanted in PINNED.items():
        found = installed[name] if installed is not None else version(name)
        if found != wanted:
            raise UnsupportedVersion(
                f"{name} {found} is installed; the delivery guarantees were shown with {wanted}. Install that version, or check the "
                "new one: go through the list in streams/upstream.py, change PINNED there, and run `make test`."
            )


class ReadCommittedThread(driver.AIOKafkaConsumerThread):
    app: PalimpsestApp

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        return consumer

    async def _fetch_records(self, consumer: aiokafka.AIOKafkaConsumer, *args: Any, **kwargs: Any) -> Fetched:
        records = await super()._fetch_records(consumer, *args, **kwargs)
        fetched = consumer._fetcher._records
        for tp in records:
            if tp in fetched:
                # Whose turn it was comes last next time.
                fetched.move_to_end(tp)
        subscription = consumer._subscription.subscription
        assignment = None if subscription is None else subscription.assignment
        if assignment is None or not assignment.active:
            return Fetched(records)
        # Nothing is awaited since the records were taken, so this is where the fetcher stands after exactly them.
        states = {tp: assignment.state_value(tp) for tp in assignment.tps}
        positions = {TP(tp.topic, tp.partition): state.position for tp, state in states.items() if state.has_valid_position}
        return Fetched(records, positions)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        committed: Mapping[TP, int] = await super().seek_to_committed()
        inputs = [tp for tp in committed if tp.topic not in self.app.tables.changelog_topics]
        await self.call_thread(self._rewind, [tp for tp in inputs if not committed[tp]])
        return committed

    async def _rewind(self, tps: Iterable[TP]) -> None:
        # An offset that retention took is none that is held: the fetcher goes on to the log's start, as at any other.
        for tp in tps:
            self._ensure_consumer().seek(tp, 0)

    def look_again(self) -> None:
        """Let a fetch that waits for records look through what is there once more. Called from the application's thread."""
        if self._consumer is not None and not self.thread_loop.is_closed():
            self.thread_loop.call_soon_threadsafe(self._wake, self._consumer._fetcher)

    @staticmethod
    def _wake(fetcher: Any) -> None:
        for waiter in tuple(fetcher._fetch_waiters):
            fetcher._notify(waiter)


class Fetched(dict[Any, Any]):
    """Records by partition, as Faust has them, and the offsets that are fetched next."""

    def __init__(self, records: Mapping[Any, Any], positions: Mapping[TP, int] | None = None) -> None:
        super().__init__(records)
        self.positions = positions or {}


class OwnCommits(driver.Consumer):
    """Commits the positions of the lease instead of Faust's acknowledgements, and keeps what the fetcher received."""

    app: PalimpsestApp

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Partitions held back by the intake; see `hold`.
        self.held: set[TP] = set()

    def _new_consumer_thread(self) -> ReadCommittedThread:
        return ReadCommittedThread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        received = self.app.received
        seeks = received.seeks
        records = await super()._getmany(active_partitions, timeout)
        for tp, batch in records.items():
            received.add(TP(tp.topic, tp.partition), [record.offset for record in batch])
        received.reach(records.positions, seeks)
        return records

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Nothing: gaps are for Faust's own commits, which never come to take them out again."""

    def readable_end(self, tp: TP) -> int | None:
        """One past the last offset that may be read, as of the newest fetch; what an open transaction holds back is not."""
        consumer = self._thread._ensure_consumer()
        end: int | None = consumer.last_stable_offset(tp) if tp in consumer.assignment() else None
        return end

    async def perform_seek(self) -> None:
        self.app.received.clear()
        await super().perform_seek()

    async def seek(self, partition: TP, offset: int) -> None:
        self.app.received.clear(partition)
        await super().seek(partition, offset)

    def hold(self, tp: TP) -> None:
        """Stop fetching a partition without dropping what was fetched already, which Faust's own pause would."""
        self.held.add(tp)
        super().on_buffer_full(tp)

    def release(self, tp: TP) -> None:
        self.held.discard(tp)
        self.on_buffer_drop(tp)

    def on_buffer_drop(self, tp: TP) -> None:
        if tp in self._buffered_partitions and tp not in self.held:
            super().on_buffer_drop(tp)
            self._thread.look_again()

    def rejoin(self) -> None:
        """Join the group again, and so start a rebalance. Called on the consumer's own thread."""
        self._thread._ensure_consumer()._coordinator.request_rejoin()

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        lease = self.app.lease
        if lease is None or not lease.open:
            return False
        await self.app.intake.pass_silence(lease)
        assignment = self.assignment()
        offsets = {tp: offset for tp, offset in lease.committable().items() if tp in assignment}
        if not offsets or not await self._commit(offsets):
            return False
        lease.committed.update(offsets)
        return True


class OwnTransport(driver.Transport):
    Consumer = OwnCommits


class RoamingAssignor(PartitionAssignor):
    """Lets a member come back at another URL. The group goes on with the old one, so the member joins again, which tells everyone."""

    app: PalimpsestApp

    def on_assignment(self, assignment: Any) -> None:
        given, url = ClientMetadata.loads(self._decompress(assignment.user_data)), str(self._url)
        if given.url != url:
            log.warning("the group knows this worker at %s; it joins again, to be known at %s", given.url, url)
            given.url = url
            assignment = ConsumerProtocolMemberAssignment(assignment.version, assignment.assignment, self._compress(given.dumps()))
            self.app.consumer.rejoin()
        super().on_assignment(assignment)


class SafeRecovery(Recovery):
    """Faust's order of recovery, with the reading of changelogs left to `streams.restoring`."""

    app: PalimpsestApp
    #: Whether the latest news was an assignment, not the end of one.
    _assigned = False

    def add_standby(self, table: Any, tp: TP) -> None:
        """Nothing: standby partitions are followed by `streams.restoring`."""

    def on_partitions_revoked(self, revoked: set[TP]) -> None:
        # One of them may be worked on next; nobody else may write its RocksDB then.
        self.app.restoration.stop_following()
        self._assigned = False
        super().on_partitions_revoked(revoked)

    async def on_rebalance(self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0) -> None:
        self._assigned = True
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    async def _build_highwaters(self, consumer: Any, tps: Iterable[TP], destination: Any, title: str) -> None:
        if title == "active":
            # Starting a partition's writer fences its last owner, so the end that is read next is the end.
            await self.app.start_writers(tps)
        await super()._build_highwaters(consumer, tps, destination, title)

    async def _build_offsets(self, consumer: Any, tps: Iterable[TP], destination: Any, title: str) -> None:
        if title != "active":
            return
        # Nothing to do for Faust: as if RocksDB were at the end.
        for tp in tps:
            destination[tp] = self.active_highwaters[tp]

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        self.app.consumer.stop_flow()
        self.app.flow_control.suspend()
        # Here, because everything before it has a deadline, and the next rebalance cancels it.
        await self.app.restoration.restore({tp.partition: highwater + 1 for tp, highwater in self.active_highwaters.items()})
        if not self._assigned:
            # Its end came first, so nobody would end the lease that would begin now. The next assignment restores anew.
            log.info("the assignment of generation %d ended while its state was restored", generation_id)
            return
        await super().on_recovery_completed(generation_id)
        self.app.restoration.follow(
            tp.partition for tp in self.app.assignor.assigned_standbys() if tp.topic in self.tables.changelog_topics
        )


class SafeTableManager(TableManager):
    _recovery: Recovery | None

    @property
    def recovery(self) -> Recovery:
        if self._recovery is None:
            self._recovery = SafeRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery


def coordination_failure(app: PalimpsestApp) -> BaseException | None:
    """Why aiokafka's task that keeps the membership has ended, if it has: the worker would stay up, out of the group, for ever."""
    consumer = getattr(app.consumer._thread, "_consumer", None)
    task: asyncio.Task[Any] | None = getattr(getattr(consumer, "_coordinator", None), "_coordination_task", None)
    if task is None or not task.done() or app.should_stop:
        return None
    if task.cancelled():
        return RuntimeError("aiokafka's group membership was cancelled")
    return task.exception() or RuntimeError("aiokafka's group membership has ended")
