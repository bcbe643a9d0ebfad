"""Tests of `streams.demo.worker_process` with small programs in the worker's place."""

from __future__ import annotations

import asyncio
import os
import select
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from deploy.services.ports import free_ports
from streams.demo.driver import DemoFailed
from streams.demo.worker_process import WorkerProcess, worker_command

SERVES = """
import http.server, signal, subprocess, sys, os
class Probe(http.server.BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Probe.asked += 1
        self.send_response(200 if Probe.asked > 1 else 503); self.end_headers()
    def log_message(self, *_): pass
"""
SERVE = "http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), Probe).serve_forever()"

Make = Callable[[str], WorkerProcess]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    [port] = free_ports(1)

    def made(program: str) -> WorkerProcess:
        command = [sys.executable, "-c", textwrap.dedent(program), str(port)]
        log, url = tmp_path / "worker.log", f"http://127.0.0.1:{port}"
        return WorkerProcess(command, log=log, url=url, environment=dict(os.environ), drain=30)

    return made


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def test_it_is_started_when_it_says_that_it_is_ready_and_ends_when_asked(make: Make) -> None:
    worker = make(SERVES + "signal.signal(signal.SIGTERM, lambda *_: (print('farewell', flush=True), sys.exit(0)))\n" + SERVE)
    await worker.start()
    await worker.stop()
    assert worker.log.read_text() == "farewell\n"
    await worker.stop()


async def test_a_worker_that_ends_while_starting_is_a_failure_with_its_status(make: Make) -> None:
    worker = make("import sys; print('no topics', flush=True); sys.exit(78)")
    with pytest.raises(DemoFailed, match="status 78"):
        await worker.start()
    assert "no topics" in worker.log.read_text()
    await worker.stop()


async def test_a_worker_that_ends_while_it_is_watched_is_a_failure(make: Make) -> None:
    worker = make(SERVES + "signal.signal(signal.SIGUSR1, lambda *_: os._exit(70))\n" + SERVE)
    await worker.start()
    watching = asyncio.create_task(worker.watch())
    assert worker.pid is not None
    os.kill(worker.pid, 10)
    with pytest.raises(DemoFailed, match="status 70"):
        await watching


async def test_stopping_leaves_no_child_behind_even_in_a_process_group_of_its_own(make: Make) -> None:
    worker = make(
        SERVES
        + "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], process_group=0)\n"
        + "print(child.pid, flush=True)\n"
        + "signal.signal(signal.SIGTERM, lambda *_: os._exit(0))\n"
        + SERVE
    )
    await worker.start()
    child = os.pidfd_open(int(worker.log.read_text()))
    await worker.stop()
    ended, _, _ = select.select([child], [], [], 30)
    os.close(child)
    assert ended


async def test_a_worker_that_does_not_listen_is_killed_when_there_is_no_time(make: Make) -> None:
    worker = make(SERVES + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVE)
    await worker.start()
    stopping = asyncio.create_task(worker.stop())
    await asyncio.sleep(0)
    worker.kill()
    await stopping
    assert worker.pid is not None
    assert gone(worker.pid)


async def test_it_is_deaf_to_the_terminals_interrupts(make: Make) -> None:
    worker = make(SERVES + SERVE)
    await worker.start()
    assert worker.pid is not None
    assert os.getsid(worker.pid) == worker.pid != os.getsid(0)
    await worker.stop()


def test_the_worker_runs_on_this_very_python() -> None:
    command = worker_command(Path("runs/1/palimpsest.toml"))
    assert command[0] == sys.executable
    assert command[-4:] == ["worker", "--supervise", "-c", "runs/1/palimpsest.toml"]
