"""A worker that a test directs: it waits at chosen points, and what Faust does now and then happens to it every time.

A test names this module's model in the worker's configuration and puts the directions into its environment::

    model = { backend = "import", factory = "tests.integration.faults.directed:model" }

Loading the model, which is before anything connects, carries the directions out. So the worker runs by its own command line, and without
directions it is as it always is. `Stage` is the test's side: it says where the worker stands and lets it go on.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiokafka
import orjson
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from faust.tables.recovery import Recovery
from faust.transport.conductor import Conductor
from faust.transport.drivers import aiokafka as driver

from agents.models.scripted import ScriptedModel, answer_from_schema
from schemas.settings import ModelSettings
from schemas.state import entity_key
from streams.intake import Intake
from streams.table import StateTable
from streams.upstream import ReadCommittedThread

VARIABLE = "PALIMPSEST_DIRECTIONS"
#: Seconds between two looks at whether the test lets the worker go on.
POLL = 0.02
#: Words in an observation that the model waits at, or fails on with an error that no caller expects.
HELD, DEFECT = "held-observation", "defective-observation"
#: The entity at whose transactions a worker waits.
HELD_ENTITY = "held"


@dataclass(frozen=True)
class Directions:
    """What is to happen to one worker process.

    Attributes
    ----------
    stage
        Directory by which test and worker tell each other how far they are.
    holds
        Where to wait until the test lets go: `model` (for an observation with `HELD` in it), `send` (the state of `HELD_ENTITY` is not sent
        yet), `commit` (all of a transaction with it is sent), `recovered` (the changelog is read, the lease has not begun).
    leaves_group
        Having reached `send` or `commit`, it reads nothing more and says nothing more to the group's coordinator: for the group it is
        dead, and it does not know.
    seeks_late
        After recovery it seeks to the committed positions only once a record of an input was delivered, if any can be.
    drops
        Offset of an observation that is lost between the fetch and the stream.
    reads_ahead
        So many observations the fetcher has read when it is told to seek to the committed positions, and nobody got them.
    skips
        So many observations are passed over by the fetcher after recovery.
    fails_to_take
        Offset of an observation at which the agent's body raises an error.
    fails_to_read
        Entity whose state cannot be read.
    idle_hours
        For so long nothing was polled, as the coordinator sees it, once the test has released `idle`.
    """

    stage: str
    holds: tuple[str, ...] = ()
    leaves_group: bool = False
    seeks_late: bool = False
    drops: int | None = None
    reads_ahead: int = 0
    skips: int = 0
    fails_to_take: int | None = None
    fails_to_read: str = ""
    idle_hours: int = 0

    def variables(self) -> dict[str, str]:
        """The environment that gives them to a worker."""
        return {VARIABLE: orjson.dumps(asdict(self)).decode()}


class Stage:
    """The test's side of a directed worker."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def directions(self, **directions: Any) -> dict[str, str]:
        self.place.mkdir(exist_ok=True)
        return Directions(str(self.place), **directions).variables()

    def is_reached(self, point: str) -> bool:
        return (self.place / f"{point}.reached").exists()

    def is_passed(self, point: str) -> bool:
        """Whether the transaction that waited there has come to its end, or its commit has failed."""
        return (self.place / f"{point}.passed").exists()

    def release(self, point: str) -> None:
        (self.place / f"{point}.released").touch()


def model(settings: ModelSettings) -> ScriptedModel:
    """The worker's model, and the moment at which its directions are carried out."""
    raw = os.environ.get(VARIABLE)
    directions = Directions(**orjson.loads(raw)) if raw else None
    if directions is not None:
        _direct(directions)
    return _DirectedModel(directions)


class _DirectedModel(ScriptedModel):
    def __init__(self, directions: Directions | None) -> None:
        super().__init__(answer_from_schema)
        self._directions = directions

    async def complete(self, messages: Any, **call: Any) -> Any:
        text = messages[-1].content
        if HELD in text and self._directions is not None:
            await _reach(self._directions, "model")
        if DEFECT in text:
            raise ZeroDivisionError("a defect of the model's client")
        return await super().complete(messages, **call)


async def _reach(directions: Directions, point: str) -> None:
    """Say that a point is reached, and wait there if that is wanted."""
    if point in directions.holds:
        place = Path(directions.stage)
        (place / f"{point}.reached").touch()
        while not (place / f"{point}.released").exists():  # noqa: ASYNC110 - the test is another process
            await asyncio.sleep(POLL)


def _direct(directions: Directions) -> None:
    for point in {"send", "commit"} & set(directions.holds):
        _hold_transactions(directions, point)
    if "recovered" in directions.holds:
        _hold_recovery(directions)
    if directions.seeks_late:
        _seek_late()
    if directions.drops is not None:
        _drop(directions.drops)
    if directions.reads_ahead:
        _read_ahead(directions.reads_ahead)
    if directions.skips:
        _skip(directions.skips)
    if directions.fails_to_take is not None:
        _fail_to_take(directions.fails_to_take)
    if directions.fails_to_read:
        _fail_to_read(directions.fails_to_read)
    if directions.idle_hours:
        _replace(SubscriptionState, "fetcher_idle_time", lambda idle: property(lambda self: _idle(directions, idle.fget(self))))


