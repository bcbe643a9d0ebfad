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

from deploy.services.errors import log_tail
from streams import exits
from streams.demo.driver import DemoFailed

#: Seconds until the worker must be ready. It takes 3 to 8; beside a compiler on two cores more.
READY_LIMIT = 120.0
POLL = 0.2
#: Seconds on top of the drain deadline after which a worker that was asked to end is killed.
STOP_MARGIN = 15.0
#: A worker that ends itself to decide by reading (fenced, unknown commit) is started again; more often than this, something is wrong.
RESTARTS = 5


def worker_command(settings: Path) -> list[str]:
    """How a worker is started: by this very Python, so that no other installation's `palimpsest` is taken."""
    return [sys.executable, "-c", "from streams.cli import main; main()", "worker", "-c", str(settings)]


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
        self._stopping = False
        self.restarts = 0

    async def start(self) -> None:
        """Start it and return when it is ready: tables restored, partitions assigned.

        Raises
        ------
        DemoFailed
            It ended, or was not ready in time; the text holds the end of its log.
        """
        await self._launch()
        assert self._process is not None
        try:
            async with asyncio.timeout(READY_LIMIT), httpx.AsyncClient(trust_env=False, timeout=2.0) as client:
                while not await self._ready(client):
                    if self._process.returncode is not None:
                        raise DemoFailed(f"the worker ended with status {self._process.returncode} while it was starting.\n{log_tail(self.log)}")
                    await asyncio.sleep(POLL)
        except TimeoutError:
            raise DemoFailed(f"the worker was not ready within {READY_LIMIT:.0f} s.\n{log_tail(self.log)}") from None

    async def watch(self) -> None:
        """Return when the worker was stopped; start it again where it asked for that.

        Raises
        ------
        DemoFailed
            It ended otherwise; the text holds the end of its log.
        """
        while True:
            assert self._process is not None
            status = await self._process.wait()
            if self._stopping:
                return
            if status != exits.RESTART or self.restarts == RESTARTS:
                raise DemoFailed(f"the worker ended with status {status}.\n{log_tail(self.log)}")
            self.restarts += 1
            await self._launch()

    async def stop(self) -> None:
        """End it by SIGTERM, and by SIGKILL if it does not end; its children as well. Stopping twice does nothing."""
        self._stopping = True
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
        """End it and its children at once; nothing is lost, because what was not committed is read again."""
        self._stopping = True
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _launch(self) -> None:
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
                start_new_session=True,
            )

    async def _ready(self, client: httpx.AsyncClient) -> bool:
        try:
            return (await client.get(f"{self._url}/readyz")).status_code == 200
        except httpx.HTTPError:
            return False
