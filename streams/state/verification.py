"""Are the states sound?  Every record of the changelog is held against the schema and the settings, and this machine's RocksDB against it.

A partition at a time: its records are streamed, and of each key only a digest is kept. Workers may run meanwhile. A record that a later
one of its key replaced does no harm any more; what is wrong with it is told as a warning.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from aiokafka.structs import ConsumerRecord, TopicPartition

from schemas.settings import Settings
from schemas.state import ENTITY_KEY
from streams.cluster import TopicState, committed, describe, spans
from streams.findings import Level
from streams.kafka import admin
from streams.state.changelog import Changelog, open_changelog
from streams.state.entries import show_key
from streams.state.following import Follower
from streams.state.soundness import ROUND, examine
from streams.state.store import StoreContent, UnreadableStore, find_stores, read_store
from streams.topics import DAY, changelog_topic, input_topics

#: Faults of a partition that are kept one by one; further ones are counted.
KEPT = 1_000


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as it should be.

    Attributes
    ----------
    level
        fail: state is wrong or lost, or will be. warn: harmless, or mended by itself.
    offset, key
        Of the changelog's record; None where the fault is the partition's, or RocksDB's.
    code
        A slug that programs tell faults apart by.
    """

    level: Level
    partition: int
    offset: int | None
    key: str | None
    code: str
    text: str
    advice: str


@dataclass(slots=True)
class PartitionReport:
    """What one partition came to.

    Attributes
    ----------
    records, entities
        Records read; entities that have a state.
    store
        RocksDB on this machine: `same`, `stale` (a worker builds it anew), `differs`, `unreadable`; empty where there is none.
    faults
        The first of them; `counts` has all, by level.
    """

    partition: int
    records: int = 0
    entities: int = 0
    store: str = ""
    faults: list[Fault] = field(default_factory=list)
    counts: Counter[Level] = field(default_factory=Counter)

    def add(self, fault: Fault) -> None:
        self.counts[fault.level] += 1
        if len(self.faults) < KEPT:
            self.faults.append(fault)


async def verify(
    settings: Settings, on_offsets: Callable[[int, int], None] = lambda done, total: None
) -> AsyncGenerator[PartitionReport, None]:
    """Look at every partition, and yield what each came to.

    Parameters
    ----------
    on_offsets
        Told now and then how many offsets of how many are read.

    Raises
    ------
    KafkaUnavailable, TopicsUnfit
        Kafka does not answer; there is no changelog.
    """
    async with admin(settings.kafka) as client:
        topics = await describe(client, [*input_topics(settings).values(), changelog_topic(settings)])
        positions = await committed(client, settings.app)
    state = topics.pop(changelog_topic(settings), None)
    oldest = int(time.time() * 1000) - (state.number("delete.retention.ms", DAY) if state is not None else DAY)
    stores = find_stores(settings)
    async with open_changelog(settings) as changelog:
        done, total = 0, changelog.offsets
        for partition in range(changelog.partitions):
            on_read = _counting(on_offsets, done, total)
            work = _Verification(settings, changelog, partition, topics, positions, oldest, on_read)
            yield await work.run(stores.pop(partition, None))
            # One missing position is told once, whatever the number of partitions whose states it concerns.
            positions |= dict.fromkeys(work.applied, 0)
            done += changelog.spans[partition].end - changelog.spans[partition].start
    for partition, path in stores.items():
        report = PartitionReport(partition, store="stale")
        text = f"{path} belongs to a partition that the changelog does not have."
        report.add(Fault("warn", partition, None, None, "store-stale", text, "Delete it."))
        yield report


def _counting(on_offsets: Callable[[int, int], None], before: int, total: int) -> Callable[[int], None]:
    return lambda read: on_offsets(before + read, max(total, before + read))


class _Seen(NamedTuple):
    """The latest record of a key, and what is wrong with it.

    `ahead`: the offsets it says were applied, by input partition, that the input did not have when the reading began.
    """

    offset: int
    deleted: bool
    faults: Sequence[Fault]
    ahead: Mapping[TopicPartition, int]


