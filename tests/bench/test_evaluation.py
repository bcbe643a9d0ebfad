"""The runs behind the evaluation's page: every arm is in one, and what is recorded is made again without a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import evaluation
from streams.cli.entry import run
from streams.evaluation import datasets
from streams.evaluation.arms import ARMS

CONFIG = '[model]\nbackend = "import"\nfactory = "agents.models.scripted:from_settings"\nname = "scripted"\n'


def test_every_arm_runs_on_every_learnable_family_and_the_first_ones_on_two_seeds() -> None:
    asked = {(name, arm, seed) for one in evaluation.RUNS if not one.label for name in one.names for arm in one.arms for seed in one.seeds}
    for name in datasets.LEARNABLE:
        # The loop as published is there for its costs, on the weather.
        assert {arm for given, arm, seed in asked if given == name and seed == 1000} == set(ARMS) - {"published_loop"}
        assert {arm for given, arm, seed in asked if given == name and seed == 1001} == set(evaluation.CORE)


def test_every_stream_is_there_and_held_out_where_it_has_a_seed() -> None:
    for one in evaluation.RUNS:
        for dataset in evaluation.streams_of(one) if not set(one.names) & set(evaluation.RECORDED) else ():
            assert dataset.held_out
            assert len(dataset.cases) == one.steps


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two arms and two budgets, with a scripted model."""
    config = tmp_path / "palimpsest.toml"
    config.write_text(CONFIG, encoding="utf-8")
    out = tmp_path / "reports"
    for label, section in (("", ""), ("lambda-1024", "context_budget = 1024\n"), ("lambda-2048", "context_budget = 2048\n")):
        config.write_text(f"{CONFIG}{section}" + ("[memory]\nledger_rows = 200\n" if label else ""), encoding="utf-8")
        given = ["learnable-mapping", "--arms", "fhc,llm_as_rnn", "-c", str(config), "--out", str(out), "--label", label]
        assert run(["evaluate", *given]) == 0
    config.write_text(CONFIG, encoding="utf-8")
    return tmp_path


def test_reports_and_charts_are_made_of_what_is_recorded(folder: Path) -> None:
    before = {path.name for path in (folder / "reports").iterdir()}
    evaluation.main(folder / "palimpsest.toml", folder / "reports", 1, recorded=True)
    made = {path.name for path in (folder / "reports").iterdir()} - before
    assert made == {"lambda.svg"}
    report = json.loads((folder / "reports/learnable-mapping-1000.json").read_bytes())
    assert report["arms"].keys() >= {"fhc", "llm_as_rnn"}
