"""What computes: slots with a prefix cache each, and one queue in the order of arrival without a bound, as Ollama has it.

The clock that slots go by is not that of this process' wake-ups. A call that waited begins when the one before it should have
ended, not when the event loop came round to saying so; else timers that are a millisecond late would cost a server of 5 ms calls a fifth
of what it can do, and the loss would be taken for the client's.

A caller that goes away does not free its slot at once: Ollama's runner sees that only when it has a token to hand over. So the slot is
busy until the prompt has been read, and for one more token.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.emulator.journal import Call, Journal
from tests.emulator.latency import Latency
from tests.emulator.prompts import shared, tokens


@dataclass(slots=True)
class _Slot:
    number: int
    cached: str = ""


@dataclass(frozen=True, slots=True)
class Seat:
    """A slot that a call holds; times by the journal's clock.

    Attributes
    ----------
    began, first, end
        When it began, when the prompt will have been read, and when the last of `answer_tokens` will have been written.
    """

    began: float
    first: float
    end: float
    answer_tokens: int

    def written(self, number: int) -> float:
        """When that many tokens of the answer will have been written."""
        return self.first + (self.end - self.first) * number / max(1, self.answer_tokens)


class Slots:
    """The slots of one server.

    Parameters
    ----------
    number
        `OLLAMA_NUM_PARALLEL`.
    chance
        Of latencies.
    """

    def __init__(self, number: int, journal: Journal, chance: random.Random) -> None:
        self._journal = journal
        self._chance = chance
        self._free = [_Slot(index) for index in range(number)]
        self._slots = tuple(self._free)
        self._queue: deque[asyncio.Future[tuple[_Slot, float]]] = deque()

    def forget(self) -> None:
        """Lose all caches: the model is loaded anew."""
        for slot in self._slots:
            slot.cached = ""

    @asynccontextmanager
    async def hold(self, call: Call, *, prompt: str, answer: str, answer_tokens: int, latency: Latency) -> AsyncIterator[Seat]:
        """Wait for a slot, in the order of arrival, and hold it until its time is over.

        The body may take less than that; it is cancelled where the caller leaves, which frees the slot as described above.

        Parameters
        ----------
        prompt, answer
            What the slot's cache holds afterwards.
        answer_tokens
            That will be written, the one that ends the answer included.
        """
        slot, began = await self._take(call, prompt)
        size = tokens(prompt)
        # One token must be read in any case, else there would be nothing to answer from.
        cached = min(shared(slot.cached, prompt), size - 1)
        timing = latency.draw(self._chance, prompt_tokens=size - cached, answer_tokens=answer_tokens)
        seat = Seat(began, began + timing.prefill, began + timing.prefill + timing.decode, answer_tokens)
        slot.cached = prompt + answer
        self._journal.began(call, slot.number, began)
        self._journal.counted(call, prompt=size, cached=cached, answer=answer_tokens)
        try:
            yield seat
            await self.until(seat.end)
        except (asyncio.CancelledError, GeneratorExit):
            self._free_when_seen(slot, call, seat)
            raise
        except BaseException:
            self._give(slot, call, self._journal.now())
            raise
        self._give(slot, call, seat.end)

    async def until(self, moment: float) -> None:
        """Wait until a time of the journal's clock; not at all where it is past."""
        seconds = moment - self._journal.now()
        if seconds > 0:
            await asyncio.sleep(seconds)

    async def _take(self, call: Call, prompt: str) -> tuple[_Slot, float]:
        arrived = self._journal.now()
        if self._free:
            slot = max(self._free, key=lambda free: (shared(free.cached, prompt), -free.number))
            self._free.remove(slot)
            return slot, arrived
        turn: asyncio.Future[tuple[_Slot, float]] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        self._journal.queue(len(self._queue))
        try:
            slot, freed = await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the slot came in the same turn of the event loop as the cancellation
                self._pass_on(*turn.result())
            elif turn in self._queue:
                self._queue.remove(turn)
                self._journal.queue(len(self._queue))
            raise
        return slot, max(freed, arrived)

    def _free_when_seen(self, slot: _Slot, call: Call, seat: Seat) -> None:
        """Free the slot of a caller that left, when the next token would be handed over."""
        now, span = self._journal.now(), seat.end - seat.first
        handed_over = int(seat.answer_tokens * max(0.0, now - seat.first) / span) if span > 0 else 0
        end = max(now, min(seat.end, seat.written(handed_over + 1)))
        asyncio.get_running_loop().call_later(max(0.0, end - now), self._give, slot, call, end)

    def _give(self, slot: _Slot, call: Call, at: float) -> None:
        self._journal.freed(call, at)
        self._pass_on(slot, at)

    def _pass_on(self, slot: _Slot, at: float) -> None:
        while self._queue:
            turn = self._queue.popleft()
            self._journal.queue(len(self._queue))
            if not turn.done():
                turn.set_result((slot, at))
                return
        self._free.append(slot)
