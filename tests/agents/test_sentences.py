import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.sentences import parse_rule, rule_line
from schemas.settings import TargetSettings
from schemas.state import Condition, Rule

LABELS = TargetSettings(kind="category", labels=("low", "very high", "high (warm)"))
NUMBERS = TargetSettings(kind="number")
WHEN = (Condition(field="sky", op="is", value="partly cloudy"), Condition(field="rain", op="at-least", value=2.1))


@given(st.sampled_from(LABELS.labels), st.integers(0, 8), st.integers(0, 8), st.booleans())
def test_a_rule_for_a_label_is_read_back_equal(label, hits, more, tentative):
    cases = hits + more
    rule = Rule(when=WHEN, then=label, hits=hits, cases=cases, tentative=tentative and cases > 0)
    assert parse_rule(rule_line(rule, 1), LABELS) == rule


@given(st.integers(-999, 999), st.integers(0, 16), st.one_of(st.none(), st.integers(0, 99)), st.booleans())
def test_a_rule_for_a_number_is_read_back_equal(tenths, cases, spread, tentative):
    known = cases > 0
    rule = Rule(
        when=WHEN,
        then=tenths / 10,
        cases=cases,
        spread=spread / 10 if spread is not None and known else None,
        tentative=tentative and known,
    )
    assert parse_rule(rule_line(rule, 1), NUMBERS) == rule


def test_rules_read_like_sentences():
    assert rule_line(Rule(when=WHEN[1:], then=0.8, cases=7, spread=0.9), 1) == "when rain at least 2.1: add +0.8 (7 cases, spread 0.9)"
    assert rule_line(Rule(when=WHEN[1:], then=-2.0, cases=1, tentative=True), 0) == "when rain at least 2.1: add -2 (1 case, tentative)"
    assert rule_line(Rule(when=WHEN, then="low", hits=6, cases=6), 1) == "when sky 'partly cloudy' and rain at least 2.1: low (6 of 6)"
    assert rule_line(Rule(when=WHEN[1:], then="low"), 1) == "when rain at least 2.1: low"


@pytest.mark.parametrize("line", ["rain: low", "when rain: low", "when sky clear low", "when sky clear: purple", "when sky clear:"])
def test_what_is_no_rule_is_refused_with_the_reason(line):
    with pytest.raises(ValueError):
        parse_rule(line, LABELS)


def test_a_number_needs_an_adjustment():
    with pytest.raises(ValueError, match="write `add"):
        parse_rule("when sky clear: 12", NUMBERS)
