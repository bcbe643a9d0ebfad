"""Several hosts with the same model, each with slots, a line and a breaker of its own; and which of them a call goes to.

A prompt's prefix is warm on the host that has computed it: an entity's facts, its memory and its ledger, most of each call's prompt. So an
entity's calls go to one host, chosen by rendezvous hashing (Thaler & Ravishankar 1998): each host is given a number by entity and host,
the highest is the entity's own. When a host comes or goes only its own entities move, and each worker finds the same host by itself. A
call goes elsewhere, in the order of those numbers, where that host's breaker is open, or its line so long that a cold prompt on another
host is sooner done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b
from typing import TypeVar

from agents.errors import ModelError, ModelTimeout, ModelUnreachable
from agents.models.admission import Admission
from agents.models.breaker import Breaker
from agents.models.protocol import LanguageModel, ModelIdentity
from agents.models.schedule import Schedule, Ticket

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class Host:
    """One server with the model, and what stands in front of it.

    Parameters
    ----------
    name
        Its address; a label of metrics.
    model
        The backend that speaks to it.
    """

    def __init__(self, name: str, model: LanguageModel, schedule: Schedule, breaker: Breaker) -> None:
        self.name = name
        self.model = model
        self.admission = Admission(schedule)
        self.breaker = breaker
        self.identity: ModelIdentity | None = None
        #: It has another model under the name, and is asked nothing.
        self.is_foreign = False

    @property
    def admits(self) -> bool:
        return not self.is_foreign and self.breaker.admits

    def ahead(self, ticket: Ticket) -> int:
        """Calls that would be served before this one waits no more; 0 where a slot is free."""
        schedule = self.admission.schedule
        if schedule.running < schedule.slots:
            return 0
        return schedule.waiting_predictions + (schedule.waiting_rewrites if ticket.is_rewrite else 0) + 1

    async def call(self, ticket: Ticket, work: Callable[[], Awaitable[Result]], *, again: bool = False) -> Result:
        """Do the work in a slot of this host, and let its breaker know how the host did; see `Admission.run`.

        Parameters
        ----------
        again
            The same call has failed here just now. One call counts as one failure: it may be the call that crashes the host.
        """
        probe = self.breaker.admit()
        begun = False

        def told(failure: BaseException | None) -> None:
            nonlocal begun
            begun = True
            weight, now = 0.0 if again and not probe else 1.0, asyncio.get_running_loop().time()
            if isinstance(failure, TimeoutError | ModelTimeout) and ticket.started is not None and now >= ticket.end:
                # A call that had hardly any time left when its turn came says little about the host.
                weight *= min(1.0, (now - ticket.started) / self.admission.schedule.ample(ticket))
            self._learn(failure, probe, weight)

        try:
            return await self.admission.run(ticket, work, told)
        finally:
            if not begun:
                # What happens in line, deadlines included, says nothing about the host.
                self.breaker.dropped(probe=probe)

    async def question(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Ask something that takes no slot and no inference: failing tells its breaker something, an answer does not."""
        probe = self.breaker.admit()
        try:
            result = await work()
        except BaseException as error:
            self._learn(error, probe, 1.0)
            raise
        self.breaker.dropped(probe=probe)
        return result

    def _learn(self, failure: BaseException | None, probe: bool, weight: float) -> None:
        if isinstance(failure, TimeoutError | ModelTimeout) or (isinstance(failure, ModelUnreachable) and not failure.alive):
            if self.breaker.failed(probe=probe, weight=weight):
                logger.warning("the model's host %s has failed time and again and is left alone for a while", self.name)
                self.admission.clear()
        elif failure is None or isinstance(failure, ModelError):
            self.breaker.succeeded()
        else:
            # Cancelled, cut, or a defect on this side.
            self.breaker.dropped(probe=probe)


def ranking(entity: str, names: Sequence[str]) -> list[int]:
    """The hosts' positions in the order in which an entity prefers them.

    Examples
    --------
    >>> ranking("station-7", ["http://a:11434", "http://b:11434", "http://c:11434"])
    [1, 2, 0]
    """

    def weight(position: int) -> bytes:
        return blake2b(f"{names[position]}\0{entity}".encode("utf-8", "surrogatepass"), digest_size=8).digest()

    return sorted(range(len(names)), key=weight, reverse=True)


def choose(preferred: Sequence[Host], ticket: Ticket, spill: int) -> Host | None:
    """The host that a call goes to; None where all are left alone.

    Parameters
    ----------
    preferred
        Hosts in the order of preference.
    spill
        Calls ahead, for each slot of the host, up to which one waits at a host; where it is more everywhere, the shortest line is taken.
    """
    admitting = [host for host in preferred if host.admits]
    for host in admitting:
        if host.ahead(ticket) <= spill * host.admission.schedule.slots:
            return host
    return min(admitting, key=lambda host: host.ahead(ticket) / host.admission.schedule.slots, default=None)
