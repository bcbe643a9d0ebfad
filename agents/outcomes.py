"""What comes of a stored prediction: it meets its truth, another truth, a judge's verdict, or none.

Scoring, feedback and the published `Outcome` in one place; whether the memory is rewritten upon it is `agents.revising`'s. Scores, weights
and intervals learn from a truth once: what fades is not rewound by a correction.
"""

from __future__ import annotations

from datetime import datetime

from agents import bounds, intervals, mixture, scoring, surprise, text_scoring
from agents.feedback import feedback_for
from agents.step import Work, later
from schemas.messages import Answer, Outcome, Value
from schemas.settings import Settings
from schemas.state import Feedback, Pending, Resolved


class Outcomes:
    """Settles predictions; holds settings only.

    Raises
    ------
    CheckerMissing
        `target.scorer` names a checker that cannot be loaded; at start, not at the first truth.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        scorer = settings.target.scorer if settings.target.kind == "text" else "exact"
        self._checker = scorer if scorer.startswith(text_scoring.CHECKER) else ""
        if self._checker:
            text_scoring.load_checker(scorer)
        # A judge scores by verdict; against a given truth its texts are compared as `normalised`.
        self._matches = _matcher("normalised" if scorer == "judge" else scorer)

    def resolve(
        self, work: Work, waiting: Pending | Resolved, value: Value, note: str, *, arrived: datetime, learned_at: datetime | None
    ) -> None:
        """A prediction meets its truth: one that waits, or one that had expired or been judged before its truth came.

        Parameters
        ----------
        arrived
            When the truth came.
        learned_at
            The moment that it is the truth of, where the prediction itself names none.
        """
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
            "learned_to": later(state.learned_to, target_time),
            "touched_at": later(state.touched_at, work.now),
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
            # Worded by what was usual before this outcome.
            _give(work, feedback_for(row, state, settings), abs(mistake))
            work.events.append(self._message(work, row, "matched", (arrived - waiting.made_at).total_seconds()))

    def correct(self, work: Work, old: Resolved, value: Value, note: str) -> None:
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
            resolved=tuple(row if r.seq == row.seq else r for r in state.resolved),
            scores=scores,
            feedback=tuple(feedback if f.seq == row.seq else f for f in state.feedback),
            touched_at=later(state.touched_at, work.now),
        )
        if not conflated:
            work.events.append(self._message(work, row, "corrected", (work.now - row.made_at).total_seconds()))
        work.counts["truth.corrected"] += 1

    def settle(self, work: Work, pending: Pending) -> None:
        """No truth came, and none is waited for any more."""
        row = _without_truth(work, pending)
        if "conflated" not in row.flags:
            work.events.append(self._message(work, row, "missing", None))
        work.counts["truth.missing"] += 1

    def judge(self, work: Work, pending: Pending, score: float) -> None:
        """A judge's verdict (0 to 1) stands in for the truth; it gives feedback and is never mixed with scores against truth."""
        flags = tuple(dict.fromkeys((*pending.flags, "judged")))
        miss = score < self._settings.judge.passes_at
        row = _without_truth(work, pending, result="judged", verdict=score, flags=flags, miss=miss)
        work.set(surprise=surprise.learn(work.state.surprise, float(miss)))
        _give(work, feedback_for(row, work.state, self._settings), float(miss))
        work.events.append(self._message(work, row, "judged", (work.now - row.made_at).total_seconds()))
        work.counts["truth.judged"] += 1

    def _remark(self, forecast: Answer, truth: Value) -> str:
        """What a checker says about an answer; its message becomes the feedback."""
        return text_scoring.matches(str(forecast.value), str(truth), self._checker).message if self._checker else ""

    def _message(self, work: Work, row: Resolved, result: str, latency: float | None) -> Outcome:
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


def _matcher(scorer: str) -> scoring.Matches:
    return lambda answer, truth: text_scoring.matches(answer, truth, scorer).hit


def _without_truth(work: Work, pending: Pending, **changes: object) -> Resolved:
    """Move a waiting prediction to the ledger's ring without a truth."""
    fields = {name: getattr(pending, name) for name in Resolved.model_fields if name in Pending.model_fields}
    row = Resolved(**{**fields, "seq": work.state.outcomes + 1, "result": "missing", **changes})
    work.set(
        pending=tuple(p for p in work.state.pending if p.id != pending.id),
        resolved=(*work.state.resolved, row),
        outcomes=row.seq,
        touched_at=later(work.state.touched_at, work.now),
    )
    return row


def _give(work: Work, feedback: Feedback, loss: float) -> None:
    """Let an outcome wait for the next rewrite, and charge its loss to the memory that stands."""
    revisions = work.state.revisions
    if revisions and revisions[-1].memory.revision == work.state.memory.revision:
        current = revisions[-1]
        grown = current.model_copy(update={"outcomes": current.outcomes + 1, "loss": round(current.loss + loss, 6)})
        revisions = (*revisions[:-1], grown)
    work.set(feedback=(*work.state.feedback, feedback), revisions=revisions)
