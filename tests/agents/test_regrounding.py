"""Sentences that the newest outcomes refute leave the memory; all others stay."""

from __future__ import annotations

from typing import Any

import pytest

from agents.regrounding import drop_refuted

WAS = "With wind north the smog tends to be high."
VAGUE = "Smog depends on the wind in ways nobody knows."
PAGES = {"evidence": f"Notes:\n- {WAS}\n- {VAGUE}", "free-text": f"History:\n- {WAS}\nWhat to watch:\n- {VAGUE}"}


@pytest.mark.parametrize("form", sorted(PAGES))
def test_a_sentence_that_was_true_goes_with_the_outcomes_that_refute_it(label_settings: Any, state_of: Any, form: str) -> None:
    settings = label_settings(memory={"form": form})
    turned = [({"wind": "north"}, "high")] * 20 + [({"wind": "north"}, "low")] * 13
    state = state_of(settings, turned, page=PAGES[form])
    kept, nothing = drop_refuted(state_of(settings, turned[:-1], page=PAGES[form]), settings, now=state.resolved[-1].time)
    assert (nothing, [s.text for part in kept.memory.sections.values() for s in part]) == (None, [WAS, VAGUE])

    after, entry = drop_refuted(state, settings, now=state.resolved[-1].time)

    assert [s.text for part in after.memory.sections.values() for s in part] == [VAGUE]
    assert entry is not None
    assert (entry.cause, entry.accepted, entry.reason) == ("rule-dropped", True, "1 statement refuted by outcomes")
    assert [(one.guard, one.statement) for one in entry.rejected] == [("contradiction", WAS)]
    assert entry.rejected[0].detail == "high came true in 3 of 16 such cases"


def test_rules_are_none_of_its_business(label_settings: Any, state_of: Any) -> None:
    settings = label_settings()
    state = state_of(settings, [({"wind": "north"}, "low")] * 20, page="Rules:\n- when wind north: high (6 of 6)")
    assert drop_refuted(state, settings, now=state.resolved[-1].time) == (state, None)
