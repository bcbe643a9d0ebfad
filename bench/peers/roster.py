"""The programs that are compared: how each is run, what its documentation promises, and where its states can be read."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import orjson
from aiokafka.admin import NewTopic

from bench.peers.cells import Cell
from bench.peers.job import read
from bench.process import WORKER, GaveUp, Process
from schemas.settings import Settings
from schemas.state import ENTITY_KEY, decode_state
from streams.kafka import admin
from streams.reading import read_topic
from streams.topics import changelog_topic

#: Entity and how many observations are in its state, from a record that holds one; None from any other.
Counting = Callable[[bytes, bytes], tuple[str, int] | None]


@dataclass(frozen=True, slots=True)
class Peer:
    """One of the programs.

    Attributes
    ----------
    parallel
        Whether it has as many calls under way as the model has slots; else one.
    ordered
        Whether it keeps the order of an entity, by which no two calls for one are under way.
    delivery
        What it is set to, in the words of its documentation; for the report.
    program
        How it is run; the configuration's path comes last.
    states
        The topic that holds its states.
    prepare
        Makes what must be there before its first start.
    """

    name: str
    parallel: bool
    ordered: bool
    delivery: str
    program: Callable[[Settings], Awaitable[Sequence[str]]]
    states: Callable[[Process], str]
    counting: Counting
    prepare: Callable[[Process], Awaitable[None]] | None = None

    def at_once(self, cell: Cell) -> int:
        """Calls that it has under way at most."""
        if not self.parallel:
            return 1
        return min(cell.slots, cell.entities) if self.ordered else cell.slots

    async def counts(self, process: Process) -> dict[str, int]:
        """How many observations are in each entity's state, by the latest committed record of it."""
        found: dict[str, int] = {}
        async with aclosing(read_topic(process.settings.kafka, self.states(process))) as records:
            async for record in records:
                if record.value is not None and (one := self.counting(record.key, record.value)) is not None:
                    found[one[0]] = one[1]
        return found


def _ours(key: bytes, value: bytes) -> tuple[str, int] | None:
    if not key.startswith(ENTITY_KEY):
        return None
    state = decode_state(value)
    return state.entity, len(state.pending) + state.dropped.get("pending", 0)


def _by_key(key: bytes, value: bytes) -> tuple[str, int]:
    return key.decode(), orjson.loads(value)["count"]


def _by_prefix(key: bytes, value: bytes) -> tuple[str, int]:
    """Quix has the record's key before that of the value."""
    return key.split(b"|")[0].decode(), orjson.loads(value)["count"]


async def _worker(settings: Settings) -> Sequence[str]:
    return (*WORKER, "worker", "-c")


def _python(module: str, *arguments: str) -> Callable[[Settings], Awaitable[Sequence[str]]]:
    async def program(settings: Settings) -> Sequence[str]:
        return (sys.executable, "-m", f"bench.peers.{module}", *arguments)

    return program


async def _faust_by_slots(settings: Settings) -> Sequence[str]:
    return (sys.executable, "-m", "bench.peers.faust_agent", str(settings.model.slots))


def _quix(guarantee: str) -> Callable[[Settings], Awaitable[Sequence[str]]]:
    async def program(settings: Settings) -> Sequence[str]:
        return (await _quix_python(), "-m", "bench.peers.quix", guarantee)

    return program


async def _quix_python() -> str:
    """Make the environment of Quix Streams, by its lock, within ours, where it is not there yet; return its interpreter."""
    home = Path(sys.prefix) / "quix"
    python = home / "bin" / "python"
    if not python.exists():
        await _uv("venv", "--quiet", "--python", sys.executable, str(home))
    await _uv("pip", "sync", "--quiet", "--python", str(python), "--require-hashes", str(Path(__file__).with_name("quix.lock")))
    return str(python)


async def _uv(*arguments: str) -> str:
    uv = Path(sys.executable).with_name("uv")
    process = await asyncio.create_subprocess_exec(uv, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    said, complaint = await process.communicate()
    if process.returncode:
        raise GaveUp(f"uv {' '.join(arguments)} ended with {process.returncode}:\n{complaint.decode(errors='replace')}")
    return said.decode()


async def _own_states(process: Process) -> None:
    topics = process.settings.topics
    async with admin(process.settings.kafka) as client:
        topic = NewTopic(read(process.config).states, topics.partitions, topics.replication, topic_configs={"cleanup.policy": "compact"})
        await client.create_topics([topic])


def _faust_states(process: Process) -> str:
    return f"{process.settings.app}-plain-states-changelog"


def _quix_states(process: Process) -> str:
    return f"changelog__{process.settings.app}--{process.settings.topics.observations}--default"


OURS = "palimpsest"
_FAUST = 'at least once (`processing_guarantee="at_least_once"`, the default), session timeout 60 s'
PEERS: tuple[Peer, ...] = (
    Peer(
        OURS,
        True,
        True,
        "state and outputs in one transaction, positions after it (not a choice), session timeout 15 s",
        _worker,
        lambda process: changelog_topic(process.settings),
        _ours,
    ),
    Peer("faust", False, True, _FAUST, _python("faust_agent", "1"), _faust_states, _by_key),
    Peer("faust-n", True, False, f"{_FAUST}; `concurrency` is the number of slots", _faust_by_slots, _faust_states, _by_key),
    Peer(
        "quix",
        False,
        True,
        'at least once (`processing_guarantee="at-least-once"`, the default), commits every 5 s, session timeout 45 s',
        _quix("at-least-once"),
        _quix_states,
        _by_prefix,
    ),
    Peer(
        "quix-eo",
        False,
        True,
        '`processing_guarantee="exactly-once"`, else as above',
        _quix("exactly-once"),
        _quix_states,
        _by_prefix,
    ),
    Peer(
        "aiokafka",
        True,
        False,
        "at least once: positions committed after each batch of 16 records a slot; `acks=all`, idempotent; session timeout 10 s",
        _python("gather"),
        lambda process: read(process.config).states,
        _by_key,
        _own_states,
    ),
)
