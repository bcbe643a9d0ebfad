"""States on other partitions: whatever changed, every record is applied once, and none is lost."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.settings import Settings
from schemas.state import EntityState, PartitionState
from streams.cluster import Span
from streams.partitioner import partition_of
from streams.state.continuity import Passage, Present, judge
from streams.state.dump import EntityLine, Input, PartitionLine, Preamble
from streams.state.translation import Translation, applied_offsets

NAMES = [f"s{n}" for n in range(9)]


def settings(*, keyed: bool) -> Settings:
    return Settings(observations={"key": "entity" if keyed else "any"}, truths={"source": "none"}, commands={"key": "any"})


def preamble(partitions: int, *, keyed: bool, ends: tuple[int, ...] = (), positions: tuple[int | None, ...] = ()) -> Preamble:
    return Preamble(
        app="a",
        exported_at=datetime(2024, 1, 1, tzinfo=UTC),
        partitions=partitions,
        partitioner="murmur2",
        changelog="a-state-changelog",
        ends=(0,) * partitions,
        inputs={"observations": Input(topic="observations", id="A", keyed=keyed, ends=ends, positions=positions)},
    )


def translation(
    before: Preamble, partitions: int, *, keyed: bool, kept: bool = True, positions: dict[int, int] | None = None
) -> Translation:
    inputs = {"observations": Present("observations", "A", keyed, [Span(0, 100)] * partitions)}
    passages = {"observations": Passage("observations", kept, positions or {}, "")}
    return Translation(before, settings(keyed=keyed), partitions, inputs, passages)


def entity(name: str, partition: int, **applied: int) -> EntityLine:
    names = {key.replace("_", "/"): offset for key, offset in applied.items()}
    return EntityLine(partition=partition, offset=0, state=EntityState(entity=name, applied=names, outcomes=3))


def own(partition: int, **offsets: dict[str, int]) -> PartitionLine:
    return PartitionLine(partition=partition, offset=0, state=PartitionState(**offsets))


def test_offsets_of_an_input_that_is_another_topic_are_dropped_and_the_rest_of_the_state_stays() -> None:
    moved = translation(preamble(4, keyed=True), 4, keyed=True, kept=False).entity(entity("a", 0, observations=7, truths_2=3))
    assert moved == EntityState(entity="a", outcomes=3)


def test_one_state_may_know_an_input_by_both_names() -> None:
    assert applied_offsets(entity("a", 3, observations=7, observations_3=9, observations_1=4)) == {
        ("observations", 3): 9,
        ("observations", 1): 4,
    }


@pytest.mark.parametrize("keyed", [True, False])
def test_what_is_remembered_of_bad_records_stays_where_they_go_to_the_same_partitions(keyed: bool) -> None:
    name = "observations" if keyed else "observations/0"
    same = translation(preamble(4, keyed=keyed), 4, keyed=keyed)
    same.take(own(2, dead_lettered={"observations" if keyed else "observations/0": 7}, settled={name: 5, "truths/1": 3}))
    assert same.own_records() == {2: PartitionState(dead_lettered={name: 7}, settled={name: 5})}


def test_elsewhere_bad_records_may_come_twice_and_forgotten_entities_stay_forgotten() -> None:
    more = translation(preamble(2, keyed=False), 3, keyed=False, positions={0: 4, 1: 9})
    more.take(own(0, dead_lettered={"observations/0": 7}, settled={"observations/0": 5, "observations/1": 8}))
    more.take(own(1, settled={"observations/0": 6}))
    assert more.own_records() == {partition: PartitionState(settled={"observations/0": 6}) for partition in range(3)}


class Sent(NamedTuple):
    """A record of the input: where it stands, and whose it is."""

    partition: int
    offset: int
    entity: str


class Log:
    """The input's log, and a worker's rules of what is applied."""

    def __init__(self, partitions: int) -> None:
        self.log: defaultdict[int, list[Sent]] = defaultdict(list)
        self.partitions = partitions

    def send(self, name: str, partition: int | None = None) -> None:
        place = partition_of(name.encode(), self.partitions) if partition is None else partition
        self.log[place].append(Sent(place, len(self.log[place]), name))

    @property
    def ends(self) -> tuple[int, ...]:
        return tuple(len(self.log[partition]) for partition in range(self.partitions))


@given(
    before=st.integers(1, 4),
    more=st.integers(0, 4),
    keyed_before=st.booleans(),
    keyed_now=st.booleans(),
    data=st.data(),
)
def test_whatever_was_applied_is_not_applied_again_and_what_waits_is_not_lost(
    before: int, more: int, keyed_before: bool, keyed_now: bool, data: Any
) -> None:
    source, now = Log(before), before + more
    # Inputs that are placed by entity have their records anywhere; those that are used as they are have them by their key.
    anywhere = not keyed_before and not keyed_now
    for name in data.draw(st.lists(st.sampled_from(NAMES), max_size=25), label="sent before"):
        source.send(name, data.draw(st.integers(0, before - 1)) if anywhere else None)
    # What was applied: all below the position, and of each entity a few records more.
    positions = [data.draw(st.integers(0, end), label="position") for end in source.ends]
    beyond = {(name, partition): data.draw(st.integers(0, 3), label="beyond") for name in NAMES for partition in range(before)}
    applied: Counter[Sent] = Counter()
    states: dict[str, EntityLine] = {}
    for partition in range(before):
        for record in source.log[partition]:
            left = beyond[record.entity, partition]
            if record.offset >= positions[partition]:
                if not left:
                    continue
                beyond[record.entity, partition] = left - 1
            applied[record] += 1
            home = partition if keyed_before else partition_of(record.entity.encode(), before)
            line = states.get(record.entity, EntityLine(partition=home, offset=0, state=EntityState(entity=record.entity)))
            name = "observations" if keyed_before else f"observations/{partition}"
            state = line.state.model_copy(update={"applied": {**line.state.applied, name: record.offset}})
            states[record.entity] = line.model_copy(update={"state": state})

    read = preamble(before, keyed=keyed_before, ends=source.ends, positions=tuple(positions))
    source.partitions = now
    for name in data.draw(st.lists(st.sampled_from(NAMES), max_size=10), label="sent after"):
        source.send(name, data.draw(st.integers(0, now - 1)) if anywhere else None)
    present = Present("observations", "A", keyed_now, [Span(0, end) for end in source.ends])
    furthest: dict[int, int] = {}
    for line in states.values():
        for (_, number), offset in applied_offsets(line).items():
            furthest[number] = max(offset, furthest.get(number, offset))
    passage = judge(read.inputs["observations"], present, furthest, "auto")
    assert passage.kept
    move = Translation(read, settings(keyed=keyed_now), now, {"observations": present}, {"observations": passage})
    moved = {name: (move.partition(name), dict(move.entity(line).applied)) for name, line in states.items()}

    stranded = 0
    for partition in range(now):
        for record in source.log[partition][passage.positions.get(partition, 0) :]:
            home = partition_of(record.entity.encode(), now)
            if keyed_now and home != partition:
                stranded += 1  # to the dead letters: wrong-partition
                assert more and partition < before and applied[record] <= 1
                applied[record] = 1
                continue
            at, offsets = moved.setdefault(record.entity, (home, {}))
            assert at == home
            name = "observations" if keyed_now else f"observations/{partition}"
            if offsets.get(name, -1) < record.offset:
                offsets[name] = record.offset
                applied[record] += 1
    assert stranded <= passage.stranded
    assert applied == Counter({record: 1 for partition in range(now) for record in source.log[partition]})
