"""What happens in a lane, with a table and a writer in memory: the shell's bookkeeping without Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from faust.types import TP
from prometheus_client import CollectorRegistry

from agents.forecaster import Orphan, Step
from schemas.mapping import Record
from schemas.messages import Answer, Command, MemoryRevision, Observation, Prediction, Truth
from schemas.settings import Settings
from schemas.state import PARTITION_KEY, EarlyTruth, EntityState, Origin, decode_state, encode_state, entity_key
from streams import logs
from streams.entities import SPARE, Entities, scan
from streams.lanes import Lanes
from streams.lease import Lease, LeaseLost
from streams.metrics import Metrics
from streams.positions import Tracker
from streams.records import Item, Role
from streams.writer import Output, RecordTooLarge

NOW = datetime(2024, 5, 1, tzinfo=UTC)
HOME = 0


class Table:
    def __init__(self) -> None:
        self.records: dict[bytes, bytes | None] = {}

    def read(self, partition: int, key: bytes) -> bytes | None:
        return self.records.get(key)

    def entities(self, partition: int) -> Any:
        return [(key[1:].decode(), value[:12]) for key, value in self.records.items() if key.startswith(b"e") and value]


class Writer:
    """Commits at once, or refuses with `error`."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.outputs: list[Output] = []
        self.error: list[Exception] = []
        self.limit = 1_000_000

    async def write(self, records: Sequence[tuple[bytes, bytes | None]], outputs: Sequence[Output], *, spare: int = 0) -> None:
        if self.error:
            raise self.error.pop(0)
        if any(len(value or b"") > self.limit - spare for _, value in records):
            raise RecordTooLarge("over the limit")
        for key, value in records:
            self.table.records[key] = value
        self.outputs += outputs


