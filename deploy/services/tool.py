"""Runs an installed program (Maven, Go, pip) to its end, its output in a log file."""

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.services.errors import MissingTool, ToolFailed, log_tail
from deploy.services.progress import Progress, silent

NEWS_EVERY = 15.0
"""Seconds between two signs of life of a silent build; a spinner needs none, plain lines and CI logs do."""


def require(program: str, purpose: str) -> str:
    """Return the path of a program, or raise with what to install.

    Raises
    ------
    MissingTool
        The program is not on the PATH.
    """
    found = shutil.which(program)
    if found is None:
        raise MissingTool(f"{purpose} needs {program!r}, which is not on the PATH. Install it, or name a running service in the settings.")
    return found


async def run_tool(
    argv: Sequence[str],
    *,
    log: Path,
    what: str,
    advice: str,
    environment: Mapping[str, str] | None = None,
    step: str = "",
    progress: Progress = silent,
) -> None:
    """Run a program and wait for it.

    It runs in its own process group, which is killed if this coroutine is cancelled: an interrupted set-up leaves no compiler behind.

    Parameters
    ----------
    argv
        The program and its arguments.
    log
        Where its output goes (appended).
    what, advice
        What it was to do and what a person can try, for the error.
    environment
        Variables on top of this process's own.
    step, progress
        Whom to tell every now and then that it still runs.

    Raises
    ------
    ToolFailed
        It ended with another status than 0, or could not be started.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with log.open("ab") as output:
        output.write(f"$ {' '.join(argv)}\n".encode())
        output.flush()
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        except OSError as error:
            raise ToolFailed(f"{what} failed: {argv[0]} could not be started ({error}). {advice}") from error
    try:
        status = None
        while status is None:
            try:
                status = await asyncio.wait_for(asyncio.shield(process.wait()), NEWS_EVERY)
            except TimeoutError:
                progress(step, f"{what}, {time.monotonic() - began:.0f} s so far (log: {log})")
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.shield(process.wait())
        raise
    if status != 0:
        raise ToolFailed(f"{what} failed: {argv[0]} ended with status {status}. {advice}\n{log_tail(log)}")
