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
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from agents import bounds, experts, intervals, join, memory, mixture, rewriting, rules, scoring, surprise, text_scoring
from agents.asking import Asked, Asker
from agents.errors import AnswerInvalid
from agents.feedback import feedback_for
from agents.rewriting import Proposal, RewriteRequest
from schemas.mapping import content_digest
from schemas.messages import Answer, Command, Flag, MemoryRevision, Observation, Outcome, Prediction, Truth, Value
from schemas.settings import Settings
from schemas.state import EarlyTruth, EntityState, Feedback, Memory, Origin, Pending, Resolved

#: Wait before a rewrite that failed is tried again; doubled each time, up to the second.
BACKOFF, LONGEST_BACKOFF = timedelta(minutes=1), timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Orphan:
    """A truth that no prediction ever matched; the shell dead-letters it under where it came from."""

    truth: EarlyTruth
    reason: str = "orphan"


Event = Prediction | Outcome | MemoryRevision | Orphan


class Step(NamedTuple):
    """What one input led to.

    `counts` speaks a fixed vocabulary (`streams.metrics`): `observation.*`, `truth.*`, `rewrite.*`, `dropped.*`, `command.*`.
    """

    state: EntityState
    events: tuple[Event, ...] = ()
    counts: Mapping[str, int] = {}


@dataclass(slots=True)
class _Work:
    """A step in the making."""

    state: EntityState
    now: datetime
    events: list[Event] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def set(self, **changes: object) -> None:
        self.state = self.state.model_copy(update=changes)


