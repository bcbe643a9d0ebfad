import pytest

from tests.emulator.prompts import CHARACTERS, KEPT, fit, render, shared, tokens
from tests.emulator.requests import Message

SYSTEM, USER = Message("system", "The rules. " * 20), Message("user", "predict: wind north")


def test_a_prompt_that_fits_is_left_as_it_is() -> None:
    text = render([SYSTEM, USER])
    assert fit([SYSTEM, USER], tokens(text)) == text


def test_of_a_system_and_a_user_message_that_are_too_long_together_only_the_users_is_read() -> None:
    assert fit([SYSTEM, USER], tokens(render([SYSTEM, USER])) - 1) == render([USER])


def test_oldest_messages_go_first_and_a_system_message_before_them_stays() -> None:
    old, reply = Message("user", "Before. " * 30), Message("assistant", "{}")
    window = tokens(render([SYSTEM, reply, USER]))
    assert fit([SYSTEM, old, reply, USER], window) == render([SYSTEM, reply, USER])


def test_a_last_message_that_is_too_long_loses_what_follows_its_first_tokens() -> None:
    text = render([SYSTEM])
    cut = fit([SYSTEM], 20)
    assert tokens(cut) == 20
    assert cut[: KEPT * CHARACTERS] == text[: KEPT * CHARACTERS]
    assert text.endswith(cut[KEPT * CHARACTERS :])


@pytest.mark.parametrize(("one", "other", "number"), [("", "", 0), ("abcd", "abcd", 1), ("abcdefgh", "abcdefgX", 1), ("abc", "abcd", 0)])
def test_only_whole_tokens_are_shared(one, other, number) -> None:
    assert shared(one, other) == number
