"""Sends a campaign's records, as fast as they are released, and keeps where the brokers put them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from schemas.settings import Settings
from streams.kafka import producer
from tests.chaos.load import MARK, Event

#: Records sent in one go.
CHUNK = 5
#: Seconds that a record may take to be acknowledged: longer than any broker stays away.
REQUEST_TIMEOUT = 180.0


class Sender:
    """One producer over one list of records, in their order.

    Attributes
    ----------
    sent
        Topic, partition and offset of each acknowledged record.
    """

    def __init__(self, settings: Settings, events: Sequence[Event]) -> None:
        self._settings = settings
        self._events = events
        #: Records that may go out, and that went; and how many a second.
        self._released, self._done, self._rate = 0, 0, 1.0
        self._more = asyncio.Event()
        self.sent: set[tuple[str, int, int]] = set()

    def release(self, share: float, seconds: float) -> None:
        """Let so much of everything go out, 0 to 1, what is new of it spread over so many seconds: a fault at any moment strikes work."""
        self._released = max(self._released, round(share * len(self._events)))
        if self._released > self._done:
            self._rate = (self._released - self._done) / seconds
            self._more.set()

    async def run(self) -> None:
        """Send everything that is or will be released; return when all of it is acknowledged.

        Raises
        ------
        KafkaError
            The brokers did not take a record in `REQUEST_TIMEOUT`: the harness cannot do its part.
        """
        waiting: list[asyncio.Future[Any]] = []
        async with producer(self._settings.kafka, linger_ms=5, request_timeout_ms=int(REQUEST_TIMEOUT * 1000)) as out:
            while self._done < len(self._events):
                if self._done >= self._released:
                    self._more.clear()
                    await self._more.wait()
                    continue
                for event in self._events[self._done : min(self._done + CHUNK, self._released)]:
                    topic = getattr(self._settings.topics, event.role)
                    headers = [(MARK, event.mark.encode())]
                    waiting.append(await out.send(topic, event.value, key=event.key, partition=event.partition, headers=headers))
                    self._done += 1
                await asyncio.sleep(CHUNK / self._rate)
            for sent in await asyncio.gather(*waiting):
                self.sent.add((sent.topic, sent.partition, sent.offset))

    def __len__(self) -> int:
        return len(self._events)
