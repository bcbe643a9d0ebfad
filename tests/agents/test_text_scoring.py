"""A text is right by the letter, by its words, or because the user's function says so."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.text_scoring import CheckerMissing, Verdict, load_checker, matches, normalised


@pytest.fixture
def checkers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A user's module."""
    module = ModuleType("users_checkers")
    monkeypatch.setitem(sys.modules, "users_checkers", module)
    load_checker.cache_clear()
    return module


def test_exact_compares_every_character() -> None:
    assert matches("a b", "a b", "exact") == Verdict(True)
    assert matches("a b", "a  b", "exact") == Verdict(False)


@pytest.mark.parametrize(
    ("answer", "truth"),
    [
        ("The cat sat.", "the   CAT sat"),
        ("“Straße”", "strasse"),
        ("don’t", "don't"),
        ("−3 °C", "-3 °c"),
        ("(yes)", "yes"),
        ("ﬁne", "fine"),
        ("well, no", "well no"),
        ("a — b", "a b"),
    ],
)
def test_normalised_overlooks_case_spacing_punctuation_and_typesetting(answer: str, truth: str) -> None:
    assert matches(answer, truth, "normalised").hit


@pytest.mark.parametrize(
    ("answer", "truth"), [("3.5", "35"), ("-3", "3"), (".5", "5"), ("-.5", ".5"), ("5%", "5"), ("C#", "C"), ("?", "!")]
)
def test_normalised_keeps_what_changes_the_meaning(answer: str, truth: str) -> None:
    assert not matches(answer, truth, "normalised").hit


@given(st.text(max_size=40))
def test_normalising_twice_is_normalising_once_and_an_answer_matches_itself(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)
    assert matches(text, text, "normalised").hit


@pytest.mark.parametrize(("said", "verdict"), [(True, Verdict(True)), ((False, "one word off"), Verdict(False, "one word off"))])
def test_a_checker_is_called_with_answer_and_truth_and_its_verdict_stands(checkers: ModuleType, said: object, verdict: Verdict) -> None:
    calls: list[tuple[str, str]] = []
    checkers.check = lambda answer, truth: calls.append((answer, truth)) or said  # type: ignore[attr-defined]
    assert matches("given", "wanted", "checker:users_checkers:check") == verdict
    assert calls == [("given", "wanted")]


@pytest.mark.parametrize("said", [None, 1, "yes", (True,), (1, "text"), (True, 3)])
def test_what_is_no_verdict_has_not_passed_and_says_why(checkers: ModuleType, said: object) -> None:
    checkers.check = lambda answer, truth: said  # type: ignore[attr-defined]
    verdict = matches("a", "b", "checker:users_checkers:check")
    assert not verdict.hit and verdict.message.startswith("checker:users_checkers:check returned a ")


def test_a_checker_that_raises_has_not_passed_and_says_why(checkers: ModuleType) -> None:
    checkers.check = lambda answer, truth: 1 / 0  # type: ignore[attr-defined]
    verdict = matches("a", "b", "checker:users_checkers:check")
    assert verdict == Verdict(False, "checker:users_checkers:check raised ZeroDivisionError: division by zero")


@pytest.mark.parametrize("spec", ["checker:no_such_module:check", "checker:users_checkers:missing"])
def test_a_checker_that_is_not_there_is_refused_when_it_is_loaded(checkers: ModuleType, spec: str) -> None:
    with pytest.raises(CheckerMissing, match="cannot be loaded"):
        load_checker(spec)


def test_a_checker_must_be_a_function(checkers: ModuleType) -> None:
    checkers.check = 3  # type: ignore[attr-defined]
    with pytest.raises(CheckerMissing, match="check is a int, not a function"):
        load_checker("checker:users_checkers:check")


def test_a_judge_is_no_scorer_of_texts() -> None:
    with pytest.raises(ValueError, match="'judge' compares no texts"):
        matches("a", "b", "judge")
