import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import answers
from agents.errors import AnswerInvalid
from agents.models.protocol import Reply
from schemas.settings import TargetSettings

NUMBER = TargetSettings(kind="number", range=(-50.0, 60.0))
LABEL = TargetSettings(kind="category", labels=("low", "high"))
TEXT = TargetSettings(kind="text")


def reply(text, finish="stop"):
    return Reply(text if isinstance(text, str) else json.dumps(text), finish)


def test_an_adjustment_is_added_to_the_reference():
    assert answers.read_forecast(reply({"adjust": "-1.5"}), NUMBER, 12.0).value == 10.5
    assert answers.read_forecast(reply({"value": "10.5"}), NUMBER, None).value == 10.5


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"adjust":"+1.5"', "not JSON"),
        ('{"adjust":"1.5"}', "not a signed number"),
        ('{"adjust":"+1.55"}', "with 1 decimal"),
        ('{"adjust":"+1e9"}', "not a signed number"),
        ('{"adjust":1.5}', "not a text"),
        ('{"adjust":NaN}', "not JSON"),
        ('{"adjust":"+99.0"}', "allowed is -50 to 60"),
        ('{"adjust":"+1.5","note":"x"}', "exactly the fields"),
        ('{"adjust":"+1.5","adjust":"+2.5"}', "twice"),
        ('["+1.5"]', "not a JSON object"),
        ("", "not JSON"),
        ("```json\n{}\n```", "not JSON"),
        ("[" * 5000, "not JSON"),
    ],
)
def test_a_number_that_cannot_be_used_is_refused_with_the_reason(text, fault):
    with pytest.raises(AnswerInvalid, match=fault):
        answers.read_forecast(reply(text), NUMBER, 12.0)


def test_an_answer_that_was_cut_off_is_refused_even_if_it_parses():
    with pytest.raises(AnswerInvalid, match="cut off"):
        answers.read_forecast(reply({"adjust": "+1.5"}, "length"), NUMBER, 12.0)


def test_only_known_labels_and_texts_that_say_something_are_taken():
    assert answers.read_forecast(reply({"answer": "high"}), LABEL, None).value == "high"
    with pytest.raises(AnswerInvalid, match="not one of low, high"):
        answers.read_forecast(reply({"answer": "High"}), LABEL, None)
    assert answers.read_forecast(reply({"answer": " two\n words "}), TEXT, None).value == "two words"
    with pytest.raises(AnswerInvalid, match="empty"):
        answers.read_forecast(reply({"answer": "  "}), TEXT, None)
    with pytest.raises(AnswerInvalid, match="characters"):
        answers.read_forecast(reply({"answer": "x" * 500}), TEXT, None)


@given(st.floats(-40, 40), st.integers(0, 6), st.floats(-1e6, 1e6))
def test_every_rounded_adjustment_within_reach_fits_its_pattern(adjustment, decimals, reference):
    target = TargetSettings(kind="number", decimals=decimals)
    pattern = answers.forecast_schema(target, reference)["properties"]["adjust"]["pattern"]
    said = f"{adjustment:+.{decimals}f}"
    assert re.fullmatch(pattern, said)
    assert answers.read_forecast(reply({"adjust": said}), target, reference).value == pytest.approx(reference + float(said), abs=1e-5)


def test_schemas_are_flat_and_closed():
    for schema in (
        answers.forecast_schema(NUMBER, 1.0),
        answers.evidence_schema(["a"], ["b"], note=answers.ANY_NOTE),
        answers.free_text_schema(),
    ):
        assert schema["additionalProperties"] is False
        assert list(schema["properties"]) == sorted(schema["properties"]) == schema["required"]
        assert "$ref" not in json.dumps(schema)


def test_a_proposal_is_read_as_conditions_and_a_note():
    schema = answers.evidence_schema(["wind north", "sky clear"], ["sky clear"], note=answers.ANY_NOTE)
    said = {"a_rules": [{"a_when": "wind north", "b_and": "sky clear"}, {"a_when": "sky clear", "b_and": "none"}], "b_note": "Smog stays."}
    parsed = answers.read_evidence(reply(said), schema)
    assert parsed.conditions == (("wind north", "sky clear"), ("sky clear",))
    assert parsed.notes == ("Smog stays.",)
    with pytest.raises(AnswerInvalid, match="not one of the conditions"):
        answers.read_evidence(reply({"a_rules": [{"a_when": "sky green", "b_and": "none"}], "b_note": ""}), schema)


def test_the_paper_s_rewrite_is_read_by_sections():
    said = {"a_history": ["Smog comes with calm wind."], "b_mistakes": ["Wind was overlooked."], "c_watch": [" "]}
    parsed = answers.read_free_text(reply(said))
    assert dict(parsed.sections) == {"history": ("Smog comes with calm wind.",), "mistakes": ("Wind was overlooked.",), "watch": ()}


def test_a_score_is_a_whole_number_of_tenths():
    assert answers.read_score(reply({"a_score": 7})) == 0.7
    for wrong in ({"a_score": 11}, {"a_score": True}, {"a_score": 7.5}, {"a_score": "7"}):
        with pytest.raises(AnswerInvalid):
            answers.read_score(reply(wrong))


@given(st.text(max_size=400))
def test_a_statement_is_never_cut_within_a_word_or_number(text):
    cut = answers.whole_sentence(text[:160], 160)
    assert all(word in text.split() or word.rstrip(".") in " ".join(text.split()) for word in cut.split())
    assert len(cut) <= 161


def test_the_answer_s_limit_has_room_for_the_longest_valid_one():
    from schemas.settings import Settings

    settings = Settings(memory={"form": "free-text"})
    assert answers.answer_tokens(settings, "rewrite") >= 2 * 200
