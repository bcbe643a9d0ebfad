"""Counter-measures taken out one by one, to show that a test fails without each.

    PALIMPSEST_UNDO=own-commits .venv/bin/python -m pytest tests/integration/faults

runs the tests of Faust's faults with one counter-measure taken out: in the tests' own process, and in the workers that they start. Those
are then `python -m tests.integration.undone own-commits worker -c FILE` instead of `palimpsest worker -c FILE`. `COUNTER_MEASURES` has
each name with what goes wrong without it; the tests say of themselves which ones they fail without, and what they say then:

    .venv/bin/python -m tests.integration.faults

runs each of them so. Nothing of this is in the program itself: counter-measures are taken out by replacing attributes.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from faust.app import App
from faust.assignor.partition_assignor import PartitionAssignor
from faust.tables.recovery import Recovery
from faust.transport.drivers import aiokafka as driver

from streams import restoring, upstream, writer
from streams.app import PalimpsestApp
from streams.cli.entry import main
from streams.entities import Entities
from streams.intake import Intake
from streams.positions import Received

VARIABLE = "PALIMPSEST_UNDO"
#: Where the tests are.
TESTS = "tests/integration/faults"

#: `setattr`, or pytest's `monkeypatch.setattr`.
Replace = Callable[[Any, str, Any], None]


class CounterMeasure(NamedTuple):
    """Something of ours that keeps a fault of Faust's from doing harm: what happens without it, and what takes it out."""

    fault: str
    undo: Callable[[Replace], None]


class Proof(NamedTuple):
    """A test that fails without a counter-measure.

    Attributes
    ----------
    measure
        The counter-measure's name.
    test
        `file::function`, below `TESTS`.
    says
        What the failure says, in part, so that it is told from any other.
    """

    measure: str
    test: str
    says: str


#: Of the test modules that were imported.
PROOFS: set[Proof] = set()

Test = TypeVar("Test", bound=Callable[..., Any])


def fails_without(measure: str, says: str) -> Callable[[Test], Test]:
    """Mark a test as one that fails without a counter-measure, and says so."""

    def note(test: Test) -> Test:
        PROOFS.add(Proof(measure, f"{Path(inspect.getfile(test)).name}::{test.__name__}", says))
        return test

    return note


def _own_commits(replace: Replace) -> None:
    """Faust's commits of Faust's acknowledgements, given when a record is finished."""
    take, finish = Intake.take, Entities._finish
    delivered: dict[tuple[Any, int], tuple[Any, Any]] = {}

    async def taking(self: Any, role: Any, message: Any) -> None:
        delivered[message.tp, message.offset] = self.app.consumer, message
        await take(self, role, message)
        if message.value is None:
            self.app.consumer.ack(message)

    async def finishing(self: Any, item: Any, lease: Any, work: Any) -> None:
        await finish(self, item, lease, work)
        if item.entry.done:
            consumer, message = delivered.pop((item.tp, item.entry.offset))
            consumer.ack(message)

    replace(Intake, "take", taking)
    replace(Entities, "_finish", finishing)
    replace(upstream.OwnCommits, "force_commit", driver.Consumer.force_commit)


def _received(replace: Replace) -> None:
    """What the stream delivers is taken for what comes next."""

    def delivered(self: Any, tp: Any, offset: int) -> None:
        waiting = self._offsets[tp]
        while waiting and waiting[0] <= offset:
            waiting.popleft()

    replace(Received, "expect", lambda self, tp, offset: None)
    replace(Received, "delivered", delivered)


def _first_record(replace: Replace) -> None:
    async def unchecked(self: Any, *record: Any) -> None:
        return None

    replace(Intake, "_check_first", unchecked)


def _stopped_flow(replace: Replace) -> None:
    """Faust comes to the end of recovery with the flow running."""
    completed = Recovery.on_recovery_completed

    async def on_recovery_completed(self: Any, generation_id: int = 0) -> None:
        self.app.flow_control.resume()
        self.app.consumer.resume_flow()
        await completed(self, generation_id)

    replace(Recovery, "on_recovery_completed", on_recovery_completed)


def _rewind(replace: Replace) -> None:
    replace(upstream.ReadCommittedThread, "seek_to_committed", driver.AIOKafkaConsumerThread.seek_to_committed)


