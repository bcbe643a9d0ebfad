"""The emulator as a process of its own, for benchmarks: what is measured must not share its event loop with what measures it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import orjson

from tests.emulator.faults import Fault
from tests.emulator.kinds import Kind

#: Seconds for it to answer, or to end.
PATIENCE = 60.0
#: Where `tests` is a package.
ROOT = Path(__file__).parents[2]


class EmulatorFailed(RuntimeError):
    """The process ended before it answered."""


class EmulatorProcess:
    """`python -m tests.emulator`, ended with its context.

    Parameters
    ----------
    arguments
        As on the command line: `"--slots", "4", "--latency", "0.5"`.

    Attributes
    ----------
    host
        Its address while it runs.
    """

    def __init__(self, *arguments: str) -> None:
        self.host = ""
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.emulator", *self._arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE)
            if not line:
                raise EmulatorFailed(f"the emulator ended with {await self._process.wait()}; its standard error says why")
            self.host = line.decode().strip()
            self._client = httpx.AsyncClient(base_url=self.host, trust_env=False, timeout=PATIENCE)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._client is not None:
            await self._client.aclose()
        await self._end()

    async def statistics(self) -> dict[str, Any]:
        """`tests.emulator.journal.Statistics` of the window, as JSON."""
        found: dict[str, Any] = (await self._ask("GET", "statistics")).json()
        return found

    async def reset(self) -> None:
        """Begin a new window."""
        await self._ask("DELETE", "statistics")

    async def calls(self, after: int = 0) -> list[dict[str, Any]]:
        """The calls of the window after that number (`tests.emulator.journal.Call`), as JSON."""
        return [orjson.loads(line) for line in (await self._ask("GET", f"calls?after={after}")).content.splitlines()]

    async def on(self, fault: Fault | str, *, share: float = 1.0, kinds: Iterable[Kind] | None = None, times: int | None = None) -> None:
        """Switch a fault on; see `tests.emulator.faults.Faults.on`."""
        body: dict[str, Any] = {"share": share, "times": times}
        if kinds is not None:
            body["kinds"] = list(kinds)
        await self._ask("PUT", f"faults/{Fault(fault)}", body)

    async def off(self, fault: Fault | str | None = None) -> None:
        """Switch one fault off, or all of them."""
        await self._ask("DELETE", "faults" if fault is None else f"faults/{Fault(fault)}")

    async def _ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        assert self._client is not None
        answer = await self._client.request(method, f"/emulator/{path}", json=body)
        answer.raise_for_status()
        return answer

    async def _end(self) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), PATIENCE)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
