"""What a usual error is, and what is not."""

from __future__ import annotations

import pytest

from agents import surprise
from schemas.settings import TargetSettings
from schemas.state import Surprise

NUMBER = TargetSettings()
FACTOR = 1.5


def after(*errors: float) -> Surprise:
    known = Surprise()
    for error in errors:
        known = surprise.learn(known, error)
    return known


def test_the_usual_error_is_the_mean_of_the_first_ones_whatever_their_sign() -> None:
    assert after(2.0, -4.0).usual == 3.0
    assert after(1.0, 2.0, -6.0).usual == 3.0


def test_the_usual_error_follows_the_newest_outcomes() -> None:
    grown = after(*[1.0] * 50, *[5.0] * 30)

    assert 4.9 < grown.usual <= 5.0
    assert grown.n == 80


def test_nothing_is_a_miss_before_a_usual_error_is_settled() -> None:
    assert not surprise.is_miss(1e9, after(), NUMBER, FACTOR)
    assert not surprise.is_miss(1e9, after(1.0, 1.0), NUMBER, FACTOR)
    assert surprise.is_miss(1e9, after(1.0, 1.0, 1.0), NUMBER, FACTOR)


@pytest.mark.parametrize(("error", "miss"), [(1.5, False), (-1.5, False), (1.6, True), (-1.6, True), (0.0, False)])
def test_a_number_is_a_miss_beyond_so_many_usual_errors(error: float, miss: bool) -> None:
    assert surprise.is_miss(error, after(1.0, 1.0, 1.0, 1.0), NUMBER, FACTOR) is miss


@pytest.mark.parametrize(("error", "miss"), [(0.5, False), (-0.5, False), (0.6, True)])
def test_a_named_size_decides_from_the_first_outcome(error: float, miss: bool) -> None:
    assert surprise.is_miss(error, Surprise(), TargetSettings(hit_within=0.5), FACTOR) is miss


@pytest.mark.parametrize("target", [TargetSettings(kind="category", labels=("a", "b")), TargetSettings(kind="text")])
def test_a_wrong_label_or_text_is_always_a_miss_and_a_right_one_never(target: TargetSettings) -> None:
    assert surprise.is_miss(1.0, Surprise(), target, FACTOR)
    assert not surprise.is_miss(0.0, after(1.0, 1.0, 1.0), target, FACTOR)


def test_every_outcome_counts_towards_the_next_rewrite() -> None:
    known = after(1.0, 2.0).model_copy(update={"outcomes_since_rewrite": 0})

    assert surprise.learn(known, 1.0).outcomes_since_rewrite == 1


def test_an_error_as_large_as_errors_get_keeps_the_usual_one_finite() -> None:
    assert after(*[1e150] * 40).usual < float("inf")


def test_a_single_absurd_error_does_not_make_all_errors_usual() -> None:
    known = after(*[1.0] * 20, 9999.0)

    assert known.usual < 3.0
    assert surprise.is_miss(5.0, known, NUMBER, FACTOR)
