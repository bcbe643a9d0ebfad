"""Imports into a real application: all or nothing, only where nothing is, and what is refused."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from schemas.settings import Settings
from schemas.state import EntityState, Feedback, PartitionState
from streams import topics
from streams.cluster import committed
from streams.errors import DumpError, StatesInTheWay, StatesInUse, TopicsUnfit
from streams.kafka import admin, producer
from streams.state.dump import EntityLine, PartitionLine, encode_line
from streams.state.exporting import export
from streams.state.importing import import_states
from streams.state.store import tables_directory
from streams.state.verification import verify
from streams.topics import by_entity_topic, changelog_topic
from tests.streams.state.conftest import PARTITIONS, commit, fill, home, member, write_states

pytestmark = pytest.mark.integration

STATES = [EntityState(entity=f"s{n}", outcomes=n) for n in range(30)]


def another(settings: Settings, path: Path, **changes: Any) -> Settings:
    """Another application on the same inputs."""
    worker = settings.worker.model_copy(update={"state_dir": path / "another"})
    return settings.model_copy(update={"app": f"{settings.app}-b", "worker": worker, **changes})


async def export_to(settings: Settings, path: Path) -> Path:
    async with aclosing(export(settings, now=datetime(2024, 1, 1, tzinfo=UTC))) as lines:
        write(path, [encode_line(line) async for line in lines])
    return path


def write(path: Path, lines: list[bytes]) -> None:
    path.write_bytes(b"".join(lines))


def read(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


async def states_in(settings: Settings) -> dict[str, EntityState]:
    async with aclosing(export(settings, now=datetime(2024, 1, 1, tzinfo=UTC))) as lines:
        return {line.state.entity: line.state async for line in lines if isinstance(line, EntityLine)}


@pytest.fixture
async def file(keyed: Settings, tmp_path: Path) -> Path:
    """An export of `STATES`, whose observations were read to their end."""
    await fill(keyed, keyed.topics.observations, dict.fromkeys(range(PARTITIONS), 5))
    await commit(keyed, {TopicPartition(keyed.topics.observations, partition): 5 for partition in range(PARTITIONS)})
    await write_states(keyed, *(state.model_copy(update={"applied": {"observations": 4}}) for state in STATES))
    await write_states(keyed, PartitionState(dead_lettered={"observations": 2}), partition=1)
    return await export_to(keyed, tmp_path / "states.jsonl")


async def test_another_application_goes_on_with_the_states_where_the_first_was(keyed: Settings, tmp_path: Path, file: Path) -> None:
    target = another(keyed, tmp_path)
    await topics.create(target)
    told: list[str] = []
    done = await import_states(target, file, on_progress=lambda what, done, total: told.append(what))
    assert (done.entities, done.partitions) == (30, PARTITIONS)
    assert {role: passage.kept for role, passage in done.passages.items()} == {"observations": True, "truths": True, "commands": True}
    assert await states_in(target) == await states_in(keyed)
    assert {state.applied["observations"] for state in (await states_in(target)).values()} == {4}
    async with admin(target.kafka) as client:
        positions = await committed(client, target.app)
    assert positions == {TopicPartition(keyed.topics.observations, partition): 5 for partition in range(PARTITIONS)}
    assert [report.faults async for report in verify(target)] == [[]] * PARTITIONS
    assert "writing" in told


async def test_offsets_are_dropped_when_it_is_said_and_reading_begins_anew(keyed: Settings, tmp_path: Path, file: Path) -> None:
    target = another(keyed, tmp_path)
    await topics.create(target)
    await import_states(target, file, "drop")
    assert {state.entity: state for state in STATES} == await states_in(target)
    async with admin(target.kafka) as client:
        assert await committed(client, target.app) == {}
    async with aclosing(export(target, now=datetime(2024, 1, 1, tzinfo=UTC))) as lines:
        assert not [line async for line in lines if isinstance(line, PartitionLine)]


async def test_an_import_that_was_cut_off_leaves_nothing_to_be_seen_and_is_run_again(keyed: Settings, tmp_path: Path, file: Path) -> None:
    target = another(keyed, tmp_path)
    await topics.create(target)

    class Cut(Exception):
        pass

    def cut(what: str, done: int, total: int) -> None:
        if what == "writing":
            raise Cut

    with pytest.raises(Cut):
        await import_states(target, file, on_progress=cut)
    assert await states_in(target) == {}
    # A killed one cannot even abort what it wrote.
    dead = producer(target.kafka, transactional_id=f"{target.app}-state-import")
    client = await dead.__aenter__()
    await client.begin_transaction()
    await client.send_and_wait(changelog_topic(target), b"half a state", key=b"es1", partition=home(target, "s1"))
    assert await states_in(target) == {}
    await import_states(target, file)
    assert await states_in(target) == await states_in(keyed)
    assert [report.faults async for report in verify(target)] == [[]] * PARTITIONS
    with pytest.raises(Exception, match=r"(?i)fenced|epoch"):
        await client.commit_transaction()
    await dead.__aexit__(None, None, None)


async def test_it_is_refused_where_there_is_something_already(keyed: Settings, tmp_path: Path, file: Path) -> None:
    target = another(keyed, tmp_path)
    with pytest.raises(TopicsUnfit, match="topics create"):
        await import_states(target, file)
    await topics.create(target)
    with pytest.raises(StatesInTheWay, match=r"has read .* Run `palimpsest state reset` first"):
        await import_states(keyed, file)
    store = tables_directory(target) / "state-0.db"
    store.mkdir(parents=True)
    with pytest.raises(StatesInTheWay, match=r"state-0\.db"):
        await import_states(target, file)
    store.rmdir()
    await fill(target, by_entity_topic(target, "truths"), {3: 1})
    with pytest.raises(StatesInTheWay, match="truths-by-entity"):
        await import_states(target, file)
    async with admin(target.kafka) as client:
        await client.delete_topics([by_entity_topic(target, "truths")])
    await topics.create(target)
    await import_states(target, file)
    third = another(target, tmp_path)
    await topics.create(third)
    await write_states(third, EntityState(entity="x"))
    with pytest.raises(StatesInTheWay, match="holds states already"):
        await import_states(third, file)


async def test_it_is_refused_while_somebody_is_in_the_group_and_when_somebody_joins(keyed: Settings, tmp_path: Path, file: Path) -> None:
    target = another(keyed, tmp_path)
    await topics.create(target)
    async with member(target):
        with pytest.raises(StatesInUse, match="has 1 member"):
            await import_states(target, file)
    assert await states_in(target) == {}


@pytest.mark.parametrize("case", ["twice", "one entity", "too large", "cut short"])
async def test_a_file_that_does_not_fit_is_refused_by_its_line_and_nothing_is_written(
    keyed: Settings, tmp_path: Path, file: Path, case: str
) -> None:
    target = another(keyed, tmp_path)
    await topics.create(target)
    lines = read(file)
    number = next(n for n, line in enumerate(lines, 1) if b'"kind":"entity"' in line)
    if case == "twice":
        lines.insert(-1, lines[number - 1])
        says = rf"line {len(lines) - 1}: .* line {number} already"
    elif case == "one entity":
        lines[0] = lines[0].replace(b'"kind":"export"', b'"kind":"export","entity":"s1"')
        says = "only whole exports"
    elif case == "too large":
        large = EntityState(entity="s99", feedback=(Feedback(seq=1, text="x" * 2_000_000),))
        lines.insert(-1, encode_line(EntityLine(partition=0, offset=0, state=large)))
        says = rf"line {len(lines) - 1} has 2\d+ bytes"
    else:
        lines.pop()
        says = "cut short"
    write(file, lines)
    with pytest.raises(DumpError, match=says):
        await import_states(target, file)
    assert await states_in(target) == {}
