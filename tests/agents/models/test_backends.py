"""What every backend owes, shown with a real model on each.

The smallest model follows no instruction, so nothing here looks at what it says: only at form, counts, cache and cancellation.
"""

import json
import re
from pathlib import Path

import pytest

from agents.errors import ModelMissing, ModelRefused, ModelTimeout
from agents.models.embedded import EmbeddedModel
from agents.models.gate import Gate
from agents.models.ollama import OllamaModel
from agents.models.openai import OpenAIModel
from agents.models.protocol import CallLimits, ChatMessage
from schemas.settings import ModelSettings
from tests.agents.models.conftest import LLAMA_KEY

pytestmark = pytest.mark.integration

NAME = "smollm2:135m"
LIMITS = CallLimits(answer_tokens=64, context_tokens=2048, seconds=300.0)
SIGNED = r"^[+-][0-9]{1,3}(\.[0-9]{1,2})?$"
SCHEMA = {
    "type": "object",
    "properties": {
        "sky": {"type": "string", "enum": ["sun", "rain", "fog"]},
        "adjustment": {"type": "string", "pattern": SIGNED},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["sky", "adjustment", "days"],
    "additionalProperties": False,
}
#: An answer that takes the model far longer than the tests wait for it.
ENDLESS = {"type": "array", "items": {"type": "string", "minLength": 200}, "minItems": 60}


@pytest.fixture(params=["ollama", "embedded", "openai"])
def make(request):
    """How to make a model of one backend; servers and the model file are started and fetched only where needed."""
    if request.param == "openai":
        host = request.getfixturevalue("llama_server")
        return lambda name=NAME: OpenAIModel(name, host, api_key=LLAMA_KEY)
    if request.param == "ollama":
        host = request.getfixturevalue("ollama_host")
        return lambda name=NAME: OllamaModel(name, host)
    path: Path = request.getfixturevalue("gguf")
    return lambda name=NAME: EmbeddedModel(name, path.with_name(name.replace(":", "-") + ".gguf"), context_tokens=2048)


@pytest.fixture
async def model(make):
    model = make()
    yield model
    await model.close()


def talk(system: str, user: str) -> list[ChatMessage]:
    return [ChatMessage("system", system), ChatMessage("user", user)]


async def test_an_answer_obeys_its_schema_and_comes_with_counts_and_times(model):
    reply = await model.complete(talk("You forecast the weather.", "Predict tomorrow."), schema=SCHEMA, limits=LIMITS, purpose="predict")
    assert reply.finish == "stop"
    answer = json.loads(reply.text)
    assert list(answer) == ["sky", "adjustment", "days"]
    assert answer["sky"] in SCHEMA["properties"]["sky"]["enum"]
    assert re.fullmatch(SIGNED, answer["adjustment"])
    assert 1 <= answer["days"] <= 9
    assert 8 < reply.prompt_tokens < 100
    assert 0 < reply.output_tokens <= LIMITS.answer_tokens
    assert reply.seconds > reply.generate_seconds > 0
    assert reply.prompt_seconds > 0


async def test_an_answer_that_reaches_its_bound_is_cut_there_and_says_so(model):
    limits = CallLimits(answer_tokens=5, context_tokens=2048, seconds=300.0)
    reply = await model.complete(talk("You forecast the weather.", "Predict."), schema=ENDLESS, limits=limits, purpose="predict")
    assert (reply.finish, reply.output_tokens) == ("length", 5)


async def test_a_second_call_with_the_same_system_message_pays_only_for_what_is_new(model):
    system = "Facts about the weather here: " + " ".join(f"on day {day} the wind was {day % 7} and the sky {day % 3}." for day in range(40))
    first = await model.complete(talk(system, "Predict day 41."), schema=SCHEMA, limits=LIMITS, purpose="predict")
    second = await model.complete(talk(system, "Rewrite the memory."), schema=SCHEMA, limits=LIMITS, purpose="rewrite")
    assert first.prompt_tokens > 500
    assert abs(second.prompt_tokens - first.prompt_tokens) < 10, "cached tokens count as prompt tokens"
    assert second.prompt_seconds < first.prompt_seconds / 2
    if second.cached_tokens is not None:
        assert second.cached_tokens > first.prompt_tokens * 0.9


async def test_the_same_call_again_gets_the_same_answer(model):
    calls = [
        await model.complete(talk("You forecast the weather.", "Say more."), schema=SCHEMA, limits=LIMITS, purpose="predict")
        for _ in range(2)
    ]
    assert calls[0].text == calls[1].text


@pytest.mark.parametrize("make", ["ollama", "embedded"], indirect=True)
async def test_a_model_that_is_not_there_is_missing(make):
    model = make("nobody:1b")
    with pytest.raises(ModelMissing, match="palimpsest models pull nobody:1b"):
        await model.identify()
    with pytest.raises(ModelMissing, match="palimpsest models pull nobody:1b"):
        await model.complete(talk("x", "y"), schema=None, limits=LIMITS, purpose="predict")
    await model.close()


async def test_a_call_that_was_given_up_does_not_hold_up_the_next_one(model):
    gate = Gate(model, ModelSettings())
    messages = talk("You forecast the weather.", "Tell all you know.")
    await gate.complete(messages, schema=SCHEMA, limits=LIMITS, purpose="predict")  # loaded from here on
    with pytest.raises(ModelTimeout):
        await gate.complete(messages, schema=ENDLESS, limits=CallLimits(1500, 2048, seconds=1.0), purpose="rewrite")
    reply = await gate.complete(messages, schema=SCHEMA, limits=LIMITS, purpose="predict")
    assert reply.output_tokens <= LIMITS.answer_tokens
    # 1500 tokens would have come first, at the speed of this very answer.
    assert reply.seconds < 1500 * reply.generate_seconds / reply.output_tokens


@pytest.mark.parametrize("make", ["openai"], indirect=True)
async def test_a_server_of_another_make_says_what_it_serves_and_tells_no_digest(make):
    model, other = make(), make("nobody:1b")
    identity = await model.identify()
    assert (identity.name, identity.digest, identity.backend) == (NAME, "", "openai llamacpp")
    with pytest.raises(ModelMissing, match=f"one of those that are: {NAME}"):
        await other.identify()
    await model.close()
    await other.close()


@pytest.mark.parametrize("make", ["openai"], indirect=True)
async def test_a_prompt_beyond_the_window_of_a_llama_server_is_refused_and_a_wrong_key_too(make, llama_server):
    model, stranger = make(), OpenAIModel(NAME, llama_server, api_key="guess")
    with pytest.raises(ModelRefused, match="context size"):
        await model.complete(talk("Wind. " * 3000, "Predict."), schema=SCHEMA, limits=LIMITS, purpose="predict")
    with pytest.raises(ModelRefused, match=r"model\.api_key"):
        await stranger.complete(talk("You forecast.", "Predict."), schema=SCHEMA, limits=LIMITS, purpose="predict")
    await model.close()
    await stranger.close()


@pytest.mark.parametrize("make", ["ollama", "embedded"], indirect=True)
async def test_a_model_says_who_it_is(model):
    identity = await model.identify()
    assert identity.name == NAME
    assert re.fullmatch(r"[0-9a-f]{64}", identity.digest)
    assert re.fullmatch(r"(ollama|xllamacpp) [0-9.]+", identity.backend)
