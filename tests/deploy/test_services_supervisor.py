"""Processes that outlive their starter, and are stopped exactly."""

# ruff: noqa: ASYNC110, ASYNC240 - a test may look at a small file, and other processes tell nothing when they end
import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from deploy.services import supervisor as module
from deploy.services.supervisor import ProcessRecord, Supervisor, birth_of, is_alive

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
print(child.pid, flush=True)
time.sleep(3600)
"""

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(3600)
"""


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(tmp_path / "processes.json")
    yield supervisor
    await supervisor.stop(supervisor.records(), first=signal.SIGKILL)


async def first_line(log: Path) -> str:
    while not (text := log.read_text()).endswith("\n"):
        await asyncio.sleep(0.01)
    return text.splitlines()[0]


def lives(pid: int) -> bool:
    return birth_of(pid) is not None


async def gone(pid: int) -> None:
    while lives(pid):
        await asyncio.sleep(0.01)


def sleeper(supervisor: Supervisor, tmp_path: Path) -> ProcessRecord:
    return supervisor.start("sleeper", ["sleep", "3600"], log=tmp_path / "sleeper.log")


async def test_what_one_supervisor_started_another_one_stops(supervisor: Supervisor, tmp_path: Path) -> None:
    record = sleeper(supervisor, tmp_path)
    later = Supervisor(supervisor.path)
    assert later.records() == {"sleeper": record}
    assert is_alive(record)
    assert [stopped.name for stopped in await later.stop(["sleeper"])] == ["sleeper"]
    assert not lives(record.pid)
    assert later.records() == {}


async def test_a_process_that_has_a_recorded_id_by_chance_is_never_signalled(supervisor: Supervisor, tmp_path: Path) -> None:
    stranger = sleeper(Supervisor(tmp_path / "others.json"), tmp_path)
    ours = stranger.model_copy(update={"name": "ours", "birth": "an earlier boot/12345"})
    supervisor._write({"ours": ours})
    assert not is_alive(ours)
    assert await supervisor.stop(["ours"]) == []
    assert lives(stranger.pid)
    assert supervisor.records() == {}
    await Supervisor(tmp_path / "others.json").stop(["sleeper"])


async def test_children_end_with_their_parent(supervisor: Supervisor, tmp_path: Path) -> None:
    log = tmp_path / "parent.log"
    supervisor.start("parent", [sys.executable, "-c", PARENT], log=log)
    child = int(await first_line(log))
    await supervisor.stop(["parent"])
    await gone(child)


async def test_children_of_a_parent_that_was_killed_by_somebody_else_are_found(supervisor: Supervisor, tmp_path: Path) -> None:
    log = tmp_path / "parent.log"
    parent = supervisor.start("parent", [sys.executable, "-c", PARENT], log=log)
    child = int(await first_line(log))
    os.kill(parent.pid, signal.SIGKILL)
    await gone(parent.pid)
    assert lives(child)
    assert await supervisor.stop(["parent"]) == []
    await gone(child)


async def test_a_process_that_ignores_the_first_signal_is_killed(supervisor: Supervisor, tmp_path: Path) -> None:
    log = tmp_path / "stubborn.log"
    record = supervisor.start("stubborn", [sys.executable, "-c", STUBBORN], log=log)
    await first_line(log)
    await supervisor.stop(["stubborn"], grace=0.1)
    assert not lives(record.pid)


async def test_a_process_that_ended_by_itself_counts_as_dead(supervisor: Supervisor, tmp_path: Path) -> None:
    record = supervisor.start("short", [sys.executable, "-c", "print('over')"], log=tmp_path / "short.log")
    await gone(record.pid)
    assert not is_alive(record)
    assert "over" in record.log.read_text()


def test_a_zombie_counts_as_dead() -> None:
    with subprocess.Popen(["true"]) as child:
        while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
            pass
        assert birth_of(child.pid) is None


async def test_it_runs_in_a_session_of_its_own(supervisor: Supervisor, tmp_path: Path) -> None:
    record = sleeper(supervisor, tmp_path)
    assert os.getsid(record.pid) == record.pid != os.getsid(0)


async def test_a_long_log_is_put_aside_at_the_next_start(supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_LIMIT", 10)
    (tmp_path / "sleeper.log").write_text("what was said before")
    sleeper(supervisor, tmp_path)
    assert (tmp_path / "sleeper.log.old").read_text() == "what was said before"
    assert (tmp_path / "sleeper.log").read_text() == ""
