"""The state tools around a real worker: what is sound is called so, what is broken is named, and states move without loss or doubling."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
import rocksdict
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from tenacity import AsyncRetrying, retry_if_result, stop_after_delay, wait_fixed

from schemas.settings import Settings
from schemas.state import EntityState, encode_state, entity_key
from streams import exits, topics
from streams.cluster import TopicState, committed, describe
from streams.kafka import admin, producer
from streams.membership import describe_group
from streams.partitioner import state_partition
from streams.state.store import find_stores
from streams.topics import changelog_topic
from tests.integration.conftest import PATIENCE, Bench, Worker, at_least

pytestmark = pytest.mark.integration

CONFIG = """\
app = "{app}"
time = "replay"
kafka.bootstrap_servers = "{kafka}"
topics = {topics}
worker = {{ http_port = {port}, state_dir = "{state}", session_timeout = "6s" }}
model = {{ backend = "import", factory = "agents.models.scripted:from_settings" }}
observations.key = "entity"
rewrite.policy = "never"
target = {{ field = "t" }}
"""
ENTITIES = 24


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return orjson.loads(self.out)


async def state(config: Path, *arguments: object) -> Ran:
    """Run `palimpsest state` as its users do."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streams.cli", "state", *map(str, arguments), "-c", str(config),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    return Ran(process.returncode or 0, out.decode(), err.decode())


async def send(bench: Bench, steps: range, *, observations: bool = True, truths: bool = True) -> None:
    """Readings of every entity, one each step, and what they came to."""
    readings, outcomes = [], []
    for step in steps:
        for e in range(ENTITIES):
            name, identity, time = f"e{e}", f"e{e}-{step}", 1_700_000_000 + step * 60
            reading = {"entity": name, "id": identity, "time": time, "values": {"t": step + e}}
            readings.append((name.encode(), orjson.dumps(reading), None))
            truth = {"entity": name, "observation_id": identity, "value": step + e + 1, "time": time + 60}
            outcomes.append((None, orjson.dumps(truth), None))
    if observations:
        await bench.send("observations", readings)
    if truths:
        await bench.send("truths", outcomes)


async def work_off(bench: Bench, worker: Worker, steps: int) -> None:
    """Let a worker come to the end of so many steps, and stop it."""
    await worker.start()
    for output in ("predictions", "outcomes"):
        await bench.until(output, partial(at_least, steps * ENTITIES))
    assert await worker.stop() == exits.OK


async def assert_each_once(bench: Bench, steps: int) -> None:
    predicted = Counter(p["id"] for p in await bench.messages("predictions"))
    settled = Counter(o["prediction_id"] for o in await bench.messages("outcomes"))
    assert set(predicted.values()) == set(settled.values()) == {1}
    assert len(predicted) == len(settled) == steps * ENTITIES
    assert await bench.read("dead_letters") == []


async def states_of(config: Path, file: Path) -> dict[str, dict[str, Any]]:
    """Every entity's state without its offsets, as an export has it."""
    assert (await state(config, "export", file)).code in (exits.OK, exits.FAILED)
    lines = [orjson.loads(line) for line in read(file).splitlines()]
    states = {line["state"]["entity"]: line["state"] for line in lines if line["kind"] == "entity"}
    for one in states.values():
        one.pop("applied", None)
    return states


def read(file: Path) -> bytes:
    return file.read_bytes()


async def until(client: AIOKafkaAdminClient, names: Collection[str], is_so: Callable[[dict[str, TopicState]], bool]) -> None:
    """Return when a broker describes topics as they should be."""
    patience = AsyncRetrying(retry=retry_if_result(lambda found: not is_so(found)), stop=stop_after_delay(PATIENCE), wait=wait_fixed(0.05))
    await patience(describe, client, names)


async def make_anew(settings: Settings, *names: str, partitions: int) -> None:
    """Delete topics and make them again under their names."""
    async with admin(settings.kafka) as client:
        await client.delete_topics(list(names))
        await until(client, names, lambda found: not found)
        await client.create_topics([NewTopic(name, partitions, 1) for name in names])
        await topics.wait_until_known(client, names)


async def add_partitions(settings: Settings, partitions: int) -> None:
    """What `kafka-topics --alter --partitions` does, for inputs and outputs."""
    plan = [spec.name for spec in topics.topic_plan(settings) if spec.direction != "internal"]
    async with admin(settings.kafka) as client:
        await client.create_partitions({name: NewPartitions(partitions) for name in plan})
        await until(client, plan, lambda found: all(topic.partitions == partitions for topic in found.values()))


def without_lines(file: Path, text: bytes) -> None:
    """Take lines out of a file, as with `grep -v`."""
    file.write_bytes(b"".join(line for line in file.read_bytes().splitlines(keepends=True) if text not in line))


def rewrite(file: Path, old: str, new: str) -> None:
    file.write_text(file.read_text().replace(old, new))


