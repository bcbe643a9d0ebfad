"""Tests of `streams.demo.folder`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import orjson

from schemas.messages import DeadLetter, MemoryRevision
from streams.demo.folder import RunFolder

NOW = datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)


def test_a_run_is_called_after_its_time_and_latest_points_to_it(tmp_path: Path) -> None:
    folder = RunFolder.make(NOW, tmp_path / "runs")
    assert folder.name == "20260301-123005"
    assert (tmp_path / "runs" / "latest").resolve() == folder.path.resolve()


def test_a_second_run_in_the_same_second_gets_a_directory_of_its_own(tmp_path: Path) -> None:
    first, second = RunFolder.make(NOW, tmp_path), RunFolder.make(NOW, tmp_path)
    assert (first.name, second.name) == ("20260301-123005", "20260301-123005-2")
    assert (tmp_path / "latest").resolve() == second.path.resolve()


def test_what_comes_is_on_disk_before_the_run_ends(tmp_path: Path) -> None:
    revision = MemoryRevision(entity="seattle", revision=1, cause="feedback", accepted=True, after="text", words=1, made_at=NOW)
    with RunFolder.make(NOW, tmp_path) as folder:
        folder.keep(revision)
        folder.keep(DeadLetter(reason="not-json", detail="", topic="t", partition=0, offset=3, size=1))
        lines = (folder.path / "memories.jsonl").read_text().splitlines()
    assert [MemoryRevision.model_validate_json(line) for line in lines] == [revision]
    assert orjson.loads((folder.path / "dead-letters.jsonl").read_bytes())["offset"] == 3


def test_the_summary_is_json_with_a_newline_at_the_end(tmp_path: Path) -> None:
    folder = RunFolder.make(NOW, tmp_path)
    folder.write_summary({"labelled": 72})
    content = folder.summary.read_bytes()
    assert orjson.loads(content) == {"labelled": 72}
    assert content.endswith(b"}\n")
