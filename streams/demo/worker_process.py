"""The run's worker: `palimpsest worker` as a process of its own, as in production.

Started, waited for until it is ready, watched, and stopped in good order. It gets a session of its own, so that Ctrl-C in the terminal
reaches the demo alone, which then stops it once and properly.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
import psutil

from streams.demo.driver import DemoFailed

#: Seconds until the worker must be ready. It takes 3 to 8; beside a compiler on two cores more.
READY_LIMIT = 120.0
POLL = 0.2
#: Seconds on top of the drain deadline after which a worker that was asked to end is killed.
STOP_MARGIN = 15.0


def worker_command(settings: Path) -> list[str]:
    """How a worker is started: by this very Python, so that no other installation's `palimpsest` is taken.

    Supervised, as in production: a worker that ends itself to decide by reading (fenced, unknown commit) comes back.
    """
    return [sys.executable, "-m", "streams.cli", "worker", "--supervise", "-c", str(settings)]


class WorkerProcess:
    """A worker.

    Parameters
    ----------
    command
        The program and its arguments.
    log
        Where its output goes (appended).
    url
        Of its HTTP port.
    environment
        Its whole environment.
    drain
        Seconds it may take to end when asked.
    """

    def __init__(self, command: Sequence[str], *, log: Path, url: str, environment: Mapping[str, str], drain: float) -> None:
        self._command = list(command)
        self.log = log
        self._url = url
        self._environment = dict(environment)
        self._drain = drain
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Its process id, also the id of its session; None before it was started."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start it and return when it is ready: tables restored, partitions assigned.

        Raises
        ------
        DemoFailed
            It ended, or was not ready in time.
        """
        with self.log.open("ab") as output:
            self._process = process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(READY_LIMIT), httpx.AsyncClient(trust_env=False, timeout=2.0) as client:
                while not await self._ready(client):
                    if process.returncode is not None:
                        raise DemoFailed(f"the worker ended with status {process.returncode} while it was starting")
                    await asyncio.sleep(POLL)
        except TimeoutError:
            raise DemoFailed(f"the worker was not ready within {READY_LIMIT:.0f} s") from None

    async def watch(self) -> None:
        """Wait for its end, which nobody asked for.

        Raises
        ------
        DemoFailed
            It ended.
        """
        assert self._process is not None
        status = await self._process.wait()
        raise DemoFailed(f"the worker ended with status {status}")

    async def stop(self) -> None:
        """End it by SIGTERM, and by SIGKILL if it does not end; its children as well. Stopping twice does nothing."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), self._drain + STOP_MARGIN)
        self.kill()
        await process.wait()

    def kill(self) -> None:
        """End it and its children at once; nothing is lost, because what was not committed is read again.

        Its children are known by its session, whose id no new process gets while one of them lives. A living process of that id after
        the worker's end is another program, and so is its session.
        """
        process = self._process
        if process is None or (process.returncode is not None and psutil.pid_exists(process.pid)):
            return
        for pid in psutil.pids():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if os.getsid(pid) == process.pid:
                    os.kill(pid, signal.SIGKILL)

    async def _ready(self, client: httpx.AsyncClient) -> bool:
        try:
            return (await client.get(f"{self._url}/readyz")).status_code == 200
        except httpx.HTTPError:
            return False
