"""Partitions taken together in the order of their records' timestamps, best effort.

Whoever reads what is written by entity sees the order in which it was written. Sent on as they come, partitions with few records run
hours ahead of those with many once there is a backlog: truths come before their observations, and an entity whose records are spread over
partitions goes back and forth in time.

A record is taken when it is the earliest of all that are here, and no partition is empty that has more to read; such a one is waited for
`PATIENCE` seconds at most, because order is worth less than progress. Nothing is waited for where nothing waits in Kafka: a live
stream passes at once. Partitions that other workers read are not known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import time
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Collection
from typing import Generic, Protocol, TypeVar

from faust.types import TP

_T = TypeVar("_T")

#: Seconds for which a partition that has more to read is waited for, from its last sign of life.
PATIENCE = 15.0
#: Seconds between two looks at a partition that is waited for: it may turn out that what is left of it is never delivered.
LOOK = 0.1
#: Records taken between two looks at all partitions.
RUN = 256


class Fetching(Protocol):
    """What reads the partitions."""

    def hold(self, tp: TP) -> None: ...

    def release(self, tp: TP) -> None: ...


class Merge(Generic[_T]):
    """A queue for each partition, and one task that takes from all of them."""

    def __init__(
        self,
        places: Callable[[], Collection[TP]],
        lags: Callable[[TP], bool],
        take: Callable[[_T], Awaitable[None]],
        fetching: Fetching,
        *,
        hold_at: int,
        release_at: int,
    ) -> None:
        """
        Parameters
        ----------
        places
            The partitions that are merged.
        lags
            Whether more of a partition is on its way or in Kafka; True while that is unknown.
        take
            Called with one record after the other.
        hold_at, release_at
            A partition with so many records in its queue is not fetched further, until it is down to so many.
        """
        self._places, self._lags, self._take, self._fetching = places, lags, take, fetching
        self._hold_at, self._release_at = hold_at, release_at
        self._queues: defaultdict[TP, deque[tuple[int, _T]]] = defaultdict(deque)
        #: The first record of each queue: timestamp, a number that keeps equal ones in order of arrival, partition.
        self._heads: list[tuple[int, int, TP]] = []
        self._arrivals = itertools.count()
        self._waiting: Counter[str] = Counter()
        self._missed: dict[TP, float] = {}
        self._changed = asyncio.Event()
        #: Latest timestamp that was taken; None before the first.
        self.frontier: int | None = None

    def put(self, tp: TP, timestamp: int, item: _T) -> None:
        queue = self._queues[tp]
        queue.append((timestamp, item))
        self._waiting[tp.topic] += 1
        self._missed.pop(tp, None)
        if len(queue) == 1:
            heapq.heappush(self._heads, (timestamp, next(self._arrivals), tp))
            self._changed.set()
        if len(queue) >= self._hold_at:
            self._fetching.hold(tp)

    def holds(self, topic: str) -> bool:
        """Whether records of a topic wait here."""
        return self._waiting[topic] > 0

    async def run(self, on_progress: Callable[[], None]) -> None:
        """Take records until cancelled; `on_progress` is called after each run of them."""
        while True:
            self._changed.clear()
            if not self._heads:
                await self._changed.wait()
            elif self._is_missing_any():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), LOOK)
            else:
                await self._take_run()
                on_progress()

    def stop(self) -> None:
        """Let go of what is held; what waits here is read again by whoever has the partitions next."""
        for tp in self._queues:
            self._fetching.release(tp)

    def _is_missing_any(self) -> bool:
        now = time.monotonic()
        missing = False
        for tp in self._places():
            if self._queues[tp] or not self._lags(tp):
                self._missed.pop(tp, None)
            elif now < self._missed.setdefault(tp, now) + PATIENCE:
                missing = True
        return missing

    async def _take_run(self) -> None:
        for _ in range(RUN):
            timestamp, _, tp = heapq.heappop(self._heads)
            queue = self._queues[tp]
            await self._take(queue[0][1])
            queue.popleft()
            self._waiting[tp.topic] -= 1
            self.frontier = timestamp if self.frontier is None else max(self.frontier, timestamp)
            if queue:
                heapq.heappush(self._heads, (queue[0][0], next(self._arrivals), tp))
            if len(queue) == self._release_at:
                self._fetching.release(tp)
            if not self._heads or (not queue and self._lags(tp)):
                return
