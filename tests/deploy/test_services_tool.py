"""Installed programs, run to their end."""

# ruff: noqa: ASYNC110 - a test may look at a small file, and other processes tell nothing when they end
import asyncio
import sys
from pathlib import Path

import pytest

from deploy.services import MissingTool, ToolFailed
from deploy.services.supervisor import birth_of
from deploy.services.tool import require, run_tool

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
print(child.pid, flush=True)
time.sleep(3600)
"""


async def run(code: str, log: Path) -> None:
    await run_tool([sys.executable, "-c", code], log=log, what="building it", advice="Try another day.")


async def test_a_failure_tells_what_where_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed) as failure:
        await run("print('no such compiler'); raise SystemExit(3)", tmp_path / "build.log")
    message = str(failure.value)
    for part in ("building it failed", "status 3", "Try another day.", str(tmp_path / "build.log"), "no such compiler"):
        assert part in message


async def test_a_program_that_cannot_be_started_is_a_failure_too(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match="could not be started"):
        await run_tool(["/nonexistent/tool"], log=tmp_path / "log", what="x", advice="")


async def test_an_interrupted_build_leaves_no_compiler_behind(tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    task = asyncio.create_task(run(PARENT, log))
    while not (log.exists() and (last := log.read_text()).endswith("\n") and last.splitlines()[-1].isdigit()):
        await asyncio.sleep(0.01)
    compiler = int(log.read_text().split()[-1])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    while birth_of(compiler) is not None:
        await asyncio.sleep(0.01)


def test_a_missing_program_is_named_with_its_purpose() -> None:
    with pytest.raises(MissingTool, match="Fetching Kafka needs 'no-such-program'"):
        require("no-such-program", "Fetching Kafka")
