"""The Faust application: agents, the one table, and the life of a lease from take-over to hand-over.

Faust supplies agents, group membership, co-partitioning, recovery, standbys and the RocksDB files. Which record is done, what is
committed when, and who may write is decided here and in the modules this one puts together.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import faust
from aiokafka.errors import KafkaError
from faust.types import TP

from agents.forecaster import Forecaster
from schemas.settings import Settings
from streams.barrier import Barrier
from streams.due import DueIndex
from streams.entities import Entities, scan
from streams.errors import KafkaUnavailable, TopicsUnfit
from streams.intake import Intake
from streams.kafka import client_options, ssl_context
from streams.lanes import Lanes
from streams.lease import Lease
from streams.membership import unrouted
from streams.metrics import Metrics
from streams.positions import Received
from streams.records import Role
from streams.rekey import Rekeying
from streams.restoring import Restoration
from streams.table import NAME, StateTable
from streams.topics import (
    DAY,
    Survey,
    by_entity_topic,
    changelog_topic,
    holders,
    input_ids,
    input_roles,
    input_topics,
    rekeyed_roles,
    writer_id,
)
from streams.upstream import OwnTransport
from streams.writer import PartitionWriter, start_all

log = logging.getLogger(__name__)

#: Seconds between two looks at what is due.
TICK = 1.0
#: Room above the largest state record that requests and the changelog's `max.message.bytes` leave.
REQUEST_HEADROOM = 786_432


#: Records that are taken out of what was fetched at once. All of it, and a partition that is to be held would have 40 000 small records in
#: memory, each ten times its size; what is not taken stays the bytes that came.
POLL_RECORDS = 500
#: Milliseconds between two notes that the held partitions are current.
TOUCH_EVERY = 60_000


def now_ms() -> int:
    """The wall clock in milliseconds since the epoch."""
    return int(time.time() * 1000)


def state_topic(settings: Settings, role: Role) -> str:
    """The topic whose partitions are those of the state: the input itself, or the internal one it is re-keyed into."""
    return by_entity_topic(settings, role) if role in rekeyed_roles(settings) else input_topics(settings)[role]


class PalimpsestApp(faust.App):
    """One worker's application. Built by `build_app`; the attributes below are set there and are no Faust settings."""

    settings: Settings
    metrics: Metrics
    partitions: int
    state_table: StateTable
    restoration: Restoration
    entities: Entities
    intake: Intake
    rekeying: Rekeying | None
    lanes: Lanes
    lease: Lease | None = None
    #: `max.message.bytes` by topic.
    limits: Mapping[str, int]
    #: Topics by role that carry the state's inputs, by entity.
    inputs: dict[Role, str]
    #: Those of them that `streams.alignment` keeps in step.
    aligned: dict[Role, str]
    #: Called once when this worker must end and be started again.
    on_broken: Callable[[BaseException], None]

    def wire(
        self,
        settings: Settings,
        forecaster: Forecaster,
        metrics: Metrics,
        survey: Survey,
        on_broken: Callable[[BaseException], None],
    ) -> None:
        self.settings, self.metrics, self.partitions = settings, metrics, survey.partitions
        self.limits = survey.message_bytes
        self._input_ids = input_ids(settings, survey)
        self.on_broken = on_broken
        self.received = Received()
        self.writers: dict[int, PartitionWriter] = {}
        self.lanes = Lanes(settings.worker.window)
        changelog = changelog_topic(settings)
        self.state_table = self.Table(NAME, partitions=survey.partitions, key_type=bytes, value_type=bytes)
        self.restoration = Restoration(
            settings.kafka,
            self.state_table,
            changelog,
            delete_retention_ms=survey.found[changelog].number("delete.retention.ms", DAY),
            clock=now_ms,
            on_broken=self.broken,
        )
        self.entities = Entities(
            settings,
            forecaster,
            self.state_table,
            metrics,
            self.lanes,
            clock=lambda: datetime.now(UTC),
            partitions=survey.partitions,
            writers=self.writers,
            held_by=holders(survey),
            on_broken=self.broken,
        )
        self.intake = Intake(self, self.entities.dispatch, self._lost_to_retention)
        self.inputs = {role: state_topic(settings, role) for role in input_roles(settings)}
        self.aligned = {role: topic for role, topic in self.inputs.items() if role != "commands"}
        raw: dict[str, Any] = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
        for role, topic in self.inputs.items():
            self._consume(role, self.topic(topic, partitions=survey.partitions, **raw))
        rekeyed = rekeyed_roles(settings)
        self.rekeying = Rekeying(self) if rekeyed else None
        for role in rekeyed:
            self._rekey(role, self.inputs[role], self.topic(input_topics(settings)[role], **raw))
        self._barriers: dict[int, Barrier] = {}
        self._blocked: dict[int, list[tuple[str, int]]] = {}
        self._lease_tasks: set[asyncio.Task[Any]] = set()
        self._handover_began: float | None = None
        self.on_rebalance_complete.connect(self._begin_lease)
        self.on_partitions_revoked.connect(self._end_lease)

    def _consume(self, role: Role, topic: faust.TopicT) -> None:
        async def consume(stream: faust.Stream) -> None:
            await self.intake.feed(role, stream)

        self.agent(topic, name=f"palimpsest.{role}")(consume)

    def _rekey(self, role: Role, target: str, topic: faust.TopicT) -> None:
        async def rekey(stream: faust.Stream) -> None:
            assert self.rekeying is not None
            await self.rekeying.feed(role, target, stream)

        self.agent(topic, name=f"palimpsest.rekey.{role}")(rekey)

    def _new_transport(self) -> OwnTransport:
        return OwnTransport(self.conf.broker_consumer, self)

    def _lost_to_retention(self, role: Role, partition: int, count: int) -> None:
        self.metrics.processed(role, "retention-lost", count=count)

    # -- the life of a lease

    async def start_writers(self, tps: Iterable[TP]) -> None:
        """Take the right to write the given changelog partitions; called by recovery before it asks for their ends."""
        await self._stop_writers()
        worker = self.settings.worker
        writers = {
            tp.partition: PartitionWriter(
                tp,
                self.state_table,
                transactional_id=writer_id(self.settings, tp.partition),
                client=client_options(self.settings.kafka),
                transaction_timeout=worker.transaction_timeout.total_seconds(),
                max_request_size=self.settings.bounds.record + REQUEST_HEADROOM,
                limits=self.limits,
                on_broken=self.broken,
                on_commit=self.metrics.transaction,
            )
            for tp in tps
        }
        await start_all(list(writers.values()))
        self.writers.update(writers)

    async def _stop_writers(self) -> None:
        old = list(self.writers.values())
        self.writers.clear()
        await asyncio.gather(*(writer.stop() for writer in old))

    async def _begin_lease(self, *_: Any, **__: Any) -> None:
        """Sent by Faust after recovery and before any source partition is resumed."""
        changelog = changelog_topic(self.settings)
        owned = frozenset(tp.partition for tp in self.assignor.assigned_actives() if tp.topic == changelog)
        foreign = {str(finding): finding for partition in owned for finding in self.entities.foreign_inputs(partition, self._input_ids)}
        if foreign:
            self.broken(TopicsUnfit(list(foreign.values())))
            return
        self.lease = Lease(self.consumer_generation_id, owned)
        self.entities.due = {partition: DueIndex() for partition in owned}
        self._barriers.clear()
        self._blocked.clear()
        self._spawn(self._scan(owned, self.lease), "scan")
        self._spawn(self._tick(self.lease), "due work")
        if self._handover_began is not None:
            self.metrics.rebalance(time.monotonic() - self._handover_began)
            self._handover_began = None
        log.info("took over partitions %s (generation %d)", sorted(owned), self.lease.generation)
        if lost := unrouted(self.assignor.changelog_distribution, changelog, self.partitions):
            log.warning("no URL leads to partitions %s: two workers say the same; give each its own worker.http_url", lost)

    async def _end_lease(self, *_: Any, **__: Any) -> None:
        """Awaited by Faust before the group moves on; heartbeats go on meanwhile."""
        self._handover_began = time.monotonic()
        await self.hand_over()

    async def hand_over(self) -> None:
        """Stop taking, let running work finish until the drain deadline, commit, and give up the right to write."""
        lease = self.lease
        if lease is None or not lease.open:
            return
        lease.accepting = False
        started = time.monotonic()
        self.intake.stop()
        self.entities.stop_rewriting()
        for task in list(self._lease_tasks):
            task.cancel()
        deadline = self.settings.worker.drain_deadline.total_seconds()
        if self.rekeying is not None:
            await self.rekeying.drain(min(deadline, 5.0))
        abandoned = await self.lanes.drain(max(0.0, deadline - (time.monotonic() - started)))
        self.entities.stop()
        try:
            # Twice: the first call may only wait for a commit that is under way.
            for _ in range(2):
                await asyncio.wait_for(self.consumer.commit(), 5.0)
        except TimeoutError:
            log.warning("the positions were not committed in time; the next owner applies some records again, to no effect")
        finally:
            lease.close()
            await self._stop_writers()
        log.info("handed over in %.1f s, %d items left to the next owner", time.monotonic() - started, abandoned)

    async def on_stop(self) -> None:
        await self.hand_over()
        await super().on_stop()

    def broken(self, error: BaseException) -> None:
        """End this worker: it was fenced, cannot know an outcome, or saw a hole. Nothing more is written or committed."""
        if self.lease is not None:
            self.lease.close()
        self.on_broken(error)

    # -- what happens without input

    def _spawn(self, work: Any, name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._lease_tasks.add(task)
        task.add_done_callback(self._lease_task_done)

    def _lease_task_done(self, task: asyncio.Task[Any]) -> None:
        self._lease_tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.broken(error)

    async def _scan(self, partitions: Iterable[int], lease: Lease) -> None:
        for partition in sorted(partitions):
            await self.entities.note_inputs(partition, lease, self._input_ids)
            self.entities.take_over(partition, await asyncio.to_thread(scan, self.state_table, partition))

    async def _tick(self, lease: Lease) -> None:
        touched = now_ms()
        while lease.open:
            await asyncio.sleep(TICK)
            if now_ms() - touched >= TOUCH_EVERY:
                touched = now_ms()
                for partition in lease.partitions:
                    self.state_table.touch(partition, touched)
            for partition in sorted(lease.partitions):
                try:
                    await self._run_due(lease, partition)
                except (KafkaError, KafkaUnavailable, TimeoutError) as error:
                    log.warning("what is due on partition %d waits for Kafka: %r", partition, error)

    async def _run_due(self, lease: Lease, partition: int) -> None:
        now = datetime.now(UTC) if self.settings.time == "live" else self.entities.stream_time.get(partition)
        if now is None:
            return
        # Those that were due when the inputs' ends were asked for may expire once the inputs are read up to them; the rest ask anew.
        barrier = self._barriers.get(partition)
        if barrier is not None and await barrier.passed(lease):
            del self._barriers[partition]
            for entity, _ in self._blocked.pop(partition, []):
                await self.entities.run_due(partition, entity, lease, barrier.settled)
        index, at = self.entities.due[partition], int(now.timestamp() * 1000)
        if partition in self._barriers or not index.is_due(at):
            return
        barrier = Barrier(self, partition)
        await barrier.set()
        self._barriers[partition] = barrier
        self._blocked[partition] = index.pop(at)


def build_app(
    settings: Settings,
    forecaster: Forecaster,
    metrics: Metrics,
    survey: Survey,
    on_broken: Callable[[BaseException], None],
    *,
    url: str,
) -> PalimpsestApp:
    """Put the application together; nothing is connected yet.

    Parameters
    ----------
    survey
        The topics as they are.
    on_broken
        Called when the worker must end with `exits.RESTART`.
    url
        Where other workers reach this one (`membership.advertised_url`).
    """
    worker, kafka = settings.worker, settings.kafka
    session = worker.session_timeout.total_seconds()
    app = PalimpsestApp(
        settings.app,
        broker=";".join(f"kafka://{server.strip()}" for server in kafka.bootstrap_servers.split(",")),
        broker_credentials=_credentials(settings),
        store="rocksdb://",
        datadir=str(settings.state_dir),
        Table="streams.table:StateTable",
        TableManager="streams.upstream:SafeTableManager",
        PartitionAssignor="streams.upstream:RoamingAssignor",
        topic_partitions=survey.partitions,
        # Topics are made and checked by `streams.topics`; Faust's own and its leader topic are not needed.
        topic_allow_declare=False,
        topic_disable_leader=True,
        # Faust's web server would show the state to anyone, and is dark while state is restored.
        web_enabled=False,
        # Told to the group; every member learns from the assignment at which URL each partition is answered for (`streams.query`).
        canonical_url=url,
        worker_redirect_stdouts=False,
        # Our own drain has a deadline; Faust's waits for ever for an event that is never acknowledged.
        stream_wait_empty=False,
        # Bounds what a rebalance throws away and reads again.
        stream_buffer_maxsize=64,
        broker_commit_interval=worker.commit_interval.total_seconds(),
        broker_session_timeout=session,
        # A rebalance is learned of with the next heartbeat, so a long session must not make them rare.
        broker_heartbeat_interval=max(0.3, min(3.0, session / 6)),
        broker_rebalance_timeout=worker.rebalance_timeout.total_seconds(),
        broker_request_timeout=max(40.0, session + 1.0),
        # Once exceeded the worker never comes back, and with every partition held nothing polls; /healthz watches progress instead.
        broker_max_poll_interval=86_400.0,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=worker.instance_id,
        consumer_max_fetch_size=4 * 1024 * 1024,
        broker_max_poll_records=POLL_RECORDS,
        table_standby_replicas=worker.standby_replicas,
        # Idle partitions would be reported as stalled.
        stream_processing_timeout=86_400.0,
        broker_commit_livelock_soft_timeout=86_400.0,
    )
    app.wire(settings, forecaster, metrics, survey, on_broken)
    return app


def _credentials(settings: Settings) -> Any:
    kafka = settings.kafka
    context = ssl_context(kafka)
    if kafka.security_protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=kafka.sasl_username, password=kafka.sasl_password, ssl_context=context, mechanism=kafka.sasl_mechanism
        )
    return faust.SSLCredentials(context) if context is not None else None
