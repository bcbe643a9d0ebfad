"""What is wrong with one record of the changelog; pure. What it says of the inputs is held against them in `verification`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from aiokafka.structs import TopicPartition

from schemas.settings import BoundSettings, Settings
from schemas.state import EntityState, Header, PartitionState, next_due, read_header
from streams.findings import Level
from streams.partitioner import state_partition
from streams.state.entries import BadRecord, decode_entry
from streams.topics import InputRole, input_topics
from streams.writer import RECORD_OVERHEAD

ROUND = "`palimpsest state export`, `state reset` and `state import`"
_ANEW = f"{ROUND} go on without it: the export names what it leaves out."
_REWRITTEN = f"The entity's next record writes it anew; so do {ROUND}."


class Remark(NamedTuple):
    """Something about a record that is not as it should be: how bad it is, a slug, what it is, and what to do."""

    level: Level
    code: str
    text: str
    advice: str


class Examined(NamedTuple):
    """A record that was looked at: what is wrong with it, and the last applied offset by input partition where it can be read."""

    remarks: list[Remark]
    applied: Mapping[TopicPartition, int]


def examine(key: bytes | None, value: bytes, partition: int, settings: Settings, partitions: int) -> Examined:
    """Look at a record.

    Parameters
    ----------
    value
        Not None: there is nothing wrong with a deletion.
    partition, partitions
        Where the record stands, and how many there are.
    """
    try:
        state = decode_entry(key, value)
    except BadRecord as error:
        return Examined([Remark("fail", error.code, str(error), _ANEW)], {})
    if isinstance(state, PartitionState):
        return Examined(list(_positions(_settled(state), settings)), _places(_settled(state), partition, settings))
    remarks = [
        *_placement(state, partition, settings, partitions),
        *_header(state, read_header(value)),
        *_bounds(state, len(value), settings.bounds),
        *_positions(state.applied, settings),
    ]
    return Examined(remarks, _places(state.applied, partition, settings))


def _settled(state: PartitionState) -> dict[str, int]:
    """The furthest offset of each input that a partition's own record says is done with."""
    names = state.dead_lettered.keys() | state.settled.keys()
    return {name: max(state.dead_lettered.get(name, -1), state.settled.get(name, -1)) for name in names}


def source_of(name: str, partition: int) -> tuple[str, int] | None:
    """The input and its partition that a name in `applied` stands for, on a state's partition; None where it stands for none.

    Examples
    --------
    >>> source_of("observations", 2), source_of("observations/7", 2), source_of("observations/x", 2)
    (('observations', 2), ('observations', 7), None)
    """
    role, slash, number = name.partition("/")
    if not slash:
        return role, partition
    return (role, int(number)) if number.isdecimal() and len(number) < 10 else None


def _places(applied: Mapping[str, int], partition: int, settings: Settings) -> dict[TopicPartition, int]:
    """Applied offsets by the inputs' own partitions; inputs that are not read any more are left out."""
    topics: Mapping[InputRole, str] = input_topics(settings)
    places: dict[TopicPartition, int] = {}
    for name, offset in applied.items():
        source = source_of(name, partition)
        topic = next((topic for role, topic in topics.items() if source is not None and role == source[0]), None)
        if source is not None and topic is not None:
            place = TopicPartition(topic, source[1])
            places[place] = max(offset, places.get(place, -1))
    return places


def _placement(state: EntityState, partition: int, settings: Settings, partitions: int) -> Iterator[Remark]:
    wanted = state_partition(settings, state.entity, partitions)
    if wanted != partition:
        text = f"the partitioner puts this entity on partition {wanted}: its records go there, and this state is never read."
        yield Remark("fail", "misplaced", text, f"Was the partition count raised, or the partitioner changed? {ROUND} put it there.")


def _header(state: EntityState, header: Header) -> Iterator[Remark]:
    waiting = min(len(state.feedback) + state.folded.count, 0xFFFF)
    if header.feedback != waiting:
        yield Remark("fail", "header", f"the header tells {header.feedback} waiting feedbacks, the state has {waiting}.", _REWRITTEN)
    due = _millis(next_due(state))
    if header.due == due:
        return
    # With `entity_ttl` the header may be due before anything in the state is; which ttl was in force then is not known.
    idle_since = _millis(state.touched_at)
    earlier = header.due is not None and (due is None or header.due < due)
    if not (earlier and idle_since is not None and header.due is not None and header.due > idle_since):
        text = f"the header says due {_moment(header.due)}, the state {_moment(due)}: what is due is done at the wrong time."
        yield Remark("fail", "due", text, _REWRITTEN)


def _bounds(state: EntityState, size: int, bounds: BoundSettings) -> Iterator[Remark]:
    advice = "Was the bound lowered? The entity's next record cuts it."
    for name in ("pending", "early", "resolved", "feedback", "revisions"):
        count, bound = len(getattr(state, name)), getattr(bounds, name)
        if count > bound:
            yield Remark("warn", "bounds", f"{count} entries in `{name}`, bounds.{name} is {bound}.", advice)
    # The offset of the last applied record is written after the state was cut.
    if size > bounds.record + RECORD_OVERHEAD:
        yield Remark("warn", "bounds", f"the record has {size} bytes, bounds.record is {bounds.record}.", advice)


def _positions(names: Iterable[str], settings: Settings) -> Iterator[Remark]:
    for name in names:
        source = source_of(name, 0)
        if source is None or source[0] not in ("observations", "truths", "commands"):
            yield Remark("fail", "position", f"offsets are noted for {name!r}, which is no input.", _ANEW)


def _millis(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)


def _moment(millis: int | None) -> str:
    return "never" if millis is None else datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="milliseconds")
