"""The file of an export: what is written is read again, and what is no whole export is refused by its line."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from schemas.state import EntityState, PartitionState
from streams.errors import DumpError
from streams.state.dump import End, EntityLine, Input, LeftOut, Line, PartitionLine, Preamble, encode_line, open_dump

FIRST = Preamble(
    app="a",
    exported_at=datetime(2024, 1, 1, tzinfo=UTC),
    partitions=2,
    partitioner="crc32",
    changelog="a-state-changelog",
    ends=(4, 0),
    inputs={"observations": Input(topic="o", id="x", keyed=True, ends=(3, 1), positions=(3, None))},
)
LINES: Sequence[Line] = (
    EntityLine(partition=0, offset=3, state=EntityState(entity="ä\n", applied={"observations": 2}, frozen=True)),
    PartitionLine(partition=0, offset=1, state=PartitionState(settled={"observations": 1})),
    End(entities=1, partitions=1, left_out=(LeftOut(partition=0, offset=2, key="b", why="no JSON"),)),
)


def written(path: Path, *lines: bytes) -> Path:
    path.write_bytes(b"".join(lines))
    return path


def read(path: Path) -> tuple[Preamble, list[Line]]:
    with open_dump(path) as (preamble, lines):
        return preamble, [line.content for line in lines]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = written(tmp_path / "s.jsonl", encode_line(FIRST), *map(encode_line, LINES))
    assert read(path) == (FIRST, list(LINES))
    with open_dump(path) as (_, lines):
        assert [(line.number, line.size) for line in lines] == [(number, len(encode_line(line))) for number, line in enumerate(LINES, 2)]


def test_each_line_is_json_that_says_what_it_is_and_a_state_says_its_schema() -> None:
    fields = [orjson.loads(encode_line(line)) for line in (FIRST, *LINES)]
    assert [one["kind"] for one in fields] == ["export", "entity", "partition", "end"]
    assert fields[0]["format"] == 1
    assert fields[1]["state"] == {"schema_version": 1, "entity": "ä\n", "applied": {"observations": 2}, "frozen": True}


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "line 1: not JSON"),
        ([b'{"kind":"entity"}\n'], "line 1: "),
        ([encode_line(FIRST).replace(b'"format":1', b'"format":2')], "line 1: format"),
        ([encode_line(FIRST), b'{"kind":"entity","partition":0,\n'], "line 2: not JSON"),
        ([encode_line(FIRST), b'{"kind":"memory"}\n'], "line 2: "),
        ([encode_line(FIRST), encode_line(LINES[0]).replace(b'"frozen":true', b'"frozen":"?"')], "line 2: entity.state.frozen"),
        (
            [encode_line(FIRST), encode_line(LINES[0]).replace(b'"schema_version":1', b'"schema_version":2')],
            "line 2: entity.state.schema_version",
        ),
        ([encode_line(FIRST), encode_line(LINES[0])], "cut short after line 2"),
        ([encode_line(FIRST)], "cut short after line 1"),
        ([encode_line(FIRST), encode_line(LINES[2]), encode_line(LINES[0])], "line 3: there is something after the end"),
    ],
)
def test_what_is_no_whole_export_is_refused_by_its_line(tmp_path: Path, lines: list[bytes], says: str) -> None:
    path = written(tmp_path / "s.jsonl", *lines)
    with pytest.raises(DumpError, match=says) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(DumpError, match=r"nowhere\.jsonl: No such file"):
        read(tmp_path / "nowhere.jsonl")
    with pytest.raises(DumpError, match="directory"):
        read(tmp_path)
