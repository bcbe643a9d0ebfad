"""The double: it follows its script, records calls, and fills any schema that the forecaster sends."""

import asyncio
import json
import re

import pytest

from agents.errors import ModelRefused, ModelUnreachable
from agents.models.protocol import ChatMessage, Reply
from agents.models.scripted import ScriptedModel, answer_from_schema, from_settings
from schemas.settings import ModelSettings


async def ask(model, limits, *, schema=None, purpose="predict"):
    return await model.complete([ChatMessage("user", "Predict.")], schema=schema, limits=limits, purpose=purpose)


async def test_a_list_is_answered_in_order_and_running_out_is_a_fault_of_the_test(limits):
    model = ScriptedModel(["first", "second"])
    assert [(await ask(model, limits)).text for _ in range(2)] == ["first", "second"]
    with pytest.raises(LookupError, match="Predict"):
        await ask(model, limits)


async def test_a_function_sees_messages_schema_and_purpose(limits):
    model = ScriptedModel(lambda messages, schema, purpose: f"{messages[0].content} {schema} {purpose}")
    assert (await ask(model, limits, schema={"type": "null"}, purpose="rewrite")).text == "Predict. {'type': 'null'} rewrite"


async def test_a_script_may_hold_errors_and_whole_replies(limits):
    model = ScriptedModel([ModelUnreachable("gone"), Reply("cut", "length", prompt_tokens=3)])
    with pytest.raises(ModelUnreachable):
        await ask(model, limits)
    assert (await ask(model, limits)).finish == "length"


async def test_calls_are_recorded_as_they_came_failed_ones_too(limits):
    model = ScriptedModel([ModelUnreachable("gone")])
    with pytest.raises(ModelUnreachable):
        await ask(model, limits, schema={"type": "null"}, purpose="judge")
    [call] = model.calls
    assert (call.messages, call.schema, call.limits, call.purpose) == (
        (ChatMessage("user", "Predict."),),
        {"type": "null"},
        limits,
        "judge",
    )


async def test_latency_holds_an_answer_back_and_the_call_is_already_recorded(limits):
    asked, gate = asyncio.Event(), asyncio.Event()

    async def latency():
        asked.set()
        await gate.wait()

    model = ScriptedModel(["late"], latency=latency)
    call = asyncio.create_task(ask(model, limits))
    await asked.wait()
    assert len(model.calls) == 1
    assert not call.done()
    gate.set()
    assert (await call).text == "late"


async def test_tokens_are_counted_by_the_given_tokeniser(limits):
    model = ScriptedModel(["one two three"], tokens=lambda text: len(text.split()))
    reply = await ask(model, limits)
    assert (reply.prompt_tokens, reply.output_tokens, model.count_tokens("a b")) == (1, 3, 2)
    assert ScriptedModel([]).count_tokens("a b") is None


SIGNED = r"^[+-][0-9]{1,4}(\.[0-9]{1,2})?$"
NUMBER = r"^-?[0-9]{1,7}(\.[0-9]{1,4})?$"


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"enum": ["sun", "rain"]}, "sun"),
        ({"const": 3}, 3),
        ({"type": "string", "pattern": SIGNED}, "+0.0"),
        ({"type": "string", "pattern": NUMBER}, "0.0"),
        ({"type": "integer", "minimum": 2, "maximum": 5}, 2),
        ({"type": "integer", "maximum": -5}, -5),
        ({"type": "number"}, 0),
        ({"type": "boolean"}, False),
        ({"type": ["string", "null"], "maxLength": 8}, "+0.0"),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, None),
        ({"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 3, "maxItems": 3}, ["a", "a", "a"]),
        ({"type": "array", "items": {"type": "integer"}, "maxItems": 0}, []),
        ({"$ref": "#/$defs/Label", "$defs": {"Label": {"enum": ["x"]}}}, "x"),
        ({"type": "string", "minLength": 100}, "x" * 100),
        ({"type": "object", "properties": {"b": {"enum": [1]}, "a": {"type": "null"}}}, {"b": 1, "a": None}),
    ],
)
def test_a_schema_is_answered_by_the_first_value_that_it_allows(schema, value):
    assert json.loads(answer_from_schema([], schema, "predict")) == value


def test_without_a_schema_the_answer_is_a_sentence():
    assert re.fullmatch(r"[A-Z][a-z ]+\.", answer_from_schema([], None, "rewrite"))


@pytest.mark.parametrize("schema", [{"type": "string", "pattern": "^never like this$"}, {"type": "mystery"}])
async def test_a_schema_that_is_not_understood_is_refused_and_not_answered_wrongly(limits, schema):
    with pytest.raises(ModelRefused, match="scripted model"):
        await ask(from_settings(ModelSettings()), limits, schema=schema)


async def test_it_carries_the_name_of_the_settings_and_notes_its_closing():
    model = from_settings(ModelSettings(name="tiny"))
    assert (await model.identify()).name == "tiny"
    await model.close()
    assert model.closed
