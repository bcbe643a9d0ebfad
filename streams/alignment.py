"""Reading a partition's inputs in timestamp order, best effort, so that after an outage the model learns in the order things happened.

A record that is more than `slack` ahead of another input of the same partition waits while that input still has records to read.
Where the other input's records are here already and wait for their turn, that lasts as long as it takes. Where only offsets say that
there is more, it lasts at most `PATIENCE` after the input's last sign of life: an end offset that is a transaction's marker is never
delivered, and alignment is worth less than progress.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from streams.records import Role

#: Seconds without a record of the lagging input after which waiting for it ends.
PATIENCE = 3.0
#: Seconds between two looks at an input whose records are here: nothing announces that its queue ran empty.
LOOK = 1.0


@dataclass(slots=True)
class _Input:
    #: Timestamp (ms) of the record that waits here or passed last; None before the first.
    frontier: int | None = None
    waiting: bool = False
    seen_at: float = field(default_factory=time.monotonic)


class Alignment:
    """Alignment of one partition's inputs."""

    def __init__(self, inputs: tuple[Role, ...], slack_ms: int, queued: Callable[[Role], bool], lags: Callable[[Role], bool]) -> None:
        """`queued(input)`: records of it are here and wait. `lags(input)`: Kafka has more of it; True while that is unknown."""
        self._inputs = {name: _Input() for name in inputs}
        self._slack, self._queued, self._lags = slack_ms, queued, lags
        self._changed = asyncio.Event()

    async def turn(self, name: Role, timestamp: int) -> None:
        """Wait until a record of this input may go on. Records of one input ask one after the other."""
        me = self._inputs.get(name)
        if me is None or len(self._inputs) < 2:
            return
        me.frontier, me.waiting, me.seen_at = timestamp, True, time.monotonic()
        self._announce()
        try:
            while (until := self._blocked_until(name, timestamp)) is not None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), max(0.0, until - time.monotonic()))
        finally:
            me.waiting, me.seen_at = False, time.monotonic()
            self._announce()

    def _blocked_until(self, name: Role, timestamp: int) -> float | None:
        now = time.monotonic()
        for other, state in self._inputs.items():
            if other == name:
                continue
            if state.frontier is not None and state.frontier + self._slack >= timestamp:
                continue
            if state.waiting or self._queued(other):
                return now + LOOK
            if self._lags(other) and now < state.seen_at + PATIENCE:
                return state.seen_at + PATIENCE
        return None

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