class _Verification:
    """The verification of one partition."""

    def __init__(
        self,
        settings: Settings,
        changelog: Changelog,
        partition: int,
        inputs: Mapping[str, TopicState],
        positions: Mapping[TopicPartition, int],
        oldest: int,
        on_read: Callable[[int], None],
    ) -> None:
        self._settings, self._changelog, self._partition = settings, changelog, partition
        self._places = [TopicPartition(name, number) for name, topic in inputs.items() for number in range(topic.partitions)]
        self._positions, self._oldest, self._on_read = positions, oldest, on_read
        #: Input partitions of which the states say that something was applied.
        self.applied: set[TopicPartition] = set()
        self._report = PartitionReport(partition)
        self._latest: dict[bytes | None, _Seen] = {}

    async def run(self, store: Path | None) -> PartitionReport:
        content = None if store is None else await asyncio.to_thread(_read, store)
        # After RocksDB was read: the changelog must not be behind it.
        await self._changelog.renew(self._partition)
        follower = Follower(content.mark if isinstance(content, StoreContent) else None)
        begin, ends = self._changelog.spans[self._partition].start, await self._input_ends()
        async for records in self._changelog.read(self._partition):
            for record in records:
                self._take(record, ends)
                follower.take(record)
            self._on_read(records[-1].offset + 1 - begin)
        await self._judge_latest()
        self._judge_positions()
        if store is not None and content is not None:
            self._judge_store(store, content, follower)
        return self._report

    async def _input_ends(self) -> dict[TopicPartition, int]:
        return {place: span.end for place, span in (await spans(self._settings.kafka, self._places)).items()}

    def _take(self, record: ConsumerRecord, ends: Mapping[TopicPartition, int]) -> None:
        self._report.records += 1
        before = self._latest.get(record.key)
        for fault in before.faults if before is not None else ():
            self._report.add(replace(fault, level="warn", advice="A later record has replaced it."))
        if record.value is None:
            self._latest[record.key] = _Seen(record.offset, True, (), {})
            return
        examined = examine(record.key, record.value, self._partition, self._settings, self._changelog.partitions)
        faults = [self._fault(record.offset, record.key, *remark) for remark in examined.remarks]
        self.applied |= examined.applied.keys()
        ahead = {place: offset for place, offset in examined.applied.items() if offset >= ends.get(place, 0)}
        self._latest[record.key] = _Seen(record.offset, False, faults, ahead)

    def _fault(self, offset: int | None, key: bytes | None, level: Level, code: str, text: str, advice: str) -> Fault:
        return Fault(level, self._partition, offset, show_key(key), code, text, advice)

    async def _judge_latest(self) -> None:
        entities = 0
        # Workers may have applied what came since the reading began, so the inputs are asked for their ends once more.
        ends = await self._input_ends() if any(seen.ahead for seen in self._latest.values()) else {}
        for key, seen in self._latest.items():
            entities += not seen.deleted and key is not None and key.startswith(ENTITY_KEY)
            for fault in seen.faults:
                self._report.add(fault)
            for place, offset in seen.ahead.items():
                if (end := ends.get(place)) is None or offset >= end:
                    what = "does not exist" if end is None else f"ends at {end}"
                    text = f"offset {offset} of {place.topic}/{place.partition} was applied, and that {what}: the input was made anew."
                    advice = f"New records pass for applied ones until then. {ROUND} drop such offsets."
                    self._report.add(self._fault(seen.offset, key, "fail", "applied", text, advice))
        self._report.entities = entities

    def _judge_positions(self) -> None:
        for place in sorted(self.applied - self._positions.keys()):
            text = (
                f"records of {place.topic}/{place.partition} were applied, and the group {self._settings.app} has no position there: the "
                "input was made anew, or nobody was in the group for longer than the brokers keep positions."
            )
            advice = f"New records of an input that was made anew pass for applied ones. {ROUND} find out, or ask, which it is."
            self._report.add(Fault("fail", self._partition, None, None, "unread", text, advice))

    def _judge_store(self, path: Path, content: StoreContent | UnreadableStore, follower: Follower) -> None:
        delete = f"Stop the worker and delete {path}: the next start builds it anew from the changelog."
        if isinstance(content, UnreadableStore):
            self._report.store = "unreadable"
            text = f"RocksDB cannot be read: {content}."
            self._report.add(Fault("fail", self._partition, None, None, "store-unreadable", text, delete))
        elif reason := follower.stale(content, self._changelog.spans[self._partition].end, self._oldest):
            self._report.store = "stale"
            text = f"RocksDB cannot be gone on from: {reason}."
            self._report.add(Fault("warn", self._partition, None, None, "store-stale", text, "A worker builds it anew when it starts."))
        else:
            self._report.store = "same"
            for key, code, text in follower.differences(content):
                self._report.store = "differs"
                self._report.add(self._fault(None, key, "fail", code, text, delete))


def _read(path: Path) -> StoreContent | UnreadableStore:
    try:
        return read_store(path)
    except UnreadableStore as error:
        return error
