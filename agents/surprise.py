"""What a usual error is, and what is a surprise.

The usual error is a running mean of the published forecast's absolute errors (for labels and texts: the share of misses) over
about the latest `SPAN` outcomes. It decides what counts as a hit where the settings name no size, and a rewrite's trigger compares with it.
"""

from __future__ import annotations

from schemas.settings import Settings
from schemas.state import Surprise

#: Outcomes the running mean looks back on. Shorter: every burst of errors becomes usual before it has triggered anything.
SPAN = 30
#: One error counts for at most so many usual ones, from `SETTLED` outcomes on: a single absurd truth must not make all errors usual.
CEILING = 8.0
SETTLED = 8


def update(surprise: Surprise, error: float) -> Surprise:
    """Take in one outcome's absolute error (target's unit; 0 or 1 for labels and texts).

    Examples
    --------
    >>> update(update(Surprise(), 2.0), 4.0).usual
    3.0
    """
    n = surprise.n + 1
    size = min(error, CEILING * surprise.usual) if surprise.n >= SETTLED and surprise.usual > 0 else error
    usual = surprise.usual + (size - surprise.usual) / min(n, SPAN)
    since = surprise.outcomes_since_rewrite + 1
    return Surprise(n=n, usual=round(usual, 9), outcomes_since_rewrite=since)


def is_hit(error: float, surprise: Surprise, settings: Settings) -> bool:
    """Whether a number's absolute error is a hit: within `target.hit_within`, or else within `rewrite.factor` times the usual error.

    Before the first outcome nothing is unusual.
    """
    if settings.target.hit_within is not None:
        return error <= settings.target.hit_within
    return surprise.n == 0 or error <= settings.rewrite.factor * surprise.usual