class Forecaster:
    """The loop over one entity's state; holds no state of its own."""

    def __init__(self, settings: Settings, asker: Asker) -> None:
        self._settings = settings
        self._asker = asker
        scorer = settings.target.scorer if settings.target.kind == "text" else "exact"
        if scorer.startswith(text_scoring.CHECKER):
            # One that cannot be loaded must fail at start, not at the first truth.
            text_scoring.load_checker(scorer)
        # A judge scores by verdict; against a given truth its texts are compared as `normalised`.
        self._matches = _matcher("normalised" if scorer == "judge" else scorer)

    # -- observations

    async def observe(self, state: EntityState, observation: Observation, *, now: datetime, offset: int, overtaken: bool = False) -> Step:
        """Predict for an observation, after learning from it where it carries an earlier prediction's truth.

        Parameters
        ----------
        offset
            Where the observation stood; makes an id unique that is taken by other content.
        overtaken
            A newer observation of the entity is waiting already.
        """
        work = _Work(_alive(state), now)
        digest = content_digest(observation)
        if join.is_repeated(work.state, observation, digest):
            return Step(state, (), {"observation.duplicate": 1})
        if join.find(work.state, observation.id) is not None:
            observation = observation.model_copy(update={"id": join.renamed(observation.id, offset)})
            work.counts["observation.renamed"] += 1
        late = work.state.newest is not None and observation.time < work.state.newest
        if self._settings.truths.source == "next-observation":
            await self._learn_from(work, observation)
        if late:
            work.counts["observation.truth-only"] += 1
            return self._finish(work)
        work.set(newest=observation.time, experts=self._up_to_date(work.state, observation))
        target_time = self._target_time(observation)
        stale = self._settings.time == "live" and (overtaken or (target_time is not None and target_time <= now))
        if stale and self._settings.backlog == "conflate":
            await self._conflate(work, observation, digest)
        else:
            await self._predict(work, observation, digest, ("stale",) if stale else ())
        return self._finish(work)

    def _target_time(self, observation: Observation) -> datetime | None:
        horizon = self._settings.target.horizon
        return observation.time + horizon if isinstance(horizon, timedelta) else None

    def _current(self, observation: Observation) -> Value | None:
        """The target's own value in the observation, where it has one of the right kind."""
        target = self._settings.target
        value = observation.values.get(target.field)
        if target.kind == "number":
            return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
        if target.kind == "category":
            return value if isinstance(value, str) and value in target.labels else None
        return None

    def _reference(self, observation: Observation, state: EntityState) -> float | None:
        """The forecast that the model adjusts: the named field, else the target's own value, else its last known one."""
        target = self._settings.target
        if target.kind != "number":
            return None
        if target.reference is not None:
            given = observation.values.get(target.reference)
            return float(given) if isinstance(given, int | float) and not isinstance(given, bool) else None
        current = self._current(observation)
        if current is None:
            current = state.experts.last
        return current if isinstance(current, float | int) else None

    def _up_to_date(self, state: EntityState, observation: Observation) -> object:
        """Experts that know everything up to the observation's time and nothing later."""
        known, target = state.experts, self._settings.target
        fresh = [
            (row.target_time, row.truth)
            for row in state.resolved
            if row.truth is not None
            and row.target_time is not None
            and row.target_time <= observation.time
            and (known.last_time is None or row.target_time > known.last_time)
        ]
        for time, truth in sorted(fresh, key=lambda pair: pair[0]):
            known = experts.update(known, truth, time, target)
        current = self._current(observation)
        return known if current is None else experts.update(known, current, observation.time, target)

    async def _predict(self, work: _Work, observation: Observation, digest: str, flags: tuple[Flag, ...]) -> None:
        reference = self._reference(observation, work.state)
        asked = await self._asker.predict(work.state, observation, reference=reference, now=work.now)
        if self._in_hindsight(work.state, observation, self._target_time(observation)):
            flags = (*flags, "hindsight")
        pending = self._keep_pending(work, observation, digest, asked.answer, flags)
        work.events.append(self._prediction(work.state.entity, pending, asked))
        work.counts["observation.predicted"] += 1
        if self._settings.truths.source == "judge":
            await self._judge(work, pending)
        else:
            await self._claim_early(work, pending)

    async def _conflate(self, work: _Work, observation: Observation, digest: str) -> None:
        """Keep an observation that is worth no call any more: its truth feeds ledger and experts, and nothing is published."""
        work.counts["observation.conflated"] += 1
        if self._settings.truths.source in ("topic", "next-observation"):
            await self._claim_early(work, self._keep_pending(work, observation, digest, None, ("conflated",)))

    def _keep_pending(self, work: _Work, observation: Observation, digest: str, own: Answer | None, flags: tuple[Flag, ...]) -> Pending:
        """Make the published forecast and store it with all that scoring it will need.

        Parameters
        ----------
        own
            The model's answer, if it gave one.
        """
        settings, state = self._settings, work.state
        target, limits = settings.target, settings.bounds
        reference, current = self._reference(observation, state), self._current(observation)
        own = None if own is None else bounds.cut_answer(own, limits)
        arms = experts.forecasts(state.experts, target, current)
        by_rules = rules.execute(state.memory, observation.values, reference, self._known_rows(state, observation))
        if by_rules is not None:
            arms = {**arms, "rules": bounds.cut_value(by_rules, limits)}
        forecast = self._publish(state, own, arms, current)
        if forecast is None:
            # Nothing is known and the model gave nothing: there is no forecast to make yet.
            forecast = Answer(value=experts.settled(0.0, target) if target.kind == "number" else (target.labels or ("",))[0])
        values, cut = bounds.cut_values(observation.values, limits)
        if cut:
            work.counts["dropped.text"] += cut
        target_time, expiry = self._target_time(observation), settings.truths.expire_after
        pending = Pending(
            id=observation.id,
            time=observation.time,
            target_time=target_time,
            made_at=work.now,
            values=values,
            digest=digest,
            forecast=forecast,
            model_answer=own,
            experts=arms,
            reference=reference,
            interval=intervals.interval(state.interval, forecast, self._voters(own, arms), target, settings.publish.level),
            source="model" if own is not None else "fallback",
            flags=flags,
            memory_revision=state.memory.revision,
            due=None if expiry is None else (target_time or observation.time) + expiry,
        )
        work.set(pending=(*state.pending, pending), touched_at=_later(state.touched_at, work.now))
        return pending

    async def _claim_early(self, work: _Work, pending: Pending) -> None:
        """Give a new prediction the truths that have been waiting for it, in order of arrival."""
        own = join.waiting_for(work.state, pending, self._settings.truths.tolerance)
        if own:
            work.set(early=tuple(early for early in work.state.early if early not in own))
        for early in own:
            await self._take_truth(work, early.value, early.note, pending.id, arrived=early.arrived, learned_at=early.target_time)

    def _known_rows(self, state: EntityState, observation: Observation) -> tuple[Resolved, ...]:
        if state.learned_to is None or state.learned_to <= observation.time:
            return state.resolved
        return tuple(row for row in state.resolved if row.target_time is None or row.target_time <= observation.time)

    @staticmethod
    def _voters(own: Answer | None, arms: Mapping[str, Value]) -> dict[str, Value]:
        return dict(arms) if own is None else {**arms, scoring.MODEL: own.value}

    def _publish(self, state: EntityState, own: Answer | None, arms: Mapping[str, Value], current: Value | None) -> Answer | None:
        target, publish = self._settings.target, self._settings.publish
        if publish.publish == "model" and own is not None:
            return own
        order = ("rules", *experts.names(target)) if publish.publish == "model" else experts.names(target)
        voters = dict(arms) if publish.publish == "model" else self._voters(own, arms)
        answer = mixture.publish(state.mixture, voters, target, order)
        if answer is not None and target.kind == "category":
            ranked = experts.ranked(state.experts, target, current)
            top = dict.fromkeys((*answer.top, *(own.top if own is not None else ()), *ranked))
            answer = answer.model_copy(update={"top": tuple(top)[: target.top_k]})
        return answer

    def _in_hindsight(self, state: EntityState, observation: Observation, target_time: datetime | None) -> bool:
        """Whether the prediction's own truth, or a later one, is known already."""
        if any(early.observation_id == observation.id for early in state.early):
            return True
        if target_time is not None:
            tolerance = self._settings.truths.tolerance
            if any(e.target_time is not None and abs(e.target_time - target_time) <= tolerance for e in state.early):
                return True
        if state.learned_to is None:
            return False
        return state.learned_to >= target_time if target_time is not None else state.learned_to > observation.time

    def _prediction(self, entity: str, pending: Pending, asked: Asked) -> Prediction:
        return Prediction(
            entity=entity,
            id=pending.id,
            kind=self._settings.target.kind,
            time=pending.time,
            target_time=pending.target_time,
            made_at=pending.made_at,
            forecast=pending.forecast,
            model_answer=pending.model_answer,
            experts=pending.experts,
            interval=pending.interval,
            source=pending.source,
            flags=pending.flags,
            memory_revision=pending.memory_revision,
            prompt_hash=asked.prompt_hash,
            model=asked.call,
        )

    # -- truths

    async def learn(self, state: EntityState, truth: Truth, *, now: datetime, origin: Origin | None = None, raw: bytes = b"") -> Step:
        """Join a truth to its prediction, score, give feedback, and rewrite the memory where the policy says so.

        Parameters
        ----------
        origin, raw
            Where the truth came from and its bytes, kept while it waits for its observation.
        """
        work = _Work(_alive(state), now)
        found = join.match(work.state, truth, self._settings.truths.tolerance)
        if found is None:
            self._keep_early(work, truth, origin, raw)
        else:
            await self._take_truth(work, truth.value, truth.note, found.id, arrived=now, learned_at=truth.target_time or truth.time)
        return self._finish(work)

    def _keep_early(self, work: _Work, truth: Truth, origin: Origin | None, raw: bytes) -> None:
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
        work.set(early=(*work.state.early, early), touched_at=_later(work.state.touched_at, work.now))

    async def _learn_from(self, work: _Work, observation: Observation) -> None:
        """Truths that an observation carries for earlier predictions."""
        value = self._current(observation)
        if value is None and self._settings.target.kind == "text":
            given = observation.values.get(self._settings.target.field)
            value = given if isinstance(given, str) else None
        if value is None:
            return
        settled = join.by_observation(work.state, observation, self._settings)
        for pending in settled.missing:
            self._settle_without_truth(work, pending)
        for row in settled.answered:
            await self._take_truth(work, value, "", row.id, arrived=work.now, learned_at=observation.time)

    async def _take_truth(
        self, work: _Work, value: Value, note: str, identity: str, *, arrived: datetime, learned_at: datetime | None
    ) -> None:
        row = join.find(work.state, identity)
        if isinstance(row, Pending):
            await self._resolve(work, row, value, note, arrived, learned_at)
        elif row is not None and row.truth is None:
            # It expired, or was judged, before its truth came.
            await self._resolve(work, row, value, note, arrived, learned_at)
        elif row is not None and row.truth != value:
            self._correct(work, row, value, note)
        else:
            work.counts["truth.duplicate"] += 1

    async def _resolve(
        self, work: _Work, waiting: Pending | Resolved, value: Value, note: str, arrived: datetime, learned_at: datetime | None
    ) -> None:
        settings, state = self._settings, work.state
        target, conflated = settings.target, "conflated" in waiting.flags
        flags = [flag for flag in waiting.flags if flag != "judged"]
        late = isinstance(waiting, Resolved) or (waiting.due is not None and work.now > waiting.due)
        if late:
            flags.append("late")
            work.counts["truth.late"] += 1
        if arrived < waiting.made_at:
            flags.append("early")
        mistake = scoring.error(waiting.forecast, value, self._matches)
        miss = surprise.is_miss(mistake, state.surprise, target, settings.rewrite.factor)
        # Never the clock, which may run far ahead of the events: all that is predicted until then would pass for hindsight.
        target_time = waiting.target_time or learned_at or state.newest or waiting.time
        row = Resolved(
            seq=state.outcomes + 1,
            id=waiting.id,
            time=waiting.time,
            target_time=target_time,
            made_at=waiting.made_at,
            values=waiting.values,
            digest=waiting.digest,
            truth=bounds.cut_value(value, settings.bounds),
            forecast=waiting.forecast,
            model_answer=waiting.model_answer,
            experts=waiting.experts,
            reference=waiting.reference,
            interval=waiting.interval,
            source=waiting.source,
            flags=tuple(dict.fromkeys(flags)),
            memory_revision=waiting.memory_revision,
            miss=miss,
            note=bounds.cut_text(self._remark(waiting.forecast, value) or note, settings.bounds),
        )
        changes: dict[str, object] = {
            "pending": tuple(p for p in state.pending if p.id != row.id),
            # What had expired or been judged moves to the ledger's end: its truth is news.
            "resolved": (*(r for r in state.resolved if r.id != row.id), row),
            "outcomes": row.seq,
            "learned_to": _later(state.learned_to, target_time),
            "touched_at": _later(state.touched_at, work.now),
        }
        if isinstance(waiting, Resolved):
            changes["feedback"] = tuple(f for f in state.feedback if f.seq != waiting.seq)
        if not conflated:
            changes["surprise"] = surprise.learn(state.surprise, mistake)
        if not conflated and "hindsight" not in waiting.flags:
            stored = {scoring.MODEL: row.model_answer.value, **row.experts} if row.model_answer is not None else dict(row.experts)
            changes["scores"] = scoring.add(state.scores, row, value, target, self._matches, fading=settings.publish.fading)
            changes["mixture"] = mixture.learn(state.mixture, stored, row.forecast, value, target)
            changes["interval"] = intervals.learn(state.interval, row.interval, row.forecast, value, target, settings.publish.level)
        work.set(**changes)
        work.counts["truth.matched"] += 1
        if not conflated:
            self._give_feedback(work, feedback_for(row, state, settings), abs(mistake))
            work.events.append(self._outcome(work, row, "matched", (arrived - waiting.made_at).total_seconds()))
        self._drop_refuted(work)
        if not conflated:
            await self._rewrite_if_wanted(work)

    def _correct(self, work: _Work, old: Resolved, value: Value, note: str) -> None:
        """Another truth for the same prediction: ledger, feedback and exact scores follow; what fades is not rewound."""
        settings, state = self._settings, work.state
        conflated = "conflated" in old.flags
        flags = tuple(dict.fromkeys((*old.flags, "corrected")))
        mistake = scoring.error(old.forecast, value, self._matches)
        miss = surprise.is_miss(mistake, state.surprise, settings.target, settings.rewrite.factor)
        note = self._remark(old.forecast, value) or note or old.note
        row = old.model_copy(
            update={
                "truth": bounds.cut_value(value, settings.bounds),
                "note": bounds.cut_text(note, settings.bounds),
                "flags": flags,
                "miss": miss,
            }
        )
        scores = state.scores
        if not conflated and "hindsight" not in old.flags:
            scores = scoring.remove(scores, old, settings.target, self._matches)
            scores = scoring.add(scores, row, value, settings.target, self._matches, fading=None)
        feedback = feedback_for(row, state, settings)
        work.set(
            resolved=_in_place(state.resolved, row),
            scores=scores,
            feedback=tuple(feedback if f.seq == row.seq else f for f in state.feedback),
            touched_at=_later(state.touched_at, work.now),
        )
        if not conflated:
            work.events.append(self._outcome(work, row, "corrected", (work.now - row.made_at).total_seconds()))
        work.counts["truth.corrected"] += 1
        self._drop_refuted(work)

    def _remark(self, forecast: Answer, truth: Value) -> str:
        """What a checker says about an answer; its message becomes the feedback."""
        scorer = self._settings.target.scorer
        if self._settings.target.kind != "text" or not scorer.startswith(text_scoring.CHECKER):
            return ""
        return text_scoring.matches(str(forecast.value), str(truth), scorer).message

    def _give_feedback(self, work: _Work, feedback: Feedback, loss: float) -> None:
        state = work.state
        revisions = state.revisions
        if revisions and revisions[-1].memory.revision == state.memory.revision:
            current = revisions[-1]
            grown = current.model_copy(update={"outcomes": current.outcomes + 1, "loss": round(current.loss + loss, 6)})
            revisions = (*revisions[:-1], grown)
        work.set(feedback=(*state.feedback, feedback), revisions=revisions)

    def _outcome(self, work: _Work, row: Resolved, result: str, latency: float | None) -> Outcome:
        errors = {} if row.truth is None else scoring.errors(row, row.truth, self._matches)
        hit = None
        if row.truth is not None and isinstance(row.truth, str):
            hit = errors[scoring.PUBLISHED] == 0.0
        elif row.truth is not None and self._settings.target.hit_within is not None:
            hit = abs(errors[scoring.PUBLISHED]) <= self._settings.target.hit_within
        return Outcome(
            entity=work.state.entity,
            prediction_id=row.id,
            kind=self._settings.target.kind,
            time=row.time,
            target_time=row.target_time,
            truth=row.truth,
            forecast=row.forecast,
            model_answer=row.model_answer,
            interval=row.interval,
            source=row.source,
            result=result,
            errors=errors,
            hit=hit,
            verdict=row.verdict,
            note=row.note,
            verification_latency=None if latency is None else round(latency, 3),
            flags=row.flags,
            memory_revision=row.memory_revision,
            scores=scoring.view(work.state.scores, self._settings.target),
            resolved_at=work.now,
        )

    # -- without a truth

    def _row_without_truth(self, work: _Work, pending: Pending, **changes: object) -> Resolved:
        """Move a waiting prediction to the ledger's ring without a truth."""
        fields = {name: getattr(pending, name) for name in Resolved.model_fields if name in Pending.model_fields}
        row = Resolved(**{**fields, "seq": work.state.outcomes + 1, "result": "missing", **changes})
        work.set(
            pending=tuple(p for p in work.state.pending if p.id != pending.id),
            resolved=(*work.state.resolved, row),
            outcomes=row.seq,
            touched_at=_later(work.state.touched_at, work.now),
        )
        return row

    def _settle_without_truth(self, work: _Work, pending: Pending) -> None:
        row = self._row_without_truth(work, pending)
        if "conflated" not in row.flags:
            work.events.append(self._outcome(work, row, "missing", None))
        work.counts["truth.missing"] += 1

    async def _judge(self, work: _Work, pending: Pending) -> None:
        """Let the judge stand in for the truth; its verdict gives feedback and is never mixed with scores against truth."""
        judge = self._settings.judge
        judged = await self._asker.judge(pending.values, pending.model_answer or pending.forecast, criteria=judge.criteria)
        if judged.score is None:
            self._settle_without_truth(work, pending)
            return
        flags = tuple(dict.fromkeys((*pending.flags, "judged")))
        miss = judged.score < judge.passes_at
        row = self._row_without_truth(work, pending, result="judged", verdict=judged.score, flags=flags, miss=miss)
        work.set(surprise=surprise.learn(work.state.surprise, float(miss)))
        self._give_feedback(work, feedback_for(row, work.state, self._settings), float(miss))
        work.events.append(self._outcome(work, row, "judged", (work.now - row.made_at).total_seconds()))
        work.counts["truth.judged"] += 1
        await self._rewrite_if_wanted(work)

    async def due(self, state: EntityState, *, now: datetime, truths_read: bool) -> Step:
        """What the passing of time does: predictions expire, early truths become orphans, a wanted rewrite is tried again.

        Parameters
        ----------
        truths_read
            The truths were read up to the end they had when the deadline had passed. Only then does anything expire: after downtime the
            truths that came meanwhile are read first.
        """
        work = _Work(state, now)
        if truths_read:
            judged = False
            for pending in [p for p in state.pending if p.due is not None and p.due <= now]:
                if self._settings.truths.on_expiry == "judge" and "conflated" not in pending.flags:
                    # One call of the model a step; the rest stays due.
                    if not judged:
                        await self._judge(work, pending)
                    judged = True
                else:
                    self._settle_without_truth(work, pending)
            gone = [early for early in work.state.early if early.due <= now]
            if gone:
                work.set(early=tuple(early for early in work.state.early if early.due > now))
                work.events += [Orphan(early) for early in gone]
                work.counts["truth.orphan"] += len(gone)
        wanted = work.state.rewrite_wanted
        if wanted is not None and wanted <= now:
            if self._settings.rewrite.mode == "inline":
                await self._rewrite(work)
            elif self._request(work) is not None:
                # The shell asks; if nothing has come of it by then (a crash, a conflict), it asks again.
                work.set(rewrite_wanted=now + self._settings.model.rewrite_deadline)
        return self._finish(work) if work.events or work.state is not state else Step(state)

    # -- the memory

    def _drop_refuted(self, work: _Work) -> None:
        if work.state.frozen:
            return
        state, revision = rules.drop_refuted(work.state, self._settings, now=work.now)
        if revision is not None:
            work.state = state
            work.events.append(revision)
            work.counts["rewrite.rule-dropped"] += 1

    async def _rewrite_if_wanted(self, work: _Work) -> None:
        state = work.state
        backing_off = state.rewrite_failures > 0 and state.rewrite_wanted is not None and state.rewrite_wanted > work.now
        if backing_off or not rewriting.wants_rewrite(state, self._settings):
            return
        if self._settings.rewrite.mode == "inline":
            await self._rewrite(work)
        elif state.rewrite_wanted is None and self._request(work) is not None:
            work.set(rewrite_wanted=work.now)

    async def _rewrite(self, work: _Work) -> None:
        request = self._request(work)
        if request is not None:
            self._take(work, await self._asker.rewrite(request))

    def _request(self, work: _Work) -> RewriteRequest | None:
        """The question for a rewrite; where there is none to ask, it is not wanted any more."""
        request = None if work.state.frozen else rewriting.request_rewrite(work.state, self._settings, self._asker.counter)
        if request is None:
            work.set(rewrite_wanted=None)
        return request

    def propose(self, state: EntityState, *, now: datetime) -> RewriteRequest | None:
        """The rewrite that is wanted, to be asked outside of the entity's lane; None if there is nothing to ask. `due` comes after it."""
        if state.rewrite_wanted is None or state.rewrite_wanted > now:
            return None
        return self._request(_Work(state, now))

    async def ask(self, request: RewriteRequest) -> Proposal:
        """Ask the model for the rewrite; never raises for a model that fails, the proposal says so."""
        return await self._asker.rewrite(request)

    async def apply(self, state: EntityState, proposal: Proposal, *, now: datetime) -> Step:
        """Take a background proposal over, unless the memory has moved on since it was asked for: then it is asked for anew."""
        if state.frozen or state.forgotten or proposal.request.revision != state.memory.revision:
            return Step(state, (), {"rewrite.conflict": 1})
        work = _Work(state, now)
        self._take(work, proposal)
        return self._finish(work)

    def _take(self, work: _Work, proposal: Proposal) -> None:
        if proposal.parsed is None and proposal.call.error != AnswerInvalid.slug:
            # The model gave nothing. Feedback stays; the next try waits.
            self._back_off(work)
            return
        work.state, revision = rewriting.apply_proposal(work.state, proposal, self._settings, now=work.now)
        work.set(rewrite_failures=0)
        work.events.append(revision)
        work.counts["rewrite.accepted" if revision.accepted else "rewrite.rejected"] += 1

    def _back_off(self, work: _Work) -> None:
        failures = work.state.rewrite_failures + 1
        wait = min(BACKOFF * 2 ** min(failures - 1, 16), LONGEST_BACKOFF)
        work.set(rewrite_wanted=work.now + wait, rewrite_failures=failures)
        work.counts["rewrite.failed"] += 1

    # -- people

    async def command(self, state: EntityState, command: Command, *, now: datetime) -> Step:
        """Do what a person asked for, or refuse it with the reason; the answer is a `MemoryRevision` either way."""
        work = _Work(state, now)
        revision = self._refused(state, command, now) or await self._obey(work, command)
        work.events.append(revision)
        work.counts["command.applied" if revision.accepted else "command.refused"] += 1
        return self._finish(work)

    def _refused(self, state: EntityState, command: Command, now: datetime) -> MemoryRevision | None:
        reason = ""
        if state.forgotten:
            reason = "the entity was forgotten"
        elif command.revision is not None and command.revision != state.memory.revision:
            reason = f"the memory has moved on: it is at revision {state.memory.revision}, the command was made for {command.revision}"
        if not reason:
            return None
        return memory.refusal(state, cause="command", reason=reason, now=now, by=command.by, why=command.why)

    async def _obey(self, work: _Work, command: Command) -> MemoryRevision:
        state, said = work.state, {"by": command.by, "why": command.why}
        if command.op == "edit":
            work.state, revision = memory.edit(state, command, self._settings, now=work.now)
            return revision
        if command.op == "rollback":
            work.state, revision = memory.rollback(state, command, self._settings, now=work.now)
            return revision
        if command.op == "rewrite":
            if state.frozen:
                return memory.refusal(state, cause="command", reason="the entity is frozen", now=work.now, **said)
            request = self._request(work)
            if request is None:
                return memory.refusal(state, cause="command", reason="there is no feedback to rewrite from", now=work.now, **said)
            work.set(rewrite_wanted=work.now, rewrite_attempts=0, rewrite_failures=0)
            if self._settings.rewrite.mode == "inline":
                self._take(work, await self._asker.rewrite(request))
        elif command.op == "forget":
            # The number goes on, so that a rewrite that is under way finds the memory moved on.
            blank = Memory(revision=state.memory.revision + 1)
            work.state = EntityState(entity=state.entity, applied=state.applied, memory=blank, forgotten=True)
        elif command.op == "freeze":
            work.set(frozen=True, rewrite_wanted=None)
        else:
            work.set(frozen=False)
        text = memory.render(work.state.memory)
        return MemoryRevision(
            entity=state.entity,
            revision=work.state.memory.revision,
            cause="forget" if command.op == "forget" else "command",
            accepted=True,
            reason=command.op,
            before="" if command.op == "forget" else memory.render(state.memory),
            after=text,
            words=memory.words(work.state.memory),
            made_at=work.now,
            **said,
        )

    # -- the end of every step

    def _finish(self, work: _Work) -> Step:
        kept = bounds.bound(work.state, self._settings.bounds)
        work.counts.update(kept.counts)
        orphans = [Orphan(early) for early in kept.evicted]
        if orphans:
            work.counts["truth.orphan"] += len(orphans)
        return Step(kept.state, (*work.events, *orphans), dict(work.counts))


def _matcher(scorer: str) -> scoring.Matches:
    return lambda answer, truth: text_scoring.matches(answer, truth, scorer).hit


def _alive(state: EntityState) -> EntityState:
    """The state to go on from: a forgotten entity begins anew."""
    return EntityState(entity=state.entity, applied=state.applied, memory=state.memory) if state.forgotten else state


def _later(one: datetime | None, other: datetime) -> datetime:
    return other if one is None or other > one else one


def _in_place(rows: tuple[Resolved, ...], row: Resolved) -> tuple[Resolved, ...]:
    """Replace the row of the same sequence number."""
    return tuple(row if r.seq == row.seq else r for r in rows)
