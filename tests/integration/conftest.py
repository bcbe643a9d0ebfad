"""A worker as its users run it: the command, a TOML file, a Kafka of its own topics."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from aiokafka.structs import ConsumerRecord, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from deploy.services.ports import free_ports
from schemas.settings import Settings, load_settings
from streams import topics
from streams.kafka import consumer, producer
from streams.reading import read_topic

ROLES = ("observations", "truths", "commands", "predictions", "outcomes", "memories", "dead_letters")
#: Seconds after which a test says what it was waiting for; no assertion is about time.
PATIENCE = 120.0


class Worker:
    """One `palimpsest worker` process."""

    def __init__(self, config: Path, settings: Settings, log: Path) -> None:
        self.settings, self.log = settings, log
        self._config = config
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, program: Sequence[str] = (sys.executable, "-m", "streams.cli"), **environment: str) -> None:
        """Start it, and return when `/readyz` says so."""
        await self.launch(program, **environment)
        await self.until_ready()

    async def launch(self, program: Sequence[str] = (sys.executable, "-m", "streams.cli"), **environment: str) -> None:
        """Start it, and return at once."""
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *program, "worker", "-c", str(self._config),
                stdout=output, stderr=output, env={**os.environ, **environment},
            )  # fmt: skip

    async def until_ready(self) -> None:
        assert self._process is not None
        async with asyncio.timeout(PATIENCE), httpx.AsyncClient(trust_env=False) as client:
            while True:
                assert self._process.returncode is None, f"the worker ended with {self._process.returncode}:\n{self.tail()}"
                try:
                    if (await client.get(f"{self.url}/readyz")).status_code == 200:
                        return
                except httpx.HTTPError:
                    pass
                await asyncio.sleep(0.1)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.worker.http_port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def signal(self, signum: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(signum)

    async def wait(self) -> int:
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), PATIENCE)

    async def stop(self) -> int:
        if self.running:
            self.signal(signal.SIGTERM)
        return await self.wait()

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        await self.wait()

    async def metrics(self) -> str:
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.get(f"{self.url}/metrics")).text

    async def series(self, name: str, **labels: str) -> float:
        """The value of one of the worker's series; 0 where there is none."""
        families = text_string_to_metric_families(await self.metrics())
        samples = (sample for family in families for sample in family.samples)
        return sum(sample.value for sample in samples if sample.name == name and sample.labels == labels)

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


@dataclass
class Bench:
    """Topics of one test, a producer, and readers."""

    settings: Settings
    worker: Worker
    #: Another worker of the same application, with a port and a state directory of its own; not started.
    another: Callable[[], Worker]

    async def send(self, role: str, records: list[tuple[bytes | None, bytes, int | None]]) -> None:
        """Send (key, value, partition) records to an input and wait until the broker has them."""
        topic = getattr(self.settings.topics, role)
        async with producer(self.settings.kafka, max_request_size=2_000_000, linger_ms=5) as out:
            futures = [await out.send(topic, value, key=key, partition=partition) for key, value, partition in records]
            await asyncio.gather(*futures)

    async def read(self, role: str) -> list[ConsumerRecord]:
        """Everything committed in an output so far."""
        async with aclosing(read_topic(self.settings.kafka, getattr(self.settings.topics, role))) as records:
            return [record async for record in records]

    async def messages(self, role: str) -> list[dict[str, Any]]:
        return [orjson.loads(record.value) for record in await self.read(role)]

    async def until(self, role: str, enough: Callable[[list[ConsumerRecord]], bool]) -> list[ConsumerRecord]:
        """Follow an output until what was read is enough."""
        topic = getattr(self.settings.topics, role)
        seen: list[ConsumerRecord] = []
        async with consumer(self.settings.kafka, isolation_level="read_committed", auto_offset_reset="earliest") as reader:
            partitions = reader.partitions_for_topic(topic) or set(range(await self.partitions()))
            reader.assign([TopicPartition(topic, p) for p in sorted(partitions)])
            try:
                async with asyncio.timeout(PATIENCE):
                    while not enough(seen):
                        for batch in (await reader.getmany(timeout_ms=200)).values():
                            seen += batch
            except TimeoutError:
                pytest.fail(f"waited in vain; {len(seen)} records in {role}. The worker's log ends:\n{self.worker.tail()}")
        return seen

    async def until_holds(self, what: str, holds: Callable[[], Awaitable[bool]]) -> None:
        """Ask again and again until something holds."""
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    if await holds():
                        return
                    await asyncio.sleep(0.2)
        except TimeoutError:
            pytest.fail(f"waited in vain: {what}. The worker's log ends:\n{self.worker.tail()}")

    async def partitions(self) -> int:
        return (await topics.survey(self.settings)).plan[0].partitions


@pytest.fixture
async def make_bench(kafka: str, tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Build a bench from the text of a configuration; topic names get a prefix of their own."""
    workers: list[Worker] = []

    async def make(body: str, *, partitions: int = 4, inputs: bool = True) -> Bench:
        app = f"it-{secrets.token_hex(4)}"

        def another() -> Worker:
            name, (port,) = f"{app}-{len(workers)}", free_ports(1)
            config = tmp_path / f"{name}.toml"
            config.write_text(body.format(app=app, kafka=kafka, port=port, topics=_own_topics(app), state=tmp_path / f"{name}-state"))
            workers.append(Worker(config, load_settings(config), tmp_path / f"{name}.log"))
            return workers[-1]

        worker = another()
        settings = worker.settings
        if inputs:
            sized = settings.model_copy(update={"topics": settings.topics.model_copy(update={"partitions": partitions})})
            await topics.create(sized)
        return Bench(settings, worker, another)

    yield make
    for worker in workers:
        if worker.running:
            await worker.kill()


def _own_topics(app: str) -> str:
    """Every topic's name with the application before it, as an inline table."""
    return "{" + ", ".join(f'{role} = "{app}.{role}"' for role in ROLES) + "}"


def at_least(number: int, seen: list[ConsumerRecord]) -> bool:
    return len(seen) >= number


def duplicates(values: list[Any]) -> list[Any]:
    return [value for value, count in Counter(values).items() if count > 1]
