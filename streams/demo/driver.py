"""The closed loop of the replay: a day's observation out, its prediction awaited, its truth out, its outcome awaited.

A truth is sent after its prediction came and before the next day's observation: it arrives one stream-day late, as in life. The driver
needs no model: a prediction from the fallback is a prediction like any other. It gives up only where going on has no meaning: no
prediction in a generous time, or a dead letter where a prediction should be. An outcome that does not come is noted, and the replay
goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from schemas.messages import DeadLetter, Observation, Truth
from streams import exits
from streams.demo.dataset import ENTITY, HORIZON
from streams.demo.record import Record, Step
from streams.demo.transport import Received, Transport
from streams.errors import StreamError

_T = TypeVar("_T")


class DemoFailed(StreamError):
    """The demo cannot go on; the text says why, and where to look."""

    exit_code = exits.FAILED


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds.

    Parameters
    ----------
    prediction
        Before a prediction waits: a model call with its repair, an inline rewrite with its repair, and a restart of the worker.
    outcome
        An outcome may come with the rewrite that it led to.
    """

    prediction: float
    outcome: float


class Driver:
    """Replays a record's questions over a transport, and enters what comes back.

    Parameters
    ----------
    record
        Is filled.
    transport
        The way to a worker.
    patience
        How long to wait for it.
    observations
        Name of the observations' topic, to know a dead letter that ends the run.
    keep
        Called with everything the worker published, in order.
    changed
        Called whenever the record has changed.
    """

    def __init__(
        self,
        record: Record,
        transport: Transport,
        *,
        patience: Patience,
        observations: str = "observations",
        keep: Callable[[Received], None] = lambda received: None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.record = record
        self._transport = transport
        self._patience = patience
        self._observations = observations
        self._keep = keep
        self._changed = changed
        self._news = asyncio.Condition()

    async def run(self) -> None:
        """Replay everything.

        Raises
        ------
        DemoFailed
            A prediction did not come.
        """
        await first_of(self._replay(), self._read())

    def take(self, received: list[Received]) -> None:
        """Enter and keep what the worker published."""
        for item in received:
            self.record.take(item)
            self._keep(item)
        self._changed()

    async def _replay(self) -> None:
        for step in self.record.steps:
            await self._ask(step)
            await self._answer(step)

    async def _ask(self, step: Step) -> None:
        question = step.question
        observation = Observation(entity=ENTITY, id=question.id, time=question.day.time, values=question.day.values)
        step.sent = self.record.clock()
        await self._transport.send("observations", observation)
        self._changed()
        if not await self._until(lambda: step.prediction is not None or self._refused() is not None, self._patience.prediction):
            raise DemoFailed(f"no prediction for {question.day.date} came within {self._patience.prediction:.0f} s")
        if (letter := self._refused()) is not None:
            raise DemoFailed(f"the observation of {question.day.date} went to the dead letters: {letter.reason}: {letter.detail}")

    async def _answer(self, step: Step) -> None:
        question = step.question
        await self._transport.send(
            "truths", Truth(entity=ENTITY, observation_id=question.id, value=question.truth, time=question.day.time + HORIZON)
        )
        step.truth_sent = True
        self._changed()
        if not await self._until(lambda: step.outcome is not None, self._patience.outcome):
            self.record.notes.append(f"no outcome for {question.day.date} came within {self._patience.outcome:.0f} s; went on without it")
            self._changed()

    def _refused(self) -> DeadLetter | None:
        return next((letter for letter in self.record.dead_letters if letter.topic == self._observations), None)

    async def _read(self) -> None:
        while True:
            received = await self._transport.receive()
            async with self._news:
                self.take(received)
                self._news.notify_all()

    async def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait_for(condition)
        return condition()


async def first_of(main: Awaitable[_T], *watchers: Awaitable[object]) -> _T:
    """Return what `main` returns; if it or a watcher fails first, that failure is raised. All others are cancelled and waited for.

    A watcher that ends without an error has nothing more to say and is not waited for.
    """
    task = asyncio.ensure_future(main)
    others = [asyncio.ensure_future(watcher) for watcher in watchers]
    waiting: set[asyncio.Future[object]] = {task, *others}  # type: ignore[arg-type]
    try:
        while not task.done():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for ended in done - {task}:
                ended.result()
        return task.result()
    finally:
        for left in (task, *others):
            left.cancel()
        await asyncio.gather(task, *others, return_exceptions=True)
