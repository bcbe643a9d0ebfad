"""Counter-measures taken out one by one, to show that a test fails without each.

    PALIMPSEST_UNDO=own-commits .venv/bin/python -m pytest tests/integration/faults

runs the tests of Faust's faults with one counter-measure taken out: in the tests' own process, and in the workers that they start. Those
are then `python -m tests.integration.undone own-commits worker -c FILE` instead of `palimpsest worker -c FILE`. `COUNTER_MEASURES` has
each name with what goes wrong without it and the tests that fail then.

    .venv/bin/python -m tests.integration.undone

runs all of these tests, each with its counter-measure taken out, prints a table, and ends with 1 if one of them did not fail. Nothing of
this is in the program itself: counter-measures are taken out by replacing attributes.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class CounterMeasure:
    """Something of ours that keeps a fault of Faust's from doing harm.

    Attributes
    ----------
    fault
        What happens without it.
    tests
        The tests that fail then, below `TESTS`.
    undo
        Takes it out.
    """

    fault: str
    tests: tuple[str, ...]
    undo: Callable[[Replace], None]


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
    async def unchecked(self: Any, role: Any, tp: Any, offset: int) -> None:
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

    async def write_soon(self: Any, record: Any, outputs: Any) -> None:
        task = asyncio.create_task(write(self, record, outputs))
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

    async def refuse(self: Any, item: Any, lease: Any, *refusal: Any) -> None:
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
    "own-commits": CounterMeasure(
        "acknowledgements out of order commit past unfinished work",
        ("test_commits.py::test_nothing_is_committed_past_a_record_that_is_not_finished",),
        _own_commits,
    ),
    "stopped-flow": CounterMeasure(
        "events that are delivered between the end of recovery and the seek are skipped or delivered twice",
        ("test_recovery.py::test_events_that_wait_at_the_end_of_recovery_are_delivered_once_and_the_worker_goes_on",),
        _stopped_flow,
    ),
    "rewind": CounterMeasure(
        "what was fetched before the seek is not read again where the committed position is 0 or there is none",
        ("test_recovery.py::test_a_new_application_goes_back_to_the_beginning_of_what_was_fetched_and_not_delivered",),
        _rewind,
    ),
    "received": CounterMeasure(
        "an event that is dropped between the fetch and the stream is committed past",
        ("test_recovery.py::test_an_event_that_is_dropped_on_its_way_ends_the_worker_and_is_read_again",),
        _received,
    ),
    "first-record": CounterMeasure(
        "events before the first one that is delivered are committed past",
        ("test_recovery.py::test_events_that_are_passed_over_after_recovery_end_the_worker_and_are_read_again",),
        _first_record,
    ),
    "awaited-transaction": CounterMeasure(
        "a commit overtakes a failed send",
        ("test_commits.py::test_a_worker_killed_within_a_transaction_leaves_nothing_of_it_and_nothing_undone",),
        _awaited_transaction,
    ),
    "size-check": CounterMeasure(
        "one record too large fails its whole batch",
        ("test_transactions.py::test_one_record_too_large_does_not_take_its_neighbours_with_it",),
        _size_check,
    ),
    "store-after-commit": CounterMeasure(
        "RocksDB is ahead of the changelog",
        ("test_commits.py::test_a_worker_killed_within_a_transaction_leaves_nothing_of_it_and_nothing_undone",),
        _store_after_commit,
    ),
    "committed-state": CounterMeasure(
        "recovery reads records of aborted transactions",
        ("test_commits.py::test_a_worker_killed_within_a_transaction_leaves_nothing_of_it_and_nothing_undone",),
        _committed_state,
    ),
    "committed-inputs": CounterMeasure(
        "inputs hold records of aborted transactions",
        ("test_commits.py::test_an_observation_of_an_aborted_transaction_is_never_seen",),
        _committed_inputs,
    ),
    "agent-errors": CounterMeasure(
        "an event at which the agent's body fails is passed over",
        ("test_errors.py::test_an_error_in_the_body_of_an_agent_ends_the_worker_and_the_event_is_read_again",),
        _agent_errors,
    ),
    "unfinished-work": CounterMeasure(
        "an event whose work fails is acknowledged",
        ("test_errors.py::test_a_record_whose_work_fails_is_not_done_and_is_done_after_a_restart",),
        _unfinished_work,
    ),
    "dead-letters": CounterMeasure(
        "exceptions and decode errors are acknowledged, and the event is gone",
        ("test_errors.py::test_what_cannot_be_read_or_applied_becomes_one_dead_letter_each",),
        _dead_letters,
    ),
    "raw-values": CounterMeasure(
        "an event that Faust cannot decode never reaches the agent",
        ("test_errors.py::test_what_cannot_be_read_or_applied_becomes_one_dead_letter_each",),
        _raw_values,
    ),
    "fencing": CounterMeasure(
        "a worker that lost its session writes on, and its RocksDB jumps over the new owner's records",
        (
            "test_zombie.py::test_what_a_worker_that_lost_its_session_still_writes_is_refused_once_its_successor_has_read_the_changelog",
            "test_zombie.py::test_a_worker_that_comes_back_after_losing_its_session_has_what_its_successor_wrote_meanwhile",
        ),
        _fencing,
    ),
    "fence-first": CounterMeasure(
        "the last owner of a partition writes after its changelog was read to the end",
        ("test_zombie.py::test_what_a_worker_that_lost_its_session_still_writes_is_refused_once_its_successor_has_read_the_changelog",),
        _fence_first,
    ),
    "held-partitions": CounterMeasure(
        "a partition that is held is fetched again as soon as an event leaves Faust's queue",
        ("test_fetching.py::test_a_partition_that_is_held_stays_held_when_fausts_queue_empties",),
        _held_partitions,
    ),
    "gaps": CounterMeasure(
        "every jump in offsets is kept for ever, and each one costs more",
        ("test_fetching.py::test_jumps_in_offsets_are_not_kept",),
        _gaps,
    ),
    "poll-interval": CounterMeasure(
        "a worker that polled nothing for longer than the poll interval never rejoins its group",
        ("test_fetching.py::test_a_worker_whose_partitions_were_all_held_for_hours_rejoins_its_group",),
        _poll_interval,
    ),
    "shield": CounterMeasure(
        "a cancelled lane cancels a future that others depend on",
        ("test_transactions.py::test_a_lane_that_is_cancelled_while_it_waits_for_its_transaction_takes_nobody_with_it",),
        _shield,
    ),
    "roaming-member": CounterMeasure(
        "a static member that comes back at another URL never gets partitions again",
        ("test_static_member.py::test_a_static_member_that_comes_back_at_another_url_gets_its_partitions_and_is_found_there",),
        _roaming_member,
    ),
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


def show() -> int:
    """Run every test with its counter-measure taken out; return 1 if one does not fail then."""
    unhurt = 0
    for name, measure in COUNTER_MEASURES.items():
        for test in measure.tests:
            command = [sys.executable, "-m", "pytest", "-q", "-rf", "--tb=no", "-p", "no:cacheprovider", f"{TESTS}/{test}"]
            ran = subprocess.run(command, env={**os.environ, VARIABLE: name}, capture_output=True, text=True, check=False)
            failures = [line for line in ran.stdout.splitlines() if line.startswith("FAILED")]
            unhurt += not failures
            said = failures[0].partition(" - ")[2] if failures else f"DID NOT FAIL (pytest ended with {ran.returncode})"
            print(f"{name}: {measure.fault}\n    {test}\n    {said}", flush=True)  # noqa: T201
    return 1 if unhurt else 0


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(show())
    apply(sys.argv.pop(1))
    main()
