"""Tests of `streams.demo.command` with fakes for services, topics, the worker's process and Kafka."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console

from deploy.services import stack
from deploy.services.errors import ServiceError
from streams import exits, topics
from streams.cli import entry
from streams.demo import command
from streams.demo.command import Options, run
from streams.demo.dataset import DatasetError
from streams.demo.driver import DemoFailed, Patience

OPTIONS = Options("temperature", 6, date(2014, 4, 12), keep_services=False, as_json=False)


@dataclass
class World:
    """What the command meets, and what it did there."""

    worker: Any
    started: tuple[str, ...] = ("kafka", "ollama")
    broken_services: bool = False
    broken_worker: bool = False
    did: list[str] = field(default_factory=list)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)

    async def up(self, kafka: str, ollama: str, **_: Any) -> stack.Stack:
        if self.broken_services:
            raise ServiceError("no Java")
        self.did.append("up")
        return stack.Stack("127.0.0.1:9092", "4.1.0", "http://127.0.0.1:11434", "0.11.4", started=self.started)

    async def down(self, only: tuple[str, ...], **_: Any) -> list[Any]:
        await asyncio.sleep(0)
        self.did.append(f"down {','.join(only)}")
        return []

    async def create(self, settings: Any) -> list[Any]:
        self.did.append("topics")
        return []


class FakeProcess:
    def __init__(self, world: World, log: Path) -> None:
        self._world, self._log = world, log

    async def start(self) -> None:
        self._log.write_text("cannot reach the moon\n")
        if self._world.broken_worker:
            raise DemoFailed("the worker ended with status 78 while it was starting")
        self._world.did.append("start")

    async def watch(self) -> None:
        self._world.waiting.set()
        await asyncio.Event().wait()

    async def stop(self) -> None:
        if "stop" not in self._world.did:
            await asyncio.sleep(0)
            self._world.did.append("stop")

    def kill(self) -> None:
        self._world.did.append("kill")


class FakeTransport:
    def __init__(self, worker: Any, settings: Any) -> None:
        worker.topic = settings.topics.observations
        self.send, self.receive = worker.send, worker.receive

    async def __aenter__(self) -> FakeTransport:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def rest(self) -> list[Any]:
        return []


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_worker: Callable[..., Any]) -> Iterator[World]:
    made = World(make_worker())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stack, "up", made.up)
    monkeypatch.setattr(stack, "down", made.down)
    monkeypatch.setattr(topics, "create", made.create)
    monkeypatch.setattr(command, "WorkerProcess", lambda _, *, log, **__: FakeProcess(made, log))
    monkeypatch.setattr(command, "KafkaTransport", lambda settings: FakeTransport(made.worker, settings))
    monkeypatch.setattr(command, "patience", lambda _: Patience(prediction=30, outcome=30))
    yield made


def summary_on_disk() -> dict[str, Any]:
    return orjson.loads(Path("runs/latest/summary.json").read_bytes())  # type: ignore[no-any-return]


def lines_on_disk(name: str) -> int:
    return len(Path(f"runs/latest/{name}.jsonl").read_text().splitlines())


def files_on_disk() -> list[Path]:
    return list(Path().iterdir())


def quiet() -> Console:
    return Console(file=io.StringIO(), width=140)


def printed(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


async def test_a_run_goes_from_services_to_a_summary_and_stops_what_it_started(world: World) -> None:
    console = quiet()
    assert await run(OPTIONS, console) == exits.OK
    assert world.did == ["up", "topics", "start", "stop", "down kafka,ollama"]
    summary = summary_on_disk()
    assert (summary["completed"], summary["labelled"], summary["sources"]) == (True, 6, {"model": 6})
    assert [lines_on_disk(name) for name in ("predictions", "outcomes", "memories", "dead-letters")] == [6, 6, 2, 0]
    assert "persistence" in printed(console)


async def test_services_that_ran_before_are_left_running(world: World) -> None:
    world.started = ("ollama",)
    await run(OPTIONS, quiet())
    assert world.did[-1] == "down ollama"
    world.did.clear()
    world.started = ()
    await run(OPTIONS, quiet())
    assert world.did[-1] == "stop"


async def test_services_are_kept_on_request(world: World) -> None:
    await run(Options("temperature", 2, date(2014, 4, 12), keep_services=True, as_json=False), quiet())
    assert world.did[-1] == "stop"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_an_interruption_stops_everything_and_leaves_what_was_seen(number: int, world: World) -> None:
    world.worker.silent = {3}
    console = quiet()
    running = asyncio.create_task(run(OPTIONS, console))
    await world.worker.silenced.wait()
    os.kill(os.getpid(), number)
    assert await running == exits.INTERRUPTED
    assert world.did[-2:] == ["stop", "down kafka,ollama"]
    summary = summary_on_disk()
    assert (summary["completed"], summary["labelled"]) == (False, 3)
    assert "Interrupted" in printed(console)


async def test_an_interruption_while_services_are_being_stopped_does_not_leave_them_running(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(only: tuple[str, ...], **_: Any) -> list[Any]:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0.02)
        world.did.append("down")
        return []

    monkeypatch.setattr(stack, "down", slow)
    assert await run(OPTIONS, quiet()) == exits.INTERRUPTED
    assert world.did[-1] == "down"


async def test_a_second_interruption_kills_the_worker(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = asyncio.Event()
    monkeypatch.setattr(command, "SECOND_THOUGHT", 0.0)

    async def stop(self: FakeProcess) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await killed.wait()
        world.did.append("stop")

    monkeypatch.setattr(FakeProcess, "stop", stop)
    monkeypatch.setattr(FakeProcess, "kill", lambda _: killed.set())
    world.worker.silent = {0}
    running = asyncio.create_task(run(OPTIONS, quiet()))
    await world.waiting.wait()
    os.kill(os.getpid(), signal.SIGINT)
    assert await running == exits.INTERRUPTED
    assert world.did[-2:] == ["stop", "down kafka,ollama"]


async def test_the_same_interruption_delivered_twice_is_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stop(self: FakeProcess) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0.02)
        world.did.append("stop")

    monkeypatch.setattr(FakeProcess, "stop", stop)
    world.worker.silent = {0}
    running = asyncio.create_task(run(OPTIONS, quiet()))
    await world.waiting.wait()
    os.kill(os.getpid(), signal.SIGINT)
    assert await running == exits.INTERRUPTED
    assert "kill" not in world.did


async def test_a_lost_terminal_is_survived_under_nohup(world: World) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        world.worker.silent = {0}
        running = asyncio.create_task(run(OPTIONS, quiet()))
        await world.waiting.wait()
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0)
        assert not running.done()
        os.kill(os.getpid(), signal.SIGTERM)
        assert await running == exits.INTERRUPTED
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_a_run_that_cannot_go_on_shows_the_end_of_the_workers_log(world: World) -> None:
    world.worker.refused = {2}
    with pytest.raises(DemoFailed, match=r"went to the dead letters(.|\n)*runs/(.|\n)*cannot reach the moon"):
        await run(OPTIONS, quiet())
    assert world.did[-2:] == ["stop", "down kafka,ollama"]


async def test_a_worker_that_does_not_start_is_told_with_its_log(world: World) -> None:
    world.broken_worker = True
    with pytest.raises(DemoFailed, match=r"status 78(.|\n)*cannot reach the moon"):
        await run(OPTIONS, quiet())
    assert world.did[-1] == "down kafka,ollama"


async def test_nothing_is_made_where_services_or_days_are_not_to_be_had(world: World) -> None:
    world.broken_services = True
    with pytest.raises(ServiceError, match="no Java"):
        await run(OPTIONS, quiet())
    with pytest.raises(DatasetError, match="2015-12-31"):
        await run(Options("temperature", 6, date(2020, 1, 1), False, False), quiet())
    assert world.did == []
    assert files_on_disk() == []


def test_days_that_are_not_there_are_a_mistake_in_the_command_line(world: World) -> None:
    assert entry.run(["demo", "--start", "2020-01-01"]) == exits.USAGE


def test_with_json_standard_output_holds_the_summary_alone(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(["demo", "--steps", "3", "--start", "2014-05-01", "--json"]) == exits.OK
    out, err = capsys.readouterr()
    summary = orjson.loads(out)
    assert (summary["steps"], summary["first_day"]) == (3, "2014-05-01")
    assert "2014-05-02" in err


def test_help_says_what_will_happen(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(["demo", "--help"]) == exits.OK
    text = capsys.readouterr().out
    assert "Kafka" in text
    assert "--target" in text
