"""Where downloads and running services are kept, and the locks that guard both.

Two directories, both outside the repository: the *cache* holds what can be fetched or built again (jars, binaries, models),
the *state* holds what belongs to running services (process records, logs, Kafka's data).
"""

import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import platformdirs
from filelock import AsyncFileLock, Timeout

from deploy.services.progress import Progress, silent

CACHE_VARIABLE = "PALIMPSEST_CACHE"
STATE_VARIABLE = "PALIMPSEST_STATE"
LOCK_POLL = 0.1
"""Seconds between two tries to get a lock that another process holds."""


def cache_directory() -> Path:
    """Return the directory of downloads and builds: ``PALIMPSEST_CACHE``, else the user's cache directory."""
    return _directory(CACHE_VARIABLE, platformdirs.user_cache_dir("palimpsest"))


def state_directory() -> Path:
    """Return the directory of running services: ``PALIMPSEST_STATE``, else the user's state directory."""
    return _directory(STATE_VARIABLE, platformdirs.user_state_dir("palimpsest"))


def _directory(variable: str, default: str) -> Path:
    path = Path(os.environ.get(variable) or default).expanduser().resolve()
    path.mkdir(parents=True, exist_ok=True)
    return path


@asynccontextmanager
async def locked(path: Path, step: str, progress: Progress = silent) -> AsyncIterator[None]:
    """Hold a lock between processes, so that two set-ups at once do the work once.

    The second one waits, says so, and then finds the work done. The lock ends with the process that holds it, so a crash
    leaves nothing to clean up.

    Parameters
    ----------
    path
        The lock file; made if missing, and left in place.
    step, progress
        Whom to tell that another process is being waited for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = AsyncFileLock(path, thread_local=False)
    try:
        await lock.acquire(timeout=0)
    except Timeout:
        progress(step, f"waiting for another process that is doing the same ({path})")
        await lock.acquire(poll_interval=LOCK_POLL)
    try:
        yield
    finally:
        await lock.release()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal; a blocking call (about half a second a gigabyte)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
