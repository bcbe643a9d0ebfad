"""Whole changelogs and RocksDB on a real Kafka."""

from __future__ import annotations

import time
from contextlib import aclosing

import orjson
import pytest
from aiokafka.structs import TopicPartition
from faust.stores.rocksdb import RocksDBOptions

from schemas.settings import Settings
from schemas.state import EntityState, PartitionState, encode_state, entity_key
from streams.errors import TopicsUnfit
from streams.kafka import consumer, producer
from streams.state.store import tables_directory
from streams.state.verification import KEPT, PartitionReport, verify
from streams.table import MARK_KEY
from streams.topics import changelog_topic
from tests.streams.state.conftest import PARTITIONS, commit, fill, home, write_states

pytestmark = pytest.mark.integration


async def reports_of(settings: Settings) -> list[PartitionReport]:
    async with aclosing(verify(settings)) as reports:
        return [report async for report in reports]


async def faults_of(settings: Settings) -> list[tuple[str, str, int, int | None, str | None]]:
    return [(f.level, f.code, f.partition, f.offset, f.key) for report in await reports_of(settings) for f in report.faults]


async def test_entities_are_counted_and_what_was_deleted_or_replaced_is_not(keyed: Settings) -> None:
    names = [f"s{n}" for n in range(20)]
    await write_states(keyed, *(EntityState(entity=name) for name in names))
    await write_states(keyed, EntityState(entity="s1", frozen=True), b"s2", b"never-there")
    await write_states(keyed, PartitionState(), partition=3)
    told: list[tuple[int, int]] = []
    reports = [report async for report in verify(keyed, lambda done, total: told.append((done, total)))]
    assert [report.faults for report in reports] == [[]] * PARTITIONS
    assert sum(report.entities for report in reports) == 19
    assert sum(report.records for report in reports) == 24
    assert [report.store for report in reports] == [""] * PARTITIONS
    assert told[-1] == (24, 24) and told == sorted(told)


async def test_records_of_open_and_aborted_transactions_are_no_states(keyed: Settings) -> None:
    async with producer(keyed.kafka, transactional_id=f"{keyed.app}-test") as client:
        await client.begin_transaction()
        await client.send_and_wait(changelog_topic(keyed), b"junk", key=b"ea", partition=0)
        await client.abort_transaction()
        await client.begin_transaction()
        await client.send_and_wait(changelog_topic(keyed), b"junk", key=b"eb", partition=0)
        assert await faults_of(keyed) == []
        await client.abort_transaction()


async def test_a_fault_that_a_later_record_replaced_is_harmless(keyed: Settings) -> None:
    async with producer(keyed.kafka) as client:
        bad = await client.send_and_wait(changelog_topic(keyed), b"junk", key=b"ea", partition=home(keyed, "a"))
        dead = await client.send_and_wait(changelog_topic(keyed), b"junk", key=b"zz", partition=0)
        gone = await client.send_and_wait(changelog_topic(keyed), None, key=b"zz", partition=0)
    assert gone.offset > dead.offset
    assert {fault[:2] for fault in await faults_of(keyed)} == {("fail", "schema"), ("warn", "key")}
    await write_states(keyed, EntityState(entity="a"))
    assert sorted(await faults_of(keyed)) == sorted(
        [("warn", "schema", home(keyed, "a"), bad.offset, "a"), ("warn", "key", 0, dead.offset, "b'zz'")]
    )


async def test_offsets_beyond_an_input_s_end_mean_that_it_was_made_anew(keyed: Settings) -> None:
    partition = home(keyed, "a")
    await fill(keyed, keyed.topics.observations, {partition: 3})
    await fill(keyed, keyed.topics.truths, {1: 2})
    await commit(keyed, {TopicPartition(keyed.topics.observations, partition): 3, TopicPartition(keyed.topics.truths, 1): 2})
    await write_states(keyed, EntityState(entity="a", applied={"observations": 2, "truths/1": 1}))
    assert await faults_of(keyed) == []
    (offset,) = await write_states(keyed, EntityState(entity="a", applied={"observations": 3, "truths/1": 2, "truths/9": 0}))
    found = await reports_of(keyed)
    texts = [fault.text for fault in found[partition].faults if fault.code == "applied" and fault.offset == offset]
    assert len(texts) == 3
    assert any(f"offset 3 of {keyed.topics.observations}/{partition} was applied, and that ends at 3" in text for text in texts)
    assert any("truths/9 was applied, and that does not exist" in text for text in texts)


