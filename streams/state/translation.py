"""States of an export as they are written where they are imported: on the partitions of now, with the offsets that still hold; pure.

Offsets go by the input's own partition, whatever the partition of the state. So entities that are on another partition now, and an input
that was used as it is and is written by entity now (or the other way round), lose nothing and get nothing twice.
"""

from __future__ import annotations

from collections.abc import Mapping

from schemas.settings import Settings
from schemas.state import EntityState, PartitionState
from streams.partitioner import state_partition, state_partitioner
from streams.state.continuity import Passage, Present
from streams.state.dump import EntityLine, PartitionLine, Preamble
from streams.state.soundness import source_of

#: An input and one of its partitions.
Source = tuple[str, int]


def applied_offsets(line: EntityLine | PartitionLine) -> dict[Source, int]:
    """Every offset that a line knows of, by the input's partition; the furthest where there are several."""
    state = line.state
    found: dict[Source, int] = {}
    for offsets in [state.applied] if isinstance(state, EntityState) else [state.dead_lettered, state.settled]:
        for name, offset in offsets.items():
            if (source := source_of(name, line.partition)) is not None:
                found[source] = max(offset, found.get(source, offset))
    return found


class Translation:
    """From the partitions and inputs of an export to those of now."""

    def __init__(
        self,
        preamble: Preamble,
        settings: Settings,
        partitions: int,
        inputs: Mapping[str, Present],
        passages: Mapping[str, Passage],
    ) -> None:
        """`partitions`: how many there are now. `inputs`, `passages`: by role; those that are kept keep their offsets."""
        self._settings, self._partitions = settings, partitions
        self._inputs, self._passages = inputs, passages
        self._same_places = (preamble.partitions, preamble.partitioner) == (partitions, state_partitioner(settings))
        self._keyed_before = {str(role): then.keyed for role, then in preamble.inputs.items()}
        self._own: dict[int, PartitionState] = {}
        #: What keeps forgotten entities from coming back, where records go to other partitions now.
        self._settled: dict[Source, int] = {}

    def partition(self, entity: str) -> int:
        """Where an entity belongs now."""
        return state_partition(self._settings, entity, self._partitions)

    def entity(self, line: EntityLine) -> EntityState:
        """An entity's state as it is written now."""
        target = self.partition(line.state.entity)
        applied: dict[str, int] = {}
        for source, offset in applied_offsets(line).items():
            if (name := self._name(source, target)) is not None:
                applied[name] = offset
        return line.state.model_copy(update={"applied": applied})

    def take(self, line: PartitionLine) -> None:
        """Take in a partition's own record.

        A bad record goes to a partition by what can be read of it, so what is remembered of bad records holds only where records go to
        the partitions they went to; elsewhere one that lies beyond the position is dead-lettered a second time.
        """
        kept: dict[str, dict[str, int]] = {"dead_lettered": {}, "settled": {}}
        for field, offsets in kept.items():
            for name, offset in getattr(line.state, field).items():
                if (source := source_of(name, line.partition)) is None:
                    continue
                if self._goes_where_it_went(source[0]) and (now := self._name(source, line.partition)) is not None:
                    offsets[now] = offset
                elif field == "settled":
                    self._settled[source] = max(offset, self._settled.get(source, offset))
        if line.partition < self._partitions:
            self._own[line.partition] = PartitionState(**kept)

    def own_records(self) -> dict[int, PartitionState]:
        """The partitions' own records when all were taken in, by partition; those that say nothing are left out."""
        own = dict(self._own)
        for source, offset in self._settled.items():
            role, number = source
            passage = self._passages.get(role)
            if passage is None or offset < passage.positions.get(number, 0):
                continue  # nothing up to there is read again
            for partition in range(self._partitions):
                if (name := self._name(source, partition)) is not None:
                    state = own.get(partition, PartitionState())
                    settled = {**state.settled, name: max(offset, state.settled.get(name, offset))}
                    own[partition] = state.model_copy(update={"settled": settled})
        return {partition: state for partition, state in sorted(own.items()) if state != PartitionState()}

    def _name(self, source: Source, partition: int) -> str | None:
        """What an input's partition is called in states of `partition`; None where its offsets do not hold, or cannot matter there."""
        role, number = source
        passage = self._passages.get(role)
        if passage is None or not passage.kept:
            return None
        if not self._inputs[role].keyed:
            return f"{role}/{number}"
        return role if number == partition else None

    def _goes_where_it_went(self, role: str) -> bool:
        if role not in self._inputs or self._keyed_before.get(role) != self._inputs[role].keyed:
            return False
        return self._inputs[role].keyed or self._same_places
