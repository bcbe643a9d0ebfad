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
from collections.abc import Iterable, Mapping

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

    def pass_to(self, position: int) -> None:
        """Go on to an offset below which nothing is left to be delivered: markers, aborted records, what compaction or retention took.

        Only where nothing is unfinished.
        """
        assert not self._entries
        self.last, self.position = position - 1, position

    @property
    def unfinished(self) -> int:
        return len(self._entries)

    @property
    def oldest_ms(self) -> int | None:
        """Timestamp of the record that holds the position back."""
        return self._entries[0].timestamp if self._entries else None


class Received:
    """Offsets that the fetcher took from the broker and the stream has not delivered yet, and how far it has read, by partition."""

    def __init__(self) -> None:
        self._offsets: defaultdict[TP, deque[int]] = defaultdict(deque)
        self._reached: dict[TP, int] = {}
        #: How often `clear` was called: what was asked for before a seek says nothing about where the fetcher stands after it.
        self.seeks = 0

    def add(self, tp: TP, offsets: Iterable[int]) -> None:
        self._offsets[tp].extend(offsets)

    def reach(self, positions: Mapping[TP, int], seeks: int) -> None:
        """Note the offsets that the fetcher asks for next; `seeks` as it was when it was asked."""
        if seeks == self.seeks:
            self._reached.update(positions)

    def reached(self, tp: TP) -> int | None:
        """One past the last offset that was read: what is neither delivered by then nor waiting is never delivered."""
        return self._reached.get(tp)

    def newest(self, tp: TP) -> int | None:
        """The last offset that waits."""
        waiting = self._offsets.get(tp)
        return waiting[-1] if waiting else None

    def clear(self, tp: TP | None = None) -> None:
        """Forget what was fetched before a seek: it is fetched again."""
        self.seeks += 1
        if tp is None:
            self._offsets.clear()
            self._reached.clear()
        else:
            self._offsets.pop(tp, None)
            self._reached.pop(tp, None)

    def expect(self, tp: TP, offset: int) -> None:
        """Hold an offset that the stream delivered against what is to come next.

        Raises
        ------
        Hole
            The fetcher had received another offset before it, so an event was dropped in between, or it never received this one.
        """
        waiting = self._offsets[tp]
        if not waiting or waiting[0] != offset:
            expected = waiting[0] if waiting else None
            raise Hole(f"{tp.topic}/{tp.partition}: the broker sent offset {expected} next, the stream delivered {offset}")

    def delivered(self, tp: TP, offset: int) -> None:
        """Note that the stream delivered `offset`: it waits no longer.

        Raises
        ------
        Hole
            As `expect`.
        """
        self.expect(tp, offset)
        self._offsets[tp].popleft()

    def waiting(self, tp: TP) -> int:
        return len(self._offsets[tp]) if tp in self._offsets else 0
