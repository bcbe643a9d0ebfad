"""What stands between the loop and the backends. Each call passes, in this order:

- **The answer cache** (`answer_cache`): equal questions at temperature 0 are answered once.
- **Routing** (`hosts`): its entity's own host, unless that one's line is long or its breaker open.
- **Admission** (`schedule`, `admission`): slots per host, predictions before rewrites, a share of the time for rewrites, a bounded queue.
- **The breaker** of the host (`breaker`): while it is open nothing waits for that host.
- **Retries** (`retrying`) of what `ModelError.retryable` says may succeed when tried again: within a budget, at another host at once, at
  the same one after a pause and only while the pause still fits the deadline. A slot is given back during a pause.

The **deadline** of a call counts from its arrival: waiting, tries and pauses included. When it passes, the call is cancelled, which closes
its connection, upon which the server stops computing. None of this belongs in a backend, and none of it in the loop.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

from agents.errors import ModelAway, ModelError, ModelTimeout, ModelUnreachable
from agents.models import retrying
from agents.models.admission import LineUpAgain
from agents.models.answer_cache import AnswerCache, question
from agents.models.breaker import Breaker, BreakerState
from agents.models.hosts import Host, choose, ranking
from agents.models.protocol import CallLimits, ChatMessage, LanguageModel, ModelIdentity, Purpose, Reply
from agents.models.schedule import Schedule, Ticket
from schemas.settings import ModelSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HostAccount:
    """What one host has done and has to do. Seconds are slot-seconds since the start, by what held the slot; `cut` counts rewrites."""

    name: str
    breaker: BreakerState
    running: int
    waiting_predictions: int
    waiting_rewrites: int
    prediction_seconds: float
    rewrite_seconds: float
    cut: int


@dataclass(frozen=True, slots=True)
class Account:
    """The gate's books: its hosts, and retries made, and those that the budget did not allow, since the start."""

    hosts: tuple[HostAccount, ...]
    retries: int
    retries_denied: int


