"""Equal questions are answered once."""

from __future__ import annotations

import asyncio

import pytest

from agents.errors import ModelOverloaded, ModelRefused, ModelTimeout, ModelUnreachable
from agents.models.answer_cache import AnswerCache, question
from agents.models.protocol import CallLimits, ChatMessage, ModelIdentity, Reply
from tests.agents.models.simulated import simulate

LIMITS = CallLimits(answer_tokens=32, context_tokens=2048, seconds=30.0)
MODEL = ModelIdentity("tiny", "abc", "ollama 0.11.4")
MESSAGES = (ChatMessage("system", "You forecast."), ChatMessage("user", "Predict."))
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}


class Asking:
    """Answers in order, each after so many seconds, or with an error."""

    def __init__(self, *said, seconds=1.0):
        self.said = list(said)
        self.seconds = seconds
        self.calls = 0

    async def __call__(self):
        self.calls += 1
        await asyncio.sleep(self.seconds)
        line = self.said.pop(0)
        if isinstance(line, Exception):
            raise line
        return line if isinstance(line, Reply) else Reply(line, "stop", prompt_tokens=100, output_tokens=9, seconds=self.seconds)


@pytest.mark.parametrize(
    "other",
    [
        (MESSAGES[:1], SCHEMA, LIMITS, MODEL),
        ((*MESSAGES[:1], ChatMessage("assistant", "Predict.")), SCHEMA, LIMITS, MODEL),
        (MESSAGES, None, LIMITS, MODEL),
        (MESSAGES, {"type": "object", "properties": dict(reversed(SCHEMA["properties"].items()))}, LIMITS, MODEL),
        (MESSAGES, SCHEMA, CallLimits(33, 2048, 30.0), MODEL),
        (MESSAGES, SCHEMA, CallLimits(32, 4096, 30.0), MODEL),
        (MESSAGES, SCHEMA, LIMITS, ModelIdentity("tiny", "abd", "ollama 0.11.4")),
    ],
)
def test_whatever_may_change_the_answer_makes_another_question(other):
    assert question(*other) != question(MESSAGES, SCHEMA, LIMITS, MODEL)


def test_the_deadline_is_no_part_of_the_question():
    assert question(list(MESSAGES), dict(SCHEMA), CallLimits(32, 2048, 1.0), MODEL) == question(MESSAGES, SCHEMA, LIMITS, MODEL)


def test_a_remembered_answer_is_marked_and_took_no_time():
    async def main():
        cache, ask = AnswerCache(10), Asking("high")
        first = await cache.answer(b"q", ask, seconds=30.0)
        second = await cache.answer(b"q", ask, seconds=30.0)
        assert ask.calls == 1
        assert (first.remembered, first.seconds) == (False, 1.0)
        assert (second.remembered, second.seconds, second.text, second.prompt_tokens) == (True, 0.0, "high", 100)

    simulate(main)


def test_equal_calls_under_way_share_one():
    async def main():
        cache, ask = AnswerCache(10), Asking("high", "low")
        replies = await asyncio.gather(
            *(cache.answer(b"q", ask, seconds=30.0) for _ in range(5)), cache.answer(b"other", ask, seconds=30.0)
        )
        assert ask.calls == 2
        assert [reply.remembered for reply in replies] == [False, True, True, True, True, False]
        assert replies[1].waited_seconds == 1.0

    simulate(main)


def test_only_the_last_answers_are_kept():
    async def main():
        cache, ask = AnswerCache(2), Asking(*"abcd")
        for key in (b"a", b"b", b"a", b"c", b"a", b"b"):
            await cache.answer(key, ask, seconds=30.0)
        assert ask.calls == 4, "b was the least recently used"
        assert len(cache) == 2

    simulate(main)


def test_a_fresh_answer_is_asked_for_and_takes_the_remembered_ones_place():
    async def main():
        cache, ask = AnswerCache(10), Asking("refused", "better")
        await cache.answer(b"q", ask, seconds=30.0)
        assert (await cache.answer(b"q", ask, seconds=30.0, fresh=True)).text == "better"
        assert (await cache.answer(b"q", ask, seconds=30.0)).text == "better"

    simulate(main)


def test_a_fresh_question_does_not_share_a_call_under_way():
    async def main():
        cache, ask = AnswerCache(10), Asking("one", "two")
        texts = await asyncio.gather(cache.answer(b"q", ask, seconds=30.0), cache.answer(b"q", ask, seconds=30.0, fresh=True))
        assert sorted(reply.text for reply in texts) == ["one", "two"]

    simulate(main)


def test_an_answer_that_was_cut_and_a_failure_are_not_remembered():
    async def main():
        cache, ask = AnswerCache(10), Asking(Reply("hi", "length"), ModelUnreachable("reset"), "high")
        await cache.answer(b"q", ask, seconds=30.0)
        with pytest.raises(ModelUnreachable):
            await cache.answer(b"q", ask, seconds=30.0)
        assert (await cache.answer(b"q", ask, seconds=30.0)).text == "high"

    simulate(main)


@pytest.mark.parametrize("error", [ModelUnreachable("reset"), ModelRefused("400")])
def test_a_failure_is_shared_like_an_answer(error):
    async def main():
        cache, ask = AnswerCache(10), Asking(error)
        failures = await asyncio.gather(*(cache.answer(b"q", ask, seconds=30.0) for _ in range(3)), return_exceptions=True)
        assert failures == [error] * 3

    simulate(main)


@pytest.mark.parametrize("error", [ModelTimeout("late"), ModelOverloaded("full"), ValueError("a defect")])
def test_what_befell_the_other_caller_only_is_not_shared(error):
    async def main():
        cache, ask = AnswerCache(10), Asking(error, "high")
        replies = await asyncio.gather(*(cache.answer(b"q", ask, seconds=30.0) for _ in range(3)), return_exceptions=True)
        assert replies[0] is error
        assert [reply.text for reply in replies[1:]] == ["high", "high"]
        assert ask.calls == 2

    simulate(main)


def test_when_the_caller_of_a_shared_call_is_cancelled_another_one_makes_it():
    async def main():
        cache, ask = AnswerCache(10), Asking("high", "high", seconds=5.0)
        first, second = (asyncio.create_task(cache.answer(b"q", ask, seconds=30.0)) for _ in range(2))
        await asyncio.sleep(2.0)
        first.cancel()
        assert (await second).text == "high"
        assert ask.calls == 2
        assert asyncio.get_running_loop().time() == 7.0

    simulate(main)


def test_a_caller_waits_for_a_shared_call_no_longer_than_it_would_for_its_own():
    async def main():
        cache, ask = AnswerCache(10), Asking("high", seconds=20.0)
        first = asyncio.create_task(cache.answer(b"q", ask, seconds=30.0))
        await asyncio.sleep(1.0)
        with pytest.raises(ModelTimeout, match=r"within 3\.0 s"):
            await cache.answer(b"q", ask, seconds=3.0)
        assert (await first).text == "high"

    simulate(main)
