"""The marks by which calls are told apart are those of the program's own prompts."""

from datetime import UTC, datetime

import pytest

from agents.ledger import Ledger
from agents.models.protocol import ChatMessage
from agents.prompt import Detail, Listing, Reading, judge_messages, predict_messages, repair_messages, rewrite_messages
from schemas.messages import Answer
from schemas.settings import Settings
from schemas.state import EntityState, FoldedFeedback
from tests.emulator.kinds import kind_of

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("form", ["evidence", "free-text"])
def test_each_prompt_of_the_program_is_told_by_its_mark(form) -> None:
    settings = Settings(target={"field": "smog", "kind": "category", "labels": ("low", "high")}, memory={"form": form})
    state = EntityState(entity="north")
    ledger, detail = Ledger(state, settings), Detail()
    predict = predict_messages(Reading(state, ledger), {"wind": "north"}, settings, reference=None, detail=detail)
    rewrite = rewrite_messages(
        state,
        settings,
        ledger,
        Listing.of((), FoldedFeedback(), detail),
        detail,
        conditions=("wind north",),
        mixed=(),
        note="which",
        form="{}",
    )
    judge = judge_messages({"wind": "north"}, Answer(value="high"), settings, ("it is specific",), detail)
    assert kind_of(predict) == "predict"
    assert kind_of(rewrite) == "rewrite"
    assert kind_of(judge) == "judge"
    for asked in (predict, rewrite, judge):
        assert kind_of(repair_messages(asked, "{}", "it is empty", "{}")) == "repair"


def test_the_prompt_of_another_program_is_of_no_kind() -> None:
    assert kind_of([ChatMessage("user", "What will the weather be?")]) == "other"
    assert kind_of([]) == "other"
