"""What an observation says of the target, and what it only seems to say."""

from __future__ import annotations

from typing import Any

import pytest

from agents import readings

NUMBER = {"kind": "number"}
LABEL = {"kind": "category", "labels": ("dry", "wet")}
TEXT = {"kind": "text"}


@pytest.mark.parametrize(
    ("target", "value", "current", "told"),
    [
        (NUMBER, 3, 3.0, 3.0),
        (NUMBER, True, None, None),
        (NUMBER, "3", None, None),
        (LABEL, "wet", "wet", "wet"),
        (LABEL, "damp", None, None),
        (LABEL, 1, None, None),
        (TEXT, "some words", None, "some words"),
        (TEXT, 1, None, None),
    ],
)
def test_only_a_value_that_the_target_can_have_counts(given: Any, target: dict[str, Any], value: Any, current: Any, told: Any) -> None:
    settings = given.settings(target=target).target
    observation = given.observation(0, value)
    assert (readings.current(observation, settings), readings.told(observation, settings)) == (current, told)


def test_the_reference_is_the_named_field_or_else_the_value_or_else_the_last_one_known(given: Any) -> None:
    named, plain = given.settings(target={"reference": "outlook"}).target, given.settings().target
    known = given.state().model_copy(update={"experts": given.state().experts.model_copy(update={"last": 7.0})})
    observation, silent = given.observation(0, 3.0, outlook=5), given.observation(0, None, outlook="mild")
    assert readings.reference(observation, known, named) == 5.0
    # A field that is named and says nothing leaves no reference: another number would be another question.
    assert readings.reference(silent, known, named) is None
    assert readings.reference(observation, known, plain) == 3.0
    assert readings.reference(silent, known, plain) == 7.0
    assert readings.reference(silent, given.state(), plain) is None
    assert readings.reference(observation, known, given.settings(target=LABEL).target) is None


def test_the_moment_that_is_forecast_lies_a_horizon_ahead_or_is_the_next_observation(given: Any) -> None:
    observation = given.observation(2)
    assert readings.target_time(observation, given.settings().target) == given.at(3)
    assert readings.target_time(observation, given.settings(target={"horizon": "next"}).target) is None
