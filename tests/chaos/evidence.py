"""What a campaign left behind, read from outside: every topic under `read_committed`, the group's positions, the disks.

`collect` only reads and sorts; what it means is for `tests.chaos.verdict` to say, which therefore needs no Kafka.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import rocksdict
from aiokafka.structs import TopicPartition

from schemas.settings import KafkaSettings, Settings
from schemas.state import ENTITY_KEY, HEADER_SIZE, PARTITION_KEY
from streams import topics
from streams.cluster import committed
from streams.kafka import admin, consumer
from streams.reading import read_topic
from streams.table import MARK_KEY
from tests.chaos.load import MARK


@dataclass(frozen=True, slots=True)
class Logged:
    """One record of a topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def place(self) -> tuple[str, int, int]:
        return self.topic, self.partition, self.offset

    @property
    def mark(self) -> str:
        """What the sender says should become of it."""
        return dict(self.headers).get(MARK, b"").decode()


@dataclass(frozen=True, slots=True)
class StateRecord:
    """A state record of the changelog, as far as a sequence of them can be judged."""

    partition: int
    offset: int
    entity: str
    outcomes: int
    revision: int
    applied: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Disk:
    """A partition's RocksDB on a worker's disk: digests of its records by key, and the last changelog offset that it says it holds."""

    worker: str
    partition: int
    offset: int
    records: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a worker's process ended. `asked`: the harness' own signal (`SIGKILL`, `SIGTERM`), or nothing."""

    worker: str
    code: int
    asked: str
    seconds: float = 0.0


@dataclass(slots=True)
class Evidence:
    """Everything that is judged.

    Attributes
    ----------
    sent
        Places that the brokers acknowledged to the sender.
    inputs, predictions, outcomes, memories, letters
        By partition in the order of the log.
    history
        State records of the changelog, in its order.
    states
        The last record of each entity, as it is encoded.
    disks
        Each worker's copy of each partition it ever held, beside what the changelog holds up to the same offset.
    last
        What the changelog holds in the end, by partition: digests by key.
    positions, ends
        The group's committed position and the end of every partition that the workers read.
    open_transactions
        Partitions of the outputs that a reader of committed records cannot read to the end.
    endings
        How the workers' processes ended.
    stuck
        What was not worked off when the harness gave up waiting, in words; empty if everything was.
    """

    settings: Settings
    sent: set[tuple[str, int, int]] = field(default_factory=set)
    inputs: list[Logged] = field(default_factory=list)
    predictions: list[Logged] = field(default_factory=list)
    outcomes: list[Logged] = field(default_factory=list)
    memories: list[Logged] = field(default_factory=list)
    letters: list[Logged] = field(default_factory=list)
    history: list[StateRecord] = field(default_factory=list)
    states: dict[str, bytes] = field(default_factory=dict)
    disks: list[tuple[Disk, Mapping[bytes, bytes]]] = field(default_factory=list)
    last: dict[int, Mapping[bytes, bytes]] = field(default_factory=dict)
    positions: dict[tuple[str, int], int] = field(default_factory=dict)
    ends: dict[tuple[str, int], int] = field(default_factory=dict)
    open_transactions: list[str] = field(default_factory=list)
    endings: Sequence[Ending] = ()
    stuck: str = ""


async def collect(settings: Settings, disks: Iterable[Disk] = ()) -> Evidence:
    """Read what there is. The workers must have ended: what is read is of one moment then.

    Raises
    ------
    KafkaUnavailable, TopicsUnfit
        Kafka does not answer, or a topic is gone.
    """
    found = Evidence(settings)
    for name in topics.input_topics(settings).values():
        found.inputs += await _read(settings.kafka, name)
    found.predictions = await _read(settings.kafka, settings.topics.predictions)
    found.outcomes = await _read(settings.kafka, settings.topics.outcomes)
    found.memories = await _read(settings.kafka, settings.topics.memories)
    found.letters = await _read(settings.kafka, settings.topics.dead_letters)
    await _read_changelog(found, settings, disks)
    found.positions, found.ends = await positions(settings)
    found.open_transactions = await _open_transactions(settings)
    return found


def read_names(settings: Settings) -> list[str]:
    """Every topic that the workers read under their group: the inputs, and what is written by entity."""
    rekeyed = [topics.by_entity_topic(settings, role) for role in topics.rekeyed_roles(settings)]
    return [*topics.input_topics(settings).values(), *rekeyed]


async def positions(settings: Settings) -> tuple[dict[tuple[str, int], int], dict[tuple[str, int], int]]:
    """The group's positions and, looked up after them, the ends of everything that it reads."""
    async with admin(settings.kafka) as client:
        done = await committed(client, settings.app)
    ends = await _ends(settings, read_names(settings), "read_uncommitted")
    return {(place.topic, place.partition): offset for place, offset in done.items()}, ends


