"""Waiting for a slot of one host, holding it, and losing it: carries out what `agents.models.schedule` decides.

A call that is cancelled, or whose deadline passes, is cancelled in the backend too, which closes its connection, upon which the server
stops computing; only then is its slot given to the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import TypeVar

from agents.errors import ModelOverloaded
from agents.models.schedule import Moves, Schedule, Ticket

Result = TypeVar("Result")


#: Told what a call's work has raised; None: it has answered.
Told = Callable[[BaseException | None], None]


class LineUpAgain(Exception):
    """The call has lost its place through no fault of its own: it was cut for a prediction, or its host is gone."""


class _Turn(Enum):
    SLOT = "slot"
    SHED = "shed"
    LATE = "late"
    GONE = "gone"


class Admission:
    """The line in front of one host. Belongs to one event loop, whose clock the tickets go by."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        #: Rewrites that were cut for a prediction.
        self.cut = 0
        self._turns: dict[Ticket, asyncio.Future[_Turn]] = {}
        self._holds: dict[Ticket, asyncio.Timeout] = {}
        self._losing: set[Ticket] = set()

    async def run(self, ticket: Ticket, work: Callable[[], Awaitable[Result]], told: Told = lambda _: None) -> Result:
        """Wait for a slot, do the work in it, and give it back.

        Parameters
        ----------
        told
            Called when the work has ended, with what it raised or None, before anybody else gets the slot.

        Raises
        ------
        ModelOverloaded
            It was sent away: the queue is full, or it would not be done in the time it has left.
        LineUpAgain
            It was cut, or sent away because the host is left alone from now on.
        TimeoutError
            The ticket's deadline has passed, in line or in the slot; `work` was cancelled.
        """
        await self._slot(ticket)
        failure: BaseException | None = None
        try:
            return await self._hold(ticket, work)
        except BaseException as error:
            failure = error
            raise
        finally:
            told(failure)
            learn = failure is None or (isinstance(failure, TimeoutError) and self._now() >= ticket.end)
            self._carry_out(self.schedule.end(ticket, self._now(), learn=learn))

    def clear(self) -> None:
        """Send away all that waits: the host is left alone from now on."""
        for ticket in self.schedule.clear():
            self._tell(ticket, _Turn.GONE)

    async def _hold(self, ticket: Ticket, work: Callable[[], Awaitable[Result]]) -> Result:
        hold = self._holds[ticket] = asyncio.timeout_at(ticket.end)
        try:
            async with hold:
                if ticket in self._losing:  # it was cut before it could begin
                    raise LineUpAgain
                return await work()
        except TimeoutError:
            if hold.expired() and ticket in self._losing:
                raise LineUpAgain from None
            raise
        finally:
            del self._holds[ticket]
            self._losing.discard(ticket)

    async def _slot(self, ticket: Ticket) -> None:
        turn = self._turns[ticket] = asyncio.get_running_loop().create_future()
        self._carry_out(self.schedule.arrive(ticket, self._now()))
        try:
            async with asyncio.timeout_at(ticket.end):
                said = await turn
        except BaseException:
            # The slot may have come in the same turn of the event loop.
            self._carry_out(self.schedule.end(ticket, self._now()))
            raise
        finally:
            del self._turns[ticket]
        if said is _Turn.GONE:
            raise LineUpAgain
        if said is _Turn.SHED:
            raise ModelOverloaded(f"{self.schedule.queue} calls wait for the model already")
        if said is _Turn.LATE:
            raise ModelOverloaded(f"its turn came {ticket.end - self._now():.1f} s before its deadline, too late for an answer")

    def _carry_out(self, moves: Moves) -> None:
        for tickets, turn in ((moves.shed, _Turn.SHED), (moves.late, _Turn.LATE), (moves.started, _Turn.SLOT)):
            for ticket in tickets:
                self._tell(ticket, turn)
        if moves.cut is not None:
            self.cut += 1
            self._losing.add(moves.cut)
            if moves.cut in self._holds:
                self._holds[moves.cut].reschedule(self._now())

    def _tell(self, ticket: Ticket, turn: _Turn) -> None:
        waiting = self._turns[ticket]
        if not waiting.done():
            waiting.set_result(turn)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
