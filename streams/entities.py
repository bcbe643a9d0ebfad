"""One record's effects on its entity: read the state, ask the core, commit state and outputs together.

Runs inside the entity's lane, so whatever it reads nobody else is writing. An item counts as finished when its commit is through, or
when it turns out to have been applied before. Whatever the core cannot digest goes to the dead letters and the stream goes on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import orjson

from agents.commands import NO_ENTITY
from agents.forecaster import Event, Forecaster, Orphan, Step
from agents.rewriting import Proposal
from schemas.codec import DecodeError, encode
from schemas.mapping import Record
from schemas.messages import Command, MemoryRevision, Message, Observation, Outcome, Prediction, Truth
from schemas.settings import Settings
from schemas.state import (
    PARTITION_KEY,
    EntityState,
    Origin,
    PartitionState,
    encode_state,
    entity_key,
    next_due,
    read_header,
)
from schemas.times import format_duration
from streams import dead_letters
from streams.due import DueIndex
from streams.findings import Finding
from streams.lease import Lease, LeaseLost
from streams.logs import located
from streams.metrics import Metrics
from streams.records import Item, decode
from streams.states import States
from streams.table import StateTable
from streams.topics import judge_inputs
from streams.writer import Output, PartitionWriter, RecordTooLarge, Stored

if TYPE_CHECKING:
    from streams.lanes import Lanes

log = logging.getLogger(__name__)

#: Bytes that a record's effects leave below the changelog's limit: to refuse the next record its offset must still fit, and due work its
#: small changes. Without them a state at the limit would end the worker at every start.
SPARE = 4_096

Parsed = Observation | Truth | Command


class Entities:
    """Applies items to entities; one instance per worker."""

    def __init__(
        self,
        settings: Settings,
        forecaster: Forecaster,
        table: StateTable,
        metrics: Metrics,
        lanes: Lanes,
        *,
        clock: Callable[[], datetime],
        partitions: int,
        writers: Mapping[int, PartitionWriter],
        held_by: tuple[str, ...],
        on_broken: Callable[[BaseException], None],
    ) -> None:
        """`held_by`: which topics hold text of an entity after it was forgotten, and for how long (`topics.holders`)."""
        self._settings = settings
        self._core = forecaster
        self._table = table
        self._states = States()
        self._metrics = metrics
        self._lanes = lanes
        self._clock = clock
        self._partitions = partitions
        self._writers = writers
        self._held_by = held_by
        self._on_broken = on_broken
        self.due: dict[int, DueIndex] = {}
        #: Stream time by partition, replay only: the newest event time that was applied.
        self.stream_time: dict[int, datetime] = {}
        #: Time of the newest observation waiting in each entity's lane, so that an overtaken one is not worth a call.
        self._newest: dict[str, datetime] = {}
        self._rewriting: dict[str, asyncio.Task[None]] = {}
        self._partition_states: dict[int, PartitionState] = {}
        #: How many entities each partition has, once its records were scanned.
        self._entities: dict[int, int] = {}

    # -- into the lane

    async def dispatch(self, item: Item, lease: Lease) -> None:
        """Put an item into its entity's lane; one that cannot be read goes to the dead letters in a lane of its own."""
        if item.record.value is None:
            self._metrics.processed(item.role, "tombstone")
            item.tracker.close(item.entry)
            return
        try:
            message = decode(item, self._settings, self._partitions, self._clock())
        except Exception as error:
            refusal = error if isinstance(error, DecodeError) else self._defect(item, error)
            lane = b"%s/%d/%d" % (item.role.encode(), item.tp.partition, item.entry.offset)
            await self._lanes.submit(lane, lambda: self._finish(item, lease, self._refuse(item, lease, refusal)))
            return
        if isinstance(message, Observation):
            newest = self._newest.get(message.entity)
            if newest is None or message.time > newest:
                self._newest[message.entity] = message.time
        lane = _lane(item.tp.partition, message.entity)
        await self._lanes.submit(lane, lambda: self._finish(item, lease, self._apply(item, message, lease)))

    async def _finish(self, item: Item, lease: Lease, work: Awaitable[None]) -> None:
        record = item.record
        with located(topic=record.topic, partition=record.partition, offset=record.offset):
            try:
                await work
            except LeaseLost:
                # The next owner of the partition does it again; nothing was committed.
                return
            except Exception as error:
                # The state itself cannot be read or written. Going on would leave this record out for ever.
                log.exception("an item could not be finished")
                self._on_broken(error)
                return
        item.tracker.close(item.entry)

    def _defect(self, item: Item, error: Exception) -> DecodeError:
        record = item.record
        with located(topic=record.topic, partition=record.partition, offset=record.offset):
            log.exception("a record made decoding fail; it goes to the dead letters")
        return DecodeError("failed", f"{type(error).__name__}: {error}")

    # -- in the lane

    async def _apply(self, item: Item, message: Parsed, lease: Lease) -> None:
        partition, offset = item.tp.partition, item.record.offset
        overtaken = isinstance(message, Observation) and self._overtaken(message)
        state = self._read(partition, message.entity)
        if offset <= (self._partition_state(partition).settled if state is None else state.applied).get(item.position, -1):
            self._metrics.processed(item.role, "duplicate")
            return
        fresh = state if state is not None else EntityState(entity=message.entity)
        now = self._now(partition, fresh, message)
        try:
            with located(entity=message.entity):
                step = await self._ask_core(item, message, fresh, known=state is not None, overtaken=overtaken, now=now)
        except LeaseLost:
            raise
        except Exception as error:
            log.exception("a record could not be applied; it goes to the dead letters", extra={"entity": message.entity})
            await self._refuse_applied(item, lease, fresh, "failed", f"{type(error).__name__}: {error}")
            return
        lease.check()
        try:
            await self._commit(partition, step, lease, applied=(item.position, offset), trace=item.trace, spare=SPARE)
        except RecordTooLarge as error:
            await self._refuse_applied(item, lease, fresh, "too-large", str(error))
            return
        if state is None:
            self._count(partition, 1)
        self._metrics.processed(item.role, "applied", seconds=time.monotonic() - item.taken_at)
        self._metrics.step(step, now)
        if lease.accepting:
            # What is due waits until the inputs are read to the end they have now: under a backlog nothing would be rewritten.
            self._start_rewrite(partition, step.state, lease, now)

    def _overtaken(self, observation: Observation) -> bool:
        """Whether a newer observation of the entity waits in its lane; the newest one is no longer waiting once it is asked about."""
        newest = self._newest.get(observation.entity)
        if newest == observation.time:
            del self._newest[observation.entity]
        return newest is not None and newest > observation.time

    async def _ask_core(self, item: Item, message: Parsed, state: EntityState, *, known: bool, overtaken: bool, now: datetime) -> Step:
        if isinstance(message, Observation):
            return await self._core.observe(state, message, now=now, offset=item.record.offset, overtaken=overtaken)
        if isinstance(message, Truth):
            record = item.record
            origin = Origin(topic=record.topic, partition=record.partition, offset=record.offset, timestamp=record.timestamp)
            return await self._core.learn(state, message, now=now, origin=origin, raw=record.value)
        if not known:
            refusal = MemoryRevision(
                entity=message.entity,
                revision=0,
                cause="command",
                accepted=False,
                reason=NO_ENTITY,
                op=message.op,
                command=message.id,
                by=message.by,
                why=message.why,
                made_at=now,
            )
            # What is kept of it is its offset, and that only until no replay can bring the command again (`_delete`).
            return Step(state.model_copy(update={"forgotten": True}), (refusal,), {"command.refused": 1})
        return await self._core.command(state, message, now=now)

    def _now(self, partition: int, state: EntityState, message: Parsed | None) -> datetime:
        """The core's clock: the wall's, or in replay the entity's stream time, which depends on its own records alone."""
        if self._settings.time == "live":
            return self._clock()
        times = [state.touched_at, getattr(message, "time", None)]
        known = [t for t in times if t is not None]
        now = max(known, default=self.stream_time.get(partition) or datetime.fromtimestamp(0, UTC))
        before = self.stream_time.get(partition)
        self.stream_time[partition] = now if before is None else max(before, now)
        return now

    # -- dead letters

    async def _refuse(self, item: Item, lease: Lease, error: DecodeError) -> None:
        """Dead-letter a record that cannot be read; the partition's own record remembers how far that got.

        Nothing is awaited before the write is queued, so writes are queued in the order of the partition, and a run of bad records shares
        transactions.
        """
        partition = item.tp.partition
        state = self._partition_state(partition)
        if state.dead_lettered.get(item.position, -1) >= item.record.offset:
            self._metrics.processed(item.role, "duplicate")
            return
        state = state.model_copy(update={"dead_lettered": {**state.dead_lettered, item.position: item.record.offset}})
        letter = self._dead_letter(item.record, error.reason, error.detail, item.whole)
        await self._write_own(partition, state, lease, [], [letter])
        self._metrics.processed(item.role, "dead-lettered")
        self._metrics.dead_lettered(error.reason)
        log.warning("dead-lettered: %s", error.reason, extra={"content": error.detail})

    def _partition_state(self, partition: int) -> PartitionState:
        """The partition's own record as this lease has queued it, which may be ahead of what is committed."""
        state = self._partition_states.get(partition)
        if state is None:
            raw = self._table.read(partition, PARTITION_KEY)
            state = PartitionState() if raw is None else PartitionState.model_validate(orjson.loads(raw))
        return state

    async def _refuse_applied(self, item: Item, lease: Lease, state: EntityState, reason: str, detail: str) -> None:
        """Dead-letter a record that its entity could not take; the entity's state stays as it was, but for the offset."""
        kept = state.model_copy(update={"applied": {**state.applied, item.position: item.record.offset}})
        lease.check()
        record = (entity_key(state.entity), encode_state(kept, self._settings.entity_ttl))
        await self._writer(item.tp.partition).write([record], [self._dead_letter(item.record, reason, detail)])
        self._metrics.processed(item.role, "dead-lettered")
        self._metrics.dead_lettered(reason)

    def _dead_letter(self, record: Record, reason: str, detail: str, whole: tuple[int, str] | None = None) -> Output:
        key, value, headers = dead_letters.to_record(record, reason, detail, whole=whole)
        return Output(self._settings.topics.dead_letters, key, value, headers)

    # -- due work

    async def run_due(self, partition: int, entity: str, lease: Lease, settled: Mapping[str, int]) -> None:
        """Put an entity's due work into its lane: expiry, orphans, a wanted rewrite, its end.

        Parameters
        ----------
        settled
            Last offset, by input, up to which everything is read and done (`streams.barrier`); the truths are among them.
        """
        await self._lanes.submit(_lane(partition, entity), lambda: self._due(partition, entity, lease, settled))

    async def _due(self, partition: int, entity: str, lease: Lease, settled: Mapping[str, int]) -> None:
        try:
            state = self._read(partition, entity)
            if state is None:
                return
            if state.forgotten:
                await self._delete(partition, entity, lease, settled)
                return
            live = self._settings.time == "live"
            now = self._now(partition, state, None) if live else self.stream_time.get(partition, self._clock())
            self._start_rewrite(partition, state, lease, now)
            step = await self._core.due(state, now=now, truths_read=True)
            if self._is_idle(step.state, now):
                step = await self._retire(step, now)
            if step.state is not state or step.events:
                await self._commit(partition, step, lease)
            else:
                self._schedule(partition, state)
            self._metrics.step(step, now)
        except LeaseLost:
            return
        except Exception as error:
            # The entity has left the index of due times; only a restart would find it again.
            log.exception("due work failed", extra={"partition": partition, "entity": entity})
            self._on_broken(error)

    def _is_idle(self, state: EntityState, now: datetime) -> bool:
        ttl = self._settings.entity_ttl
        return ttl is not None and state.touched_at is not None and state.touched_at + ttl <= now

    async def _retire(self, step: Step, now: datetime) -> Step:
        ttl = self._settings.entity_ttl
        assert ttl is not None
        forget = Command(entity=step.state.entity, op="forget", by="entity_ttl", why=f"no record for {format_duration(ttl)}")
        retired = await self._core.command(step.state, forget, now=now)
        return Step(retired.state, (*step.events, *retired.events), {**step.counts, "dropped.entity": 1})

    async def _delete(self, partition: int, entity: str, lease: Lease, settled: Mapping[str, int]) -> None:
        """Delete a forgotten entity's record. What a replay may bring again is known from then on by the partition's own record."""
        before = self._partition_state(partition)
        reached = {**before.settled, **{name: max(offset, before.settled.get(name, -1)) for name, offset in settled.items()}}
        after = before.model_copy(update={"settled": reached})
        if (rewrite := self._rewriting.pop(entity, None)) is not None:
            # Its proposal was made from what is forgotten, and an entity that begins anew counts its revisions anew.
            rewrite.cancel()
        await self._write_own(partition, after, lease, [(entity_key(entity), None)], [])
        self._count(partition, -1)
        log.info("the record of an entity that was forgotten, or never was, is deleted", extra={"partition": partition})

    def _start_rewrite(self, partition: int, state: EntityState, lease: Lease, now: datetime) -> None:
        """Ask for a rewrite in the background, if one is wanted by now and none is under way."""
        if self._settings.rewrite.mode != "background" or state.entity in self._rewriting:
            return
        request = self._core.propose(state, now=now)
        if request is None:
            return

        async def rewrite() -> None:
            # Outside the lane: predictions of the entity go on while the model writes.
            proposal = await self._core.ask(request)
            await (await self._lanes.submit(_lane(partition, state.entity), lambda: self._take_proposal(partition, lease, proposal)))

        task = asyncio.create_task(rewrite(), name=f"rewrite {state.entity}")
        self._rewriting[state.entity] = task
        task.add_done_callback(lambda done: self._rewritten(state.entity, done))

    def _rewritten(self, entity: str, task: asyncio.Task[None]) -> None:
        if self._rewriting.get(entity) is task:
            del self._rewriting[entity]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_broken(error)

    async def _take_proposal(self, partition: int, lease: Lease, proposal: Proposal) -> None:
        state = self._read(partition, proposal.request.entity)
        if state is None or not lease.open:
            return
        now = self._now(partition, state, None)
        step = await self._core.apply(state, proposal, now=now)
        try:
            await self._commit(partition, step, lease)
        except LeaseLost:
            return
        self._metrics.step(step, now)

    # -- state

    def _read(self, partition: int, entity: str) -> EntityState | None:
        key = entity_key(entity)
        record = self._table.read(partition, key)
        return None if record is None else self._states.decode(key, record)

    async def _commit(
        self,
        partition: int,
        step: Step,
        lease: Lease,
        *,
        applied: tuple[str, int] | None = None,
        trace: str = "",
        spare: int = 0,
    ) -> None:
        state = step.state
        if applied is not None:
            position, offset = applied
            state = state.model_copy(update={"applied": {**state.applied, position: offset}})
        key, record = entity_key(state.entity), encode_state(state, self._settings.entity_ttl)
        outputs = [self._output(event, trace) for event in step.events]
        lease.check()
        await self._writer(partition).write([(key, record)], outputs, spare=spare)
        self._states.keep(key, record, state)
        self._schedule(partition, state)

    def foreign_inputs(self, partition: int, ids: Mapping[str, str]) -> list[Finding]:
        """What is wrong with going on from a partition's states: inputs that are other topics than the ones they were made from.

        Parameters
        ----------
        ids
            Ids of the inputs' topics by role (`topics.input_ids`).
        """
        return judge_inputs(self._settings, self._partition_state(partition).inputs, ids)

    async def note_inputs(self, partition: int, lease: Lease, ids: Mapping[str, str]) -> None:
        """Remember which topics the partition's states are made from."""
        before = self._partition_state(partition)
        if (noted := {**before.inputs, **ids}) != before.inputs:
            await self._write_own(partition, before.model_copy(update={"inputs": noted}), lease, [], [])

    async def _write_own(
        self, partition: int, own: PartitionState, lease: Lease, others: Sequence[Stored], outputs: Sequence[Output]
    ) -> None:
        """Commit the partition's own record with others. Nothing is awaited before it is queued, so the next one builds on it."""
        lease.check()
        self._partition_states[partition] = own
        await self._writer(partition).write([(PARTITION_KEY, encode(own)), *others], outputs)

    def take_over(self, partition: int, scan: Scan) -> None:
        """Take in what the records of a partition that was taken over say."""
        self.due[partition].load(scan.due)
        self._entities[partition] = 0
        self._count(partition, scan.entities)

    @property
    def counts(self) -> Mapping[int, int]:
        """How many entities each partition has; partitions whose records are still being scanned are left out."""
        return self._entities

    def _count(self, partition: int, more: int) -> None:
        if partition in self._entities:
            self._entities[partition] += more
            self._metrics.entities(partition, self._entities[partition])

    def _schedule(self, partition: int, state: EntityState) -> None:
        due = next_due(state, self._settings.entity_ttl)
        index = self.due.get(partition)
        if index is not None:
            index.set(state.entity, None if due is None else int(due.timestamp() * 1000))

    def _writer(self, partition: int) -> PartitionWriter:
        writer = self._writers.get(partition)
        if writer is None:
            raise LeaseLost(f"partition {partition} has no writer")
        return writer

    def _output(self, event: Event, trace: str) -> Output:
        topics = self._settings.topics
        if isinstance(event, Orphan):
            origin = event.truth.origin
            where = origin or Origin(topic=topics.truths, partition=0, offset=0)
            raw = event.truth.raw.encode("latin-1")
            record = Record(where.topic, where.partition, where.offset, where.timestamp, None, raw)
            self._metrics.dead_lettered(event.reason)
            return self._dead_letter(record, event.reason, "no prediction matched it in its waiting time")
        roles: dict[type[Message], str] = {Prediction: topics.predictions, Outcome: topics.outcomes, MemoryRevision: topics.memories}
        if isinstance(event, MemoryRevision) and event.cause == "forget" and event.accepted:
            event = event.model_copy(update={"held_by": self._held_by})
        if isinstance(event, Prediction) and trace:
            event = event.model_copy(update={"trace": trace})
        headers = [("content-type", b"application/json"), ("schema-version", b"%d" % event.schema_version)]
        if trace:
            headers.append(("traceparent", trace.encode()))
        return Output(roles[type(event)], event.entity.encode(), encode(event), headers)

    def stop_rewriting(self) -> None:
        """End background rewrites; their feedback is in the state and is picked up again."""
        for task in list(self._rewriting.values()):
            task.cancel()

    def stop(self) -> None:
        """Let go of what belongs to the lease that ends."""
        self._newest.clear()
        self._partition_states.clear()
        self._entities.clear()


def _lane(partition: int, entity: str) -> bytes:
    return b"%d/" % partition + entity.encode()


class Scan(NamedTuple):
    """What the headers of a partition's records say: how many entities there are, and when which is due (ms since the epoch)."""

    entities: int
    due: list[tuple[str, int]]


def scan(table: StateTable, partition: int) -> Scan:
    """Read the headers of a partition's records; run on taking the partition over."""
    count, due = 0, []
    for entity, front in table.entities(partition):
        count += 1
        header = read_header(front)
        if header.due is not None:
            due.append((entity, header.due))
    return Scan(count, due)
