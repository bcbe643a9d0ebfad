"""What the server did: each call with its times, and sums over a window."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Literal

from tests.emulator.faults import Fault
from tests.emulator.kinds import Kind

Outcome = Literal["open", "answered", "failed", "cancelled"]

#: Calls that are kept; older ones are forgotten and counted.
KEPT = 200_000


@dataclass(slots=True)
class Call:
    """One call. Times are seconds of the clock of `Journal`, None where they did not come to be.

    Attributes
    ----------
    number
        In the order of arrival, from 1.
    outcome
        `failed`: ended by an error or a fault; `cancelled`: the caller went away.
    fault
        Which one it met.
    arrived, began, freed, ended
        When its request was read; when it got its slot; when it gave it back, which is later than its end where it was cancelled; when its
        answer was handed over or the caller left.
    slot
        Number of its slot, from 0.
    cached_tokens
        Prompt tokens that the slot's cache had.
    answer_tokens
        Tokens that were asked to be written; not all of them where the call was cancelled.
    """

    number: int
    kind: Kind
    arrived: float
    outcome: Outcome = "open"
    fault: Fault | None = None
    began: float | None = None
    freed: float | None = None
    ended: float | None = None
    slot: int | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    answer_tokens: int = 0


@dataclass(slots=True)
class Sums:
    """Of one kind of call, within the window.

    Attributes
    ----------
    cancelled_waiting, cancelled_running
        Callers that left before their call had a slot, and after.
    busy_seconds
        Slot time, that of calls under way included.
    """

    arrived: int = 0
    answered: int = 0
    failed: int = 0
    cancelled_waiting: int = 0
    cancelled_running: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    answer_tokens: int = 0
    busy_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Statistics:
    """What happened since the window began.

    Attributes
    ----------
    seconds
        Length of the window.
    busy_seconds, busy_share
        Time of all slots in use, and its share of all slot time.
    running, waiting
        Calls that hold a slot, and that wait for one, now.
    most_waiting, mean_waiting
        The longest the queue was, and its mean over time.
    loads, unloads
        How often the model was loaded, and left memory.
    calls
        By kind.
    faults
        How many calls met each.
    forgotten
        Calls of the window that `Journal.calls` does not have any more.
    """

    seconds: float
    slots: int
    busy_seconds: float
    busy_share: float
    running: int
    waiting: int
    most_waiting: int
    mean_waiting: float
    loads: int
    unloads: int
    calls: dict[Kind, Sums]
    faults: dict[Fault, int]
    forgotten: int


@dataclass(slots=True)
class _Window:
    began: float
    sums: defaultdict[Kind, Sums] = field(default_factory=lambda: defaultdict(Sums))
    faults: Counter[Fault] = field(default_factory=Counter)
    loads: int = 0
    unloads: int = 0
    most_waiting: int = 0
    #: Calls times seconds.
    waited: float = 0.0
    forgotten: int = 0


class Journal:
    """Keeps what happened.

    Parameters
    ----------
    slots
        How many there are.
    clock
        Seconds since 1970, steady.
    """

    def __init__(self, slots: int, clock: Callable[[], float] | None = None) -> None:
        self._slots = slots
        self.now = clock or _steady()
        self._calls: deque[Call] = deque(maxlen=KEPT)
        self._running: dict[int, Call] = {}
        self._number = 0
        self._waiting = 0
        self._waiting_since = self.now()
        self._window = _Window(self.now())
        self._changed: asyncio.Future[None] | None = None

    @property
    def calls(self) -> Iterator[Call]:
        """The calls that are kept, in the order of arrival."""
        return iter(self._calls)

    @property
    def waiting(self) -> int:
        return self._waiting

    @property
    def running(self) -> int:
        return len(self._running)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds; it is asked again after whatever happens."""
        while not condition():
            if self._changed is None:
                self._changed = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._changed)

    def arrived(self, kind: Kind) -> Call:
        self._number += 1
        call = Call(self._number, kind, self.now())
        if len(self._calls) == KEPT:
            self._window.forgotten += 1
        self._calls.append(call)
        self._window.sums[kind].arrived += 1
        self._tell()
        return call

    def met(self, call: Call, fault: Fault) -> None:
        call.fault = fault
        self._window.faults[fault] += 1
        self._tell()

    def loaded(self) -> None:
        self._window.loads += 1
        self._tell()

    def unloaded(self) -> None:
        self._window.unloads += 1
        self._tell()

    def queue(self, waiting: int) -> None:
        """So many calls wait for a slot from now on."""
        now = self.now()
        self._window.waited += self._waiting * (now - self._waiting_since)
        self._waiting, self._waiting_since = waiting, now
        self._window.most_waiting = max(self._window.most_waiting, waiting)
        self._tell()

    def began(self, call: Call, slot: int, at: float) -> None:
        call.slot, call.began = slot, at
        self._running[call.number] = call
        self._tell()

    def counted(self, call: Call, *, prompt: int, cached: int, answer: int) -> None:
        call.prompt_tokens, call.cached_tokens, call.answer_tokens = prompt, cached, answer
        sums = self._window.sums[call.kind]
        sums.prompt_tokens += prompt
        sums.cached_tokens += cached
        sums.answer_tokens += answer

    def freed(self, call: Call, at: float) -> None:
        call.freed = at
        del self._running[call.number]
        self._window.sums[call.kind].busy_seconds += self._busy(call, at)
        self._tell()

    def ended(self, call: Call, outcome: Outcome) -> None:
        if call.outcome != "open":
            return
        call.outcome, call.ended = outcome, self.now()
        sums = self._window.sums[call.kind]
        match outcome:
            case "answered":
                sums.answered += 1
            case "failed":
                sums.failed += 1
            case "cancelled" if call.began is None:
                sums.cancelled_waiting += 1
            case "cancelled":
                sums.cancelled_running += 1
        self._tell()

    def statistics(self) -> Statistics:
        """Return what happened since the last `reset`, or since the start."""
        now, window = self.now(), self._window
        calls = {kind: Sums(**asdict(sums)) for kind, sums in sorted(window.sums.items())}
        for call in self._running.values():
            calls.setdefault(call.kind, Sums()).busy_seconds += self._busy(call, now)
        busy = sum(sums.busy_seconds for sums in calls.values())
        seconds = now - window.began
        return Statistics(
            seconds=seconds,
            slots=self._slots,
            busy_seconds=busy,
            busy_share=busy / (seconds * self._slots) if seconds else 0.0,
            running=len(self._running),
            waiting=self._waiting,
            most_waiting=window.most_waiting,
            mean_waiting=(window.waited + self._waiting * (now - self._waiting_since)) / seconds if seconds else 0.0,
            loads=window.loads,
            unloads=window.unloads,
            calls=calls,
            faults=dict(window.faults),
            forgotten=window.forgotten,
        )

    def reset(self) -> None:
        """Begin a new window; calls under way are counted in it from now on, finished ones are forgotten."""
        now = self.now()
        open_calls = [call for call in self._calls if call.outcome == "open"]
        self._calls.clear()
        self._calls.extend(open_calls)
        self._waiting_since = now
        self._window = _Window(now, most_waiting=self._waiting)

    def _busy(self, call: Call, end: float) -> float:
        assert call.began is not None
        return max(0.0, end - max(call.began, self._window.began))

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed.set_result(None)
            self._changed = None


def _steady() -> Callable[[], float]:
    """The machine's clock at the start and a steady one from there, so that times of several processes can be compared."""
    epoch = time.time() - time.monotonic()
    return lambda: epoch + time.monotonic()
