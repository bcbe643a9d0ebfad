"""Directories outside the repository, and the locks on them."""

import asyncio
import sys
from pathlib import Path

import pytest

from deploy.services import cache_directory, state_directory
from deploy.services.cache import locked

HOLDER = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_environment_says_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path / "c"))
    monkeypatch.setenv("PALIMPSEST_STATE", str(tmp_path / "s"))
    assert (cache_directory(), state_directory()) == (tmp_path / "c", tmp_path / "s")
    assert cache_directory().is_dir()


async def test_one_waits_for_another_process_and_says_so(tmp_path: Path) -> None:
    lock = tmp_path / "work.lock"
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(lock), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdin and holder.stdout
    assert await holder.stdout.readline() == b"held\n"
    told = asyncio.Event()
    entered = asyncio.Event()

    async def wait_for_it() -> None:
        async with locked(lock, "work", lambda step, text, fraction=None: told.set()):
            entered.set()

    task = asyncio.create_task(wait_for_it())
    await told.wait()
    assert not entered.is_set()
    holder.stdin.close()
    await holder.wait()
    await task
    assert entered.is_set()


async def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path: Path) -> None:
    lock = tmp_path / "work.lock"
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(lock), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdout
    await holder.stdout.readline()
    holder.kill()
    await holder.wait()
    async with locked(lock, "work"):
        pass
