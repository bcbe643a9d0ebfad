"""`palimpsest evaluate`: reports of arms on a stream, with and without the model at hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streams import exits
from streams.cli.entry import run

CONFIG = """
[model]
backend = "import"
factory = "agents.models.scripted:from_settings"
name = "scripted"
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "palimpsest.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return str(path)


def evaluate(config, tmp_path, *arguments: str) -> int:
    return run(["evaluate", *arguments, "-c", config, "--out", str(tmp_path / "out")])


def test_a_stream_is_reported_as_json_and_as_a_page(config, tmp_path, capsys) -> None:
    assert evaluate(config, tmp_path, "learnable-mapping", "--steps", "20", "--arms", "zero_shot,llm_as_rnn") == exits.OK
    report = json.loads((tmp_path / "out/learnable-mapping-1000.json").read_bytes())
    assert report["held_out"]
    assert report["n"] == 20
    assert {"zero_shot", "llm_as_rnn", "persistence"} <= report["arms"].keys()
    assert {(entry["arm"], entry["against"]) for entry in report["comparisons"]} >= {("llm_as_rnn", "zero_shot")}
    assert "<html" in (tmp_path / "out/learnable-mapping-1000.html").read_text(encoding="utf-8")
    assert (tmp_path / "out/records/learnable-mapping-1000/llm_as_rnn.jsonl.gz").exists()
    assert "llm_as_rnn" in capsys.readouterr().out


def test_a_report_is_made_again_from_the_recorded_answers(config, tmp_path, capsys) -> None:
    given = ("learnable-offset", "--steps", "16", "--arms", "zero_shot", "--json")
    assert evaluate(config, tmp_path, *given) == exits.OK
    first = json.loads(capsys.readouterr().out)
    assert evaluate(config, tmp_path, *given, "--recorded") == exits.OK
    again = json.loads(capsys.readouterr().out)
    for report in (*first, *again):
        del report["made_at"]
        for arm in report["arms"].values():
            del arm["wall_seconds"]
    assert again == first


def test_arms_that_were_run_before_are_in_the_report_too(config, tmp_path) -> None:
    for arm in ("zero_shot", "fhc"):
        assert evaluate(config, tmp_path, "learnable-mapping", "--steps", "12", "--arms", arm) == exits.OK
    report = json.loads((tmp_path / "out/learnable-mapping-1000.json").read_bytes())
    assert {"zero_shot", "fhc"} <= report["arms"].keys()


def test_several_seeds_are_also_pooled(config, tmp_path) -> None:
    assert evaluate(config, tmp_path, "learnable-mapping", "--steps", "12", "--arms", "zero_shot", "--seeds", "1,2") == exits.OK
    report = json.loads((tmp_path / "out/learnable-mapping-pooled.json").read_bytes())
    assert report["n"] == 24
    assert report["seeds"] == [1, 2]


def test_a_csv_of_one_s_own_is_read_as_the_settings_say(config, tmp_path) -> None:
    Path(config).write_text(f'{CONFIG}[target]\nfield = "t"\ndescription = "the temperature"\n', encoding="utf-8")
    rows = "\n".join(f"2026-01-01T{hour:02}:00:00Z,{20 + hour % 5}" for hour in range(20))
    (tmp_path / "mine.csv").write_text(f"time,t\n{rows}\n", encoding="utf-8")
    assert evaluate(config, tmp_path, str(tmp_path / "mine.csv"), "--arms", "zero_shot") == exits.OK
    assert len(list((tmp_path / "out").glob("*.json"))) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nothing",), "there is no dataset"),
        (("learnable-mapping", "--arms", "best"), "no such arm"),
        (("learnable-mapping", "--seeds", "x"), "whole numbers"),
        (("seattle-class", "--steps", "99999"), "99999"),
        (("learnable-mapping", "--recorded"), "nothing is recorded"),
    ],
)
def test_what_cannot_be_run_is_told(config, tmp_path, capsys, arguments, told) -> None:
    assert evaluate(config, tmp_path, *arguments) != exits.OK
    assert told in capsys.readouterr().err
