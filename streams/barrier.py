"""Whether the inputs are read up to the end they had when something became due.

Only then may a prediction expire or a truth be called an orphan: what is missing may be waiting in Kafka since the worker was down.
And only then may the record of a forgotten entity be deleted: what was applied to it may come a second time.
For inputs that are re-keyed it starts at the source: its ends are noted for all partitions, the group's positions must reach them, and
what was sent on by entity until then must be read as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from aiokafka.structs import TopicPartition
from faust.types import TP

from streams.cluster import Span, committed, describe, spans
from streams.kafka import admin
from streams.topics import input_topics, rekeyed_roles

if TYPE_CHECKING:
    from streams.app import PalimpsestApp
    from streams.lease import Lease


class Barrier:
    """The ends of one partition's inputs at one moment, and whether everything below them is done."""

    def __init__(self, app: PalimpsestApp, partition: int) -> None:
        self._app, self._partition = app, partition
        self._sources: dict[TopicPartition, int] = {}
        #: Of the sources, by their name in `EntityState.applied`.
        self._settled: dict[str, int] = {}
        self._ends: Mapping[TP, int] | None = None

    async def set(self) -> None:
        """Note the ends as they are now."""
        settings = self._app.settings
        roles = {input_topics(settings)[role]: role for role in rekeyed_roles(settings)}
        if not roles:
            self._ends = await self._present_ends()
            return
        async with admin(settings.kafka) as client:
            found = await describe(client, roles)
        places = [TopicPartition(name, number) for name, topic in found.items() for number in range(topic.partitions)]
        self._sources = {place: span.end for place, span in (await self._spans(places)).items() if span.end > span.start}
        self._settled = {f"{roles[place.topic]}/{place.partition}": end - 1 for place, end in self._sources.items()}

    @property
    def settled(self) -> dict[str, int]:
        """The last offset below the noted ends, by input as in `EntityState.applied`. Holds once the barrier has been passed."""
        direct = {role: topic for role, topic in self._app.inputs.items() if role not in rekeyed_roles(self._app.settings)}
        ends = self._ends or {}
        return self._settled | {role: ends[tp] - 1 for role, topic in direct.items() if (tp := TP(topic, self._partition)) in ends}

    async def passed(self, lease: Lease) -> bool:
        """Whether everything that was there when the barrier was set is read and done, and the positions that say so are committed."""
        if self._ends is None:
            if not await self._sources_read():
                return False
            self._ends = await self._present_ends()
        return all(self._read_to(lease, tp, end) for tp, end in self._ends.items())

    async def _present_ends(self) -> dict[TP, int]:
        held = await self._spans([TopicPartition(topic, self._partition) for topic in self._app.inputs.values()])
        return {TP(place.topic, place.partition): span.end for place, span in held.items()}

    async def _spans(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, Span]:
        # What an open transaction holds back was not there yet.
        return await spans(self._app.settings.kafka, places, isolation="read_committed")

    async def _sources_read(self) -> bool:
        # Positions pass markers as well (`Intake.pass_silence`), whoever has the partition.
        async with admin(self._app.settings.kafka) as client:
            done = await committed(client, self._app.settings.app)
        self._sources = {place: end for place, end in self._sources.items() if done.get(place, 0) < end}
        return not self._sources

    def _read_to(self, lease: Lease, tp: TP, end: int) -> bool:
        position = lease.committed.get(tp, self._app.consumer._committed_offset.get(tp))
        return (position or 0) >= end
