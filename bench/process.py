"""A program under measurement: a process of its own with a configuration, a state directory, a log and an HTTP port."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import psutil

from deploy.services.ports import free_ports
from schemas.settings import Settings, load_settings

#: Seconds after which a benchmark gives up, with the end of the log; nothing that works takes as long.
PATIENCE = 600.0
#: Seconds between two looks at `/readyz`: a worker announces nothing.
LOOK = 0.02
WORKER = (sys.executable, "-m", "streams.cli")

#: What the configurations of all benchmarks share. The worker is as it is by default, but for what a benchmark adds.
CONFIG = """\
app = "{app}"
time = "replay"
kafka.bootstrap_servers = "{kafka}"
topics = {topics}
model = {{ backend = "import", factory = "bench.instant_model:from_settings" }}
observations.key = "entity"
truths.key = "entity"
rewrite.policy = "never"
target = {{ field = "temperature", unit = "°C" }}

[worker]
http_port = {port}
state_dir = "{state}"
"""
ROLES = ("observations", "truths", "commands", "predictions", "outcomes", "memories", "dead_letters")


class GaveUp(RuntimeError):
    """What is measured does not do what it should; the text ends with its log."""


class Process:
    """One program with its configuration; started, killed and started again as often as wanted.

    Parameters
    ----------
    name
        Names its files in `root`.
    worker
        Lines for the section `[worker]`.
    state
        Its state directory; one of its own in `root` if None.
    config
        The configuration, with places as in `CONFIG`.
    """

    def __init__(
        self, root: Path, name: str, app: str, kafka: str, *, worker: str = "", state: Path | None = None, config: str = CONFIG
    ) -> None:
        (port,) = free_ports(1)
        self.name = name
        self.config, self.log = root / f"{name}.toml", root / f"{name}.log"
        topics = "{" + ", ".join(f'{role} = "{app}.{role}"' for role in ROLES) + "}"
        body = config.format(app=app, kafka=kafka, topics=topics, port=port, state=state or root / f"{name}-state")
        self.config.write_text(body + worker)
        self.settings: Settings = load_settings(self.config)
        self._process: asyncio.subprocess.Process | None = None
        self._started = 0.0

    async def launch(self, program: Sequence[str] = (*WORKER, "worker", "-c")) -> None:
        """Start it, and return at once; the configuration's path is the program's last argument."""
        # Nothing of the caller's own settings may reach it.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PALIMPSEST__")}
        self._started = time.monotonic()
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *program, str(self.config), stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, env=environment
            )

    async def until_ready(self) -> float:
        """Return the seconds from its launch to the first `/readyz` that says so."""
        async with asyncio.timeout(PATIENCE), httpx.AsyncClient(trust_env=False) as client:
            while True:
                self.check()
                try:
                    if (await client.get(f"{self.url}/readyz")).status_code == httpx.codes.OK:
                        return time.monotonic() - self._started
                except httpx.HTTPError:
                    pass
                await asyncio.sleep(LOOK)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.worker.http_port}"

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.get(self.url + path)

    def check(self) -> None:
        """Give up if it has ended."""
        if self._process is not None and self._process.returncode is not None:
            raise GaveUp(f"{self.name} ended with {self._process.returncode}:\n{self.tail()}")

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def peak_memory(self) -> int:
        """Most bytes that it has held in memory at once, so far."""
        assert self._process is not None
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise GaveUp(f"{self.name}: the kernel does not say how much memory it held")

    def memory(self) -> int:
        """Bytes that it holds in memory now."""
        assert self._process is not None
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def cpu_time(self) -> float:
        """Seconds of processor time that it has used so far, by all its threads."""
        assert self._process is not None
        used = psutil.Process(self._process.pid).cpu_times()
        return float(used.user + used.system)

    async def end(self, signum: signal.Signals = signal.SIGTERM) -> int | None:
        """Send it a signal if it runs; return its exit code once it is gone, None if it was never started."""
        if self._process is None:
            return None
        if self.running:
            self._process.send_signal(signum)
        return await asyncio.wait_for(self._process.wait(), PATIENCE)

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
