"""Answers are kept: a cell goes on where it was cut short, and runs again without a model."""

from __future__ import annotations

import gzip

import pytest

from agents.errors import ModelAway, ModelError, ModelMisbehaved, ModelRefused, ModelTimeout, ModelUnreachable
from agents.models.protocol import CallLimits, ChatMessage
from agents.models.scripted import ScriptedModel
from streams.evaluation.dataset import DatasetError
from streams.evaluation.records import AnswerMissing, Record

LIMITS = CallLimits(answer_tokens=8, context_tokens=512, seconds=5.0)


def asked(text: str) -> tuple[ChatMessage, ...]:
    return (ChatMessage("user", text),)


async def ask(record: Record, text: str, *, fresh: bool = False):
    return await record.complete(asked(text), schema=None, limits=LIMITS, purpose="predict", fresh=fresh)


async def test_a_recorded_answer_needs_no_model(tmp_path) -> None:
    with Record(tmp_path / "cell", ScriptedModel(["one", "two"])) as record:
        identity = await record.identify()
        said = [(await ask(record, text)).text for text in ("a", "b")]
        record.finish()
    assert (tmp_path / "cell.jsonl.gz").exists()
    with Record(tmp_path / "cell", None) as again:
        assert await again.identify() == identity
        assert [(await ask(again, text)).text for text in ("a", "b")] == said == ["one", "two"]
        with pytest.raises(AnswerMissing):
            await ask(again, "c")


async def test_an_equal_question_is_answered_once_unless_a_fresh_answer_is_wanted(tmp_path) -> None:
    model = ScriptedModel(["one", "two"])
    with Record(tmp_path / "cell", model) as record:
        first, second = await ask(record, "a"), await ask(record, "a")
        third = await ask(record, "a", fresh=True)
    assert (first.text, second.text, third.text) == ("one", "one", "two")
    assert (first.remembered, second.remembered, third.remembered) == (False, True, False)
    assert len(model.calls) == 2
    with Record(tmp_path / "cell", None) as again:
        assert [(await ask(again, "a")).text, (await ask(again, "a")).text, (await ask(again, "a", fresh=True)).text] == [
            "one",
            "one",
            "two",
        ]


async def test_a_record_that_was_cut_off_goes_on_where_it_was(tmp_path) -> None:
    with Record(tmp_path / "cell", ScriptedModel(["one", "two"])) as record:
        await record.identify()
        for text in ("a", "b"):
            await ask(record, text)
    plain = tmp_path / "cell.jsonl"
    plain.write_bytes(plain.read_bytes()[:-9])
    model = ScriptedModel(["anew"])
    with Record(tmp_path / "cell", model) as record:
        assert [(await ask(record, text)).text for text in ("a", "b")] == ["one", "anew"]
    assert len(model.calls) == 1
    assert Record(tmp_path / "cell", None).recorded == 2


@pytest.mark.parametrize("error", [ModelUnreachable("gone"), ModelAway("left alone"), ModelTimeout("too late")])
async def test_where_the_model_does_not_answer_the_cell_ends_and_is_gone_on_with_later(tmp_path, error: ModelError) -> None:
    with Record(tmp_path / "cell", ScriptedModel(["one", error])) as record:
        await ask(record, "a")
        with pytest.raises(AnswerMissing, match=str(error)):
            await ask(record, "b")
    with Record(tmp_path / "cell", ScriptedModel(["two"])) as record:
        assert [(await ask(record, text)).text for text in ("a", "b")] == ["one", "two"]


@pytest.mark.parametrize("error", [ModelRefused("too long"), ModelMisbehaved("no text")])
async def test_that_the_model_refuses_or_talks_nonsense_is_its_answer_and_is_kept(tmp_path, error: ModelError) -> None:
    for model in (ScriptedModel([error]), None):
        with Record(tmp_path / "cell", model) as record:
            for _ in range(2):
                with pytest.raises(type(error), match=str(error)):
                    await ask(record, "a")


async def test_a_finished_record_can_be_added_to(tmp_path) -> None:
    for answers in (["one"], ["two"]):
        with Record(tmp_path / "cell", ScriptedModel(answers)) as record:
            await ask(record, "a")
            await ask(record, "a", fresh=len(answers[0]) > 0 and answers == ["two"])
            record.finish()
    assert Record(tmp_path / "cell", None).recorded == 2
    assert not (tmp_path / "cell.jsonl").exists()


async def test_answers_of_another_model_are_not_mixed_in(tmp_path) -> None:
    with Record(tmp_path / "cell", ScriptedModel(["one"], name="small")) as record:
        await record.identify()
    with Record(tmp_path / "cell", ScriptedModel(["one"], name="large")) as record, pytest.raises(DatasetError, match="small"):
        await record.identify()


def test_a_file_that_is_no_record_is_told(tmp_path) -> None:
    (tmp_path / "cell.jsonl.gz").write_bytes(gzip.compress(b"not json\n"))
    with pytest.raises(DatasetError, match="no record"):
        Record(tmp_path / "cell", None)
