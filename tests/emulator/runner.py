"""Whether the model is loaded, and by which options.

One call at a time decides that, the others wait in a queue with a bound; beyond it the server says that it is busy (`OLLAMA_MAX_QUEUE`).
Once a model is loaded, calls with the same options pass without a queue: only slots hold them up, and there the queue has no bound.
Other options load the model anew, after the calls under way.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.emulator.journal import Journal
from tests.emulator.requests import Refused

BUSY = "server busy, please try again.  maximum pending requests exceeded"


class Runner:
    """One model, loaded or not.

    Parameters
    ----------
    load_seconds
        How long loading takes.
    max_queue
        How many calls may wait for a load.
    keep_alive
        Seconds for which an idle model stays loaded, where no call says otherwise.
    on_load
        Called when it was loaded.
    """

    def __init__(
        self, journal: Journal, *, load_seconds: float, max_queue: int, keep_alive: float, on_load: Callable[[], None] = lambda: None
    ) -> None:
        self._journal = journal
        self._load_seconds = load_seconds
        self._max_queue = max_queue
        self._default_keep_alive = keep_alive
        self._on_load = on_load
        self._options: tuple[Any, ...] | None = None
        self._keep_alive = keep_alive
        self._door = asyncio.Lock()
        self._waiting = 0
        self._active = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._expiry: asyncio.TimerHandle | None = None
        self.expires_at = math.inf

    @property
    def options(self) -> tuple[Any, ...] | None:
        """What it is loaded by; None: it is not."""
        return self._options

    @asynccontextmanager
    async def use(self, options: tuple[Any, ...], keep_alive: float | None) -> AsyncIterator[None]:
        """Have the model loaded by these options until the body ends. Raises `Refused` (503) where too many wait for that."""
        if self._options != options or self._door.locked():
            await self._wait_at_the_door(options)
        self._active += 1
        self._idle.clear()
        if self._expiry is not None:
            self._expiry.cancel()
        if keep_alive is not None:
            self._keep_alive = keep_alive
        try:
            yield
        finally:
            self._active -= 1
            if not self._active:
                self._idle.set()
                self._expire_after(self._keep_alive)

    def unload(self) -> None:
        """Unload it as soon as no call uses it."""
        self._keep_alive = 0.0
        if not self._active:
            self._expire_after(0.0)

    def close(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()

    async def _wait_at_the_door(self, options: tuple[Any, ...]) -> None:
        if self._door.locked() and self._waiting >= self._max_queue:
            raise Refused(503, BUSY)
        self._waiting += 1
        try:
            await self._door.acquire()
        finally:
            self._waiting -= 1
        try:
            if self._options != options:
                await self._idle.wait()
                self._unload()
                await asyncio.sleep(self._load_seconds)
                self._options, self._keep_alive = options, self._default_keep_alive
                self._journal.loaded()
                self._on_load()
        finally:
            self._door.release()

    def _expire_after(self, seconds: float) -> None:
        if seconds <= 0:
            self._unload()
            return
        self.expires_at = self._journal.now() + seconds
        if seconds < math.inf:
            self._expiry = asyncio.get_running_loop().call_later(seconds, self._unload)

    def _unload(self) -> None:
        if self._options is not None:
            self._options = None
            self._journal.unloaded()
