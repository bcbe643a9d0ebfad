"""The join of truths with predictions: which prediction a truth belongs to, and what waits for which.

A truth names an observation by id, or a moment by target time: then the prediction with the nearest target time within
`truths.tolerance` is meant, ties go to the earlier target, and of equal targets to the prediction made first. What is already resolved is a
candidate like what is pending, so that a second truth finds the prediction that the first one found, whatever came between; this is why the
order in which observations and truths arrive does not matter (as long as the tolerance is below half the distance of two targets).

A truth before its observation waits in the early buffer (`hold`) until the observation comes (`claims`) or its waiting time is over
(`orphaned`). With `truths.source = "next-observation"` the entity's own observations are the truths (`match_next`).

Everything here is a function of the state; nothing is scored or learned.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from schemas.messages import Observation, Truth, Value
from schemas.settings import Settings, TargetSettings
from schemas.state import EarlyTruth, EntityState, Pending, Resolved


class Match(NamedTuple):
    """Where a prediction stands: `index` into `state.pending` or `state.resolved`."""

    kind: Literal["pending", "resolved"]
    index: int


class NextMatches(NamedTuple):
    """What one observation says about earlier predictions, as positions in the state it was matched on."""

    truths: tuple[Match, ...]
    missing: tuple[int, ...]


class Claims(NamedTuple):
    """Early truths of one prediction in order of arrival, and those that go on waiting."""

    own: tuple[EarlyTruth, ...]
    rest: tuple[EarlyTruth, ...]


def match(state: EntityState, truth: Truth | EarlyTruth, tolerance: timedelta) -> Match | None:
    """The prediction that a truth belongs to; None where there is none (yet).

    A truth with an observation's id is matched by that alone.
    """
    if truth.observation_id is not None:
        return _by_id(state, truth.observation_id)
    assert truth.target_time is not None, "the message's schema asks for one of the two"
    return _by_time(state, truth.target_time, tolerance)


def match_next(state: EntityState, time: datetime, settings: Settings) -> NextMatches:
    """What an observation at `time`, which holds the target's field, is the truth of.

    With `horizon = "next"` it is the truth of every prediction made before it that has none, unless the gap is above
    `truths.max_gap`: then the truth is missing. An observation that comes late, between two others, replaces the later one as
    what was "next".

    With a duration as horizon it is the truth of the prediction with the nearest target time within `truths.tolerance` (ties to
    the earlier), and of every earlier target that is still within it: no later observation can lie nearer to those. Targets left
    behind beyond the tolerance are missing.
    """
    if isinstance(settings.target.horizon, timedelta):
        return _next_at(state, time, settings.truths.tolerance)
    return _next_after(state, time, settings.truths.max_gap)


def claims(state: EntityState, prediction: Pending, tolerance: timedelta) -> Claims:
    """The early truths that a new prediction has been waited for with."""
    own: list[EarlyTruth] = []
    rest: list[EarlyTruth] = []
    for truth in state.early:
        if truth.observation_id is not None:
            belongs = truth.observation_id == prediction.id
        else:
            belongs = _distance(prediction.target_time, truth.target_time, tolerance) is not None
        (own if belongs else rest).append(truth)
    return Claims(tuple(own), tuple(rest))


def hold(state: EntityState, truth: EarlyTruth) -> EntityState | None:
    """Let a truth wait for its observation; None where the newest one waiting for the same prediction says the same."""
    for other in reversed(state.early):
        if other.observation_id == truth.observation_id and (truth.observation_id is not None or other.target_time == truth.target_time):
            if other.value == truth.value:
                return None
            break
    return state.model_copy(update={"early": (*state.early, truth)})


def orphaned(state: EntityState, now: datetime) -> Claims:
    """Early truths whose waiting time is over, as `own`, and the others."""
    return Claims(
        tuple(truth for truth in state.early if truth.due <= now), tuple(truth for truth in state.early if truth.due > now)
    )


def expired(state: EntityState, now: datetime) -> tuple[str, ...]:
    """Ids of pending predictions whose deadline has passed."""
    return tuple(pending.id for pending in state.pending if pending.due is not None and pending.due <= now)


def same_observation(state: EntityState, observation: Observation, digest: str) -> bool:
    """Whether this very observation, id and content, is known: under its own id or under one it was renamed to."""
    return any(row.digest == digest and _is_name_of(row.id, observation.id) for row in _rows(state))


def is_taken(state: EntityState, identity: str) -> bool:
    """Whether a prediction of that id is known."""
    return _by_id(state, identity) is not None


def renamed(identity: str, offset: int, limit: int) -> str:
    """A new id for other content under a taken id: its own, cut so that `#` and the record's offset fit.

    Examples
    --------
    >>> renamed("reading-7", 42, 256)
    'reading-7#42'
    """
    suffix = f"#{offset}"
    return identity[: limit - len(suffix)] + suffix


def target_value(observation: Observation, target: TargetSettings) -> Value | None:
    """The target's value that an observation carries, if it carries one of the right type."""
    value = observation.values.get(target.field)
    if target.kind == "number":
        return None if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
    return value if isinstance(value, str) and (target.kind == "text" or value in target.labels) else None


