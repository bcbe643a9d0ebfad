"""The file that states are exported to: JSON lines, one for each thing, so that people can read, count and filter it.

| line | `kind` | what |
| --- | --- | --- |
| first | `export` | whose states these are, and what was read of which inputs when they were taken (`Preamble`) |
| further | `entity` | one entity's state, with the partition and offset where it stood |
| | `partition` | a partition's own record |
| last | `end` | how many there are, and what had to be left out; without it the file is cut short |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypeVar

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from schemas.codec import encode
from schemas.messages import Frozen
from schemas.state import EntityState, PartitionState
from schemas.times import Time
from streams.errors import DumpError
from streams.topics import InputRole

FORMAT: Literal[1] = 1

_Offset = Annotated[int, Field(ge=0)]
_Partition = Annotated[int, Field(ge=0)]


class Input(Frozen):
    """An input as it was when the states were taken.

    Attributes
    ----------
    id
        The topic's, where brokers give ids: a topic that is made anew gets another.
    keyed
        It was used as it is; else its records were first written by entity.
    ends
        Its end by partition: no state knows an offset at or beyond it, unless the topic had been made anew before.
    positions
        By partition, the offset below which everything is in the states; None where nothing was read. Less than what the group had
        committed where records were on their way by entity.
    """

    topic: str
    id: str | None = None
    keyed: bool
    ends: tuple[_Offset, ...]
    positions: tuple[_Offset | None, ...]

    @property
    def partitions(self) -> int:
        return len(self.ends)


class Preamble(Frozen):
    """The first line.

    Attributes
    ----------
    partitions, partitioner
        How entities were placed.
    ends
        The changelog's end by partition: what came later is not in the file.
    entity
        Only this one was exported.
    """

    kind: Literal["export"] = "export"
    format: Literal[1] = FORMAT
    app: str
    exported_at: Time
    partitions: Annotated[int, Field(ge=1)]
    partitioner: Literal["murmur2", "crc32"]
    changelog: str
    ends: tuple[_Offset, ...]
    inputs: dict[InputRole, Input]
    entity: str | None = None


class EntityLine(Frozen):
    """An entity's state, and where it stood in the changelog."""

    kind: Literal["entity"] = "entity"
    partition: _Partition
    offset: _Offset
    state: EntityState


class PartitionLine(Frozen):
    """A partition's own record."""

    kind: Literal["partition"] = "partition"
    partition: _Partition
    offset: _Offset
    state: PartitionState


class LeftOut(Frozen):
    """A record of the changelog that could not be read."""

    partition: _Partition
    offset: _Offset
    key: str
    why: str


class End(Frozen):
    """The last line."""

    kind: Literal["end"] = "end"
    entities: Annotated[int, Field(ge=0)]
    partitions: Annotated[int, Field(ge=0)]
    left_out: tuple[LeftOut, ...] = ()


Line = EntityLine | PartitionLine | End
_Content = TypeVar("_Content")
_LINES: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="kind")])


def encode_line(line: Preamble | Line) -> bytes:
    """A line with its end. A state stands in it as in the changelog: without the fields that have their default."""
    if isinstance(line, EntityLine | PartitionLine):
        state = orjson.Fragment(encode(line.state))
        fields = {"kind": line.kind, "partition": line.partition, "offset": line.offset, "state": state}
    else:
        fields = line.model_dump(mode="json", exclude_none=True)
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


class Numbered(NamedTuple):
    """A line with its number, from 1, and its length in bytes."""

    number: int
    size: int
    content: Line


@contextmanager
def open_dump(path: Path) -> Iterator[tuple[Preamble, Iterator[Numbered]]]:
    """Open an export: its first line, and the further ones, each of which is checked when it is reached.

    Raises
    ------
    DumpError
        The file cannot be opened, a line is none of an export, the last is missing, or there is something after it.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise DumpError(f"{path}: {error.strerror}") from None
    with file:
        preamble = _decode(path, 1, file.readline(), TypeAdapter(Preamble))
        yield preamble, _lines(path, file)


def _lines(path: Path, file: Iterable[bytes]) -> Iterator[Numbered]:
    number, ended = 1, False
    for number, raw in enumerate(file, 2):
        if ended:
            raise DumpError(f"{path}: line {number}: there is something after the end of the export")
        line = _decode(path, number, raw, _LINES)
        yield Numbered(number, len(raw), line)
        ended = isinstance(line, End)
    if not ended:
        raise DumpError(f"{path}: the export is cut short after line {number}: its last line is missing")


def _decode(path: Path, number: int, raw: bytes, kind: TypeAdapter[_Content]) -> _Content:
    try:
        return kind.validate_python(orjson.loads(raw))
    except orjson.JSONDecodeError as error:
        raise DumpError(f"{path}: line {number}: not JSON: {error}") from None
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"]) or "the line"
        raise DumpError(f"{path}: line {number}: {where}: {fault['msg']}") from None
