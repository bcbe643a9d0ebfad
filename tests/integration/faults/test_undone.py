"""The registry of counter-measures and the tests that fail without them keep up with the program."""

from __future__ import annotations

import pytest

from tests.integration import undone
from tests.integration.faults.__main__ import proofs


def test_each_counter_measure_has_a_test_that_fails_without_it() -> None:
    assert {proof.measure for proof in proofs()} == set(undone.COUNTER_MEASURES)


@pytest.mark.parametrize("name", undone.COUNTER_MEASURES)
def test_each_counter_measure_can_be_taken_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced = []

    def replace(owner: object, attribute: str, value: object) -> None:
        replaced.append(getattr(owner, attribute) is not value)
        monkeypatch.setattr(owner, attribute, value)

    undone.apply(name, replace)
    assert replaced
    assert all(replaced), "taking it out changes nothing: the program does without it"
