"""Reading a changelog into a table: what is read, from where, and when what is there is not believed."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterable

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic
from aiokafka.structs import TopicPartition

from schemas.settings import KafkaSettings
from streams.kafka import admin, client_options, consumer
from streams.restoring import Progress, Restoration
from streams.table import Mark
from streams.topics import wait_until_known

pytestmark = pytest.mark.integration

DAY_MS = 86_400_000
NOW = 1_700_000_000_000


class Table:
    """What `Restoration` needs of a table, in memory."""

    def __init__(self) -> None:
        self.records: dict[int, dict[bytes, bytes]] = {0: {}, 1: {}}
        self.marks: dict[int, Mark] = {}
        #: Keys in the order they were written.
        self.written: list[bytes] = []
        self.changed = asyncio.Event()

    def apply(self, partition: int, records: Iterable[tuple[bytes, bytes | None]], mark: Mark) -> None:
        for key, value in records:
            self.written.append(key)
            if value is None:
                self.records[partition].pop(key, None)
            else:
                self.records[partition][key] = value
        self.marks[partition] = mark
        self.changed.set()

    def mark(self, partition: int) -> Mark | None:
        return self.marks.get(partition)

    def touch(self, partition: int, now: int) -> None:
        if partition in self.marks:
            self.marks[partition] = self.marks[partition]._replace(current_at=now)

    def clear(self, partition: int) -> None:
        self.records[partition].clear()
        self.marks.pop(partition, None)


class Changelog:
    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self.settings, self.topic = settings, topic
        self.table = Table()
        self.now = NOW
        self.broken: list[BaseException] = []
        self.restoration = Restoration(
            settings,
            self.table,  # type: ignore[arg-type]
            topic,
            delete_retention_ms=DAY_MS,
            clock=lambda: self.now,
            on_broken=self.broken.append,
        )

    async def write(self, *records: tuple[bytes, bytes | None], partition: int = 0, abort: bool = False) -> None:
        """One transaction."""
        producer = AIOKafkaProducer(**client_options(self.settings), transactional_id=f"{self.topic}-{partition}")
        await producer.start()
        try:
            await producer.begin_transaction()
            for key, value in records:
                await producer.send_and_wait(self.topic, value, key=key, partition=partition)
            await (producer.abort_transaction() if abort else producer.commit_transaction())
        finally:
            await producer.stop()

    async def restore(self, *partitions: int) -> Progress:
        """Restore to the end that the log has now; return how partition 0, or the only one, went."""
        wanted = [TopicPartition(self.topic, p) for p in partitions or (0,)]
        async with consumer(self.settings, isolation_level="read_committed") as reader:
            ends = await reader.end_offsets(wanted)
        self.table.written.clear()
        await self.restoration.restore({tp.partition: end for tp, end in ends.items()})
        return self.restoration.progress[wanted[0].partition]


@pytest.fixture
async def changelog(kafka: str) -> AsyncIterator[Changelog]:
    settings, topic = KafkaSettings(bootstrap_servers=kafka), f"changelog-{secrets.token_hex(4)}"
    async with admin(settings) as client:
        await client.create_topics([NewTopic(topic, 2, 1, topic_configs={"cleanup.policy": "compact"})])
        await wait_until_known(client, [topic])
    found = Changelog(settings, topic)
    yield found
    found.restoration.stop_following()
    assert found.broken == []


async def test_the_table_holds_what_was_committed_and_nothing_that_was_aborted(changelog: Changelog) -> None:
    await changelog.write((b"ea", b"1"), (b"eb", b"2"))
    await changelog.write((b"ea", b"aborted"), abort=True)
    await changelog.write((b"ec", b"3"), (b"eb", None))
    await changelog.write((b"ed", b"4"), partition=1)
    await changelog.restore(0, 1)
    assert changelog.table.records == {0: {b"ea": b"1", b"ec": b"3"}, 1: {b"ed": b"4"}}
    assert not changelog.restoration.restoring


async def test_an_empty_changelog_is_restored_at_once(changelog: Changelog) -> None:
    progress = await changelog.restore(0, 1)
    assert (progress.position, progress.end) == (0, 0)
    assert changelog.table.marks == {}


async def test_what_comes_after_the_end_that_was_asked_for_is_left_to_the_writer(changelog: Changelog) -> None:
    await changelog.write((b"ea", b"1"))
    await changelog.write((b"ea", b"2"))
    await changelog.restoration.restore({0: 1})
    assert changelog.table.records[0] == {b"ea": b"1"}


async def test_a_worker_that_comes_back_reads_what_it_missed_and_nothing_else(changelog: Changelog) -> None:
    await changelog.write((b"ea", b"1"), (b"eb", b"1"))
    await changelog.restore()
    await changelog.write((b"ec", b"2"))
    await changelog.restore()
    assert changelog.table.written == [b"ec"]
    await changelog.restore()
    assert changelog.table.written == []
    assert changelog.table.records[0] == {b"ea": b"1", b"eb": b"1", b"ec": b"2"}


@pytest.mark.parametrize(
    "mark", [Mark(99, 1, NOW), Mark(0, 1, NOW), Mark(2, 1, NOW)], ids=["beyond the end", "another record", "no record"]
)
async def test_what_does_not_fit_the_log_is_deleted_and_read_anew(
    changelog: Changelog, mark: Mark, caplog: pytest.LogCaptureFixture
) -> None:
    await changelog.write((b"ea", b"1"), (b"eb", b"1"))  # and the transaction's marker, at offset 2
    changelog.table.records[0], changelog.table.marks[0] = {b"stale": b"0"}, mark
    await changelog.restore()
    assert changelog.table.records[0] == {b"ea": b"1", b"eb": b"1"}
    assert "rebuilt from its changelog" in caplog.text


@pytest.mark.parametrize(("idle", "rebuilt"), [(DAY_MS, False), (DAY_MS + 1, True)])
async def test_what_was_not_current_for_as_long_as_the_log_keeps_deletions_is_deleted(
    changelog: Changelog, idle: int, rebuilt: bool
) -> None:
    await changelog.write((b"ea", b"1"))
    await changelog.restore()
    changelog.table.records[0][b"eforgotten"] = b"0"  # its deletion has left the log
    changelog.now += idle
    await changelog.restore()
    assert (b"eforgotten" not in changelog.table.records[0]) == rebuilt
    assert changelog.table.records[0][b"ea"] == b"1"
    assert changelog.table.marks[0].current_at == changelog.now


async def test_standing_by_follows_the_log_until_it_is_told_to_stop(changelog: Changelog) -> None:
    await changelog.write((b"ea", b"1"))
    changelog.restoration.follow([0, 1])
    await _until(changelog.table, lambda table: b"ea" in table.records[0])
    await changelog.write((b"eb", b"2"), partition=1)
    await _until(changelog.table, lambda table: b"eb" in table.records[1])
    changelog.restoration.stop_following()
    await changelog.write((b"ec", b"3"))
    await changelog.restore()
    assert changelog.table.written == [b"ec"]


async def test_standing_by_does_not_believe_what_does_not_fit_the_log_either(changelog: Changelog) -> None:
    await changelog.write((b"ea", b"1"))
    changelog.table.records[0], changelog.table.marks[0] = {b"stale": b"0"}, Mark(0, 1, NOW)
    changelog.restoration.follow([0])
    await _until(changelog.table, lambda table: table.records[0] == {b"ea": b"1"})


async def _until(table: Table, true: Callable[[Table], bool]) -> None:
    async with asyncio.timeout(60):
        while not true(table):
            table.changed.clear()
            await table.changed.wait()
