"""Which fault strikes when: a seeded shuffle of so many of each.

What a fault does is `tests.chaos.faults`' business; here stand only its kind and the chance that belongs to it, drawn beforehand, so that
a seed repeats a schedule whatever the workers do meanwhile.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["kill", "terminate", "join", "freeze", "rolling", "wipe", "broker", "outage"]
KINDS: tuple[Kind, ...] = get_args(Kind)

NAMES: Mapping[Kind, str] = {
    "kill": "SIGKILL of a worker",
    "terminate": "SIGTERM of a worker",
    "join": "third worker joins and leaves",
    "freeze": "worker frozen past its session",
    "rolling": "rolling restart",
    "wipe": "SIGKILL and state directory wiped",
    "broker": "SIGKILL of a broker",
    "outage": "model away",
}

#: Of a fault's moment: seconds of undisturbed work before it, at most.
UNDISTURBED = 3.0
#: Share of faults that do not wait for the one before to be over: a worker is killed while it restores, a broker dies during a rebalance.
HASTY = 0.25


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes
    ----------
    after
        Seconds to wait before it strikes.
    hasty
        It does not wait for the workers to be ready again.
    victim
        Picks one of those there are, 0 to 1.
    lasts
        How long it lasts where it lasts, from the shortest (0) to the longest (1).
    """

    kind: Kind
    after: float
    hasty: bool
    victim: float
    lasts: float


def plan(counts: Mapping[Kind, int], chance: random.Random) -> list[Fault]:
    """A schedule of so many faults of each kind.

    Examples
    --------
    >>> [fault.kind for fault in plan({"freeze": 1, "kill": 2}, random.Random(1))]
    ['kill', 'freeze', 'kill']
    """
    kinds = [kind for kind in KINDS for _ in range(counts.get(kind, 0))]
    chance.shuffle(kinds)
    return [Fault(kind, chance.uniform(0.0, UNDISTURBED), chance.random() < HASTY, chance.random(), chance.random()) for kind in kinds]
