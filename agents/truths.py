"""How a truth reaches its prediction, and what stands in for one that does not come.

A truth is given by itself, waits where its prediction has not been made, or is read off a later observation. Where there is none a judge
stands in for it, or the prediction expires. Matching is `agents.join`'s, scoring `agents.outcomes`'s; after every outcome the memory may be
rewritten (`agents.revising`).
"""

from __future__ import annotations

from datetime import datetime

from agents import bounds, join, readings
from agents.asking import Asker
from agents.outcomes import Outcomes
from agents.revising import Reviser
from agents.step import Orphan, Work, later
from schemas.messages import Observation, Truth, Value
from schemas.settings import Settings
from schemas.state import EarlyTruth, Origin, Pending


class Truths:
    """Joins truths to stored predictions; holds no state of its own."""

    def __init__(self, settings: Settings, asker: Asker, outcomes: Outcomes, reviser: Reviser) -> None:
        self._settings = settings
        self._asker = asker
        self._outcomes = outcomes
        self._reviser = reviser

    async def take(self, work: Work, truth: Truth, *, origin: Origin | None, raw: bytes) -> None:
        """A truth from its topic: it meets its prediction, or waits for it.

        Parameters
        ----------
        origin, raw
            Where the truth came from and its bytes, kept while it waits.
        """
        found = join.match(work.state, truth, self._settings.truths.tolerance)
        if found is None:
            self._keep_early(work, truth, origin, raw)
        else:
            await self._meet(work, found.id, truth.value, truth.note, arrived=work.now, learned_at=truth.target_time or truth.time)

    async def read_off(self, work: Work, observation: Observation) -> None:
        """Truths that an observation carries for earlier predictions."""
        value = readings.told(observation, self._settings.target)
        if value is None:
            return
        settled = join.by_observation(work.state, observation, self._settings)
        for pending in settled.missing:
            self._outcomes.settle(work, pending)
        for row in settled.answered:
            await self._meet(work, row.id, value, "", arrived=work.now, learned_at=observation.time)

    async def claim_early(self, work: Work, pending: Pending) -> None:
        """Give a new prediction the truths that have been waiting for it, in order of arrival."""
        own = join.waiting_for(work.state, pending, self._settings.truths.tolerance)
        if own:
            work.set(early=tuple(early for early in work.state.early if early not in own))
        for early in own:
            await self._meet(work, pending.id, early.value, early.note, arrived=early.arrived, learned_at=early.target_time)

    async def judge(self, work: Work, pending: Pending) -> None:
        """Let the judge stand in for the truth; without a verdict there is no truth at all."""
        criteria = self._settings.judge.criteria
        judged = await self._asker.judge(pending.values, pending.model_answer or pending.forecast, criteria=criteria)
        if judged.score is None:
            self._outcomes.settle(work, pending)
            return
        self._outcomes.judge(work, pending, judged.score)
        await self._reviser.after_outcome(work)

    async def expire(self, work: Work) -> None:
        """End what has waited long enough: predictions are judged or dropped, early truths are orphans."""
        judged = False
        for pending in [p for p in work.state.pending if p.due is not None and p.due <= work.now]:
            if self._settings.truths.on_expiry == "judge" and "conflated" not in pending.flags:
                # One call of the model a step; the rest stays due.
                if not judged:
                    await self.judge(work, pending)
                judged = True
            else:
                self._outcomes.settle(work, pending)
        gone = [early for early in work.state.early if early.due <= work.now]
        if gone:
            work.set(early=tuple(early for early in work.state.early if early.due > work.now))
            work.events += [Orphan(early) for early in gone]
            work.counts["truth.orphan"] += len(gone)

    async def _meet(self, work: Work, identity: str, value: Value, note: str, *, arrived: datetime, learned_at: datetime | None) -> None:
        row = join.find(work.state, identity)
        # One that is resolved without a truth expired, or was judged, before its truth came.
        if isinstance(row, Pending) or (row is not None and row.truth is None):
            self._outcomes.resolve(work, row, value, note, arrived=arrived, learned_at=learned_at)
            self._reviser.drop_refuted(work)
            if "conflated" not in row.flags:
                await self._reviser.after_outcome(work)
        elif row is not None and row.truth != value:
            self._outcomes.correct(work, row, value, note)
            self._reviser.drop_refuted(work)
        else:
            work.counts["truth.duplicate"] += 1

    def _keep_early(self, work: Work, truth: Truth, origin: Origin | None, raw: bytes) -> None:
        limits = self._settings.bounds
        early = EarlyTruth(
            observation_id=truth.observation_id,
            target_time=truth.target_time,
            value=bounds.cut_value(truth.value, limits),
            note=bounds.cut_text(truth.note, limits),
            arrived=work.now,
            due=work.now + self._settings.truths.orphan_after,
            origin=origin,
            raw=bounds.cut_raw(raw, limits).decode("latin-1"),
        )
        if join.is_waiting(work.state, early, self._settings.truths.tolerance):
            work.counts["truth.duplicate"] += 1
            return
        work.counts["truth.early"] += 1
        work.set(early=(*work.state.early, early), touched_at=later(work.state.touched_at, work.now))
