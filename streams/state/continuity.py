"""What of an export still holds where it is imported: which inputs are the topics they were, and where reading goes on; pure.

An applied offset belongs to one log. On the same log it must be kept, else what was read once more would be applied twice; on another it
must be dropped, else new records would pass for applied ones. So each input is looked at by itself:

- **the same topic**: states keep their applied offsets, and the group begins at the positions of the export. What lies between a position
  and what was applied is read again, to no effect. Partitions that the topic got since begin at their first record.
- **another topic**, or one made anew under its name: offsets are dropped, and reading begins at `start`, as for a new application.
- **it cannot be told**: refused, until somebody says which it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from streams.cluster import Span
from streams.errors import DumpError
from streams.state.dump import Input

#: auto: as the module says. keep, drop: taken for the same topic, or for another, without looking.
Positions = Literal["auto", "keep", "drop"]


@dataclass(frozen=True, slots=True)
class Present:
    """An input as it is where states are imported. `keyed`: it is used as it is."""

    topic: str
    id: str | None
    keyed: bool
    spans: Sequence[Span]


@dataclass(frozen=True, slots=True)
class Passage:
    """How one input goes on.

    Attributes
    ----------
    kept
        It is the same topic: applied offsets stay.
    positions
        Where the group begins, by partition; others begin at `start`.
    why
        One sentence.
    stranded
        Records that are not read yet, in partitions that were there before the topic got more. Where the input is used as it is, those of
        entities that belong to another partition now go to the dead letters (`wrong-partition`).
    """

    topic: str
    kept: bool
    positions: Mapping[int, int]
    why: str
    stranded: int = 0


def judge(then: Input | None, now: Present, furthest: Mapping[int, int], choice: Positions) -> Passage:
    """How an input goes on.

    Parameters
    ----------
    then
        The input as the export knew it; None if it did not.
    furthest
        The furthest applied offset in the states, by the input's partition.

    Raises
    ------
    DumpError
        It cannot be told whether it is the same topic; or it cannot be kept.
    """
    if then is None:
        return Passage(now.topic, False, {}, "the export did not read it")
    if choice == "drop":
        return Passage(now.topic, False, {}, "as asked for")
    if choice == "keep":
        if fault := _cannot_keep(then, now):
            raise DumpError(f"{now.topic}: offsets cannot be kept: {fault}")
        return _kept(then, now, "as asked for")
    if difference := _difference(then, now, furthest):
        return Passage(now.topic, False, {}, difference)
    if doubt := _doubt(then, now, furthest):
        raise DumpError(
            f"{now.topic}: it cannot be told whether this is the topic that was read: {doubt}. Say `--positions keep` if it is: what was "
            "applied is not applied again. Say `--positions drop` if it was made anew: its records are all new."
        )
    return _kept(then, now, "the same topic")


def _difference(then: Input, now: Present, furthest: Mapping[int, int]) -> str:
    """What shows that it is another topic; empty if nothing does."""
    if then.topic != now.topic:
        return f"{then.topic} was read before"
    if then.id is not None and now.id is not None and then.id != now.id:
        return "made anew since the export"
    for number, offset in sorted(furthest.items()):
        end = then.ends[number] if number < then.partitions else 0
        if offset >= end:
            return f"made anew before the export: offset {offset} of partition {number} was applied, and it ended at {end}"
    for number, position in enumerate(then.positions):
        if position is not None and position > then.ends[number]:
            return f"made anew before the export: partition {number} was read to offset {position}, and it ended at {then.ends[number]}"
    if len(now.spans) < then.partitions:
        return f"it has {len(now.spans)} partitions, it had {then.partitions}"
    return ""


def _doubt(then: Input, now: Present, furthest: Mapping[int, int]) -> str:
    if then.id is None or now.id is None:
        return "the brokers give topics no ids"
    for number in sorted(furthest):
        if then.positions[number] is None:
            return f"records of partition {number} were applied, and the group had no position there (its topic was deleted, or it expired)"
    return _cannot_keep(then, now)


def _cannot_keep(then: Input, now: Present) -> str:
    if len(now.spans) < then.partitions:
        return f"it has {len(now.spans)} partitions, it had {then.partitions}"
    for number, position in enumerate(then.positions):
        if position is not None and position > now.spans[number].end:
            return f"partition {number} was read to offset {position}, and it ends at {now.spans[number].end}"
    return ""


def _kept(then: Input, now: Present, why: str) -> Passage:
    positions = _positions(then, now)
    unread = (now.spans[number].end - positions[number] for number in range(then.partitions) if number in positions)
    grown = now.keyed and len(now.spans) > then.partitions
    return Passage(now.topic, True, positions, why, stranded=sum(unread) if grown else 0)


def _positions(then: Input, now: Present) -> dict[int, int]:
    known = {number: position for number, position in enumerate(then.positions) if position is not None}
    if not known:
        return {}
    # What came into partitions that were added is new, whatever `start` says of a new application.
    added = {number: now.spans[number].start for number in range(then.partitions, len(now.spans))}
    return known | added
