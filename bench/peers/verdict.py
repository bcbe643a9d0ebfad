"""What was lost, doubled or out of order, from the records of the input and of the output, and from states. Pure functions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Logged:
    """A record of the input or of the output, as its log has it.

    Attributes
    ----------
    identity
        Of the observation.
    at
        When the broker appended it, seconds since 1970.
    """

    entity: str
    identity: str
    partition: int
    offset: int
    at: float


@dataclass(frozen=True, slots=True)
class Outputs:
    """How the output differs from one record for each observation, in the order of the observations of each entity.

    Attributes
    ----------
    lost
        Observations without an output.
    doubled
        Outputs beyond the first for their observation.
    misordered
        Outputs behind one for a later observation of the same entity; of each observation's outputs the first alone counts.
    """

    lost: int
    doubled: int
    misordered: int


@dataclass(frozen=True, slots=True)
class Effects:
    """How often observations are missing from the states, and are in them once too often."""

    lost: int
    doubled: int


class Foreign(ValueError):
    """An output that is for no observation: what is measured is not what was sent."""


def outputs(observations: Iterable[Logged], written: Iterable[Logged]) -> Outputs:
    """Hold the output against the input.

    Raises
    ------
    Foreign
        An output is for no observation, or for one of another entity.
    """
    sent = {record.identity: record for record in observations}
    seen: set[str] = set()
    newest: dict[str, int] = {}
    doubled = misordered = 0
    for record in _in_order(written):
        asked = sent.get(record.identity)
        if asked is None or asked.entity != record.entity:
            raise Foreign(f"an output of {record.entity} is for {record.identity!r}, which is no observation of it")
        if record.identity in seen:
            doubled += 1
            continue
        seen.add(record.identity)
        # An entity has one partition, so its observations are in the order of their offsets.
        misordered += asked.offset < newest.get(record.entity, -1)
        newest[record.entity] = max(asked.offset, newest.get(record.entity, -1))
    return Outputs(len(sent) - len(seen), doubled, misordered)


def waits(observations: Iterable[Logged], written: Iterable[Logged]) -> list[float]:
    """Return the seconds from each observation to its first output, for those that have one; in ascending order."""
    first: dict[str, float] = {}
    for record in _in_order(written):
        first.setdefault(record.identity, record.at)
    return sorted(first[record.identity] - record.at for record in observations if record.identity in first)


def effects(observations: Iterable[Logged], counted: Mapping[str, int]) -> Effects:
    """Hold the counts of observations in the states, by entity, against the input."""
    sent = Counter(record.entity for record in observations)
    differences = [counted.get(entity, 0) - sent[entity] for entity in sent.keys() | counted.keys()]
    return Effects(lost=sum(-d for d in differences if d < 0), doubled=sum(d for d in differences if d > 0))


def overlap(spans: Iterable[tuple[float, float]], begin: float, end: float) -> float:
    """Return the seconds that spans of time have in a window, all together.

    Examples
    --------
    >>> overlap([(0.0, 2.0), (1.5, 9.0), (9.0, 9.5)], 1.0, 3.0)
    2.5
    """
    return sum(max(0.0, min(last, end) - max(first, begin)) for first, last in spans)


def percentile(ascending: Sequence[float], share: float) -> float:
    """Return the value below which that share of the values lies, by the nearest rank.

    Examples
    --------
    >>> percentile([1.0, 2.0, 3.0, 4.0], 0.5), percentile([1.0, 2.0, 3.0, 4.0], 0.99)
    (2.0, 4.0)
    """
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def _in_order(records: Iterable[Logged]) -> list[Logged]:
    return sorted(records, key=lambda record: (record.partition, record.offset))
