"""Time that only tests move: a host served by a `Schedule`, and an event loop whose clock jumps to its next timer."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

from agents.models.schedule import Moves, Schedule, Ticket

Result = TypeVar("Result")


class _Loop(asyncio.SelectorEventLoop):
    """Never waits: where nothing is ready its clock stands at the next timer at once. For programs without I/O."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:
            self._now = max(self._now, min(timer.when() for timer in self._scheduled if not timer.cancelled()))
        super()._run_once()


def simulate(main: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run a program on a clock of its own, which begins at 0; seconds take no time."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main())


@dataclass(slots=True)
class Call:
    """One call and what became of it: `answered`, `shed`, `late`, `expired` (its deadline passed), `gone` (its caller left)."""

    ticket: Ticket
    seconds: float
    leaves: float | None = None
    became: str = ""
    begun: list[float] = field(default_factory=list)
    ended: float | None = None


class Server:
    """Slots, a line and a clock: plays calls against a schedule and checks, at every step, what holds at every step."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.now = 0.0
        self.calls: dict[Ticket, Call] = {}
        self.cuts: list[Ticket] = []
        self._numbers = count()
        self._events: list[tuple[float, int, str, Ticket, int]] = []
        self._order = count()
        self._tries: dict[Ticket, int] = {}
        self._lined_up: dict[Ticket, None] = {}

    def offer(self, at: float, purpose: str, seconds: float, *, patience: float = 1e9, leaves: float | None = None) -> Call:
        """A call that arrives at a time and takes so long once it has a slot; `leaves`: its caller goes away so many seconds later."""
        ticket = Ticket(purpose, at, at + patience, next(self._numbers))
        call = self.calls[ticket] = Call(ticket, seconds, leaves)
        self._at(at, "arrive", ticket)
        return call

    def run(self, until: float = 1e9) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, what, ticket, tried = heapq.heappop(self._events)
            call = self.calls[ticket]
            if call.became or (what == "answered" and tried != self._tries[ticket]):
                continue
            if what == "arrive":
                self._at(ticket.end, "expired", ticket)
                if call.leaves is not None:
                    self._at(self.now + call.leaves, "gone", ticket)
                self._lined_up[ticket] = None
                self._carry_out(self.schedule.arrive(ticket, self.now))
            else:
                self._end(call, what)
                learn = what == "answered" or (what == "expired" and ticket.started is not None)
                self._carry_out(self.schedule.end(ticket, self.now, learn=learn))
            self.check()
        self.schedule.account(min(until, self.now if until == 1e9 else until))

    def became(self, what: str) -> list[Call]:
        return [call for call in self.calls.values() if call.became == what]

    def check(self) -> None:
        schedule = self.schedule
        most, free = max(1, schedule.slots - 1), schedule.slots - schedule.running
        assert schedule.running <= schedule.slots
        assert schedule.running_rewrites <= most
        assert schedule.waiting_predictions + schedule.waiting_rewrites <= schedule.queue
        if free:
            assert schedule.waiting_predictions == 0, "a slot is idle while a prediction waits"
            # With two slots or more one that is free is left to predictions, whatever waits.
            room = free - (schedule.slots > 1)
            assert not (schedule.waiting_rewrites and room and schedule.running_rewrites < schedule.rewrite_slots), "a rewrite may run"

    def _carry_out(self, moves: Moves) -> None:
        for what, tickets in (("shed", moves.shed), ("late", moves.late)):
            for ticket in tickets:
                self._end(self.calls[ticket], what)
        for ticket in moves.started:
            del self._lined_up[ticket]
            ahead = [other for other in self._lined_up if other.is_rewrite == ticket.is_rewrite and other.place < ticket.place]
            assert ahead == [], "overtaken"
            call = self.calls[ticket]
            assert not call.became
            call.begun.append(self.now)
            self._tries[ticket] = self._tries.get(ticket, 0) + 1
            self._at(self.now + call.seconds, "answered", ticket, self._tries[ticket])
        if moves.cut is not None:
            self.cuts.append(moves.cut)
            self._tries[moves.cut] += 1
            self._carry_out(self.schedule.end(moves.cut, self.now))
            self._lined_up[moves.cut] = None
            self._carry_out(self.schedule.arrive(moves.cut, self.now))

    def _end(self, call: Call, what: str) -> None:
        call.became, call.ended = what, self.now
        self._lined_up.pop(call.ticket, None)

    def _at(self, when: float, what: str, ticket: Ticket, tried: int = 0) -> None:
        heapq.heappush(self._events, (when, next(self._order), what, ticket, tried))
