import pytest

from agents.budget import START_RATIO, TokenCounter
from agents.models.protocol import ChatMessage, Reply
from agents.models.scripted import ScriptedModel

PROMPT = (ChatMessage("system", "s" * 400), ChatMessage("user", "u" * 200))


def counter(*, window=4096, tokens=None):
    alarms = []
    made = TokenCounter(ScriptedModel([], tokens=tokens), "tiny", window=window, alarm=alarms.append)
    return made, alarms


def reported(tokens):
    return Reply("{}", "stop", prompt_tokens=tokens)


def test_before_anything_was_seen_a_prompt_is_counted_dense():
    made, _ = counter()
    assert made.count(PROMPT, "predict") >= 600 * START_RATIO


def test_the_highest_ratio_seen_for_a_purpose_counts():
    made, _ = counter()
    assert made.learned(PROMPT, "predict", reported(150))
    assert made.learned(PROMPT, "predict", reported(210))
    assert made.learned(PROMPT, "predict", reported(180))
    assert 210 <= made.count(PROMPT, "predict") <= 240
    assert made.count(PROMPT, "rewrite") >= 600 * START_RATIO


def test_a_backend_with_a_tokeniser_is_asked():
    made, _ = counter(tokens=lambda text: len(text) // 4)
    assert 150 <= made.count(PROMPT, "predict") <= 180


@pytest.mark.parametrize("silent", [None, 0])
def test_a_server_that_does_not_say_teaches_nothing(silent):
    made, alarms = counter()
    before = made.count(PROMPT, "predict")
    assert made.learned(PROMPT, "predict", reported(silent))
    assert made.count(PROMPT, "predict") == before
    assert alarms == []


def test_a_report_far_below_the_count_is_an_alarm_and_teaches_nothing(caplog):
    made, alarms = counter()
    assert made.learned(PROMPT, "predict", reported(200))
    before = made.count(PROMPT, "predict")
    assert not made.learned(PROMPT, "predict", reported(90))
    assert made.count(PROMPT, "predict") == before
    assert len(alarms) == 1
    assert "seems to cut prompts" in caplog.text


def test_a_report_of_half_the_window_is_an_alarm_where_the_prompt_was_longer():
    made, alarms = counter(window=400)
    assert made.learned(PROMPT, "predict", reported(330))
    assert not made.learned(PROMPT, "predict", reported(201))
    assert len(alarms) == 1


def test_a_prompt_that_just_is_half_the_window_is_none():
    made, alarms = counter(window=400)
    assert made.learned(PROMPT, "predict", reported(200))
    assert made.learned(PROMPT, "predict", reported(200))
    assert alarms == []


def test_a_prompt_of_about_half_the_window_that_is_sparser_than_others_is_none():
    made, alarms = counter(window=400)
    assert made.learned(PROMPT, "predict", reported(216))
    assert made.learned(PROMPT, "predict", reported(200))
    assert alarms == []


def test_a_prompt_that_leaves_its_answer_no_room_is_an_alarm_and_teaches():
    made, alarms = counter(window=400)
    assert made.learned(PROMPT, "predict", reported(360), answer_tokens=40)
    assert alarms == []
    assert made.learned(PROMPT, "predict", reported(370), answer_tokens=40)
    assert "370 tokens, more than it was counted at" in alarms[0]
    assert made.count(PROMPT, "predict") > 370


def test_a_character_of_another_script_counts_by_its_bytes():
    made, alarms = counter()
    assert made.count((ChatMessage("user", "風" * 200),), "predict") >= 600 * START_RATIO
    assert made.learned((ChatMessage("user", "風" * 200),), "predict", reported(60))
    assert alarms == []


def test_even_the_first_report_is_suspected_when_no_text_is_that_sparse():
    made, alarms = counter()
    assert not made.learned(PROMPT, "predict", reported(40))
    assert len(alarms) == 1
