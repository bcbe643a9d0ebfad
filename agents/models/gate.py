"""What stands between the loop and a backend.

- **Slots.** As many calls at once as the backend serves well (1 per CPU host: more only makes each slower, and Ollama's own queue for a
  loaded model has no bound and no order). Who waits is served in the order of arrival, predictions and what belongs to them before
  rewrites.
- **A deadline** for the whole call, counted from its arrival: waiting, tries and pauses included. When it passes, the call is cancelled,
  which closes its connection, upon which the server stops computing.
- **Retries** of what `ModelError.retryable` says may succeed when tried again, with full jitter, and only while the pause still fits the
  deadline. A slot is given back during a pause.

This is also the place for what protects a backend further: admission with a bounded queue and a guaranteed share for rewrites, a breaker,
several hosts with routing by entity. None of it belongs in a backend, and none of it in the loop.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, stop_any, stop_before_delay

from agents.errors import ModelError, ModelTimeout
from agents.models.protocol import CallLimits, ChatMessage, LanguageModel, ModelIdentity, Purpose, Reply
from schemas.settings import ModelSettings

#: Seconds of the longest first pause; each further one may be twice as long. Time for a full queue to move on; a server that lost its
#: model's runner loads it again within the next call.
FIRST_PAUSE = 1.0
#: Seconds of the longest pause.
LONGEST_PAUSE = 10.0


class Slots:
    """A semaphore with two queues: whoever waits urgently goes first, each queue in the order of arrival.

    Parameters
    ----------
    number
        How many may hold a slot at once.
    """

    def __init__(self, number: int) -> None:
        self._free = number
        self._urgent: deque[asyncio.Future[None]] = deque()
        self._patient: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def hold(self, *, urgent: bool) -> AsyncIterator[None]:
        """Wait for a slot and hold it; a cancelled wait takes none."""
        await self._take(self._urgent if urgent else self._patient)
        try:
            yield
        finally:
            self._give_back()

    async def _take(self, queue: deque[asyncio.Future[None]]) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the slot came in the same turn of the event loop as the cancellation
                self._give_back()
            elif turn in queue:
                queue.remove(turn)
            raise

    def _give_back(self) -> None:
        for queue in (self._urgent, self._patient):
            while queue:
                turn = queue.popleft()
                if not turn.done():
                    turn.set_result(None)
                    return
        self._free += 1


class Gate:
    """A language model with slots, deadline and retries in front of it.

    Parameters
    ----------
    model
        The backend.
    settings
        `slots`, `retries`, and `deadline` for `identify`; the deadline of a call comes with its limits.
    chance
        Returns a number from [0, 1); for the length of pauses.
    """

    def __init__(self, model: LanguageModel, settings: ModelSettings, *, chance: Callable[[], float] = random.random) -> None:
        self._model = model
        self._slots = Slots(settings.slots)
        self._tries = settings.retries + 1
        self._identify_seconds = settings.deadline.total_seconds()
        self._chance = chance

    async def complete(
        self, messages: Sequence[ChatMessage], *, schema: Mapping[str, Any] | None, limits: CallLimits, purpose: Purpose
    ) -> Reply:
        """Answer a chat; see `LanguageModel`. `seconds` of the reply are those of the last try, without the wait for the slot."""
        clock = asyncio.get_running_loop().time
        end = clock() + limits.seconds
        tried = 0

        async def attempt() -> Reply:
            nonlocal tried
            async with self._slots.hold(urgent=purpose != "rewrite"):
                tried += 1
                remaining = replace(limits, seconds=end - clock())
                return await self._model.complete(messages, schema=schema, limits=remaining, purpose=purpose)

        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, ModelError) and error.retryable),
            wait=lambda state: self._chance() * min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (state.attempt_number - 1)),
            stop=stop_any(stop_after_attempt(self._tries), stop_before_delay(limits.seconds)),
            reraise=True,
        )
        try:
            async with asyncio.timeout_at(end):
                return await retrying(attempt)
        except TimeoutError as error:
            where = "waiting for a slot" if not tried else f"at try {tried}"
            raise ModelTimeout(f"no answer within {limits.seconds:.1f} s; the deadline passed {where}") from error

    async def identify(self) -> ModelIdentity:
        """Return which model this is; see `LanguageModel`. Takes no slot."""
        try:
            async with asyncio.timeout(self._identify_seconds):
                return await self._model.identify()
        except TimeoutError as error:
            raise ModelTimeout(f"the model did not say within {self._identify_seconds:.1f} s which one it is") from error

    def count_tokens(self, text: str) -> int | None:
        return self._model.count_tokens(text)

    async def close(self) -> None:
        await self._model.close()
