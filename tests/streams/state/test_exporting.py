"""Exports from a real changelog: what is in them, and how far the inputs were read when it was."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime

import pytest
from aiokafka.structs import TopicPartition

from schemas.settings import Settings
from schemas.state import EntityState, PartitionState
from streams.cluster import committed
from streams.kafka import admin, producer
from streams.records import SOURCE_HEADER
from streams.state.dump import End, EntityLine, Line, PartitionLine, Preamble
from streams.state.exporting import export
from streams.topic_ids import topic_ids
from streams.topics import by_entity_topic, changelog_topic
from tests.streams.state.conftest import PARTITIONS, commit, fill, home, write_states

pytestmark = pytest.mark.integration

NOW = datetime(2024, 1, 1, tzinfo=UTC)


async def exported(settings: Settings, entity: str | None = None) -> tuple[Preamble, list[Line]]:
    async with aclosing(export(settings, now=NOW, entity=entity)) as lines:
        first, *others = [line async for line in lines]
    assert isinstance(first, Preamble)
    return first, others  # type: ignore[return-value]


async def test_the_latest_state_of_every_entity_is_exported_and_nothing_that_was_deleted(keyed: Settings) -> None:
    states = [EntityState(entity=f"s{n}", applied={"truths/1": n}) for n in range(12)]
    await write_states(keyed, *(EntityState(entity=state.entity) for state in states))
    await write_states(keyed, *states, EntityState(entity="gone"), b"gone")
    (offset,) = await write_states(keyed, PartitionState(dead_lettered={"observations": 3}), partition=2)
    preamble, lines = await exported(keyed)
    assert (preamble.app, preamble.exported_at, preamble.partitions, preamble.partitioner) == (keyed.app, NOW, PARTITIONS, "murmur2")
    assert preamble.entity is None and sum(preamble.ends) == 27
    found = [line for line in lines if isinstance(line, EntityLine)]
    assert {line.state.entity: line.state for line in found} == {state.entity: state for state in states}
    assert all(line.partition == home(keyed, line.state.entity) for line in found)
    own = PartitionLine(partition=2, offset=offset, state=PartitionState(dead_lettered={"observations": 3}))
    assert [line for line in lines if isinstance(line, PartitionLine)] == [own]
    assert lines[-1] == End(entities=12, partitions=1)


async def test_one_entity_can_be_exported_alone(keyed: Settings) -> None:
    await write_states(keyed, *(EntityState(entity=f"s{n}") for n in range(5)))
    await write_states(keyed, PartitionState(dead_lettered={"observations": 3}), partition=home(keyed, "s3"))
    preamble, lines = await exported(keyed, "s3")
    assert preamble.entity == "s3"
    assert [line.state.entity for line in lines if isinstance(line, EntityLine)] == ["s3"]
    assert lines[1:] == [End(entities=1, partitions=0)]
    assert (await exported(keyed, "nobody"))[1] == [End(entities=0, partitions=0)]


async def test_what_cannot_be_read_is_left_out_and_named(keyed: Settings) -> None:
    await write_states(keyed, EntityState(entity="a"))
    async with producer(keyed.kafka) as client:
        bad = await client.send_and_wait(changelog_topic(keyed), b"junk", key=b"eb", partition=1)
    _, lines = await exported(keyed)
    end = lines[-1]
    assert isinstance(end, End) and end.entities == 1
    assert [(one.partition, one.offset, one.key) for one in end.left_out] == [(1, bad.offset, "b")]
    assert "schema" in end.left_out[0].why


async def test_it_says_how_far_the_inputs_were_read(keyed: Settings) -> None:
    observations, truths = keyed.topics.observations, keyed.topics.truths
    await fill(keyed, observations, {0: 5, 2: 3})
    await fill(keyed, truths, {1: 4})
    await commit(keyed, {TopicPartition(observations, 0): 4, TopicPartition(observations, 2): 3, TopicPartition(truths, 1): 2})
    preamble, _ = await exported(keyed)
    async with admin(keyed.kafka) as client:
        ids = await topic_ids(client, [observations, truths, keyed.topics.commands])
    read = preamble.inputs["observations"]
    assert (read.topic, read.id, read.keyed, read.ends, read.positions) == (
        observations,
        ids[observations],
        True,
        (5, 0, 3, 0),
        (4, None, 3, None),
    )
    read = preamble.inputs["truths"]
    assert (read.id, read.keyed, read.ends, read.positions) == (ids[truths], False, (0, 4, 0, 0), (None, 2, None, None))
    assert preamble.inputs["commands"].positions == (None,) * PARTITIONS


async def test_records_on_their_way_by_entity_count_as_not_read(keyed: Settings) -> None:
    truths, internal = keyed.topics.truths, by_entity_topic(keyed, "truths")
    await fill(keyed, truths, {0: 9, 1: 9})
    for source, offsets in {0: range(9), 1: range(7)}.items():
        await fill(
            keyed,
            internal,
            {2: len(offsets)},
            **{SOURCE_HEADER.replace("-", "_"): lambda n, source=source: f"{truths}//{source}/{n}/0".encode()},
        )
    done = {TopicPartition(truths, 0): 9, TopicPartition(truths, 1): 7}
    # Of the internal topic, the nine from partition 0 and two of the others are in the states.
    await commit(keyed, {**done, TopicPartition(internal, 2): 11})
    assert (await exported(keyed))[0].inputs["truths"].positions == (9, 2, None, None)
    await commit(keyed, {**done, TopicPartition(internal, 2): 16})
    assert (await exported(keyed))[0].inputs["truths"].positions == (9, 7, None, None)
    async with admin(keyed.kafka) as client:
        assert (await committed(client, keyed.app))[TopicPartition(truths, 1)] == 7