class Gate:
    """A language model with everything in front of it that protects its servers and their callers.

    Parameters
    ----------
    model
        The backend; for several hosts one each, by name.
    settings
        Of slots, queue, shares, retries, breaker and cache, and `deadline` for `identify`; the deadline of a call comes with its limits.
    chance
        Returns a number from [0, 1); for the length of pauses.
    """

    def __init__(
        self, model: LanguageModel | Mapping[str, LanguageModel], settings: ModelSettings, *, chance: Callable[[], float] = random.random
    ) -> None:
        models = model if isinstance(model, Mapping) else {settings.places[0]: model}
        self._settings = settings
        self._chance = chance
        self._hosts = [self._host(name, backend) for name, backend in models.items()]
        self._names = list(models)
        self._numbers = count()
        self._budget = retrying.RetryBudget(settings.retry_share)
        self._answers = AnswerCache(settings.answer_cache) if settings.answer_cache and settings.temperature == 0 else None
        self._identity: ModelIdentity | None = None
        self._retries = self._denied = 0

    async def complete(
        self,
        messages: Sequence[ChatMessage],
        *,
        schema: Mapping[str, Any] | None,
        limits: CallLimits,
        purpose: Purpose,
        entity: str = "",
        fresh: bool = False,
    ) -> Reply:
        """Answer a chat; see `LanguageModel`. `seconds` of the reply are those of the last try. `entity` and `fresh` end here.

        Raises
        ------
        ModelOverloaded
            Nothing was asked: too many calls wait, or too little time was left for it when its turn came.
        ModelAway
            Nothing was asked: the breakers of all hosts are open.
        """
        now = _clock()
        ticket = Ticket(purpose, now, now + limits.seconds, next(self._numbers))

        async def ask() -> Reply:
            return await self._ask(ticket, entity, messages, schema, limits)

        if self._answers is None or self._identity is None or not self._is_fixed(self._identity):
            return await ask()
        key = question(messages, schema, limits, self._identity)
        return await self._answers.answer(key, ask, seconds=limits.seconds, fresh=fresh)

    async def identify(self) -> ModelIdentity:
        """Return which model this is; see `LanguageModel`. Takes no slot. Of several hosts the first that answers is believed.

        Raises
        ------
        ModelError
            What the last host that could be asked failed with; `ModelAway` where none could.
        """
        failure: ModelError = self._nobody()
        for host in self._hosts:
            if self._identity is not None:
                return self._identity
            if host.admits:
                try:
                    await host.question(partial(self._introduce, host))
                except ModelError as error:
                    failure = error
                except LineUpAgain:  # another call has just made another host's model the one
                    continue
        if self._identity is None:
            raise failure
        return self._identity

    def count_tokens(self, text: str) -> int | None:
        return self._hosts[0].model.count_tokens(text)

    def account(self) -> Account:
        """What the gate has done so far."""
        return Account(tuple(self._host_account(host) for host in self._hosts), self._retries, self._denied)

    async def close(self) -> None:
        for host in self._hosts:
            await host.model.close()

    async def _ask(
        self, ticket: Ticket, entity: str, messages: Sequence[ChatMessage], schema: Mapping[str, Any] | None, limits: CallLimits
    ) -> Reply:
        self._budget.called()
        tried, failed = 0, None

        async def attempt(host: Host) -> Reply:
            nonlocal tried
            tried += 1
            if host.identity is None and len(self._hosts) > 1:
                await self._meet(host)
            sent = _clock()
            reply = await host.model.complete(
                messages, schema=schema, limits=replace(limits, seconds=ticket.end - sent), purpose=ticket.purpose
            )
            return replace(reply, waited_seconds=sent - ticket.arrived)

        while True:
            host = choose(self._preferred(entity, ticket, failed), ticket, self._settings.spill)
            if host is None:
                raise self._nobody()
            try:
                return await host.call(ticket, partial(attempt, host), again=host is failed)
            except LineUpAgain:
                continue
            except TimeoutError as error:
                where = f"at try {tried}" if tried else "waiting for a slot"
                raise ModelTimeout(f"no answer within {limits.seconds:.1f} s; the deadline passed {where}") from error
            except ModelUnreachable as error:
                await self._before_retry(error, ticket, tried, host)
                failed = host

    async def _before_retry(self, error: ModelUnreachable, ticket: Ticket, tried: int, host: Host) -> None:
        """Wait until the call may be made again; raises the error where it may not."""
        elsewhere = any(other.admits for other in self._hosts if other is not host)
        seconds = 0.0 if elsewhere else retrying.pause(tried, self._chance(), error.retry_after)
        if tried >= retrying.MOST_TRIES or _clock() + seconds >= ticket.end:
            raise error
        if not self._budget.spend():
            self._denied += 1
            raise error
        self._retries += 1
        await asyncio.sleep(seconds)

    def _preferred(self, entity: str, ticket: Ticket, failed: Host | None) -> list[Host]:
        """Hosts in the order of preference, without the one that has just failed where there are others to ask."""
        if entity:
            hosts = [self._hosts[position] for position in ranking(entity, self._names)]
        else:
            hosts = sorted(self._hosts, key=lambda host: host.ahead(ticket))
        others = [host for host in hosts if host is not failed]
        return others if any(host.admits for host in others) else hosts

    def _nobody(self) -> ModelAway:
        return ModelAway(f"nobody to ask: {', '.join(self._names)} failed time and again, or has another model, and is left alone")

    async def _introduce(self, host: Host) -> None:
        seconds = self._settings.deadline.total_seconds()
        try:
            async with asyncio.timeout(seconds):
                await self._meet(host)
        except TimeoutError as error:
            raise ModelTimeout(f"the model did not say within {seconds:.1f} s which one it is") from error

    async def _meet(self, host: Host) -> None:
        """Ask a host which model it has; one that differs from the others' is asked nothing, for predictions say which model answered.

        Raises
        ------
        LineUpAgain
            It has another model.
        """
        host.identity = await host.model.identify()
        self._identity = self._identity or host.identity
        if host.identity.digest != self._identity.digest:
            host.is_foreign = True
            logger.error(
                "%s has another %s (%s) than the other hosts (%s); it is asked nothing until this worker is started again",
                host.name, self._settings.name, host.identity.digest[:12], self._identity.digest[:12],
            )  # fmt: skip
            raise LineUpAgain

    def _is_fixed(self, identity: ModelIdentity) -> bool:
        """Whether equal questions get equal answers: of an imported model that is known only if it says so by its digest."""
        return self._settings.backend != "import" or bool(identity.digest)

    def _host(self, name: str, model: LanguageModel) -> Host:
        settings = self._settings
        schedule = Schedule(
            settings.slots,
            queue=settings.queue,
            rewrite_share=settings.rewrite_share,
            rewrite_max_wait=settings.rewrite_max_wait.total_seconds(),
        )
        pause = settings.breaker_pause.total_seconds()
        return Host(name, model, schedule, Breaker(settings.breaker_failures, pause, clock=_clock, chance=self._chance))

    def _host_account(self, host: Host) -> HostAccount:
        schedule = host.admission.schedule
        schedule.account(_clock())
        return HostAccount(
            name=host.name,
            breaker=host.breaker.state,
            running=schedule.running,
            waiting_predictions=schedule.waiting_predictions,
            waiting_rewrites=schedule.waiting_rewrites,
            prediction_seconds=schedule.prediction_seconds,
            rewrite_seconds=schedule.rewrite_seconds,
            cut=host.admission.cut,
        )


def _clock() -> float:
    return asyncio.get_running_loop().time()
