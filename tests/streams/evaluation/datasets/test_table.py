"""A user's own CSV as a dataset."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas.settings import Settings, load_settings
from streams.evaluation.dataset import Dataset, DatasetError
from streams.evaluation.datasets.table import read
from streams.replaying import Fields


def write(folder: Path, *lines: str, name: str = "plant.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def numbers(**sections: Any) -> Settings:
    return load_settings(None, **{"target": {"field": "load"}, **sections})


def classes(*labels: str, **sections: Any) -> Settings:
    return load_settings(None, **{"target": {"field": "state", "kind": "category", "labels": labels}, **sections})


def told(dataset: Dataset) -> list[tuple[str, Any, datetime]]:
    return [(case.observation.id, case.truth, case.known_at) for case in dataset.cases]


def hour(n: int) -> datetime:
    return datetime(2024, 5, 1, n, tzinfo=UTC)


TWO = (
    "time,entity,load,shift",
    "2024-05-01T00:00:00Z,a,1,early",
    "2024-05-01T01:00:00Z,b,5,early",
    "2024-05-01T02:00:00Z,a,2.5,late",
    "2024-05-01T03:00:00Z,b,6,late",
    "2024-05-01T04:00:00Z,a,3,late",
)


def test_the_truth_of_a_row_is_the_target_in_its_entitys_next_row(tmp_path: Path) -> None:
    dataset = read(write(tmp_path, *TWO), settings=numbers())
    assert [(case.observation.entity, case.truth, case.known_at) for case in dataset.cases] == [
        ("a", 2.5, hour(2)),
        ("b", 6.0, hour(3)),
        ("a", 3.0, hour(4)),
    ]
    assert dataset.cases[0].observation.values == {"load": 1, "shift": "early"}
    assert dataset.notes[0] == "3 of 5 rows of 2 entities have a truth; the others are left out."


def test_rows_may_stand_in_any_order(tmp_path: Path) -> None:
    header, *rows = TWO
    dataset = read(write(tmp_path, header, *reversed(rows)), settings=numbers())
    assert told(dataset) == told(read(write(tmp_path, *TWO, name="sorted.csv"), settings=numbers()))


def test_a_file_without_entities_is_about_one_that_is_called_as_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "time,load", "2024-05-01T00:00,1", "2024-05-01T01:00,2", name="boiler.csv")
    (case,) = read(path, settings=numbers()).cases
    assert (case.observation.entity, case.truth, case.known_at) == ("boiler", 2.0, hour(1))


def test_columns_of_other_names_are_found(tmp_path: Path) -> None:
    path = write(tmp_path, "when\twho\tload", "2024-05-01T00:00\ta\t1", "2024-05-01T01:00\ta\t2", name="plant.tsv")
    (case,) = read(path, settings=numbers(), fields=Fields(entity_field="who", time_field="when")).cases
    assert (case.observation.entity, case.observation.values, case.truth) == ("a", {"load": 1}, 2.0)


def test_the_settings_mapping_says_what_is_shown_and_how_it_is_called(tmp_path: Path) -> None:
    mapping = {"entity": "sensor", "time": "ts", "id": "nr", "values": {"load": "kW", "note": "remark"}, "text_fields": ["note"]}
    path = write(tmp_path, "ts,sensor,nr,kW,remark,other", "2024-05-01T00:00,a,r1,1,all is well,9", "2024-05-01T01:00,a,r2,2,,9")
    dataset = read(path, settings=numbers(observations=mapping, memory={"facts": ["load is in kW."]}))
    (case,) = dataset.cases
    assert (case.observation.id, case.observation.values, case.truth) == ("r1", {"load": 1, "note": "all is well"}, 2.0)
    run = dataset.configured()
    assert run.observations.values == {"load": "kW", "note": "remark"}
    assert run.observations.text_fields == ("note",)
    assert (run.target.field, run.memory.facts) == ("load", ("load is in kW.",))


def test_a_column_of_truths_is_seen_by_no_arm(tmp_path: Path) -> None:
    path = write(tmp_path, "time,entity,load,y,y_at", "2024-05-01T00:00,a,1,7,2024-05-01T05:00Z", "2024-05-01T01:00,a,2,8,2024-05-01T06:00")
    dataset = read(path, settings=numbers(), truth="y", truth_time="y_at")
    assert [(case.truth, case.known_at) for case in dataset.cases] == [(7.0, hour(5)), (8.0, hour(6))]
    assert [case.observation.values for case in dataset.cases] == [{"load": 1}, {"load": 2}]
    assert all(not case.observation.extra for case in dataset.cases)


def test_a_truth_without_a_time_is_known_when_the_entitys_next_row_comes(tmp_path: Path) -> None:
    path = write(tmp_path, "time,entity,load,y", "2024-05-01T00:00,a,1,7", "2024-05-01T01:00,b,1,7", "2024-05-01T02:00,a,1,8")
    assert [case.known_at for case in read(path, settings=numbers(), truth="y").cases] == [hour(2), hour(1), hour(2)]


def test_with_a_duration_as_horizon_a_truth_is_known_when_it_is_over(tmp_path: Path) -> None:
    path = write(tmp_path, "time,load,y", "2024-05-01T00:00,1,7", "2024-05-01T01:00,1,8")
    dataset = read(path, settings=numbers(target={"field": "load", "horizon": "3h"}), truth="y")
    assert [case.known_at for case in dataset.cases] == [hour(3), hour(4)]
    assert dataset.configured().target.horizon == timedelta(hours=3)


def test_with_a_duration_as_horizon_the_row_nearest_to_that_moment_answers(tmp_path: Path) -> None:
    rows = ("2024-05-01T00:00,1", "2024-05-01T01:50,2", "2024-05-01T02:05,3", "2024-05-01T06:00,4")
    path = write(tmp_path, "time,load", *rows)
    settings = numbers(target={"field": "load", "horizon": "2h"}, truths={"tolerance": "15 min"})
    (case,) = read(path, settings=settings).cases
    assert (case.truth, case.known_at) == (3.0, datetime(2024, 5, 1, 2, 5, tzinfo=UTC))


def test_after_a_gap_that_is_too_long_the_next_row_is_no_truth(tmp_path: Path) -> None:
    path = write(tmp_path, "time,load", "2024-05-01T00:00,1", "2024-05-01T01:00,2", "2024-05-01T09:00,3", "2024-05-01T10:00,4")
    assert [case.truth for case in read(path, settings=numbers(truths={"max_gap": "2h"})).cases] == [2.0, 4.0]


def test_a_row_of_the_same_time_is_no_next_one(tmp_path: Path) -> None:
    path = write(tmp_path, "time,id,load", "2024-05-01T00:00,x,1", "2024-05-01T00:00,y,2", "2024-05-01T01:00,z,3")
    assert told(read(path, settings=numbers())) == [("x", 3.0, hour(1)), ("y", 3.0, hour(1))]


def test_a_missing_target_is_no_truth_and_the_row_is_observed_all_the_same(tmp_path: Path) -> None:
    path = write(tmp_path, "time,load,wind", "2024-05-01T00:00,1,n", "2024-05-01T01:00,,s", "2024-05-01T02:00,3,n")
    (case,) = read(path, settings=numbers()).cases
    assert (case.observation.values, case.truth) == ({"wind": "s"}, 3.0)


def test_classes_may_be_called_by_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, "time,state", "2024-05-01T00:00,0", "2024-05-01T01:00,1", "2024-05-01T02:00,0")
    dataset = read(path, settings=classes("0", "1"))
    assert [(case.observation.values, case.truth) for case in dataset.cases] == [({"state": "0"}, "1"), ({"state": "1"}, "0")]


def test_the_first_steps_are_those_with_the_earliest_times(tmp_path: Path) -> None:
    path = write(tmp_path, *TWO)
    assert [case.observation.time for case in read(path, settings=numbers(), steps=2).cases] == [hour(0), hour(1)]
    with pytest.raises(DatasetError, match=r"plant\.csv has 3 cases; 4 cannot"):
        read(path, settings=numbers(), steps=4)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("time,load", "2024-05-01T00:00,1", "2024-05-01T01:00,much"), r"plant\.csv, line 3: .*the target is a number"),
        (("time,load", "2024-05-01T00:00,1", "soon,2"), r"plant\.csv, line 3: .*'soon'"),
        (("time,load", "2024-05-01T00:00,1", ",2"), "line 3: no time at 'time'"),
        (("time,load", "2024-05-01T00:00,1,9"), "line 2: more cells than the header has names"),
        (("time,load", "2024-05-01T00:00,1", "2024-05-01T00:00,2"), "line 3: the id .* is that of line 2 as well"),
        (("time,entity,load", "2024-05-01T00:00,,1"), "line 2: nothing at 'entity'"),
        (("time,wind", "2024-05-01T00:00,1"), "no column load; there are time, wind"),
        (("time,load", "2024-05-01T00:00,1"), "none of 1 rows has a truth"),
        ((), "no column load; there are none"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_line(tmp_path: Path, lines: tuple[str, ...], said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        read(write(tmp_path, *lines), settings=numbers())


def test_a_label_that_the_settings_do_not_have_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"line 3: .*'off' is none of on, idle"):
        read(write(tmp_path, "time,state", "2024-05-01T00:00,on", "2024-05-01T01:00,off"), settings=classes("on", "idle"))


def test_a_truth_that_was_known_before_its_row_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "time,load,y,at", "2024-05-01T02:00,1,7,2024-05-01T01:00")
    with pytest.raises(DatasetError, match=r"line 2: the truth was known at 2024-05-01T01:00:00\+00:00, before"):
        read(path, settings=numbers(), truth="y", truth_time="at")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"truth": "y"}, "no column y; there are time, load, z"),
        ({"truth": "z", "truth_time": "at"}, "no column at; there are"),
        ({"truth_time": "z"}, r"\(z\) needs a column of the truth"),
        ({"truth": "z"}, "none of 1 rows has a truth: column z is empty"),
    ],
)
def test_columns_of_the_truth_that_do_not_help_are_told(tmp_path: Path, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        read(write(tmp_path, "time,load,z", "2024-05-01T00:00,1,"), settings=numbers(), **asked)


def test_a_target_that_the_mapping_leaves_out_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, "time,load,wind", "2024-05-01T00:00,1,2")
    with pytest.raises(DatasetError, match=r"observations\.values maps no column to 'load'"):
        read(path, settings=numbers(observations={"values": {"wind": "wind"}}))


def test_a_file_that_is_no_table_or_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"ends with \.csv or \.tsv"):
        read(write(tmp_path, "{}", name="plant.jsonl"), settings=numbers())
    with pytest.raises(DatasetError, match=r"nothing\.csv: No such file"):
        read(tmp_path / "nothing.csv", settings=numbers())
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match=r"binary\.csv: not a CSV file in UTF-8"):
        read(tmp_path / "binary.csv", settings=numbers())
