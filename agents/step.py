"""One step of an entity: what an input, a command or the passing of time led to, and the step while it is being made.

Everything that the forecaster is made of takes a `Work`, changes its state and adds events and counts to it; nothing else is passed on
from one part to the next. `Work.finish` bounds the state and closes the step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from agents import bounds
from schemas.messages import MemoryRevision, Outcome, Prediction
from schemas.settings import BoundSettings
from schemas.state import EarlyTruth, EntityState


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
class Work:
    """A step in the making: the state so far, the only clock, and what is to be published and counted."""

    state: EntityState
    now: datetime
    events: list[Event] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def set(self, **changes: object) -> None:
        """Go on from the state with these fields changed."""
        self.state = self.state.model_copy(update=changes)

    def finish(self, limits: BoundSettings) -> Step:
        """Bound the state and close the step; early truths that fall out are orphans."""
        kept = bounds.bound(self.state, limits)
        self.counts.update(kept.counts)
        orphans = [Orphan(early) for early in kept.evicted]
        if orphans:
            self.counts["truth.orphan"] += len(orphans)
        return Step(kept.state, (*self.events, *orphans), dict(self.counts))


def later(one: datetime | None, other: datetime) -> datetime:
    """The later of two moments, the first of which may be none."""
    return other if one is None or other > one else one
