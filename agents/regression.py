"""Taking a free text back that forecasts worse than the text before it: later outcomes are the only judges a text has.

A whole page that a model writes anew is well-formed and wrong more often than code can see, and what is wrong in it is copied on from
revision to revision (research: error propagation). So the outcomes forecast with the latest texts are compared with those forecast with
the texts before; where they are worse beyond chance, the memory goes back. The evidence form needs none of it: each of its rules is
measured by itself.

What is compared
    The model's own answers, by the revision that was *read* for them, whenever their truths came. Never the published mixture, which
    covers for a bad text, and nothing forecast in hindsight or stale.
When
    Once 4, 8, 16, 32 outcomes are in since a revision: looks, each with its share of `ALPHA`, so that at most `ALPHA` of the revisions
    give a false alarm however long the texts after them stand.
How
    The exact one-sided rank test (Wilcoxon, Mann, Whitney; ties by mid-ranks): for hits and misses that is Fisher's. It asks nothing of
    how errors are distributed, and a sentinel among the truths is one rank. A stream that has become harder makes every text worse: as long
    as the last value's errors rose by half as much or more, the texts are not blamed.
What is never done
    A person's edit and a rollback are not taken back, so there is no way back and forth between two texts; and a text that was taken back
    is not let in again while it is kept.

References: Mann, Whitney (1947), Annals of Mathematical Statistics 18:50-60; arXiv 2505.16067 (later outcomes as labels of memory).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import comb

from agents.experts import PERSISTENCE
from agents.guards import same
from agents.memory import FORMS, empty, revise
from agents.scoring import difference
from agents.surprise import CEILING
from schemas.messages import MemoryRevision, Value
from schemas.settings import Settings
from schemas.state import EntityState, Memory, Resolved, Revision, Statement

#: Share of revisions that may be gone back to although what came after is no worse. A false alarm costs some outcomes' lessons.
ALPHA = 0.05
#: Outcomes on either side below which nothing is compared: of 4 against 4 the clearest case has p = 1/70.
FEWEST = 4
#: Outcomes before that are looked back on: what came earlier says little about the text that stood last, and the exact test stays cheap.
BEFORE = 16
#: Outcomes under the later texts at which they are looked at.
LOOKS = (4, 8, 16, 32)
#: Flags of forecasts that say nothing about a text.
_APART = frozenset({"hindsight", "stale", "conflated"})

Sections = Mapping[str, tuple[Statement, ...]]


@dataclass(frozen=True, slots=True)
class Regression:
    """Texts that do worse than what they replaced.

    Attributes
    ----------
    last_good
        The revision whose text comes back.
    sections
        That text.
    p_value
        Of the rank test.
    reason
        For the audit log, with the figures.
    """

    last_good: int
    sections: Sections
    p_value: float
    reason: str


def regression(state: EntityState, settings: Settings) -> Regression | None:
    """The clearest case for going back, or None. Only revisions that are still kept can come back, or the blank memory they began from."""
    if settings.memory.form != "free-text" or state.frozen:
        return None
    rows = [row for row in state.resolved if row.result == "matched" and row.model_answer is not None and not _APART & set(row.flags)]
    found = [worse for good, first in _boundaries(state, settings) if (worse := _compare(rows, good, first, state, settings)) is not None]
    return min(found, key=lambda one: one.p_value, default=None)


def take_back(state: EntityState, worse: Regression, *, now: datetime) -> tuple[EntityState, MemoryRevision]:
    """Put the earlier text in place again, as a new revision.

    The outcomes that waited for a rewrite are what spoke against the text; they go with it, so that the model is not asked at once to write
    the same again, and the text that came back has outcomes of its own before it is rewritten. Ledger and scores keep them all.
    """
    revised, entry = revise(state, worse.sections, cause="rollback", now=now, reason=worse.reason)
    surprise = state.surprise.model_copy(update={"outcomes_since_rewrite": 0})
    cleared = {"feedback": (), "folded": type(state.folded)(), "surprise": surprise}
    return revised.model_copy(update={**cleared, "rewrite_wanted": None, "rewrite_attempts": 0}), entry


def was_taken_back(state: EntityState, page: Memory) -> bool:
    """Whether a page says nearly the same as one that was rolled back from and is still kept."""
    return any(_alike(page.sections, gone.memory.sections) for gone in _taken_back(state.revisions))


def rank_test(before: Sequence[float], after: Sequence[float]) -> float:
    """The chance that `after` ranks as high or higher among both if order meant nothing: exact, ties by mid-ranks.

    Examples
    --------
    >>> round(rank_test([0, 0, 0, 0], [1, 1, 1, 1]), 4), rank_test([1, 1], [1, 1]), round(rank_test([0.2, 0.3, 0.1], [0.15, 0.4]), 1)
    (0.0143, 1.0, 0.4)
    """
    everything = sorted([*before, *after])
    # Twice the mid-rank, a whole number.
    rank = {value: 2 * everything.index(value) + everything.count(value) + 1 for value in set(everything)}
    observed = sum(rank[value] for value in before)
    ways: list[dict[int, int]] = [{0: 1}, *({} for _ in before)]
    for value in everything:
        for size in range(len(before), 0, -1):
            for total, count in ways[size - 1].items():
                ways[size][total + rank[value]] = ways[size].get(total + rank[value], 0) + count
    as_low = sum(count for total, count in ways[-1].items() if total <= observed)
    return as_low / comb(len(everything), len(before))


def _boundaries(state: EntityState, settings: Settings) -> Iterator[tuple[Revision | None, int]]:
    """Revisions that everything after may be taken back to (None: the blank memory), newest first, each with where its own era began."""
    kept = state.revisions
    if not kept or kept[-1].memory.revision != state.memory.revision:
        return
    for place in range(len(kept) - 1, -1, -1):
        if kept[place].cause != "feedback":
            return
        earlier = kept[:place]
        if not earlier:
            if kept[0].memory.revision == 1:
                yield None, 0
            return
        if set(earlier[-1].memory.sections) <= set(FORMS[settings.memory.form]):
            begun = next((past.memory.revision for past in reversed(earlier) if past.cause != "feedback"), 0)
            yield earlier[-1], begun


def _compare(rows: Sequence[Resolved], good: Revision | None, first: int, state: EntityState, settings: Settings) -> Regression | None:
    boundary = good.memory.revision if good is not None else 0
    before = [row for row in rows if first <= row.memory_revision <= boundary][-BEFORE:]
    after = [row for row in rows if row.memory_revision > boundary]
    if len(before) < FEWEST or len(after) not in LOOKS:
        return None
    usual = state.surprise.usual if settings.target.kind == "number" else 1.0
    old, new = [_loss(row) for row in before], [_loss(row) for row in after]
    rise = _mean(new, usual) - _mean(old, usual)
    p_value = rank_test(old, new)
    if rise <= 0 or p_value > ALPHA / 2 ** (1 + LOOKS.index(len(after))):
        return None
    naive = _mean(_naive(after), usual) - _mean(_naive(before), usual)
    if naive >= rise / 2:
        return None
    reason = f"revision{'s' if boundary + 1 < state.memory.revision else ''} after {boundary} forecast worse: "
    reason += f"{_said(new, usual, settings)}, against {_said(old, usual, settings)} up to it (exact rank test, p = {p_value:.2g})"
    return Regression(boundary, good.memory.sections if good is not None else empty(settings).sections, p_value, reason)


def _loss(row: Resolved) -> float:
    """What the model's own answer missed by."""
    if row.model_answer is None or row.truth is None:
        raise ValueError(f"outcome {row.seq} has no answer of the model, or no truth")
    if isinstance(row.truth, str) and row.model_answer.value == row.forecast.value:
        return float(row.miss)  # as the target's scorer compares texts
    return _missed(row.truth, row.model_answer.value)


