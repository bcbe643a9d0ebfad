"""Starts services that outlive the command that started them, and later stops exactly those.

A started process is written to a JSON file with its process id *and its birth* (when the kernel started it): process ids are used
again, and a file may survive a crash or a reboot. What does not carry the recorded birth is not ours and is never signalled.

Services get a session of their own: Ctrl-C in the terminal does not reach them, and their children (Ollama's model runners) can be
found by it when the parent was killed.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import orjson
import psutil
from pydantic import BaseModel, ConfigDict

POLL = 0.05
"""Seconds between two looks at a process that is ending; nothing tells a process that is not the parent."""

GRACE = 20.0
"""Seconds from SIGTERM to SIGKILL. A Kafka node takes 1-3 s to close its logs; a node whose quorum is gone would wait for minutes."""

LOG_LIMIT = 20_000_000
"""Bytes above which a log is put aside at the next start (one old one is kept): services of months fill no disk."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_children: set[int] = set()
"""Processes started by this very process, which must be waited for lest they stay as zombies."""


class ProcessRecord(BaseModel):
    """A process that was started here.

    Parameters
    ----------
    name
        Which service or node; one record a name.
    pid
        Process id, also the id of its session and process group.
    birth
        What tells it from another process with the same id; see :func:`birth_of`.
    argv
        How it was started.
    log
        Where its output goes.
    started_at
        When, for people.
    details
        What its service wants to find again (address, version).
    """

    model_config = ConfigDict(frozen=True)

    name: str
    pid: int
    birth: str
    argv: tuple[str, ...]
    log: Path
    started_at: datetime
    details: dict[str, str] = {}


class Supervisor:
    """The processes of one state file.

    It does not restart anything, does not know when a service is ready, and does not lock: callers that change the same file from
    several processes hold :func:`deploy.services.cache.locked` around it.

    Parameters
    ----------
    path
        The state file; made with the first process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def records(self) -> dict[str, ProcessRecord]:
        """Return what is recorded, alive or not, by name."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        return {record.name: record for record in (ProcessRecord.model_validate(entry) for entry in orjson.loads(content))}

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        details: Mapping[str, str] | None = None,
    ) -> ProcessRecord:
        """Start a process, detached, and record it.

        Parameters
        ----------
        name
            Name of the record; a recorded process of that name must have ended.
        argv
            The program and its arguments.
        log
            File for its output (appended).
        environment
            Variables on top of this process's own.
        details
            Kept in the record.

        Raises
        ------
        OSError
            The program could not be started.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_name(log.name + ".old"))
        with log.open("ab") as output, Path(os.devnull).open("rb") as nothing:
            # Not subprocess.Popen: it warns, when this process ends, that the child still runs; and that is the purpose here.
            pid = os.posix_spawnp(
                argv[0],
                tuple(argv),
                {**os.environ, **(environment or {})},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, nothing.fileno(), 0),
                    (os.POSIX_SPAWN_DUP2, output.fileno(), 1),
                    (os.POSIX_SPAWN_DUP2, output.fileno(), 2),
                ],
                setsid=True,
                setsigmask=[],
                setsigdef=[signal.SIGPIPE],  # Python ignores it, and a child would inherit that
            )
        _children.add(pid)
        record = ProcessRecord(
            name=name,
            pid=pid,
            birth=birth_of(pid) or "",
            argv=tuple(argv),
            log=log,
            started_at=datetime.now(UTC),
            details=dict(details or {}),
        )
        self._write({**self.records(), name: record})
        return record

    def forget(self, names: Iterable[str]) -> None:
        """Drop records, without touching the processes."""
        gone = set(names)
        self._write({name: record for name, record in self.records().items() if name not in gone})

    async def stop(self, names: Iterable[str], *, first: signal.Signals = signal.SIGTERM, grace: float = GRACE) -> list[ProcessRecord]:
        """Stop recorded processes together, with their children, and drop their records.

        Parameters
        ----------
        names
            Which; names without a record are passed over.
        first
            The first signal; SIGKILL for a death without farewell.
        grace
            Seconds until SIGKILL.

        Returns
        -------
        list
            The records of those that were alive and are not any more.
        """
        records = self.records()
        chosen = [records[name] for name in names if name in records]
        alive = [record for record in chosen if is_alive(record)]
        for record in alive:
            with contextlib.suppress(ProcessLookupError):
                # The leader only: a parent that closes its children in good order should find them alive.
                os.kill(record.pid, first)
        deadline = time.monotonic() + grace
        while any(is_alive(record) for record in alive) and time.monotonic() < deadline:  # noqa: ASYNC110 - nobody else's child tells
            await asyncio.sleep(POLL)
        for record in alive:
            if is_alive(record):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(record.pid, signal.SIGKILL)
        while any(is_alive(record) for record in alive):  # noqa: ASYNC110 - SIGKILL cannot be refused, only delayed by the disk
            await asyncio.sleep(POLL)
        for record in chosen:
            sweep_children(record)
        self.forget(record.name for record in chosen)
        return alive

    def _write(self, records: Mapping[str, ProcessRecord]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = orjson.dumps([record.model_dump(mode="json") for record in records.values()], option=orjson.OPT_INDENT_2)
        scratch = self.path.with_name(self.path.name + ".new")
        scratch.write_bytes(content)
        scratch.replace(self.path)


def birth_of(pid: int) -> str | None:
    """Return what tells a living process from any other that has or had its id; None if there is none.

    On Linux: the id of the machine's boot and the clock ticks from boot to the start. The wall-clock time of the start, which is all
    there is elsewhere, shifts when the machine's clock is set, and then ``down`` would not know its own process again.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE and not _has_threads(pid):
            return None
        if BOOT_ID.exists():
            # The program's name stands in parentheses and may hold anything; the 20th field after it is the start time (proc(5)).
            ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
            return f"{BOOT_ID.read_text().strip()}/{ticks}"
        return f"{process.create_time():.2f}"
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return None


def _has_threads(pid: int) -> bool:
    """Tell whether a process whose first thread has ended has others that are still ending, and holding ports and files."""
    tasks = Path(f"/proc/{pid}/task")
    return tasks.exists() and len(list(tasks.iterdir())) > 1


def is_alive(record: ProcessRecord) -> bool:
    """Tell whether the recorded process, and not another one with its id, runs."""
    if record.pid in _children:
        try:
            ended, _ = os.waitpid(record.pid, os.WNOHANG)
        except ChildProcessError:  # somebody else waited for it
            ended = record.pid
        if ended:
            _children.discard(record.pid)
    return birth_of(record.pid) == record.birth


def sweep_children(record: ProcessRecord) -> None:
    """Kill what a dead process left behind in its session.

    A session's id cannot be given to a new process while a member lives, so members of a session without a leader are the children of
    the process that led it. If a leader lives, the id was used again and the session is somebody else's.
    """
    if birth_of(record.pid) is not None:
        return
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError, psutil.Error):
            if os.getsid(process.pid) == record.pid and process.status() != psutil.STATUS_ZOMBIE:
                os.kill(process.pid, signal.SIGKILL)
