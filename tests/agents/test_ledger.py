from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.ledger import Ledger
from schemas.messages import Answer
from schemas.settings import Settings
from schemas.state import EntityState, Resolved

START = datetime(2024, 3, 1, 12, tzinfo=UTC)
LABELS = Settings(target={"field": "smog", "kind": "category", "labels": ("low", "high")})


def labelled(n, settings=LABELS):
    rows = tuple(
        Resolved(
            seq=i + 1,
            id=f"o{i}",
            time=START + timedelta(days=i),
            target_time=START + timedelta(days=i + 1),
            made_at=START,
            values={"wind": "north" if i % 3 else "south"},
            truth="high" if i % 3 else "low",
            forecast=Answer(value="high"),
        )
        for i in range(n)
    )
    return EntityState(entity="north", resolved=rows, outcomes=n)


def numbers(state_of, number_settings, cases, **kwargs):
    settings = number_settings()
    return Ledger(state_of(settings, cases, **kwargs), settings)


def test_nothing_is_shown_before_the_first_outcome():
    assert Ledger(EntityState(entity="north"), LABELS).render() == ""


def test_rows_are_appended_one_by_one_and_cut_in_one_block():
    counts = [len(Ledger(labelled(n), LABELS).rows_for_prompt()) for n in range(30)]
    assert counts[:16] == list(range(16))
    assert counts[16:24] == list(range(8, 16))
    assert counts[24] == 8


@given(st.integers(1, 70))
def test_what_is_rendered_only_grows_between_two_cuts(n):
    before, after = Ledger(labelled(n), LABELS).render(), Ledger(labelled(n + 1), LABELS).render()
    assert after.startswith(before) or (n + 1) % 8 == 0 or n + 1 in (4, 8)


def test_statistics_of_numbers_change_only_once_in_a_block(state_of, number_settings):
    cases = [({"sky": "dry" if n % 2 else "wet"}, 10.0 + n % 3, 10.0) for n in range(40)]
    shown = [numbers(state_of, number_settings, cases[:n]).render() for n in range(8, 40)]
    assert len(set(shown)) == 4


def test_a_forecast_sees_no_outcome_from_after_its_observation():
    state = labelled(10)
    seen = Ledger(state, LABELS, until=START + timedelta(days=4))
    assert [row.seq for row in seen.matched] == [1, 2, 3, 4]


def test_statistics_are_exact(state_of, number_settings):
    cases = [({"sky": "dry"}, 14.0, 10.0), ({"sky": "wet"}, 8.0, 10.0)] * 4
    ledger = numbers(state_of, number_settings, cases, forecast=11.0)
    assert ledger.bias() == pytest.approx(0.0)
    assert ledger.mae() == pytest.approx(3.0)
    assert {a.condition.value: (a.mean, a.cases) for a in ledger.adjustments()} == {"dry": (4.0, 4), "wet": (-2.0, 4)}
    assert ledger.render() == (
        "Forecasts of the latest 8 cases: mean error +0.0 C, mean absolute error 3.0 C.\n"
        "Mean adjustment (truth minus reference):\n"
        "- all cases: +1.0 (8 cases)\n"
        "- when sky dry: +4.0 (4 cases)\n"
        "- when sky wet: -2.0 (4 cases)"
    )


def test_hits_stand_by_true_label():
    assert Ledger(labelled(9), LABELS).hits_by_label() == {"high": (6, 6), "low": (0, 3)}


def test_statistics_of_numbers_as_large_as_floats_go_are_numbers(state_of, number_settings):
    cases = [({"sky": "dry"}, sign * 1.7e308, -sign * 1.7e308) for sign in (1, -1)] * 4
    ledger = numbers(state_of, number_settings, cases)
    assert ledger.bias() == pytest.approx(0.0)
    assert "nan" not in ledger.render() and "inf" not in ledger.render()


def test_judged_and_missing_outcomes_are_not_shown_as_truths():
    rows = labelled(8).resolved
    state = EntityState(
        entity="north",
        resolved=(
            *rows[:4],
            rows[4].model_copy(update={"truth": None, "result": "missing"}),
            rows[5].model_copy(update={"truth": None, "result": "judged", "verdict": 0.9}),
        ),
    )
    assert len(Ledger(state, LABELS).matched) == 4


def test_raw_rows_of_numbers_are_left_out_unless_asked_for(state_of, number_settings):
    cases = [({"sky": "dry"}, 14.0, 10.0)] * 6
    settings = number_settings(memory={"ledger_rows": 4})
    assert numbers(state_of, number_settings, cases).rows_for_prompt() == ()
    assert len(Ledger(state_of(settings, cases), settings).rows_for_prompt()) == 6
