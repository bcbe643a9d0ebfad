"""The right to process one assignment: from the end of recovery until the group moves on.

Work that outlives its lease may finish computing but can write nothing: every write asks `check` directly before it, and the
partition's writer is gone. Whoever has the next lease does it again from the committed position.
"""

from __future__ import annotations

from collections import defaultdict

from faust.types import TP

from streams.positions import Tracker


class LeaseLost(Exception):
    """The assignment that this work belongs to is no longer this worker's."""


class Lease:
    """One assignment.

    Attributes
    ----------
    accepting
        New records are taken. Ends when draining begins.
    open
        Work may still be written. Ends when draining is over.
    """

    def __init__(self, generation: int, partitions: frozenset[int]) -> None:
        self.generation = generation
        #: Partition numbers whose entities this worker owns; inputs, state and outputs share them.
        self.partitions = partitions
        self.accepting = True
        self.open = True
        self.trackers: defaultdict[TP, Tracker] = defaultdict(Tracker)
        self.committed: dict[TP, int] = {}

    def check(self) -> None:
        """Raise `LeaseLost` if nothing may be written any more. Call with no await between it and the write."""
        if not self.open:
            raise LeaseLost(f"generation {self.generation} has ended")

    def close(self) -> None:
        self.accepting = self.open = False

    def committable(self) -> dict[TP, int]:
        return {
            tp: tracker.position
            for tp, tracker in self.trackers.items()
            if tracker.position is not None and tracker.position != self.committed.get(tp)
        }
