"""The report's JSON: which arms and comparisons it has, and that its figures are those of the results."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import orjson
import pytest

from schemas.messages import Answer, Rejection
from schemas.settings import load_settings
from streams.evaluation.derived import executed_results, naive_results
from streams.evaluation.losses import ResultsUnfit, learning_curve
from streams.evaluation.pairs import compare, pool
from streams.evaluation.report import ARMS, ArmRun, Evaluation, ReportError, changed, pooled, report
from streams.evaluation.scores import score
from tests.streams.evaluation.arm_runs import LABELS, MODEL, SKILL, evaluation

MADE = datetime(2025, 1, 2, tzinfo=UTC)
FEW = ("zero_shot", "fhc", "llm_as_rnn")
KEYS = {"dataset", "title", "learnable", "seed", "held_out", "n", "model", "settings"}
KEYS |= {"data", "notes", "rules", "made_at", "arms", "comparisons"}


def made(run: Evaluation) -> dict:
    return report(run.dataset, run.settings, run.arms, model=MODEL, made_at=MADE)


def test_a_report_has_the_keys_that_its_readers_count_on_and_is_json() -> None:
    run = evaluation(steps=30, notes=("older than the model",))
    found = made(run)
    assert set(found) == KEYS
    assert orjson.loads(orjson.dumps(found)) == found
    assert (found["dataset"], found["seed"], found["held_out"], found["learnable"], found["n"]) == ("made-up-category", 3, True, True, 30)
    assert found["model"] == {"name": "tiny:1b", "digest": "sha256:feed", "backend": "scripted 1"}
    assert found["data"] == {
        "sha256": run.dataset.digest,
        "first": "2024-03-01T00:00:00+00:00",
        "last": "2024-03-02T05:00:00+00:00",
        "entities": 1,
    }
    assert found["notes"] == ["older than the model"]
    assert found["rules"] == ["cue 1 -> storm"]
    assert found["made_at"] == "2025-01-02T00:00:00+00:00"


def test_arms_stand_in_their_fixed_order_then_the_naive_ones() -> None:
    run = evaluation(steps=30)
    shuffled = report(run.dataset, run.settings, dict(reversed(run.arms.items())), model=MODEL, made_at=MADE)
    assert list(shuffled["arms"]) == [*(arm for arm in ARMS if arm in {*run.arms, "rules_executed"}), "persistence", "most-frequent"]
    assert shuffled == made(run)


@pytest.mark.parametrize("kind", ["category", "number"])
def test_an_arm_has_the_scores_the_curve_and_the_costs_of_its_results(kind: str) -> None:
    run = evaluation(kind, names=FEW, steps=40)
    target, rows = run.settings.target, run.arms["llm_as_rnn"].results
    arm = made(run)["arms"]["llm_as_rnn"]
    expected = score(rows, target, zero_shot=run.arms["zero_shot"].results)
    assert {key: arm[key] for key in expected} == expected
    assert arm["learning_curve"] == pytest.approx(learning_curve(rows, target), abs=1e-6)
    assert arm["self_correction_lift"] == expected["self_correction_lift"]
    assert arm["wall_seconds"] == 2.5


def test_the_interval_of_a_mean_absolute_error_holds_it() -> None:
    arms = made(evaluation("number", names=FEW, steps=40))["arms"]
    for arm in arms.values():
        assert 0 <= arm["mae_low"] < arm["mae"] < arm["mae_high"]


def test_derived_arms_are_those_of_the_results() -> None:
    run = evaluation(names=FEW, steps=40)
    found = run.with_derived().arms
    assert list(found["rules_executed"].results) == executed_results(run.arms["llm_as_rnn"].results)
    assert list(found["persistence"].results) == naive_results(run.arms["zero_shot"].results)["persistence"]


def test_the_subject_is_set_against_every_arm_and_every_arm_against_the_one_without_memory() -> None:
    found = made(evaluation(steps=30))
    others = [name for name in found["arms"] if name != "llm_as_rnn"]
    expected = [("llm_as_rnn", name) for name in others] + [(name, "zero_shot") for name in others if name != "zero_shot"]
    assert [(entry["arm"], entry["against"]) for entry in found["comparisons"]] == expected


def test_a_comparison_is_the_paired_test_of_the_two_arms() -> None:
    run = evaluation(names=FEW)
    entry = next(e for e in made(run)["comparisons"] if (e["arm"], e["against"]) == ("llm_as_rnn", "fhc"))
    expected = compare(run.arms["llm_as_rnn"].results, run.arms["fhc"].results, run.settings.target)
    assert entry == {"arm": "llm_as_rnn", "against": "fhc", **expected.model_dump(mode="json")}


def test_arms_that_did_not_run_are_not_compared() -> None:
    found = made(evaluation(names=("fhc",), steps=30))
    assert list(found["arms"]) == ["fhc", "persistence", "most-frequent"]
    assert found["comparisons"] == []
    assert "self_correction_lift" not in found["arms"]["fhc"]


def test_arms_over_different_cases_are_refused() -> None:
    run = evaluation(names=FEW, steps=30)
    shorter = replace(run.arms["fhc"], results=run.arms["fhc"].results[:20])
    with pytest.raises(ResultsUnfit):
        made(replace(run, arms={**run.arms, "fhc": shorter}))


def test_without_an_arm_there_is_no_report() -> None:
    with pytest.raises(ReportError, match="no arm has run"):
        made(evaluation(names=(), steps=5))


def test_rewrites_are_counted_by_what_became_of_them() -> None:
    run = evaluation(names=("llm_as_rnn",), steps=60)
    arm = run.arms["llm_as_rnn"]
    first = arm.memories[0]
    lost = first.revision.model_copy(update={"rejected": (Rejection(guard="number", statement="7 of 8"),)})
    unusable = first.revision.model_copy(update={"accepted": False, "rejected": (), "reason": "the model's answer could not be used"})
    dropped = first.revision.model_copy(update={"cause": "rule-dropped", "rejected": (Rejection(guard="refuted", statement="x"),)})
    entries = [first.model_copy(update={"revision": revision}) for revision in (lost, unusable, dropped)]
    arms = {"llm_as_rnn": replace(arm, memories=(*arm.memories[1:], *entries))}
    assert made(replace(run, arms=arms))["arms"]["llm_as_rnn"]["rewrites"] == {
        "proposed": 7,
        "accepted": 3,
        "rejected_by": {"echo": 3, "number": 1, "the model's answer could not be used": 1},
        "dropped_by_code": 1,
    }


def test_settings_are_those_that_differ_and_hold_no_secret_and_no_address() -> None:
    settings = load_settings(
        None,
        model={"name": "tiny:1b", "api_key": "sk-secret", "host": "http://user:word@10.0.0.7:1"},
        kafka={"bootstrap_servers": "kafka.internal:9092"},
        memory={"words": 150},
    )
    assert changed(settings) == {"model": {"name": "tiny:1b"}, "memory": {"words": 150}}


def test_an_arm_says_what_makes_it() -> None:
    arms = made(evaluation(names=FEW, steps=30))["arms"]
    assert arms["zero_shot"]["settings"] == {"rewrite": {"policy": "never"}}
    assert arms["llm_as_rnn"]["settings"] == {}


@pytest.mark.parametrize("kind", ["category", "number"])
def test_seeds_are_pooled_case_by_case(kind: str) -> None:
    runs = [evaluation(kind, names=FEW, seed=seed, steps=30) for seed in (3, 4)]
    found = pooled(runs, model=MODEL, made_at=MADE)
    assert set(found) == KEYS | {"seeds"}
    assert (found["seed"], found["seeds"], found["n"]) == (None, [3, 4], 60)
    assert found["data"]["by_seed"] == {"3": runs[0].dataset.digest, "4": runs[1].dataset.digest}
    one = [made(run)["arms"]["fhc"] for run in runs]
    arm, key = found["arms"]["fhc"], "mae" if kind == "number" else "accuracy"
    assert arm["n"] == 60
    assert arm["seeds"] == [3, 4]
    assert arm[key] == pytest.approx((one[0][key] + one[1][key]) / 2)
    assert arm["learning_curve"] == pytest.approx(
        [(a + b) / 2 for a, b in zip(one[0]["learning_curve"], one[1]["learning_curve"], strict=True)], abs=2e-6
    )
    entry = next(e for e in found["comparisons"] if (e["arm"], e["against"]) == ("llm_as_rnn", "fhc"))
    pairs = [(run.arms["llm_as_rnn"].results, run.arms["fhc"].results) for run in runs]
    assert entry == {"arm": "llm_as_rnn", "against": "fhc", **pool(pairs, runs[0].settings.target).model_dump(mode="json")}


def test_a_wrong_answer_at_the_end_of_a_seed_is_not_corrected_in_the_next() -> None:
    runs = [evaluation(names=FEW, seed=seed, steps=30) for seed in (3, 4)]
    rows = runs[0].arms["fhc"].results
    wrong = rows[-1].model_copy(update={"answer": Answer(value=next(label for label in LABELS if label != rows[-1].truth))})
    runs[0] = replace(runs[0], arms={**runs[0].arms, "fhc": replace(runs[0].arms["fhc"], results=(*rows[:-1], wrong))})
    apart = [made(run)["arms"]["fhc"]["self_correction_n"] for run in runs]
    assert pooled(runs, model=MODEL)["arms"]["fhc"]["self_correction_n"] == sum(apart)


def test_an_arm_of_some_seeds_is_compared_on_those() -> None:
    both, one = evaluation(names=(*FEW, "llm_as_rnn_blank"), seed=3, steps=30), evaluation(names=FEW, seed=4, steps=30)
    found = pooled([both, one], model=MODEL)
    assert found["arms"]["llm_as_rnn_blank"]["seeds"] == [3]
    sizes = {(entry["arm"], entry["against"]): entry["n"] for entry in found["comparisons"]}
    assert sizes["llm_as_rnn", "llm_as_rnn_blank"] == 30
    assert sizes["llm_as_rnn", "zero_shot"] == 60


def test_different_streams_are_not_pooled() -> None:
    with pytest.raises(ReportError, match="one stream"):
        pooled([evaluation("number", names=FEW, steps=10), evaluation("category", names=FEW, steps=10)], model=MODEL)


def test_every_model_arm_has_a_name_that_the_report_knows() -> None:
    assert set(SKILL) < set(ARMS)
    assert ArmRun.__dataclass_fields__.keys() == {"results", "memories", "settings", "seconds"}
