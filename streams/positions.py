"""How far each input partition is done, so that what is committed is contiguous and nothing is ever committed past.

Records of a partition are worked on concurrently and finish in any order::

    delivered   17  18  19  20  21        (19 is a marker or was compacted: offsets may jump)
    finished     x   .       x   x
    position    18                        -> everything below 18 is done; 20 and 21 wait for 18

`Tracker` keeps them in the order they were delivered, so jumps need no arithmetic. Whether a jump is the log's own (compaction,
transaction markers, retention) or a hole that Faust made is decided by `Received`: what the fetcher took from the broker.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable

from faust.types import TP


class Hole(Exception):
    """An event between the fetcher and the stream is gone. Going on would commit past it; a restart reads it again."""


class Entry:
    """One delivered record. `timestamp` is Kafka's, milliseconds since the epoch."""

    __slots__ = ("done", "offset", "timestamp")

    def __init__(self, offset: int, timestamp: int) -> None:
        self.offset, self.timestamp, self.done = offset, timestamp, False


class Tracker:
    """Completion of one input partition within one lease."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()
        #: Last delivered offset.
        self.last: int | None = None
        #: Next offset to read after a restart; None until something is done.
        self.position: int | None = None
        self.delivered_ms = 0
        self.done_ms = 0

    def open(self, offset: int, timestamp: int) -> Entry:
        entry = Entry(offset, timestamp)
        self.last, self.delivered_ms = offset, timestamp
        self._entries.append(entry)
        return entry

    def close(self, entry: Entry) -> None:
        entry.done = True
        while self._entries and self._entries[0].done:
            head = self._entries.popleft()
            self.position, self.done_ms = head.offset + 1, head.timestamp

    @property
    def unfinished(self) -> int:
        return len(self._entries)

    @property
    def oldest_ms(self) -> int | None:
        """Timestamp of the record that holds the position back."""
        return self._entries[0].timestamp if self._entries else None


class Received:
    """Offsets that the fetcher took from the broker and the stream has not delivered yet, by partition."""

    def __init__(self) -> None:
        self._offsets: defaultdict[TP, deque[int]] = defaultdict(deque)

    def add(self, tp: TP, offsets: Iterable[int]) -> None:
        self._offsets[tp].extend(offsets)

    def clear(self, tp: TP | None = None) -> None:
        """Forget what was fetched before a seek: it is fetched again."""
        if tp is None:
            self._offsets.clear()
        else:
            self._offsets.pop(tp, None)

    def delivered(self, tp: TP, offset: int) -> None:
        """Note that the stream delivered `offset`.

        Raises
        ------
        Hole
            The fetcher had received another offset before it, so an event was dropped in between, or it never received this one.
        """
        waiting = self._offsets[tp]
        if not waiting or waiting[0] != offset:
            expected = waiting[0] if waiting else None
            raise Hole(f"{tp.topic}/{tp.partition}: the broker sent offset {expected} next, the stream delivered {offset}")
        waiting.popleft()

    def waiting(self, tp: TP) -> int:
        return len(self._offsets[tp]) if tp in self._offsets else 0
