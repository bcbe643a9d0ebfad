"""Resets of a real application."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from aiokafka.admin import NewTopic
from aiokafka.errors import ProducerFenced
from aiokafka.structs import TopicPartition

from schemas.settings import Settings
from schemas.state import EntityState
from streams import topics
from streams.cluster import committed, describe, spans
from streams.errors import StatesInUse
from streams.kafka import admin, producer
from streams.state import resetting
from streams.state.resetting import Holdings, look, reset
from streams.state.store import find_stores, tables_directory
from streams.topic_ids import topic_ids
from streams.topics import by_entity_topic, changelog_topic, topic_plan, writer_id
from tests.streams.state.conftest import PARTITIONS, commit, fill, member, write_states

pytestmark = pytest.mark.integration


async def used(settings: Settings) -> None:
    """Make the application look as if it had run."""
    await fill(settings, settings.topics.observations, {0: 3})
    await fill(settings, by_entity_topic(settings, "truths"), {1: 2})
    await commit(settings, {TopicPartition(settings.topics.observations, 0): 3})
    await write_states(settings, EntityState(entity="a"))
    (tables_directory(settings) / "state-0.db").mkdir(parents=True)


async def test_everything_but_inputs_and_outputs_is_taken_away_and_made_anew_as_planned(keyed: Settings) -> None:
    await used(keyed)
    await fill(keyed, keyed.topics.predictions, {0: 4})
    plan = topic_plan(keyed)
    internal = [spec.name for spec in plan if spec.direction == "internal"]
    async with admin(keyed.kafka) as client:
        before = await topic_ids(client, [spec.name for spec in plan])
        held = await reset(keyed)
        after = await topic_ids(client, [spec.name for spec in plan])
        found = await describe(client, internal)
        assert await committed(client, keyed.app) == {}
    assert {name for name in before if before[name] != after[name]} == set(internal)
    for spec in plan:
        if spec.direction == "internal":
            assert found[spec.name].partitions == spec.partitions and spec.configs.items() <= found[spec.name].configs.items()
    kept = [TopicPartition(keyed.topics.predictions, 0), TopicPartition(keyed.topics.observations, 0)]
    assert [span.end for span in (await spans(keyed.kafka, kept)).values()] == [4, 3]
    assert find_stores(keyed) == {}
    assert held.positions == {keyed.topics.observations: 1}
    assert (held.records[changelog_topic(keyed)], held.records[by_entity_topic(keyed, "truths")]) == (1, 2)
    assert list(held.stores) == [0]
    assert {finding.level for finding in await topics.check(keyed)} == {"ok"}


async def test_a_reset_that_was_cut_off_is_run_again_wherever_it_was(keyed: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    await used(keyed)

    async def cut(*_: Any, **__: Any) -> None:
        raise ConnectionError("cut off")

    for name in ("delete_group", "fence", "_delete", "_make_anew"):
        with monkeypatch.context() as patch:
            patch.setattr(resetting, name, cut)
            with pytest.raises(ConnectionError):
                await reset(keyed)
    await reset(keyed)
    assert {finding.level for finding in await topics.check(keyed)} == {"ok"}
    again = await look(keyed)
    assert (again.positions, again.stores, set(again.records.values())) == ({}, {}, {0})
    await reset(keyed)


async def test_nothing_is_done_while_somebody_is_in_the_group(keyed: Settings) -> None:
    await used(keyed)
    before = await look(keyed)
    async with member(keyed):
        with pytest.raises(StatesInUse, match="Stop the workers"):
            await reset(keyed)
    after = await look(keyed)
    assert (after.records, after.stores) == (before.records, before.stores)
    assert after.positions[keyed.topics.observations] == 1


async def test_who_could_still_write_is_fenced(keyed: Settings) -> None:
    async with producer(keyed.kafka, transactional_id=writer_id(keyed, 2)) as zombie:
        await zombie.begin_transaction()
        await zombie.send_and_wait(changelog_topic(keyed), b"old", key=b"ea", partition=2)
        await reset(keyed)
        with pytest.raises(ProducerFenced):
            await zombie.send_and_wait(changelog_topic(keyed), b"older", key=b"ea", partition=2)
            await zombie.commit_transaction()
    assert (await look(keyed)).records[changelog_topic(keyed)] == 0


async def test_topics_by_entity_of_inputs_that_are_used_as_they_are_now_go_too(keyed: Settings) -> None:
    left = by_entity_topic(keyed, "observations")
    async with admin(keyed.kafka) as client:
        await client.create_topics([NewTopic(left, PARTITIONS, 1)])
        await topics.wait_until_known(client, [left])
        assert left in (await reset(keyed)).topics
        assert await describe(client, [left]) == {}


async def test_an_application_that_has_nothing_is_made_ready(own_settings: Settings) -> None:
    assert not await look(own_settings)
    await reset(own_settings)
    assert {finding.code for finding in await topics.check(own_settings) if finding.level == "fail"} == {"missing"}
    assert changelog_topic(own_settings) in (await look(own_settings)).topics


async def test_topics_are_made_with_no_fewer_copies_than_they_had(keyed: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    held = await look(keyed)
    copied = replace(held, topics={name: replace(topic, replication=3) for name, topic in held.topics.items()})
    wanted: list[int] = []

    async def look_(_: Settings) -> Holdings:
        return copied

    async def create(settings: Settings, *, inputs: bool) -> None:
        wanted.append(settings.topics.replication)

    monkeypatch.setattr(resetting, "look", look_)
    monkeypatch.setattr(topics, "create", create)
    await reset(keyed)
    assert wanted == [3]
