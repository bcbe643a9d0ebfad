"""Whether the inputs are read up to the end they had when something became due.

Only then may a prediction expire or a truth be called an orphan: what is missing may be waiting in Kafka since the worker was down.
And only then may the record of a forgotten entity be deleted: what was applied to it may come a second time.
For inputs that are re-keyed it starts at the source: its ends are noted for all partitions, the group's positions must reach them, and
what was sent on by entity until then must be read as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from aiokafka.structs import TopicPartition
from faust.types import TP

from streams.cluster import committed, spans
from streams.gaps import first_offset_from
from streams.kafka import admin, consumer
from streams.topics import input_topics, rekeyed_roles

if TYPE_CHECKING:
    from streams.app import PalimpsestApp
    from streams.lease import Lease

#: Seconds without a record from a position below the end after which the rest of the log is taken for a transaction's marker.
SILENCE = 2.0


class Barrier:
    """The ends of one partition's inputs at one moment, and whether everything below them is done."""

    def __init__(self, app: PalimpsestApp, partition: int) -> None:
        self._app, self._partition = app, partition
        self._sources: dict[TopicPartition, int] = {}
        #: Of the sources, by their name in `EntityState.applied`.
        self._settled: dict[str, int] = {}
        self._ends: Mapping[TP, int] | None = None
        self._stalled: dict[TopicPartition, int] = {}

    async def set(self) -> None:
        """Note the ends as they are now."""
        settings = self._app.settings
        roles = {input_topics(settings)[role]: role for role in rekeyed_roles(settings)}
        if not roles:
            self._ends = await self._present_ends()
            return
        async with consumer(settings.kafka) as reader:
            await reader.topics()
            places = [TopicPartition(topic, p) for topic in roles for p in reader.partitions_for_topic(topic) or ()]
        self._sources = {place: span.end for place, span in (await spans(settings.kafka, places)).items() if span.end > span.start}
        self._settled = {f"{roles[place.topic]}/{place.partition}": end - 1 for place, end in self._sources.items()}

    @property
    def settled(self) -> dict[str, int]:
        """The last offset below the noted ends, by input as in `EntityState.applied`. Holds once the barrier has been passed."""
        direct = {role: topic for role, topic in self._app.inputs.items() if role not in rekeyed_roles(self._app.settings)}
        ends = self._ends or {}
        return self._settled | {role: ends[tp] - 1 for role, topic in direct.items() if (tp := TP(topic, self._partition)) in ends}

    async def passed(self, lease: Lease) -> bool:
        """Whether everything that was there when the barrier was set is read and done."""
        if self._ends is None:
            if not await self._sources_read():
                return False
            self._ends = await self._present_ends()
        for tp, end in self._ends.items():
            if not await self._read_to(lease, tp, end):
                return False
        return True

    async def _present_ends(self) -> dict[TP, int]:
        tps = [TP(topic, self._partition) for topic in self._app.inputs.values()]
        ends = await self._app.consumer.highwaters(*tps)
        return {TP(tp.topic, tp.partition): int(end) for tp, end in ends.items() if end is not None}

    async def _sources_read(self) -> bool:
        settings = self._app.settings
        async with admin(settings.kafka) as client:
            done = await committed(client, settings.app)
        for place, end in list(self._sources.items()):
            position = done.get(place, 0)
            # A position that stands still below the end may stand before a transaction's marker, which is never delivered.
            if position >= end or (self._stalled.get(place) == position and await self._is_silent(place, position)):
                del self._sources[place]
            else:
                self._stalled[place] = position
        return not self._sources

    async def _is_silent(self, place: TopicPartition, position: int) -> bool:
        try:
            await first_offset_from(self._app.settings.kafka, place.topic, place.partition, position, timeout=SILENCE)
        except TimeoutError:
            return True
        return False

    async def _read_to(self, lease: Lease, tp: TP, end: int) -> bool:
        """The fetcher's own position counts too, for an end that is a marker."""
        tracker = lease.trackers[tp]
        if tracker.position is not None and tracker.position >= end:
            return True
        if tracker.unfinished or self._app.received.waiting(tp):
            return False
        position = await self._app.consumer.position(tp)
        return position is not None and position >= end