def config_of(bench: Bench) -> Path:
    return bench.worker._config


def damage(stores: dict[int, Path], entities: dict[int, str]) -> tuple[int, int]:
    """Change a record in one partition's RocksDB, and a byte on the disk of another's; return which."""
    changed, torn = sorted(entities)[:2]
    database = rocksdict.Rdict(str(stores[changed]), options=rocksdict.Options(raw_mode=True))
    database.put(entity_key(entities[changed]), b"\x01something else")
    database.close()
    database = rocksdict.Rdict(str(stores[torn]), options=rocksdict.Options(raw_mode=True))
    database.flush()
    database.close()
    table = max(stores[torn].glob("*.sst"), key=lambda path: path.stat().st_size)
    content = bytearray(table.read_bytes())
    content[len(content) // 3] ^= 0xFF
    table.write_bytes(content)
    return changed, torn


async def test_states_are_sound_broken_ones_are_named_and_all_move_to_more_partitions(make_bench, tmp_path: Path) -> None:
    bench = await make_bench(CONFIG)
    settings, config, steps = bench.settings, config_of(bench), 6
    await send(bench, range(steps))
    await work_off(bench, bench.worker, steps)

    sound = await state(config, "verify", "--json")
    assert sound.code == exits.OK, sound
    assert sound.json["ok"] and sound.json["faults"] == []
    assert sum(one["entities"] for one in sound.json["partitions"]) == ENTITIES
    assert {one["store"] for one in sound.json["partitions"]} == {"same"}

    changelog, stray = changelog_topic(settings), EntityState(entity="stray", applied={"observations": 10**6}, frozen=True)
    home = state_partition(settings, "stray", 4)
    async with producer(settings.kafka) as client:
        ghost = await client.send_and_wait(changelog, b"\x01" + b"\0" * 11 + b"{not json", key=entity_key("ghost"), partition=0)
        foreign = await client.send_and_wait(changelog, b"?", key=b"zzz", partition=1)
        misplaced = await client.send_and_wait(changelog, encode_state(stray), key=entity_key("stray"), partition=(home + 1) % 4)
    by_partition = {state_partition(settings, f"e{e}", 4): f"e{e}" for e in range(ENTITIES)}
    changed, torn = damage(find_stores(settings), by_partition)

    broken = await state(config, "verify", "--json")
    assert broken.code == exits.FAILED, broken
    found = {(one["code"], one["partition"], one["offset"], one["key"]) for one in broken.json["faults"] if one["level"] == "fail"}
    assert {
        ("json", 0, ghost.offset, "ghost"),
        ("key", 1, foreign.offset, "b'zzz'"),
        ("misplaced", (home + 1) % 4, misplaced.offset, "stray"),
        ("applied", (home + 1) % 4, misplaced.offset, "stray"),
        ("store-differs", changed, None, by_partition[changed]),
        ("store-unreadable", torn, None, None),
    } == found
    told = await state(config, "verify")
    assert "offset" in told.out and "state reset" in told.out and "delete" in told.out

    before = await states_of(config, tmp_path / "before.jsonl")
    assert before.keys() == {f"e{e}" for e in range(ENTITIES)} | {"stray"}
    exported = await state(config, "export", tmp_path / "states.jsonl")
    assert exported.code == exits.FAILED
    assert "ghost" in exported.err and "zzz" in exported.err
    # Truths that nobody has read yet come from a topic whose records are placed by entity first.
    await send(bench, range(steps, steps + 1), observations=False)
    await add_partitions(settings, 6)
    advice = next(finding.advice for finding in await topics.check(settings) if finding.code == "partitions")
    assert "state export" in advice and "state reset" in advice and "state import" in advice

    done = await state(config, "reset", "--yes")
    assert done.code == exits.OK, done
    assert find_stores(settings) == {}
    async with admin(settings.kafka) as client:
        assert await committed(client, settings.app) == {}
        assert (await describe(client, [changelog]))[changelog].partitions == 6
    without_lines(tmp_path / "states.jsonl", b'"entity":"stray"')
    imported = await state(config, "import", tmp_path / "states.jsonl", "--json")
    assert imported.code == exits.OK, imported
    assert imported.json["entities"] == ENTITIES and imported.json["partitions"] == 6
    assert all(one["kept"] for one in imported.json["inputs"].values())
    again = await state(config, "import", tmp_path / "states.jsonl")
    assert again.code == exits.FAILED and "state reset" in again.err

    verified = await state(config, "verify", "--json")
    assert verified.code == exits.OK, verified
    after = await states_of(config, tmp_path / "after.jsonl")
    assert after == {name: one for name, one in before.items() if name != "stray"}
    await send(bench, range(steps, steps + 1), truths=False)
    await send(bench, range(steps + 1, steps + 3))
    await work_off(bench, bench.worker, steps + 3)
    await assert_each_once(bench, steps + 3)
    end = await states_of(config, tmp_path / "end.jsonl")
    assert {one["outcomes"] for one in end.values()} == {steps + 3}
    assert (await state(config, "verify")).code == exits.OK


async def test_an_input_that_is_placed_by_entity_from_now_on_loses_nothing_that_waits(make_bench, tmp_path: Path) -> None:
    bench = await make_bench(CONFIG)
    settings, config, steps = bench.settings, config_of(bench), 3
    await send(bench, range(steps))
    await work_off(bench, bench.worker, steps)
    # They wait where four partitions put them, and half of the entities belong elsewhere with six.
    await send(bench, range(steps, steps + 1))
    assert (await state(config, "export", tmp_path / "states.jsonl")).code == exits.OK
    await add_partitions(settings, 6)
    rewrite(config, 'observations.key = "entity"', 'observations.key = "any"')
    assert (await state(config, "reset", "--yes")).code == exits.OK
    imported = await state(config, "import", tmp_path / "states.jsonl")
    assert imported.code == exits.OK and "offsets kept" in imported.err, imported
    await work_off(bench, bench.worker, steps + 1)
    await send(bench, range(steps + 1, steps + 2))
    await work_off(bench, bench.worker, steps + 2)
    await assert_each_once(bench, steps + 2)
    assert (await state(config, "verify")).code == exits.OK


async def test_states_outlive_inputs_that_are_made_anew(make_bench, tmp_path: Path) -> None:
    bench = await make_bench(CONFIG)
    settings, config, steps = bench.settings, config_of(bench), 3
    await send(bench, range(steps))
    await work_off(bench, bench.worker, steps)
    await make_anew(settings, settings.topics.observations, partitions=4)
    verified = await state(config, "verify", "--json")
    assert verified.code == exits.FAILED
    assert {fault["code"] for fault in verified.json["faults"]} == {"applied", "unread"}, verified.out
    assert (await state(config, "export", tmp_path / "states.jsonl")).code == exits.OK
    await make_anew(settings, settings.topics.truths, partitions=4)
    await send(bench, range(steps, steps + 1))
    assert (await state(config, "reset", "--yes")).code == exits.OK
    imported = await state(config, "import", tmp_path / "states.jsonl", "--json")
    assert imported.code == exits.OK, imported
    assert {role: one["kept"] for role, one in imported.json["inputs"].items()} == {
        "observations": False,
        "truths": False,
        "commands": True,
    }
    await work_off(bench, bench.worker, steps + 1)
    await assert_each_once(bench, steps + 1)
    end = await states_of(config, tmp_path / "end.jsonl")
    assert {one["outcomes"] for one in end.values()} == {steps + 1}


async def test_states_are_not_taken_from_workers_and_one_that_was_cut_off_brings_nothing_back(make_bench, tmp_path: Path) -> None:
    bench = await make_bench(CONFIG)
    worker, config, other = bench.worker, config_of(bench), bench.another()._config
    await send(bench, range(1))
    await worker.start()
    await bench.until("outcomes", partial(at_least, ENTITIES))
    for command in (["reset", "--yes"], ["import", tmp_path / "states.jsonl"]):
        if command[0] == "import":
            assert (await state(config, "export", tmp_path / "states.jsonl")).code == exits.OK
        refused = await state(config, *command)
        assert refused.code == exits.FAILED and "Stop the workers" in refused.err, refused
    worker.signal(signal.SIGSTOP)
    async with admin(bench.settings.kafka) as client:
        patience = AsyncRetrying(
            retry=retry_if_result(lambda group: bool(group.members)), stop=stop_after_delay(PATIENCE), wait=wait_fixed(0.2)
        )
        await patience(describe_group, client, bench.settings.app, changelog_topic(bench.settings))
    here = await state(config, "reset", "--yes")
    assert here.code == exits.FAILED and "frozen" in here.err, here
    elsewhere = await state(other, "reset", "--yes")
    assert elsewhere.code == exits.OK, elsewhere
    await send(bench, range(1, 2))
    worker.signal(signal.SIGCONT)
    # It is fenced while it writes, and ends; or it finds before that the group has gone on. Its RocksDB was not there to be wiped. Either
    # way it is a worker of a new application, and reads everything once more.
    supervising = asyncio.create_task(supervise(worker))
    await bench.until("predictions", partial(at_least, 3 * ENTITIES))
    supervising.cancel()
    assert await worker.stop() == exits.OK
    assert len(await bench.read("predictions")) == 3 * ENTITIES
    verified = await state(config, "verify", "--json")
    assert verified.code == exits.OK, verified
    assert {one["store"] for one in verified.json["partitions"]} == {"same"}
    assert {one["outcomes"] for one in (await states_of(config, tmp_path / "end.jsonl")).values()} == {2}


async def supervise(worker: Worker) -> None:
    """Start a worker again whenever it says that it must be."""
    assert worker._process is not None
    while await worker._process.wait() == exits.RESTART:
        await worker.start()