def _awaited_transaction(replace: Replace) -> None:
    """A write is taken for done when it is queued."""
    write = writer.PartitionWriter.write
    waiting: set[asyncio.Task[None]] = set()

    async def write_soon(self: Any, *what: Any, **options: Any) -> None:
        task = asyncio.create_task(write(self, *what, **options))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
        await asyncio.sleep(0)
        if task.done():
            task.result()

    replace(writer.PartitionWriter, "write", write_soon)


def _size_check(replace: Replace) -> None:
    replace(writer, "RECORD_OVERHEAD", -(2**40))


def _store_after_commit(replace: Replace) -> None:
    """RocksDB is written before the transaction, as Faust's tables are before their changelog."""
    transaction = writer.PartitionWriter._transaction

    async def store_first(self: Any, batch: Sequence[Any]) -> Any:
        db = self._table.data._db_for_partition(self.tp.partition)
        for key, value in (record for write in batch for record in write.records):
            db.put(key, value)
        return await transaction(self, batch)

    replace(writer.PartitionWriter, "_transaction", store_first)


def _agent_errors(replace: Replace) -> None:
    """What an agent's body raises is left to Faust, which passes over the event and starts the agent again."""

    async def feed(self: Any, role: Any, stream: Any) -> None:
        async for event in stream.noack().events():
            await self.take(role, event.message)

    replace(Intake, "feed", feed)


def _unfinished_work(replace: Replace) -> None:
    """A record whose work failed is done, as it is for Faust."""
    finish = Entities._finish

    async def finishing(self: Any, item: Any, lease: Any, work: Any) -> None:
        async def forgiving() -> None:
            try:
                await work
            except OSError:
                return

        await finish(self, item, lease, forgiving())

    replace(Entities, "_finish", finishing)


def _dead_letters(replace: Replace) -> None:
    """A record that cannot be read or applied is passed over, as Faust does after logging it."""

    async def refuse(self: Any, *refusal: Any, **options: Any) -> None:
        return None

    replace(Entities, "_refuse", refuse)
    replace(Entities, "_refuse_applied", refuse)


def _raw_values(replace: Replace) -> None:
    """Faust decodes the values of inputs."""
    topic = App.topic

    def decoding(self: Any, *names: str, **options: Any) -> Any:
        if options.get("value_serializer") == "raw":
            options |= {"value_type": None, "value_serializer": "json"}
        return topic(self, *names, **options)

    replace(PalimpsestApp, "topic", decoding)


def _fencing(replace: Replace) -> None:
    """Writers of one partition know nothing of each other."""
    create = writer.PartitionWriter.__init__

    def unknown(self: Any, *args: Any, transactional_id: str, **options: Any) -> None:
        create(self, *args, transactional_id=f"{uuid.uuid4()}-{transactional_id}", **options)

    replace(writer.PartitionWriter, "__init__", unknown)


def _fence_first(replace: Replace) -> None:
    """Writers are started when the changelog was read, instead of before its end is asked for."""
    start, completed = PalimpsestApp.start_writers, Recovery.on_recovery_completed
    wanted: list[Any] = []

    async def remember(self: Any, tps: Any) -> None:
        wanted[:] = tps

    async def on_recovery_completed(self: Any, generation_id: int = 0) -> None:
        await start(self.app, list(wanted))
        await completed(self, generation_id)

    replace(PalimpsestApp, "start_writers", remember)
    replace(Recovery, "on_recovery_completed", on_recovery_completed)


def _committed_inputs(replace: Replace) -> None:
    base = driver.AIOKafkaConsumerThread._create_worker_consumer
    replace(upstream.ReadCommittedThread, "_create_worker_consumer", base)


def _committed_state(replace: Replace) -> None:
    consumer = restoring.consumer

    def uncommitted(settings: Any, **options: Any) -> Any:
        return consumer(settings, **{**options, "isolation_level": "read_uncommitted"})

    replace(restoring, "consumer", uncommitted)


def _held_partitions(replace: Replace) -> None:
    replace(upstream.OwnCommits, "on_buffer_drop", driver.Consumer.on_buffer_drop)


def _gaps(replace: Replace) -> None:
    replace(upstream.OwnCommits, "_add_gap", driver.Consumer._add_gap)


def _turns(replace: Replace) -> None:
    """Of what was fetched, the partition that came first is emptied first."""
    fetch = driver.AIOKafkaConsumerThread._fetch_records

    async def as_they_came(self: Any, *args: Any, **options: Any) -> Any:
        return upstream.Fetched(await fetch(self, *args, **options))

    replace(upstream.ReadCommittedThread, "_fetch_records", as_they_came)


