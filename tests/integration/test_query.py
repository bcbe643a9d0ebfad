"""Two workers, asked about every entity while one of them joins and when it is killed; and what `palimpsest workers` shows of them."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from itertools import cycle
from typing import Any

import httpx
import orjson
import pytest

from schemas.queries import entity_path
from streams import exits
from streams.partitioner import state_partition
from tests.integration.conftest import PATIENCE, Bench, Worker, at_least

pytestmark = pytest.mark.integration

CONFIG = """\
app = "{app}"
time = "replay"
kafka.bootstrap_servers = "{kafka}"
topics = {topics}
worker = {{ http_port = {port}, state_dir = "{state}", session_timeout = "SESSION" }}
model = {{ backend = "import", factory = "agents.models.scripted:from_settings" }}
observations.key = "entity"
rewrite.policy = "never"
target = {{ field = "t" }}
"""
ENTITIES = [f"sensor/{number} ü東?#%2F" for number in range(24)]


def observation(entity: str, step: int) -> tuple[bytes, bytes, None]:
    payload = {"entity": entity, "id": f"{entity}-{step}", "time": 1_700_000_000 + 60 * step, "values": {"t": step}}
    return entity.encode(), orjson.dumps(payload), None


def truth(entity: str, step: int) -> tuple[None, bytes, None]:
    return None, orjson.dumps({"entity": entity, "observation_id": f"{entity}-{step}", "value": step + 1, "time": 1_700_000_060}), None


async def ask(client: httpx.AsyncClient, worker: Worker, entity: str) -> dict[str, Any] | None:
    """The entity's state; None where the worker has a reason to give none, or is not there to give one."""
    try:
        answer = await client.get(worker.url + entity_path(entity))
    except httpx.TransportError:
        return None
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        assert all(answer.json()["reasons"])
        assert answer.json()["reasons"]
        assert int(answer.headers["Retry-After"]) > 0
        return None
    assert answer.status_code == httpx.codes.OK, f"{answer.text}\n{worker.tail()}"
    found: dict[str, Any] = answer.json()
    return found