def known_at(row: Pending | Resolved) -> datetime:
    """The moment that a row's truth is about; for `horizon = "next"` before it is known, the observation's own time."""
    return row.target_time if row.target_time is not None else row.time


def _rows(state: EntityState) -> Iterable[Pending | Resolved]:
    yield from reversed(state.pending)
    yield from reversed(state.resolved)


def _is_name_of(name: str, identity: str) -> bool:
    if name == identity:
        return True
    head, mark, tail = name.rpartition("#")
    return bool(mark) and tail.isdigit() and identity.startswith(head) and (head == identity or len(identity) > len(head) + len(tail))


def _by_id(state: EntityState, identity: str) -> Match | None:
    for index in range(len(state.pending) - 1, -1, -1):
        if state.pending[index].id == identity:
            return Match("pending", index)
    for index in range(len(state.resolved) - 1, -1, -1):
        if state.resolved[index].id == identity:
            return Match("resolved", index)
    return None


def _by_time(state: EntityState, time: datetime, tolerance: timedelta) -> Match | None:
    best: tuple[timedelta, datetime, datetime, int] | None = None
    found: Match | None = None
    # Of two predictions of one moment the resolved one was there first: a truth goes to the first of them and to no other.
    for rank, (kind, rows) in enumerate((("resolved", state.resolved), ("pending", state.pending))):
        for index, row in enumerate(rows):
            distance = _distance(row.target_time, time, tolerance)
            if distance is None or row.target_time is None:
                continue
            order = (distance, row.target_time, row.made_at, rank)
            if best is None or order < best:
                best, found = order, Match(kind, index)  # type: ignore[arg-type]
    return found


def _distance(target: datetime | None, time: datetime | None, tolerance: timedelta) -> timedelta | None:
    if target is None or time is None:
        return None
    distance = abs(target - time)
    return distance if distance <= tolerance else None


def _next_at(state: EntityState, time: datetime, tolerance: timedelta) -> NextMatches:
    near: list[tuple[timedelta, datetime, Match]] = []
    for kind, rows in (("resolved", state.resolved), ("pending", state.pending)):
        for index, row in enumerate(rows):
            if isinstance(row, Resolved) and row.truth is not None:
                continue
            distance = _distance(row.target_time, time, tolerance)
            if distance is not None and row.target_time is not None:
                near.append((distance, row.target_time, Match(kind, index)))  # type: ignore[arg-type]
    nearest = min(near, key=lambda item: item[:2], default=None)
    truths = tuple(place for _, target, place in near if nearest is not None and target <= nearest[1])
    missing = tuple(
        index for index, row in enumerate(state.pending) if row.target_time is not None and row.target_time < time - tolerance
    )
    return NextMatches(truths, missing)


def _next_after(state: EntityState, time: datetime, max_gap: timedelta | None) -> NextMatches:
    truths: list[Match] = []
    missing: list[int] = []
    for index, row in enumerate(state.resolved):
        if row.time >= time or (max_gap is not None and time - row.time > max_gap):
            continue
        if row.truth is None or (row.target_time is not None and row.target_time > time):
            truths.append(Match("resolved", index))
    for index, pending in enumerate(state.pending):
        if pending.time >= time:
            continue
        if max_gap is not None and time - pending.time > max_gap:
            missing.append(index)
        else:
            truths.append(Match("pending", index))
    return NextMatches(tuple(truths), tuple(missing))
