"""What a usual error is, so that an unusual one can be told: a miss for labels and texts, an outsize error for numbers."""

from __future__ import annotations

from schemas.settings import TargetSettings
from schemas.state import Surprise

#: Weight of the newest error in the usual size; about the last ten count.
WEIGHT = 0.15
#: Outcomes before anything can be unusual.
SETTLED = 3
#: One error counts for at most so many usual ones: a sentinel such as -9999 among the truths must not make every error usual for weeks.
CEILING = 8.0


def is_miss(error: float, surprise: Surprise, target: TargetSettings, factor: float) -> bool:
    """Whether an error (target's unit; 0 or 1 for labels) is a miss.

    For numbers: beyond `target.hit_within`, or without it `factor` times the usual absolute error.

    Examples
    --------
    >>> is_miss(3.0, Surprise(n=9, usual=1.0), TargetSettings(), 1.5)
    True
    """
    if target.kind != "number":
        return error != 0.0
    if target.hit_within is not None:
        return abs(error) > target.hit_within
    return surprise.n >= SETTLED and abs(error) > factor * surprise.usual


def learn(surprise: Surprise, error: float) -> Surprise:
    """Take in one outcome's error of the published forecast."""
    size = abs(error)
    if surprise.n >= SETTLED and surprise.usual > 0:
        size = min(size, CEILING * surprise.usual)
    # The plain mean until it is settled, so that the first errors do not linger.
    weight = max(WEIGHT, 1.0 / (surprise.n + 1))
    usual = round((1.0 - weight) * surprise.usual + weight * size, 6)
    return Surprise(n=surprise.n + 1, usual=usual, outcomes_since_rewrite=surprise.outcomes_since_rewrite + 1)
