"""Reading a partition's inputs in timestamp order, best effort, so that after an outage the model learns in the order things happened.

A record that is more than `slack` ahead of another input of the same partition waits while that input still has records to read: where
they are here already and wait for their turn, or are on their way from a source that is re-keyed, as long as that takes; where only
offsets say that there is more, `PATIENCE` seconds at most, because alignment is worth less than progress.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from streams.records import Role

#: Seconds for which an input that has more to read, and sends none of it, is waited for.
PATIENCE = 15.0
#: Seconds between two looks at what is waited for: that the rest of a log is never delivered, nothing announces.
LOOK = 0.2


@dataclass(slots=True)
class _Input:
    #: Timestamp (ms) of the record that waits here or passed last; None before the first.
    frontier: int | None = None
    waiting: bool = False
    #: Since when it has had more to read and sent nothing (monotonic seconds); None while it has sent, or has nothing.
    missed_since: float | None = None


class Alignment:
    """Alignment of one partition's inputs."""

    def __init__(
        self,
        inputs: tuple[Role, ...],
        slack_ms: int,
        queued: Callable[[Role], bool],
        lags: Callable[[Role], bool],
        sent_on_to: Callable[[Role], int | None] = lambda _: None,
    ) -> None:
        """
        Parameters
        ----------
        queued
            Whether records of an input are here and wait.
        lags
            Whether Kafka has more of an input; True while that is unknown.
        sent_on_to
            For an input that is re-keyed: the timestamp up to which its source was sent on, None where the source has no more.
        """
        self._inputs = {name: _Input() for name in inputs}
        self._slack, self._queued, self._lags, self._sent_on_to = slack_ms, queued, lags, sent_on_to
        self._changed = asyncio.Event()

    async def turn(self, name: Role, timestamp: int) -> None:
        """Wait until a record of this input may go on. Records of one input ask one after the other."""
        me = self._inputs.get(name)
        if me is None or len(self._inputs) < 2:
            return
        me.frontier, me.waiting, me.missed_since = timestamp, True, None
        self.announce()
        try:
            while self._is_ahead(name, timestamp):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), LOOK)
        finally:
            me.waiting = False
            self.announce()

    def announce(self) -> None:
        """Something has changed that a record may wait for."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _is_ahead(self, name: Role, timestamp: int) -> bool:
        """Whether a record must wait for another input."""
        return any(other != name and self._must_come_first(other, state, timestamp) for other, state in self._inputs.items())

    def _must_come_first(self, other: Role, state: _Input, timestamp: int) -> bool:
        if state.frontier is not None and state.frontier + self._slack >= timestamp:
            return False
        if state.waiting or self._queued(other):
            return True
        sent_on_to = self._sent_on_to(other)
        if sent_on_to is not None and sent_on_to + self._slack < timestamp:
            return True
        if not self._lags(other):
            state.missed_since = None
            return False
        now = time.monotonic()
        if state.missed_since is None:
            state.missed_since = now
        return now < state.missed_since + PATIENCE
