"""Which of the server's faults is on, and when: each several times, in an order of chance, with quiet in between.

A schedule is a function of its numbers and its chance. Times are seconds since the load began.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.emulator.faults import Fault

#: Faults with the share of calls that meet them. Hanging and dripping calls hold a slot for long, so a part of them slows down all; where
#: every call fails, what is tried is the breaker instead.
SHARES: tuple[tuple[Fault, float], ...] = (
    (Fault.BUSY, 0.5),
    (Fault.HANG, 0.3),
    (Fault.RESET, 1.0),
    (Fault.HALF_BODY, 0.5),
    (Fault.WRONG_SCHEMA, 1.0),
    (Fault.DRIP, 0.5),
)
#: Seconds in which each comes once; in a shorter run it comes once too.
ROUND = 600.0
#: Length of a phase as a share of the time from its begin to the next one's.
SHORTEST, LONGEST = 0.25, 0.4
#: Shares of the run: the outage begins; it must be over, so that there is time to come back.
OUTAGE_FROM, OUTAGE_UNTIL = 1 / 3, 5 / 6


@dataclass(frozen=True, slots=True)
class Phase:
    """A time in which a share of the calls meets a fault. `outage`: the long one, which all calls meet, questions included."""

    begin: float
    end: float
    fault: Fault
    share: float = 1.0
    outage: bool = False

    def covers(self, at: float) -> bool:
        return self.begin <= at < self.end


def plan(seconds: float, chance: random.Random, outage: float = 0.0) -> list[Phase]:
    """Every phase of a run, in their order; none overlaps another.

    Parameters
    ----------
    seconds
        Length of the run.
    outage
        Seconds of the long outage, in whose place other faults are left out; 0: there is none.

    Raises
    ------
    ValueError
        The outage would leave no time to come back.
    """
    began = seconds * OUTAGE_FROM
    long = [Phase(began, began + outage, Fault.HANG, outage=True)] if outage else []
    if outage and long[0].end > seconds * OUTAGE_UNTIL:
        raise ValueError(f"an outage of {outage:.0f} s takes a run of at least {outage / (OUTAGE_UNTIL - OUTAGE_FROM):.0f} s")
    order = [one for _ in range(max(1, round(seconds / ROUND))) for one in chance.sample(SHARES, len(SHARES))]
    apart = seconds / (len(order) + 1)
    phases = []
    for number, (fault, share) in enumerate(order, 1):
        # Begins at the middle of its time, so that the run begins and ends quiet.
        begin = (number - 0.5) * apart
        phases.append(Phase(begin, begin + apart * chance.uniform(SHORTEST, LONGEST), fault, share))
    return sorted([phase for phase in phases if not _meet(phase, long)] + long, key=lambda phase: phase.begin)


def _meet(phase: Phase, others: Sequence[Phase]) -> bool:
    return any(phase.begin < other.end and other.begin < phase.end for other in others)