def content(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without where and when it was read."""
    return {key: value for key, value in answer.items() if key != "served"}


async def until_answered(client: httpx.AsyncClient, *workers: Worker) -> dict[str, dict[str, Any]]:
    """Ask the workers in turn, until there is an answer about each entity."""
    answers = {}
    async with asyncio.timeout(PATIENCE):
        for entity in ENTITIES:
            for worker in cycle(workers):
                if (answer := await ask(client, worker, entity)) is not None:
                    answers[entity] = answer
                    break
                await asyncio.sleep(0.05)
    return answers


async def palimpsest(worker: Worker, *arguments: str) -> tuple[int | None, bytes, str]:
    """Run a command with a worker's settings."""
    config = str(worker.log.with_suffix(".toml"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streams.cli", *arguments, "-c", config, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    return process.returncode, out, err.decode()


async def set_up(make_bench: Any, session: str) -> Bench:
    """A bench with one worker that has learned an outcome of every entity."""
    bench: Bench = await make_bench(CONFIG.replace("SESSION", session))
    await bench.worker.start()
    await bench.send("observations", [observation(entity, 0) for entity in ENTITIES])
    await bench.until("predictions", partial(at_least, len(ENTITIES)))
    await bench.send("truths", [truth(entity, 0) for entity in ENTITIES])
    await bench.until("outcomes", partial(at_least, len(ENTITIES)))
    return bench


async def test_every_worker_answers_for_every_entity_or_says_why_not_whoever_joins_or_dies(make_bench: Any) -> None:
    bench = await set_up(make_bench, "6s")
    first, second = bench.worker, bench.another()
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
        known = {entity: content(answer) for entity, answer in (await until_answered(client, first)).items()}
        assert [answer["outcomes"] for answer in known.values()] == [1] * len(ENTITIES)

        await second.launch()
        joining = asyncio.create_task(second.until_ready())
        refusals = {first: 0, second: 0}
        while not joining.done():
            for entity in ENTITIES:
                for worker in (first, second):
                    answer = await ask(client, worker, entity)
                    refusals[worker] += answer is None
                    assert answer is None or content(answer) == known[entity]
            await asyncio.sleep(0.05)
        await joining
        assert refusals[second] > 0

        answers = [await until_answered(client, worker) for worker in (first, second)]
        for by_worker in answers:
            assert {entity: content(answer) for entity, answer in by_worker.items()} == known
        owners = [{entity: answer["served"]["worker"] for entity, answer in by_worker.items()} for by_worker in answers]
        assert owners[0] == owners[1]
        assert set(owners[0].values()) == {first.url, second.url}
        code, out, err = await palimpsest(first, "workers", "--json")
        assert code == exits.OK, err
        found = orjson.loads(out)
        assert {(worker["url"], worker["state"]) for worker in found["workers"]} == {(first.url, "running"), (second.url, "running")}
        assert sum(worker["entities"] for worker in found["workers"]) == len(ENTITIES)
        held = {number: partition["worker"] for number, partition in enumerate(found["partitions"])}
        assert owners[0] == {entity: held[state_partition(bench.settings, entity, len(held))] for entity in ENTITIES}
        code, out, err = await palimpsest(second, "entity", ENTITIES[0], "--json")
        assert (code, content(orjson.loads(out))) == (exits.OK, known[ENTITIES[0]]), err

        await second.kill()
        after = await until_answered(client, first)
        assert {entity: content(answer) for entity, answer in after.items()} == known
        assert {answer["served"]["worker"] for answer in after.values()} == {first.url}
        code, out, err = await palimpsest(first, "workers")
        assert (code, [line.split("\t")[:3] for line in out.decode().splitlines()]) == (exits.OK, [[first.url, "running", "0-3"]]), err
    assert await first.stop() == exits.OK


async def test_a_dead_worker_is_listed_as_silent_with_what_waits_for_it_until_the_group_gives_it_up(make_bench: Any) -> None:
    bench = await set_up(make_bench, "60s")
    first, second = bench.worker, bench.another()
    await second.start()
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
        owners = {entity: answer["served"]["worker"] for entity, answer in (await until_answered(client, first)).items()}
        await second.kill()
        orphaned = [entity for entity, owner in owners.items() if owner == second.url]
        await bench.send("observations", [observation(entity, 1) for entity in orphaned])
        answer = await client.get(first.url + entity_path(orphaned[0]))
        assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
        assert f"is owned by the worker at {second.url}, which does not answer" in answer.json()["reasons"][0]
    code, out, err = await palimpsest(first, "workers", "--json")
    assert code == exits.OK, err
    found = orjson.loads(out)
    workers = {worker["url"]: worker for worker in found["workers"]}
    assert (workers[first.url]["state"], workers[second.url]["state"]) == ("running", "silent")
    assert sorted(workers[first.url]["partitions"] + workers[second.url]["partitions"]) == [0, 1, 2, 3]
    assert workers[second.url]["lag"] == len(orphaned)
    assert workers[second.url]["reasons"]


async def test_two_workers_that_say_the_same_url_do_their_work_and_are_warned_of(make_bench: Any) -> None:
    bench = await set_up(make_bench, "6s")
    first, second = bench.worker, bench.another()
    await second.start(PALIMPSEST__WORKER__HTTP_URL=first.url)
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
        await until_answered(client, first, second)
        by = [[await ask(client, worker, entity) is not None for worker in (first, second)] for entity in ENTITIES]
    # Each finds its own entities, and nobody those of the other.
    assert {sum(answered) for answered in by} == {1}
    assert {answered.index(True) for answered in by} == {0, 1}
    for worker in (first, second):
        assert "no URL leads to partitions" in worker.log.read_text()
    _, _, err = await palimpsest(first, "workers")
    assert f"2 workers say that they are reached at {first.url}" in err
    await bench.send("observations", [observation(entity, 1) for entity in ENTITIES])
    await bench.until("predictions", partial(at_least, 2 * len(ENTITIES)))
