"""Workers as their users run them: processes of `palimpsest worker`, each with its own port, state directory and log.

A worker that ends with exit code 75 is started again, as `--supervise` does; here it is done by hand, because a supervisor would stand
between the harness and the process that it wants to kill. How each process ended is kept for the verdict.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import httpx

from schemas.settings import Settings, load_settings
from streams import exits
from tests.chaos.evidence import Ending

#: Seconds until a worker must be ready, or gone after SIGTERM; only a defect takes as long.
PATIENCE = 180.0
#: Seconds before a worker that ended by itself is started again.
PAUSE = 0.5
#: Seconds between two looks at `/readyz`: a worker announces nothing.
LOOK = 0.1
#: Times in all that workers may end by themselves before the campaign is given up: more is no fault of the harness' making.
MOST_RESTARTS = 200

#: What the directory `tests` lies in; the stub model is imported from there.
ROOT = Path(__file__).resolve().parents[2]


class GaveUp(Exception):
    """The workers do not do what a campaign needs to go on; the text ends with the log of one of them."""


class Worker:
    """One worker, over all its processes."""

    def __init__(self, name: str, config: Path, log: Path, environment: Mapping[str, str], on_ending: Callable[[Ending], None]) -> None:
        self.name, self.log = name, log
        self.settings: Settings = load_settings(config)
        #: Stopped by SIGSTOP just now.
        self.frozen = False
        self._config = config
        self._environment = dict(environment)
        self._on_ending = on_ending
        self._process: asyncio.subprocess.Process | None = None
        self._watching: asyncio.Task[None] | None = None
        self._asked = ""
        self._asked_at = 0.0
        #: Should be running: started, and not told to end since.
        self.wanted = False
        self.restarts = 0

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it, without waiting for it to be ready."""
        assert not self.running
        self.wanted, self._asked = True, ""
        await self._launch()

    async def _launch(self) -> None:
        # Nothing of the caller's own settings may reach it.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PALIMPSEST__")}
        path = os.pathsep.join(filter(None, (str(ROOT), inherited.get("PYTHONPATH"))))
        restarts = {exits.RESTARTS_VARIABLE: str(self.restarts)}
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "streams.cli", "worker", "-c", str(self._config)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**inherited, **self._environment, **restarts, "PYTHONPATH": path},
            )
        self._watching = asyncio.create_task(self._watch(self._process))

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        asked = self._asked
        self._on_ending(Ending(self.name, code, asked, time.monotonic() - self._asked_at if asked else 0.0))
        if not asked and self.wanted:
            await asyncio.sleep(PAUSE)
            if self.wanted and self._process is process:
                self.restarts += 1
                await self._launch()

    async def end(self, signum: signal.Signals) -> int | None:
        """End it by SIGTERM or SIGKILL; return the exit code when its process is gone. It stays away until `start`."""
        self.wanted = False
        while True:
            if self.running:
                self._asked, self._asked_at = signum.name, time.monotonic()
                self._signal(signum)
            if self._process is not None:
                try:
                    await asyncio.wait_for(self._process.wait(), PATIENCE)
                except TimeoutError:
                    raise GaveUp(f"{self.name} does not end upon {signum.name}:\n{self.tail()}") from None
            if self._watching is not None:
                await self._watching
            # It may have been just about to be started again.
            if not self.running:
                return None if self._process is None else self._process.returncode

    def freeze(self) -> None:
        self.frozen = True
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.frozen = False
        self._signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Delete its state directory; it must have ended."""
        assert not self.running
        shutil.rmtree(self.settings.state_dir, ignore_errors=True)

    async def is_ready(self, client: httpx.AsyncClient) -> bool:
        try:
            return (await client.get(f"http://127.0.0.1:{self.settings.worker.http_port}/readyz")).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def tail(self, lines: int = 40) -> str:
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _signal(self, signum: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signum)


class Fleet:
    """All workers of a campaign.

    Parameters
    ----------
    workers
        Names and configurations; none is started yet.
    logs
        Directory of the logs.
    environment
        On top of the harness' own.
    """

    def __init__(self, workers: Mapping[str, Path], logs: Path, environment: Mapping[str, str]) -> None:
        self.endings: list[Ending] = []
        self.workers = {
            name: Worker(name, config, logs / f"{name}.log", environment, self.endings.append) for name, config in workers.items()
        }

    def __getitem__(self, name: str) -> Worker:
        return self.workers[name]

    @property
    def at_hand(self) -> list[Worker]:
        """Those that should be running and are not frozen: whom a fault may strike."""
        return [worker for worker in self.workers.values() if worker.wanted and not worker.frozen]

    async def victim(self, choice: float) -> Worker:
        """One of those that run just now; `choice` from 0 to 1 says which."""
        while not (running := [worker for worker in self.at_hand if worker.running]):  # noqa: ASYNC110 - they are just being started
            await asyncio.sleep(LOOK)
        return running[min(int(choice * len(running)), len(running) - 1)]

    @property
    def restarts(self) -> int:
        return sum(worker.restarts for worker in self.workers.values())

    async def ready(self, workers: Iterable[Worker] | None = None) -> None:
        """Return when these workers, or all at hand, are ready.

        Raises
        ------
        GaveUp
            They are not within `PATIENCE`, or end by themselves again and again.
        """
        deadline = time.monotonic() + PATIENCE
        async with httpx.AsyncClient(trust_env=False, timeout=5.0) as client:
            while True:
                waiting = [w for w in (self.at_hand if workers is None else workers) if not await w.is_ready(client)]
                if not waiting:
                    return
                if time.monotonic() > deadline or self.restarts > MOST_RESTARTS:
                    codes = [ending.code for ending in self.endings[-10:]]
                    raise GaveUp(f"{waiting[0].name} does not become ready (last exit codes {codes}):\n{waiting[0].tail()}")
                await asyncio.sleep(LOOK)

    async def stop(self) -> None:
        """End everybody in good order, side by side."""
        await asyncio.gather(*(worker.end(signal.SIGTERM) for worker in self.workers.values() if worker.wanted))

    async def kill(self) -> None:
        """End everybody at once, whatever state they are in."""
        for worker in self.workers.values():
            if worker.frozen:
                worker.thaw()
        await asyncio.gather(*(worker.end(signal.SIGKILL) for worker in self.workers.values()))
