"""An Ollama server on this machine, without containers.

Of use in two ways, as :mod:`deploy.services.kafka`: detached for ``palimpsest services up``, and as a context manager for tests, which own
it and may kill it::

    async with OllamaServer(root=tmp_path, models=["smollm2:135m"]) as server:
        await server.stop(signal.SIGKILL)
        await server.start()
"""

import asyncio
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from deploy.services.cache import cache_directory
from deploy.services.errors import StartFailed, Unreachable, log_tail
from deploy.services.models import pull
from deploy.services.ollama_binary import STEP, ollama_program
from deploy.services.ports import LOOPBACK, free_ports
from deploy.services.progress import Progress, silent
from deploy.services.supervisor import GRACE, Supervisor, is_alive

READY_LIMIT = 60.0
"""Seconds until the server must answer; it takes half a second on an idle machine, and looks for GPUs first."""

POLL = 0.1
DEFAULT_PORT = 11434
RECORD = "ollama"


class OllamaServer:
    """``ollama serve`` on a free loopback port.

    Parameters
    ----------
    root
        Directory of its log and process record.
    models
        Models it must have before :meth:`start` returns.
    port
        The port to take where it is free; any if None.
    cache
        Where the program and the models are kept; the default cache if None. Servers may share it.
    supervisor
        Who starts the process; one with its records in `root` if None.
    logs
        Directory of the log file; ``root/logs`` if None.
    environment
        Variables of the server on top of ours.
    progress
        Whom to tell.

    Attributes
    ----------
    host
        Its address (``http://127.0.0.1:PORT``) once it was started.
    version
        Its version, by its own word.
    """

    def __init__(
        self,
        *,
        root: Path,
        models: Sequence[str] = (),
        port: int | None = None,
        cache: Path | None = None,
        supervisor: Supervisor | None = None,
        logs: Path | None = None,
        environment: Mapping[str, str] | None = None,
        progress: Progress = silent,
    ) -> None:
        self.host = ""
        self.version = ""
        self._models = tuple(models)
        self._port = port
        self._cache = cache or cache_directory()
        self._supervisor = supervisor or Supervisor(root / "processes.json")
        self._environment = dict(environment or {})
        self._progress = progress
        self.log = (logs or root / "logs") / "ollama.log"

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop(signal.SIGKILL)
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the server, on its last port if it had one, and return when it answers and has its models.

        Raises
        ------
        MissingTool, ToolFailed
            There is no Ollama and it could not be built, or a model could not be fetched.
        StartFailed
            It ended or did not answer in time.
        """
        program = await ollama_program(self._cache, self._progress)
        if not self._alive():
            self._progress(STEP, "starting Ollama")
            # What a killed server left (its model runners hold the model's memory) goes first.
            await self._supervisor.stop([RECORD])
            [port] = free_ports(1, [] if self._port is None else [self._port])
            self._port = port
            self.host = f"http://{LOOPBACK}:{port}"
            self._supervisor.start(
                RECORD,
                [str(program), "serve"],
                log=self.log,
                environment={**self._server_environment(), **self._environment},
                details={"service": "ollama", "address": self.host},
            )
        self.version = await self._wait_until_ready()
        self._progress(STEP, f"Ollama {self.version} answers at {self.host}", 1.0)
        for model in self._models:
            await pull(model, self.host, progress=self._progress, cache=self._cache)

    async def stop(self, first: signal.Signals = signal.SIGTERM, grace: float = GRACE) -> None:
        """End the server by a signal, with its model runners; SIGKILL follows after `grace` seconds."""
        await self._supervisor.stop([RECORD], first=first, grace=grace)

    def _alive(self) -> bool:
        record = self._supervisor.records().get(RECORD)
        if record is None or not is_alive(record):
            return False
        self.host = record.details["address"]
        return True

    def _server_environment(self) -> dict[str, str]:
        return {
            "OLLAMA_HOST": self.host,
            "OLLAMA_MODELS": str(self._cache / "ollama" / "models"),
            # Parallel slots add no throughput on a CPU, and each takes a context of its own (research/llm_serving.md §3.1).
            "OLLAMA_NUM_PARALLEL": "1",
            # A model that is unloaded after five idle minutes loses its prefix cache, and the next prediction waits for the disk.
            "OLLAMA_KEEP_ALIVE": "-1",
            # Several servers share the models: one that starts must not delete a blob that another is just creating a model from.
            "OLLAMA_NOPRUNE": "1",
        }

    async def _wait_until_ready(self) -> str:
        deadline = time.monotonic() + READY_LIMIT
        while True:
            if not self._alive():
                raise StartFailed(f"Ollama ended while it was starting. The log tells why.\n{log_tail(self.log)}")
            try:
                return await ollama_version(self.host)
            except Unreachable as error:
                if time.monotonic() > deadline:
                    raise StartFailed(
                        f"Ollama did not answer within {READY_LIMIT:.0f} s at {self.host} ({error}). "
                        f"On a busy machine, try again when it is idle.\n{log_tail(self.log)}"
                    ) from error
            await asyncio.sleep(POLL)


async def ollama_version(host: str, timeout: float = 5.0) -> str:
    """Ask an Ollama server for its version.

    Parameters
    ----------
    host
        Its address: ``http://host:port``, or ``host:port``.
    timeout
        Seconds for the whole request.

    Raises
    ------
    Unreachable
        Nothing answers there, or something else than Ollama.
    """
    url = host if "://" in host else f"http://{host}"
    try:
        # No proxy of the environment: one that is meant for the world would be asked for this machine's own address.
        async with httpx.AsyncClient(timeout=timeout, trust_env=False) as client:
            answer = await client.get(f"{url.rstrip('/')}/api/version")
            answer.raise_for_status()
            return str(answer.json()["version"])
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        raise Unreachable(f"{host} does not answer as an Ollama server ({type(error).__name__}: {error})") from error