def read_disks(worker: str, state_dir: Path) -> list[Disk]:
    """The partitions on the disk of a worker that has ended."""
    found = []
    for path in sorted(state_dir.glob("**/*.db")):
        number = re.fullmatch(r".*-(\d+)", path.stem)
        if number is None or not (path / "CURRENT").exists():
            continue
        database = rocksdict.Rdict(str(path), options=rocksdict.Options(raw_mode=True), access_type=rocksdict.AccessType.read_only())
        try:
            content: dict[bytes, bytes] = dict(database.items())
        finally:
            database.close()
        mark = content.pop(MARK_KEY, None)
        if mark is not None:
            records = {key: digest(value) for key, value in content.items() if _is_state(key)}
            found.append(Disk(worker, int(number[1]), orjson.loads(mark)[0], records))
    return found


def _is_state(key: bytes | None) -> bool:
    return key is not None and (key.startswith(ENTITY_KEY) or key == PARTITION_KEY)


def digest(value: bytes) -> bytes:
    """What is kept of a state record on a disk."""
    return hashlib.blake2b(value, digest_size=16).digest()


async def _read(settings: KafkaSettings, topic: str) -> list[Logged]:
    async with aclosing(read_topic(settings, topic)) as records:
        return [Logged(r.topic, r.partition, r.offset, r.key, r.value, tuple(r.headers)) async for r in records]


async def _read_changelog(found: Evidence, settings: Settings, disks: Iterable[Disk]) -> None:
    """Follow the changelog, and at the offset of each disk note what it should hold."""
    waiting: defaultdict[int, list[Disk]] = defaultdict(list)
    for disk in sorted(disks, key=lambda disk: disk.offset):
        waiting[disk.partition].append(disk)
    current: defaultdict[int, dict[bytes, bytes]] = defaultdict(dict)
    async with aclosing(read_topic(settings.kafka, topics.changelog_topic(settings))) as records:
        async for record in records:
            partition, content = record.partition, current[record.partition]
            while waiting[partition] and waiting[partition][0].offset < record.offset:
                found.disks.append((waiting[partition].pop(0), dict(content)))
            if not _is_state(record.key):
                continue
            if record.value is None:
                content.pop(record.key, None)
            else:
                content[record.key] = digest(record.value)
            if record.key.startswith(ENTITY_KEY):
                take_state(found, record)
    for partition, rest in waiting.items():
        found.disks += [(disk, current[partition]) for disk in rest]
    found.last = dict(current)


def take_state(found: Evidence, record: Any) -> None:
    """Note an entity's record in the changelog; without a value it is a tombstone."""
    entity = record.key[len(ENTITY_KEY) :].decode()
    if record.value is None:
        found.states.pop(entity, None)
        return
    state = orjson.loads(record.value[HEADER_SIZE:])
    revision = state.get("memory", {}).get("revision", 0)
    found.history.append(
        StateRecord(record.partition, record.offset, entity, state.get("outcomes", 0), revision, dict(state.get("applied", {})))
    )
    found.states[entity] = record.value


async def _ends(settings: Settings, names: Sequence[str], isolation: str) -> dict[tuple[str, int], int]:
    places = [TopicPartition(name, number) for name in names for number in range(settings.topics.partitions)]
    async with consumer(settings.kafka, isolation_level=isolation) as reader:
        return {(place.topic, place.partition): end for place, end in (await reader.end_offsets(places)).items()}


async def _open_transactions(settings: Settings) -> list[str]:
    outputs = settings.topics
    names = [outputs.predictions, outputs.outcomes, outputs.memories, outputs.dead_letters, topics.changelog_topic(settings)]
    last, stable = [await _ends(settings, names, isolation) for isolation in ("read_uncommitted", "read_committed")]
    held = [(place, end) for place, end in sorted(last.items()) if stable[place] < end]
    return [f"{topic}/{partition}: readable to {stable[topic, partition]} of {end}" for (topic, partition), end in held]
