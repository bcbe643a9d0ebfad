"""Which stored prediction a truth belongs to. Pure functions on an entity's state; nothing is changed here.

A truth names its prediction by the observation's id, or by a target time (the nearest one within `tolerance`, ties to the earlier);
or it is read off a later observation of the same entity. Predictions that already have a truth are candidates as well, so that
duplicates and corrections are told from orphans. The result depends on what has been predicted, not on the order of arrival, as
long as target times lie more than twice the tolerance apart.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from schemas.messages import ENTITY_LIMIT, Observation, Truth
from schemas.settings import Settings
from schemas.state import EarlyTruth, EntityState, Pending, Resolved


class ByObservation(NamedTuple):
    """What a later observation settles: predictions whose truth it carries, and those whose truth will not come any more."""

    answered: tuple[Pending | Resolved, ...]
    missing: tuple[Pending, ...]


def find(state: EntityState, identity: str) -> Pending | Resolved | None:
    """The prediction for an observation id, waiting or resolved."""
    for pending in state.pending:
        if pending.id == identity:
            return pending
    for row in reversed(state.resolved):
        if row.id == identity:
            return row
    return None


def is_repeated(state: EntityState, observation: Observation, digest: str) -> bool:
    """Whether this very observation, id and content, has been predicted: under its own id, or under the one that it was renamed to."""
    known = find(state, observation.id)
    if known is None:
        return False
    rows: tuple[Pending | Resolved, ...] = (*state.pending, *state.resolved)
    return known.digest == digest or any(row.digest == digest and _is_renamed(row.id, observation.id) for row in rows)


def renamed(identity: str, offset: int) -> str:
    """The id of other content under an id that is taken: that id, cut so that `#` and the record's offset fit.

    Examples
    --------
    >>> renamed("reading-7", 42)
    'reading-7#42'
    """
    suffix = f"#{offset}"
    return identity[: ENTITY_LIMIT - len(suffix)] + suffix


def match(state: EntityState, truth: Truth | EarlyTruth, tolerance: timedelta) -> Pending | Resolved | None:
    """The prediction that a truth belongs to; None if it has not been made (yet)."""
    if truth.observation_id is not None:
        return find(state, truth.observation_id)
    assert truth.target_time is not None
    return _nearest(state, truth.target_time, tolerance)


def waiting_for(state: EntityState, pending: Pending, tolerance: timedelta) -> tuple[EarlyTruth, ...]:
    """Early truths that belong to a prediction just made, in order of arrival. Look before the prediction is scored, after it is stored."""
    return tuple(early for early in state.early if match(state, early, tolerance) is pending)


def is_waiting(state: EntityState, truth: EarlyTruth, tolerance: timedelta) -> bool:
    """Whether the newest early truth that may mean the same prediction says the very same.

    A truth that was corrected in between is none: it corrects back. Named by times, two truths less than twice the tolerance apart may both
    be nearest to one prediction in between; so where target times lie closer than four times the tolerance, a repeated truth may wait
    twice and is known as a duplicate only when it is matched.
    """
    for early in reversed(state.early):
        if truth.observation_id is not None:
            related = early.observation_id == truth.observation_id
        else:
            apart = None if early.target_time is None or truth.target_time is None else abs(early.target_time - truth.target_time)
            related = early.observation_id is None and apart is not None and apart <= 2 * tolerance
        if related:
            return early.target_time == truth.target_time and early.value == truth.value
    return False


def by_observation(state: EntityState, observation: Observation, settings: Settings) -> ByObservation:
    """What an observation that carries the target's value settles (`truths.source = "next-observation"`).

    With a duration as horizon: the prediction nearest to that moment within the tolerance, and as `missing` those whose moment lies
    further back. With `next`: the predictions made for the entity's last observation before this one; after a gap above
    `truths.max_gap` they are missing instead.
    """
    horizon, truths = settings.target.horizon, settings.truths
    if isinstance(horizon, timedelta):
        hit = _nearest(state, observation.time, truths.tolerance)
        if isinstance(hit, Resolved) and hit.truth is not None and hit.target_time != observation.time:
            # Read off an observation at least as near; only another reading of the very moment corrects it.
            hit = None
        newest = state.newest is None or observation.time >= state.newest
        behind = [p for p in state.pending if newest and p.target_time is not None and p.target_time + truths.tolerance < observation.time]
        return ByObservation(() if hit is None else (hit,), tuple(p for p in behind if p is not hit))
    before = [p for p in state.pending if p.time < observation.time]
    if not before:
        return ByObservation((), ())
    last = max(p.time for p in before)
    gap = truths.max_gap is not None and observation.time - last > truths.max_gap
    if state.newest is not None and observation.time < state.newest:
        # An old reading that came late: it is the next one only for predictions made between it and its successor, and those were
        # answered by the successor already.
        return ByObservation((), ())
    current = tuple(p for p in before if p.time == last)
    older = tuple(p for p in before if p.time < last)
    return ByObservation((), (*older, *current)) if gap else ByObservation(current, older)


def _nearest(state: EntityState, time: datetime, tolerance: timedelta) -> Pending | Resolved | None:
    """The prediction nearest to a moment, ties to the earlier target, and of one target to the prediction made first."""
    best: tuple[timedelta, datetime, datetime] | None = None
    found: Pending | Resolved | None = None
    # Resolved ones come first: a second truth finds the prediction that the first one found.
    rows: tuple[Pending | Resolved, ...] = (*state.resolved, *state.pending)
    for row in rows:
        if row.target_time is None:
            continue
        distance = abs(row.target_time - time)
        rank = (distance, row.target_time, row.made_at)
        if distance <= tolerance and (best is None or rank < best):
            best, found = rank, row
    return found


def _is_renamed(name: str, identity: str) -> bool:
    tail = name.rpartition("#")[2]
    return tail.isdecimal() and name == renamed(identity, int(tail))
