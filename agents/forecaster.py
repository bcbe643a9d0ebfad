"""The forecaster of one entity: what an observation, a truth, a command or the passing of time does to its state.

The recurrent loop of LLM-as-RNN (arXiv 2601.13352), taken apart for a stream::

    observe   contextualise: memory and observation -> prediction, stored with all that scoring it will need
    learn     reflect: a truth is joined to the stored prediction, scored, and becomes feedback;
              rewrite: when the policy says so, the model rewrites the memory, and code checks it
    due       what happens without input: predictions and early truths whose time is over, a rewrite that failed before
    command   a person's change
    propose, ask, apply   a rewrite in the background: only `apply` needs the state to stand still

Every call returns the new state with the messages to be published and counts for metrics. Equal states, inputs and model answers
give equal results, byte for byte; `now` is the only clock. Offsets (`state.applied`) are the shell's.

This module is the face. An observation's way: `readings` (what it says of the target) -> `asking` (the model) -> `forecasts` (what is
published and stored) -> `truths` (the join) -> `outcomes` (scores, feedback) -> `revising` (when the memory is rewritten).
"""

from __future__ import annotations

from datetime import datetime

from agents import forecasts, join, readings
from agents.asking import Asker
from agents.commands import Commands
from agents.forgetting import begun_anew
from agents.outcomes import Outcomes
from agents.revising import Reviser
from agents.rewriting import Proposal, RewriteRequest
from agents.step import Event, Orphan, Step, Work
from agents.themes import with_theme
from agents.truths import Truths
from schemas.mapping import content_digest
from schemas.messages import Command, Flag, Observation, Truth
from schemas.settings import Settings
from schemas.state import EntityState, Origin

__all__ = ["Event", "Forecaster", "Orphan", "Step"]


class Forecaster:
    """The loop over one entity's state; holds no state of its own.

    Raises
    ------
    CheckerMissing
        `target.scorer` names a checker that cannot be loaded.
    """

    def __init__(self, settings: Settings, asker: Asker) -> None:
        self._settings = settings
        self._asker = asker
        self._reviser = Reviser(settings, asker)
        self._truths = Truths(settings, asker, Outcomes(settings), self._reviser)
        self._commands = Commands(settings, self._reviser)

    async def observe(self, state: EntityState, observation: Observation, *, now: datetime, offset: int, overtaken: bool = False) -> Step:
        """Predict for an observation, after learning from it where it carries an earlier prediction's truth.

        Parameters
        ----------
        offset
            Where the observation stood; makes an id unique that is taken by other content.
        overtaken
            A newer observation of the entity is waiting already.
        """
        settings, work = self._settings, Work(begun_anew(state), now)
        digest = content_digest(observation)
        if join.is_repeated(work.state, observation, digest):
            return Step(state, (), {"observation.duplicate": 1})
        if join.find(work.state, observation.id) is not None:
            observation = observation.model_copy(update={"id": join.renamed(observation.id, offset)})
            work.counts["observation.renamed"] += 1
        late = work.state.newest is not None and observation.time < work.state.newest
        if settings.truths.source == "next-observation":
            await self._truths.read_off(work, observation)
        if late:
            work.counts["observation.truth-only"] += 1
            return work.finish(settings.bounds)
        work.set(newest=observation.time, experts=forecasts.up_to_date(work.state, observation, settings.target))
        target_time = readings.target_time(observation, settings.target)
        stale = settings.time == "live" and (overtaken or (target_time is not None and target_time <= now))
        if stale and settings.backlog == "conflate":
            await self._conflate(work, observation, digest)
        else:
            await self._predict(work, observation, digest, ("stale",) if stale else ())
        return work.finish(settings.bounds)

    async def learn(self, state: EntityState, truth: Truth, *, now: datetime, origin: Origin | None = None, raw: bytes = b"") -> Step:
        """Join a truth to its prediction, score, give feedback, and rewrite the memory where the policy says so.

        Parameters
        ----------
        origin, raw
            Where the truth came from and its bytes, kept while it waits for its observation.
        """
        work = Work(begun_anew(state), now)
        await self._truths.take(work, truth, origin=origin, raw=raw)
        return work.finish(self._settings.bounds)

    async def due(self, state: EntityState, *, now: datetime, truths_read: bool) -> Step:
        """What the passing of time does: predictions expire, early truths become orphans, a wanted rewrite is tried again.

        Parameters
        ----------
        truths_read
            The truths were read up to the end they had when the deadline had passed. Only then does anything expire: after downtime the
            truths that came meanwhile are read first.
        """
        work = Work(state, now)
        if truths_read:
            await self._truths.expire(work)
        await self._reviser.when_due(work)
        return work.finish(self._settings.bounds) if work.events or work.state is not state else Step(state)

    async def command(self, state: EntityState, command: Command, *, now: datetime) -> Step:
        """Do what a person asked for, or refuse it with the reason; the answer is a `MemoryRevision` either way."""
        work = Work(state, now)
        await self._commands.obey(work, command)
        return work.finish(self._settings.bounds)

    def propose(self, state: EntityState, *, now: datetime) -> RewriteRequest | None:
        """The rewrite that is wanted, to be asked outside of the entity's lane; None if there is nothing to ask. `due` comes after it."""
        if state.rewrite_wanted is None or state.rewrite_wanted > now:
            return None
        return self._reviser.request(Work(state, now))

    async def ask(self, request: RewriteRequest) -> Proposal:
        """Ask the model for the rewrite; never raises for a model that fails, the proposal says so."""
        return await self._asker.rewrite(request)

    async def apply(self, state: EntityState, proposal: Proposal, *, now: datetime) -> Step:
        """Take a background proposal over, unless the memory has moved on since it was asked for: then it is asked for anew."""
        if state.frozen or state.forgotten or proposal.request.revision != state.memory.revision:
            return Step(state, (), {"rewrite.conflict": 1})
        work = Work(state, now)
        self._reviser.take(work, proposal)
        return work.finish(self._settings.bounds)

    async def _predict(self, work: Work, observation: Observation, digest: str, flags: tuple[Flag, ...]) -> None:
        settings = self._settings
        reference = readings.reference(observation, work.state, settings.target)
        asked = await self._asker.predict(work.state, observation, reference=reference, now=work.now)
        observation = observation.model_copy(update={"values": with_theme(observation.values, asked.theme, settings)})
        if forecasts.in_hindsight(work.state, observation, settings):
            flags = (*flags, "hindsight")
        pending = forecasts.keep(work, observation, settings, own=asked.answer, digest=digest, flags=flags)
        work.events.append(forecasts.message(work.state.entity, pending, asked, settings))
        work.counts["observation.predicted"] += 1
        if settings.truths.source == "judge":
            await self._truths.judge(work, pending)
        else:
            await self._truths.claim_early(work, pending)

    async def _conflate(self, work: Work, observation: Observation, digest: str) -> None:
        """Keep an observation that is worth no call any more: its truth feeds ledger and experts, and nothing is published."""
        work.counts["observation.conflated"] += 1
        if self._settings.truths.source in ("topic", "next-observation"):
            pending = forecasts.keep(work, observation, self._settings, own=None, digest=digest, flags=("conflated",))
            await self._truths.claim_early(work, pending)