def _ended_assignment(replace: Replace) -> None:
    replace(upstream.SafeRecovery, "_assigned", property(lambda self: True, lambda self, value: None))


def _poll_interval(replace: Replace) -> None:
    """Faust's own `broker_max_poll_interval`."""
    create = App.__init__

    def default(self: Any, *args: Any, **options: Any) -> None:
        del options["broker_max_poll_interval"]
        create(self, *args, **options)

    replace(PalimpsestApp, "__init__", default)


def _shield(replace: Replace) -> None:
    """A cancelled lane cancels the future that it waits for, and whoever completes it does not look."""

    class Unguarded(asyncio.Future[None]):
        def done(self) -> bool:
            return False

    class Unshielded:
        shield = staticmethod(lambda future: future)

        def __getattr__(self, name: str) -> Any:
            return getattr(asyncio, name)

    class Write(writer._Write):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, Unguarded())

    replace(writer, "asyncio", Unshielded())
    replace(writer, "_Write", Write)


def _roaming_member(replace: Replace) -> None:
    replace(upstream.RoamingAssignor, "on_assignment", PartitionAssignor.on_assignment)


COUNTER_MEASURES = {
    "own-commits": CounterMeasure("acknowledgements out of order commit past unfinished work", _own_commits),
    "stopped-flow": CounterMeasure(
        "events that are delivered between the end of recovery and the seek are skipped or delivered twice", _stopped_flow
    ),
    "rewind": CounterMeasure(
        "what was fetched before the seek is not read again where the committed position is 0 or there is none", _rewind
    ),
    "received": CounterMeasure("an event that is dropped between the fetch and the stream is committed past", _received),
    "first-record": CounterMeasure("events before the first one that is delivered are committed past", _first_record),
    "awaited-transaction": CounterMeasure("a commit overtakes a failed send", _awaited_transaction),
    "size-check": CounterMeasure("one record too large fails its whole batch", _size_check),
    "store-after-commit": CounterMeasure("RocksDB is ahead of the changelog", _store_after_commit),
    "committed-state": CounterMeasure("recovery reads records of aborted transactions", _committed_state),
    "committed-inputs": CounterMeasure("inputs hold records of aborted transactions", _committed_inputs),
    "agent-errors": CounterMeasure("an event at which the agent's body fails is passed over", _agent_errors),
    "unfinished-work": CounterMeasure("an event whose work fails is acknowledged", _unfinished_work),
    "dead-letters": CounterMeasure("exceptions and decode errors are acknowledged, and the event is gone", _dead_letters),
    "raw-values": CounterMeasure("an event that Faust cannot decode never reaches the agent", _raw_values),
    "fencing": CounterMeasure("a worker that lost its session writes on, and its RocksDB jumps over the new owner's records", _fencing),
    "fence-first": CounterMeasure("the last owner of a partition writes after its changelog was read to the end", _fence_first),
    "held-partitions": CounterMeasure(
        "a partition that is held is fetched again as soon as an event leaves Faust's queue", _held_partitions
    ),
    "gaps": CounterMeasure("every jump in offsets is kept for ever, and each one costs more", _gaps),
    "turns": CounterMeasure("tens of thousands of records that wait in one partition hold up all others", _turns),
    "ended-assignment": CounterMeasure("a lease begins after its assignment has ended, and nobody ends it", _ended_assignment),
    "poll-interval": CounterMeasure(
        "a worker that polled nothing for longer than the poll interval never rejoins its group", _poll_interval
    ),
    "shield": CounterMeasure("a cancelled lane cancels a future that others depend on", _shield),
    "roaming-member": CounterMeasure("a static member that comes back at another URL never gets partitions again", _roaming_member),
}


def apply(name: str, replace: Replace = setattr) -> None:
    """Take a counter-measure out.

    Raises
    ------
    KeyError
        There is none of this name.
    AttributeError
        What it consisted of is not there any more.
    """
    COUNTER_MEASURES[name].undo(replace)


def wanted() -> str | None:
    """The counter-measure that is to be taken out of this run of the tests."""
    return os.environ.get(VARIABLE) or None


def program() -> Sequence[str]:
    """How a test starts `palimpsest`: its command line, without the counter-measure that is to be taken out."""
    name = wanted()
    return [sys.executable, "-m", "streams.cli"] if name is None else [sys.executable, "-m", "tests.integration.undone", name]


if __name__ == "__main__":
    apply(sys.argv.pop(1))
    main()
