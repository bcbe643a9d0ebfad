"""When an entity's memory is rewritten: upon an outcome, in its own time, in the background, or once more after a failure.

What is asked and what of the answer stands is `agents.rewriting`'s. A model that gives nothing costs no feedback: the next try waits, a
minute at first and an hour at most; always a minute where it was not asked at all, because too much waits for it or it is away. What is
frozen is neither rewritten, nor taken back, nor relieved of a rule.
"""

from __future__ import annotations

from datetime import timedelta

from agents import regression, regrounding, rewriting, rules
from agents.asking import Asker
from agents.errors import NOT_ASKED, AnswerInvalid
from agents.rewriting import Proposal, RewriteRequest
from agents.step import Work
from schemas.settings import Settings

#: Wait before a rewrite that failed is tried again; doubled each time, up to the second.
BACKOFF, LONGEST_BACKOFF = timedelta(minutes=1), timedelta(hours=1)


class Reviser:
    """Rewrites memories when it is time to; holds no state of its own."""

    def __init__(self, settings: Settings, asker: Asker) -> None:
        self._settings = settings
        self._asker = asker

    def drop_refuted(self, work: Work) -> None:
        """Let code drop the rules and the sentences that the newest outcomes refute."""
        if work.state.frozen:
            return
        for drop in (rules.drop_refuted, regrounding.drop_refuted):
            state, revision = drop(work.state, self._settings, now=work.now)
            if revision is not None:
                work.state = state
                work.events.append(revision)
                work.counts["rewrite.rule-dropped"] += 1

    async def after_outcome(self, work: Work) -> None:
        """Rewrite, or have it wanted, if the policy says so; or take a text back that does worse than the one before it."""
        if self._take_back(work):
            return
        state = work.state
        backing_off = state.rewrite_wanted is not None and state.rewrite_wanted > work.now
        if backing_off or not rewriting.wants_rewrite(state, self._settings):
            return
        if self._settings.rewrite.mode == "inline":
            await self._rewrite(work)
        elif state.rewrite_wanted is None and self.request(work) is not None:
            work.set(rewrite_wanted=work.now)

    async def when_due(self, work: Work) -> None:
        """Try a wanted rewrite whose time has come."""
        wanted = work.state.rewrite_wanted
        if wanted is None or wanted > work.now:
            return
        if self._settings.rewrite.mode == "inline":
            await self._rewrite(work)
        elif self.request(work) is not None:
            # The shell asks; if nothing has come of it by then (a crash, a conflict), it asks again.
            work.set(rewrite_wanted=work.now + self._settings.model.rewrite_deadline)

    async def at_once(self, work: Work) -> str:
        """Rewrite whatever the policy says: `inline` here and now, `background` as the next thing that is due.

        Returns
        -------
        str
            Why not; empty if it was done or is wanted from now on.
        """
        if work.state.frozen:
            return "the entity is frozen"
        request = self.request(work)
        if request is None:
            return "there is no feedback to rewrite from"
        work.set(rewrite_wanted=work.now, rewrite_attempts=0, rewrite_failures=0)
        if self._settings.rewrite.mode == "inline":
            self.take(work, await self._asker.rewrite(request))
        return ""

    def request(self, work: Work) -> RewriteRequest | None:
        """The question for a rewrite; where there is none to ask, it is not wanted any more."""
        request = None if work.state.frozen else rewriting.request_rewrite(work.state, self._settings, self._asker.counter)
        if request is None:
            work.set(rewrite_wanted=None)
        return request

    def take(self, work: Work, proposal: Proposal) -> None:
        """Make the next revision of a proposal, or record why not."""
        if proposal.parsed is None and proposal.call.error != AnswerInvalid.slug:
            # The model gave nothing. Feedback stays; the next try waits.
            self._back_off(work, asked=proposal.call.error not in NOT_ASKED)
            return
        work.state, revision = rewriting.apply_proposal(work.state, proposal, self._settings, now=work.now)
        work.set(rewrite_failures=0)
        work.events.append(revision)
        work.counts["rewrite.accepted" if revision.accepted else "rewrite.rejected"] += 1

    def _take_back(self, work: Work) -> bool:
        """Whether the outcomes say that the memory is to go back to an earlier text, and it went."""
        worse = regression.regression(work.state, self._settings)
        if worse is None:
            return False
        work.state, entry = regression.take_back(work.state, worse, now=work.now)
        work.events.append(entry)
        work.counts["rewrite.taken-back"] += 1
        return True

    async def _rewrite(self, work: Work) -> None:
        request = self.request(work)
        if request is not None:
            self.take(work, await self._asker.rewrite(request))

    def _back_off(self, work: Work, *, asked: bool) -> None:
        if not asked:
            work.set(rewrite_wanted=work.now + BACKOFF)
            work.counts["rewrite.shed"] += 1
            return
        failures = work.state.rewrite_failures + 1
        wait = min(BACKOFF * 2 ** min(failures - 1, 16), LONGEST_BACKOFF)
        work.set(rewrite_wanted=work.now + wait, rewrite_failures=failures)
        work.counts["rewrite.failed"] += 1