def _replace(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    setattr(owner, name, make(getattr(owner, name)))


def _hold_transactions(directions: Directions, point: str) -> None:
    dead = False
    within: set[Any] = set()

    async def reach(here: str) -> None:
        nonlocal dead
        if here == point:
            dead = directions.leaves_group
            await _reach(directions, point)

    def held(send: Any) -> Any:
        async def held_send(self: Any, topic: str, value: Any = None, key: Any = None, **options: Any) -> Any:
            if key == entity_key(HELD_ENTITY):
                within.add(self)
                await reach("send")
            return await send(self, topic, value, key, **options)

        return held_send

    def noted(commit: Any) -> Any:
        async def commit_transaction(self: Any) -> None:
            if self not in within:
                await commit(self)
                return
            await reach("commit")
            try:
                await commit(self)
            finally:
                within.discard(self)
                (Path(directions.stage) / f"{point}.passed").touch()

        return commit_transaction

    def silent(ask: Any) -> Any:
        async def silent_ask(self: Any, *args: Any, **options: Any) -> Any:
            if dead:
                await asyncio.Event().wait()
            return await ask(self, *args, **options)

        return silent_ask

    _replace(aiokafka.AIOKafkaProducer, "commit_transaction", noted)
    _replace(aiokafka.AIOKafkaProducer, "send", held)
    _replace(GroupCoordinator, "_send_req", silent)
    _replace(driver.AIOKafkaConsumerThread, "getmany", silent)


def _idle(directions: Directions, seconds: float) -> float:
    return directions.idle_hours * 3600.0 if (Path(directions.stage) / "idle.released").exists() else seconds


def _hold_recovery(directions: Directions) -> None:
    def held(completed: Any) -> Any:
        async def on_recovery_completed(self: Any, generation_id: int = 0) -> None:
            await _reach(directions, "recovered")
            await completed(self, generation_id)

        return on_recovery_completed

    _replace(Recovery, "on_recovery_completed", held)


def _seek_late() -> None:
    delivered = asyncio.Event()

    def noticed(compile_handler: Any) -> Any:
        def _compile_message_handler(self: Any) -> Any:
            handle = compile_handler(self)

            async def on_message(message: Any) -> None:
                await handle(message)
                if message.topic.endswith(".observations"):
                    delivered.set()

            return on_message

        return _compile_message_handler

    def late(seek: Any) -> Any:
        async def seek_to_committed(self: Any) -> Any:
            delivered.clear()
            # With the flow stopped, or nothing that fetches, none can come, and there is nothing to wait for.
            while self.flow_active and self.app._fetcher.started and not delivered.is_set():  # noqa: ASYNC110
                await asyncio.sleep(POLL)
            return await seek(self)

        return seek_to_committed

    _replace(Conductor, "_compile_message_handler", noticed)
    _replace(driver.Consumer, "seek_to_committed", late)


def _drop(offset: int) -> None:
    def dropping(compile_handler: Any) -> Any:
        def _compile_message_handler(self: Any) -> Any:
            handle = compile_handler(self)

            async def on_message(message: Any) -> None:
                if not (message.topic.endswith(".observations") and message.offset == offset):
                    await handle(message)

            return on_message

        return _compile_message_handler

    _replace(Conductor, "_compile_message_handler", dropping)


def _read_ahead(count: int) -> None:
    def ahead(seek: Any) -> Any:
        async def seek_to_committed(self: Any, *tps: Any) -> Any:
            for tp in self.assignment():
                if tp.topic.endswith(".observations"):
                    self.seek(tp, count)
            return await seek(self, *tps)

        return seek_to_committed

    _replace(aiokafka.AIOKafkaConsumer, "seek_to_committed", ahead)


def _skip(count: int) -> None:
    def skipping(seek: Any) -> Any:
        async def seek_to_committed(self: Any) -> Any:
            committed = await seek(self)
            for tp, offset in committed.items():
                if tp.topic.endswith(".observations"):
                    self._ensure_consumer().seek(tp, max(0, offset or 0) + count)
            return committed

        return seek_to_committed

    _replace(ReadCommittedThread, "seek_to_committed", skipping)


def _fail_to_take(offset: int) -> None:
    def failing(admit: Any) -> Any:
        async def failing_admit(self: Any, role: Any, message: Any) -> Any:
            lease = await admit(self, role, message)
            if role == "observations" and message.offset == offset:
                raise RuntimeError(f"the agent's body fails at offset {offset}")
            return lease

        return failing_admit

    _replace(Intake, "admit", failing)


def _fail_to_read(entity: str) -> None:
    def failing(read: Any) -> Any:
        def failing_read(self: Any, partition: int, key: bytes) -> Any:
            if key.endswith(entity.encode()):
                raise OSError(f"the state of {entity} cannot be read")
            return read(self, partition, key)

        return failing_read

    _replace(StateTable, "read", failing)