async def test_applied_offsets_without_a_position_of_the_group_are_told_once_for_each_input(keyed: Settings) -> None:
    await fill(keyed, keyed.topics.truths, {1: 2})
    names = [f"s{n}" for n in range(12)]
    await write_states(keyed, *(EntityState(entity=name, applied={"truths/1": 1}) for name in names))
    assert [fault[:2] for fault in await faults_of(keyed)] == [("fail", "unread")]
    await commit(keyed, {TopicPartition(keyed.topics.truths, 1): 2})
    assert await faults_of(keyed) == []


async def test_of_very_many_faults_the_first_are_kept_and_all_are_counted(keyed: Settings) -> None:
    async with producer(keyed.kafka, linger_ms=5) as client:
        for number in range(KEPT + 5):
            await client.send(changelog_topic(keyed), b"junk", key=b"e%d" % number, partition=2)
    report = (await reports_of(keyed))[2]
    assert (len(report.faults), report.counts["fail"]) == (KEPT, KEPT + 5)


async def test_rocksdb_is_held_against_the_changelog_up_to_the_record_that_it_goes_to(keyed: Settings) -> None:
    partition = home(keyed, "a")
    first, second = EntityState(entity="a"), EntityState(entity="a", frozen=True)
    offsets = await write_states(keyed, first, second)
    async with consumer(keyed.kafka, auto_offset_reset="earliest") as reader:
        place = TopicPartition(changelog_topic(keyed), partition)
        reader.assign([place])
        stamps = {record.offset: record.timestamp for record in (await reader.getmany(timeout_ms=10_000))[place]}

    def store(state: EntityState, offset: int, timestamp: int, age: float = 0.0) -> None:
        path = tables_directory(keyed) / f"state-{partition}.db"
        path.parent.mkdir(parents=True, exist_ok=True)
        database = RocksDBOptions().open(path)
        database.put(entity_key("a"), encode_state(state))
        database.put(MARK_KEY, orjson.dumps([offset, timestamp, int((time.time() - age) * 1000)]))
        database.close()

    async def seen() -> tuple[str, list[tuple[str, str]]]:
        report = (await reports_of(keyed))[partition]
        return report.store, [(fault.level, fault.code) for fault in report.faults]

    for state, offset in zip((first, second), offsets, strict=True):
        store(state, offset, stamps[offset])
        assert await seen() == ("same", [])
    store(second, offsets[0], stamps[offsets[0]])
    assert await seen() == ("differs", [("fail", "store-differs")])
    store(second, offsets[1], 1)
    assert await seen() == ("stale", [("warn", "store-stale")])
    store(second, offsets[1], stamps[offsets[1]], age=25 * 3_600)
    assert await seen() == ("stale", [("warn", "store-stale")])
    store(second, 77, 1)
    assert await seen() == ("stale", [("warn", "store-stale")])
    (tables_directory(keyed) / f"state-{partition}.db" / "CURRENT").write_text("")
    assert await seen() == ("unreadable", [("fail", "store-unreadable")])
    # Of a time when there were more partitions.
    (tables_directory(keyed) / f"state-{partition}.db").rename(tables_directory(keyed) / "state-9.db")
    assert await faults_of(keyed) == [("warn", "store-stale", 9, None, None)]


async def test_without_a_changelog_the_advice_is_to_check_the_name(own_settings: Settings) -> None:
    with pytest.raises(TopicsUnfit, match="has no states"):
        await reports_of(own_settings)
