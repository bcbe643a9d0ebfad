"""Lanes: everything that concerns one key runs in series, different keys run together, at most `window` at once.

A lane is a chain of tasks, each waiting for the one before; it exists only while it has work. The window bounds memory and what
a restart has to do again. Model calls have slots of their own (`agents.models.gate`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable


class Lanes:
    """Series of work by key."""

    def __init__(self, window: int) -> None:
        self._window = asyncio.Semaphore(window)
        self._tails: dict[bytes, asyncio.Task[None]] = {}
        #: Tasks by when they began to work (monotonic seconds); waiting ones are absent.
        self._working: dict[asyncio.Task[None], float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, key: bytes, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Append work to a key's lane; waits while the window is full. The order of calls is the order of work."""
        await self._window.acquire()
        task = asyncio.create_task(self._run(self._tails.get(key), work))
        self._tails[key] = task
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._finished(key, done))
        return task

    async def _run(self, previous: asyncio.Task[None] | None, work: Callable[[], Awaitable[None]]) -> None:
        if previous is not None:
            await asyncio.wait([previous])
        task = asyncio.current_task()
        assert task is not None
        self._working[task] = time.monotonic()
        await work()

    def _finished(self, key: bytes, task: asyncio.Task[None]) -> None:
        self._window.release()
        self._tasks.discard(task)
        self._working.pop(task, None)
        if self._tails.get(key) is task:
            del self._tails[key]

    @property
    def in_flight(self) -> int:
        return len(self._tasks)

    @property
    def lanes(self) -> int:
        return len(self._tails)

    def oldest_age(self) -> float | None:
        """Seconds that the longest-running item has been worked on; None when idle."""
        return time.monotonic() - min(self._working.values()) if self._working else None

    async def drain(self, deadline: float) -> int:
        """Let work finish for `deadline` seconds, what comes in meanwhile too, cancel the rest, and return how many were cancelled."""
        until = time.monotonic() + deadline
        while self._tasks and (left := until - time.monotonic()) > 0:
            await asyncio.wait(set(self._tasks), timeout=left)
        rest = [task for task in self._tasks if not task.done()]
        for task in rest:
            task.cancel()
        if rest:
            # A cancelled model call closes its connection; that takes no time worth waiting for longer.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.gather(*rest, return_exceptions=True), timeout=1.0)
        return len(rest)