def _missed(truth: Value, answer: Value) -> float:
    if isinstance(truth, str) or isinstance(answer, str):
        return float(truth != answer)
    return abs(difference(truth, answer))


def _naive(rows: Iterable[Resolved]) -> list[float]:
    return [_missed(row.truth, row.experts[PERSISTENCE]) for row in rows if row.truth is not None and PERSISTENCE in row.experts]


def _mean(losses: Sequence[float], usual: float) -> float:
    """Mean loss in usual errors, one error counting for at most `CEILING` of them; 0 of nothing."""
    if not losses:
        return 0.0
    scale = usual or 1.0
    return sum(min(loss / scale, CEILING) for loss in losses) / len(losses)


def _said(losses: Sequence[float], usual: float, settings: Settings) -> str:
    if settings.target.kind != "number":
        return f"{sum(losses):.0f} of {len(losses)} missed"
    return f"mean error {_mean(losses, usual):.2f} usual errors in {len(losses)}"


def _taken_back(kept: Sequence[Revision]) -> Iterator[Revision]:
    """Kept revisions that a rollback went back behind: what stands between it and the text that it brought back."""
    for place, revision in enumerate(kept):
        if revision.cause != "rollback":
            continue
        for past in reversed(kept[:place]):
            if past.memory.sections == revision.memory.sections:
                break
            yield past


def _alike(one: Sections, other: Sections) -> bool:
    here, there = ([statement.text for statements in sections.values() for statement in statements] for sections in (one, other))
    return len(here) == len(there) and bool(here) and all(any(same(text, held) for held in there) for text in here)