class Core:
    """A forecaster that counts; it fails on the ids it is told."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.fails_on: set[str] = set()
        self.orphan: EarlyTruth | None = None
        #: A background rewrite waits here for the model.
        self.model = asyncio.Event()
        self.applied: list[str] = []

    def propose(self, state: EntityState, *, now: datetime) -> Any:
        return None if state.rewrite_wanted is None or state.rewrite_wanted > now else SimpleNamespace(entity=state.entity)

    async def ask(self, request: Any) -> Any:
        await self.model.wait()
        return SimpleNamespace(request=request)

    async def apply(self, state: EntityState, proposal: Any, *, now: datetime) -> Step:
        self.applied.append(state.entity)
        return Step(state)

    async def observe(self, state: EntityState, observation: Observation, *, now: datetime, offset: int, overtaken: bool = False) -> Step:
        self.seen.append(observation.id)
        if observation.id in self.fails_on:
            raise ZeroDivisionError("a defect")
        made = Prediction(
            entity=state.entity,
            id=observation.id,
            kind="number",
            time=observation.time,
            made_at=now,
            forecast=Answer(value=1.0),
            source="fallback",
            memory_revision=0,
        )
        return Step(state.model_copy(update={"outcomes": state.outcomes + 1}), (made,), {"observation.predicted": 1})

    async def learn(self, state: EntityState, truth: Truth, **_: Any) -> Step:
        return Step(state)

    async def due(self, state: EntityState, *, now: datetime, truths_read: bool) -> Step:
        return Step(state, (Orphan(self.orphan),), {"truth.orphan": 1}) if self.orphan else Step(state)

    async def command(self, state: EntityState, command: Command, *, now: datetime) -> Step:
        """Knows `forget` alone."""
        blank = EntityState(entity=state.entity, applied=state.applied, forgotten=True)
        answer = MemoryRevision(entity=state.entity, revision=1, cause="forget", accepted=True, by=command.by, why=command.why, made_at=now)
        return Step(blank, (answer,), {"command.applied": 1})


class World:
    def __init__(self, **settings: Any) -> None:
        self.settings = Settings(observations={"key": "entity"}, commands={"key": "entity"}, **settings)
        self.table, self.core = Table(), Core()
        self.writer = Writer(self.table)
        self.broken: list[BaseException] = []
        self.registry = CollectorRegistry()
        self.lanes = Lanes(16)
        self.lease = Lease(1, frozenset({HOME}))
        self.tracker = Tracker()
        self.entities = Entities(
            self.settings,
            self.core,  # type: ignore[arg-type]
            self.table,  # type: ignore[arg-type]
            Metrics(self.registry, self.settings),
            self.lanes,
            clock=lambda: NOW,
            partitions=1,
            writers={HOME: self.writer},  # type: ignore[dict-item]
            held_by=("memories (for ever)",),
            on_broken=self.broken.append,
        )

    async def send(self, *values: bytes, role: Role = "observations", first: int = 0) -> None:
        for offset, value in enumerate(values, first):
            tp = TP(role, HOME)
            entry = self.tracker.open(offset, 0)
            record = Record(role, HOME, offset, 0, b"a", value)
            await self.entities.dispatch(Item(role, tp, record, role, entry, self.tracker), self.lease)
        await self.lanes.drain(5.0)

    def state(self, entity: str = "a") -> EntityState | None:
        raw = self.table.records.get(entity_key(entity))
        return None if raw is None else decode_state(raw)

    def reasons(self) -> list[str]:
        letters = [output for output in self.writer.outputs if output.topic == "dead-letters"]
        return [dict(letter.headers)["palimpsest-reason"].decode() for letter in letters]


def reading(identity: str, entity: str = "a") -> bytes:
    return orjson.dumps({"entity": entity, "id": identity, "time": "2024-04-01T00:00:00Z", "values": {"value": 1}})


@pytest.fixture
def world() -> World:
    return World()


async def test_an_observation_leads_to_one_state_record_with_its_offset_and_one_prediction(world: World) -> None:
    await world.send(reading("o1"), first=7)
    state = world.state()
    assert state is not None
    assert state.applied == {"observations": 7}
    assert [output.topic for output in world.writer.outputs] == ["predictions"]
    assert world.tracker.position == 8


async def test_a_record_that_was_applied_before_changes_nothing_and_asks_nobody(world: World) -> None:
    await world.send(reading("o1"), reading("o2"))
    before = dict(world.table.records)
    await world.send(reading("o1"), reading("o2"))
    assert world.core.seen == ["o1", "o2"]
    assert world.table.records == before
    assert len(world.writer.outputs) == 2


async def test_nothing_is_kept_of_observations_that_were_applied_before(world: World) -> None:
    await world.send(reading("o1"), reading("o2", entity="b"))
    await world.send(reading("o1"), reading("o2", entity="b"))
    assert world.entities._newest == {}


async def test_what_is_logged_while_a_record_is_applied_says_which_record(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.addFilter(logs._locate)
    world.core.fails_on = {"o1"}
    try:
        await world.send(reading("o1"), first=7)
    finally:
        caplog.handler.removeFilter(logs._locate)
    (line,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert (line.topic, line.partition, line.offset, line.entity) == ("observations", HOME, 7, "a")  # type: ignore[attr-defined]


async def test_a_defect_in_the_core_dead_letters_the_record_and_keeps_the_state(world: World) -> None:
    world.core.fails_on = {"o2"}
    await world.send(reading("o1"), reading("o2"), reading("o3"))
    assert world.reasons() == ["failed"]
    state = world.state()
    assert state is not None
    assert state.outcomes == 2
    assert state.applied == {"observations": 2}
    assert world.tracker.position == 3


async def test_what_cannot_be_decoded_is_dead_lettered_once_whatever_is_read_again(world: World) -> None:
    await world.send(b"garbage", reading("o1"), b"{}")
    await world.send(b"garbage", reading("o1"), b"{}")
    assert world.reasons() == ["not-json", "missing-entity"]
    raw = world.table.records[PARTITION_KEY]
    assert raw is not None
    assert orjson.loads(raw)["dead_lettered"] == {"observations": 2}


async def test_a_record_that_leads_to_too_large_a_state_is_dead_lettered_and_its_neighbours_go_through(world: World) -> None:
    await world.send(reading("o1"))
    world.writer.error = [RecordTooLarge("900001 bytes")]
    await world.send(reading("o2"), reading("o3"), first=1)
    assert world.reasons() == ["too-large"]
    state = world.state()
    assert state is not None
    assert state.outcomes == 2
    assert state.applied == {"observations": 2}


async def test_a_state_at_the_limit_still_takes_the_offset_of_what_it_refuses_and_its_due_work(world: World) -> None:
    await world.send(reading("o1"))
    record = world.table.records[entity_key("a")]
    assert record is not None
    world.writer.limit = len(record) + SPARE  # as large as a record's effects may make it
    await world.send(reading("o2"), reading("o3"), first=1_000_000)
    assert world.reasons() == ["too-large", "too-large"]
    state = world.state()
    assert state is not None
    assert state.applied == {"observations": 1_000_001}
    assert world.broken == []


async def test_nothing_is_committed_or_finished_once_the_lease_is_lost(world: World) -> None:
    world.lease.close()
    await world.send(reading("o1"))
    assert world.table.records == {}
    assert world.tracker.position is None
    assert world.broken == []


async def test_a_writer_that_has_stopped_leaves_the_record_to_the_next_owner(world: World) -> None:
    world.writer.error = [LeaseLost("gone")]
    await world.send(reading("o1"))
    assert world.tracker.position is None
    assert world.broken == []


async def test_a_state_that_cannot_be_read_ends_the_worker_instead_of_stalling_the_partition(world: World) -> None:
    world.table.records[entity_key("a")] = b"\x63 from another program"
    await world.send(reading("o1"))
    assert len(world.broken) == 1
    assert world.tracker.position is None


async def test_a_tombstone_is_counted_and_finished(world: World) -> None:
    await world.send(None)  # type: ignore[arg-type]
    assert world.tracker.position == 1
    assert world.registry.get_sample_value("palimpsest_processed_total", {"input": "observations", "outcome": "tombstone"}) == 1


async def test_an_orphan_is_dead_lettered_under_its_own_coordinates(world: World) -> None:
    origin = Origin(topic="foreign", partition=3, offset=99)
    world.core.orphan = EarlyTruth(value=1.0, arrived=NOW, due=NOW, origin=origin, raw="raw \xff")
    world.table.records[entity_key("a")] = encode_state(EntityState(entity="a"))
    await world.entities.run_due(HOME, "a", world.lease, {})
    await world.lanes.drain(5.0)
    (letter,) = world.writer.outputs
    headers = dict(letter.headers)
    assert letter.value == b"raw \xff"
    assert (headers["palimpsest-topic"], headers["palimpsest-partition"], headers["palimpsest-offset"]) == (b"foreign", b"3", b"99")


FORGET = orjson.dumps({"entity": "a", "op": "forget", "by": "jane"})


async def test_a_forgotten_entity_keeps_offsets_alone_and_the_answer_names_the_topics_that_hold_its_text(world: World) -> None:
    await world.send(reading("o1"), first=4)
    await world.send(FORGET, role="commands", first=9)
    assert world.state() == EntityState(entity="a", applied={"observations": 4, "commands": 9}, forgotten=True)
    assert orjson.loads(world.writer.outputs[-1].value)["held_by"] == ["memories (for ever)"]


async def test_the_record_of_a_forgotten_entity_is_deleted_and_no_replay_brings_it_back(world: World) -> None:
    await world.send(reading("o1"), first=4)
    await world.send(FORGET, role="commands", first=9)
    await world.entities.run_due(HOME, "a", world.lease, {"observations": 5, "commands": 9})
    await world.lanes.drain(5.0)
    assert world.table.records[entity_key("a")] is None
    outputs = len(world.writer.outputs)
    await world.send(reading("o1"), reading("o2"), first=4)
    await world.send(FORGET, role="commands", first=9)
    assert world.state() is None
    assert len(world.writer.outputs) == outputs
    await world.send(reading("o3"), first=6)
    assert world.core.seen == ["o1", "o3"]


async def test_a_rewrite_under_way_when_its_entity_was_forgotten_does_not_reach_the_one_that_begins_anew() -> None:
    world = World(rewrite={"mode": "background"})
    for entity in ("a", "b"):
        world.table.records[entity_key(entity)] = encode_state(EntityState(entity=entity, rewrite_wanted=NOW))
        await world.entities.run_due(HOME, entity, world.lease, {})
    await world.lanes.drain(5.0)
    await world.send(FORGET, role="commands", first=9)
    await world.entities.run_due(HOME, "a", world.lease, {"commands": 9})
    await world.send(reading("o1"))
    rewrites = list(world.entities._rewriting.values())
    world.core.model.set()
    await asyncio.gather(*rewrites)
    assert world.core.applied == ["b"]


@pytest.mark.parametrize(("mode", "draining", "asked"), [("background", False, ["a"]), ("background", True, []), ("inline", False, [])])
async def test_a_background_rewrite_begins_with_the_record_that_has_it_wanted_and_not_when_all_inputs_are_read(
    mode, draining, asked
) -> None:
    world = World(rewrite={"mode": mode})
    for entity, wanted in (("a", NOW), ("b", NOW + timedelta(minutes=1))):
        world.table.records[entity_key(entity)] = encode_state(EntityState(entity=entity, rewrite_wanted=wanted))
    world.lease.accepting = not draining
    await world.send(reading("o1"), reading("o2"), reading("o3", entity="b"))
    world.core.model.set()
    await asyncio.gather(*world.entities._rewriting.values())
    assert world.core.applied == asked


async def test_a_command_to_an_entity_that_does_not_exist_is_answered_once_and_leaves_nothing(world: World) -> None:
    for _ in range(2):
        await world.send(FORGET, role="commands", first=9)
    (answer,) = world.writer.outputs
    assert (orjson.loads(answer.value)["accepted"], orjson.loads(answer.value)["reason"]) == (False, "no such entity")
    await world.entities.run_due(HOME, "a", world.lease, {"commands": 9})
    await world.lanes.drain(5.0)
    assert world.state() is None
    await world.send(FORGET, role="commands", first=9)
    assert len(world.writer.outputs) == 1


async def test_a_command_that_was_refused_is_not_done_when_it_is_read_again_and_the_entity_exists(world: World) -> None:
    await world.send(FORGET, role="commands", first=9)
    await world.send(reading("o1"))
    await world.send(FORGET, role="commands", first=9)
    state = world.state()
    assert state is not None
    assert state.applied == {"commands": 9, "observations": 0}
    assert [output.topic for output in world.writer.outputs] == ["memories", "predictions"]


async def test_what_is_settled_never_goes_back(world: World) -> None:
    for entity, settled in (("a", {"observations": 5}), ("b", {"observations": 3, "truths": 1})):
        world.table.records[entity_key(entity)] = encode_state(EntityState(entity=entity, forgotten=True))
        await world.entities.run_due(HOME, entity, world.lease, settled)
    await world.lanes.drain(5.0)
    raw = world.table.records[PARTITION_KEY]
    assert raw is not None
    assert orjson.loads(raw)["settled"] == {"observations": 5, "truths": 1}


async def test_an_entity_that_came_back_is_not_deleted(world: World) -> None:
    await world.send(reading("o1"))
    await world.entities.run_due(HOME, "a", world.lease, {"observations": 5})
    await world.lanes.drain(5.0)
    assert world.state() is not None


@pytest.mark.parametrize(("idle", "forgotten"), [(timedelta(hours=23), False), (timedelta(hours=24), True)])
async def test_an_entity_is_forgotten_after_its_idle_time(idle: timedelta, forgotten: bool) -> None:
    world = World(entity_ttl="24h")
    state = EntityState(entity="a", touched_at=NOW - idle, applied={"observations": 3})
    world.table.records[entity_key("a")] = encode_state(state, world.settings.entity_ttl)
    (due,) = scan(world.table, HOME).due  # type: ignore[arg-type]
    assert due == ("a", int((NOW - idle + timedelta(hours=24)).timestamp() * 1000))
    await world.entities.run_due(HOME, "a", world.lease, {})
    await world.lanes.drain(5.0)
    state_after = world.state()
    assert state_after is not None
    assert (state_after.forgotten, state_after.applied) == (forgotten, {"observations": 3})
    answers = [orjson.loads(output.value) for output in world.writer.outputs]
    assert [(answer["by"], answer["why"]) for answer in answers] == [("entity_ttl", "no record for 1d")] * forgotten


async def test_a_scan_reads_due_times_and_counts_from_headers_alone(world: World) -> None:
    early = EarlyTruth(value=1.0, arrived=NOW, due=NOW + timedelta(hours=1))
    world.table.records[entity_key("due")] = encode_state(EntityState(entity="due", early=(early,)))
    world.table.records[entity_key("idle")] = encode_state(EntityState(entity="idle"))
    found = scan(world.table, HOME)  # type: ignore[arg-type]
    assert found.entities == 2
    assert found.due == [("due", int((NOW + timedelta(hours=1)).timestamp() * 1000))]


async def test_records_of_one_entity_are_applied_in_order_while_others_run(world: World) -> None:
    await asyncio.gather(world.send(*[reading(f"a{i}") for i in range(5)]))
    assert world.core.seen == [f"a{i}" for i in range(5)]
