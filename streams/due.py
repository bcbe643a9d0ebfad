"""Who is due when: expiry, orphans and wanted rewrites happen without any input.

The index is not stored: it is rebuilt from the records' headers on taking a partition over, and kept up with every commit.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

#: Replaced entries that the heap may hold for each that stands, and some more. They leave at the time at which they would have been due,
#: which with an `expire_after` of days is days of every prediction; beyond this the heap is made anew.
REPLACED, FEW = 1, 64


class DueIndex:
    """Due times of one partition's entities, in milliseconds since the epoch."""

    def __init__(self) -> None:
        self._due: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []
        #: Entities that were set before the stored due times were loaded; theirs are newer.
        self._touched: set[str] | None = set()

    def load(self, stored: Iterable[tuple[str, int]]) -> None:
        """Take in the due times that the records' headers held when the partition was taken over. Once."""
        touched, self._touched = self._touched or set(), None
        for entity, due in stored:
            if entity not in touched:
                self.set(entity, due)

    def set(self, entity: str, due: int | None) -> None:
        """Set or clear an entity's next due time; the earlier entry in the heap is skipped when it comes up."""
        if self._touched is not None:
            self._touched.add(entity)
        if due is None:
            self._due.pop(entity, None)
        elif self._due.get(entity) != due:
            self._due[entity] = due
            heapq.heappush(self._heap, (due, entity))
            if len(self._heap) > (1 + REPLACED) * len(self._due) + FEW:
                self._heap = [(at, name) for name, at in self._due.items()]
                heapq.heapify(self._heap)

    @property
    def entries(self) -> int:
        """Entries that are held, replaced ones included."""
        return len(self._heap)

    def is_due(self, now: int) -> bool:
        """Whether `pop` may find anyone."""
        return bool(self._heap) and self._heap[0][0] <= now

    def pop(self, now: int) -> list[tuple[str, int]]:
        """Take out every entity that is due at `now`, earliest first, with its due time."""
        due: list[tuple[str, int]] = []
        while self._heap and self._heap[0][0] <= now:
            at, entity = heapq.heappop(self._heap)
            if self._due.get(entity) == at:
                del self._due[entity]
                due.append((entity, at))
        return due

    def __len__(self) -> int:
        return len(self._due)
