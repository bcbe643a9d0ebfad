"""What the OpenAI-compatible backend sends, how it reads answers, and which error each failure becomes."""

import asyncio
import json

import pytest
from aiohttp import web

from agents.errors import ModelError, ModelMisbehaved, ModelMissing, ModelRefused, ModelTimeout, ModelUnreachable
from agents.models.openai import OpenAIModel
from agents.models.protocol import CallLimits, ChatMessage

#: As llama-server answers; vLLM and SGLang have no timings.
GOOD = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_790_000_000,
    "model": "small:1b",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": '{"value":"+1.5"}'}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 120, "completion_tokens": 9, "total_tokens": 129, "prompt_tokens_details": {"cached_tokens": 100}},
    "timings": {"cache_n": 100, "prompt_n": 20, "prompt_ms": 250.0, "predicted_n": 9, "predicted_ms": 750.0},
}
SCHEMA = {"type": "object", "properties": {"value": {"type": "string"}, "aside": {"type": "string"}}, "required": ["value"]}
MISTRAL = {"error": {"message": "chat_template is not supported for Mistral tokenizers.", "type": "BadRequestError", "code": 400}}


@pytest.fixture
async def model(server):
    model = OpenAIModel("small:1b", server.url, seed=7)
    yield model
    await model.close()


async def ask(model, limits, *, schema=SCHEMA, content="Predict."):
    return await model.complete([ChatMessage("user", content)], schema=schema, limits=limits, purpose="predict")


async def failure(model, limits) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await ask(model, limits)
    return caught.value


def answering(server, *answers):
    """Answer requests in turn, with (status, body) each."""
    rest = list(answers)

    async def handler(request):
        status, body = rest.pop(0)
        return web.json_response(body, status=status)

    server.handler = handler


def changed(**choice):
    return {**GOOD, "choices": [{**GOOD["choices"][0], **choice}]}


async def test_a_call_carries_messages_bounds_sampling_and_the_schema_in_the_order_of_its_keys(server, model, messages, limits):
    server.says(GOOD)
    await model.complete(messages, schema=SCHEMA, limits=limits, purpose="rewrite")
    [(path, body)] = server.bodies
    assert path == "/v1/chat/completions"
    assert body == {
        "model": "small:1b",
        "messages": [
            {"role": "system", "content": "You forecast the weather."},
            {"role": "user", "content": "Predict: wind north, sky clear."},
        ],
        "stream": False,
        "max_tokens": 32,
        "temperature": 0.0,
        "seed": 7,
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}},
        "chat_template_kwargs": {"enable_thinking": False},
    }
    assert list(body["response_format"]["json_schema"]["schema"]["properties"]) == ["value", "aside"]


async def test_without_a_schema_no_format_is_sent(server, model, limits):
    server.says(GOOD)
    await ask(model, limits, schema=None)
    assert "response_format" not in server.bodies[0][1]


async def test_a_path_before_the_protocols_own_is_kept(server, limits):
    server.says(GOOD)
    model = OpenAIModel("small:1b", f"{server.url}/llm/")
    await ask(model, limits)
    await model.close()
    assert server.bodies[0][0] == "/llm/v1/chat/completions"


async def test_the_key_goes_into_the_header_and_into_no_error(server, limits):
    seen = []

    async def handler(request):
        seen.append(request.headers.get("Authorization"))
        return web.json_response({"error": {"message": "Invalid API Key", "code": 401}}, status=401)

    server.handler = handler
    for key in ("hunter2", None):
        model = OpenAIModel("small:1b", server.url, api_key=key)
        error = await failure(model, limits)
        assert type(error) is ModelRefused
        assert "model.api_key" in str(error)
        assert "hunter2" not in str(error)
        await model.close()
    assert seen == ["Bearer hunter2", None]


async def test_a_reply_carries_text_counts_and_the_servers_own_account_in_seconds(server, model, limits):
    server.says(GOOD)
    reply = await ask(model, limits)
    assert (reply.text, reply.finish) == ('{"value":"+1.5"}', "stop")
    assert (reply.prompt_tokens, reply.cached_tokens, reply.output_tokens) == (120, 100, 9)
    assert (reply.prompt_seconds, reply.generate_seconds) == (0.25, 0.75)
    assert reply.seconds > 0


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": 120, "completion_tokens": 9, "prompt_tokens_details": None}])
async def test_counts_that_a_server_does_not_tell_are_unknown(server, model, limits, usage):
    server.says({**GOOD, "usage": usage, "timings": None})
    reply = await ask(model, limits)
    assert reply.cached_tokens is None
    assert reply.prompt_tokens == (120 if usage else None)
    assert reply.prompt_seconds == 0.0


async def test_an_answer_that_was_cut_says_so(server, model, limits):
    server.says(changed(finish_reason="length"))
    assert (await ask(model, limits)).finish == "length"


async def test_a_server_that_takes_no_word_on_thinking_is_asked_without_it_from_then_on(server, model, limits):
    answering(server, (400, MISTRAL), (200, GOOD), (200, GOOD))
    assert (await ask(model, limits)).finish == "stop"
    assert (await ask(model, limits)).finish == "stop"
    assert ["chat_template_kwargs" in body for _, body in server.bodies] == [True, False, False]


async def test_a_fault_of_the_models_own_template_is_no_reason_to_ask_again(server, model, limits):
    answering(server, (400, {"error": {"message": "Unable to generate parser for this template. unrecognized type nonsense"}}))
    assert type(await failure(model, limits)) is ModelRefused


@pytest.mark.parametrize(
    ("status", "text", "kind", "alive"),
    [
        (400, "request (4736 tokens) exceeds the available context size (2048 tokens)", ModelRefused, None),
        (400, "JSON schema error at #: unrecognized type", ModelRefused, None),
        (403, "forbidden", ModelRefused, None),
        (404, "The model `small:1b` does not exist.", ModelMissing, None),
        (404, "not found", ModelRefused, None),
        (422, "unprocessable", ModelRefused, None),
        (408, "request timeout", ModelUnreachable, True),
        (429, "too many requests", ModelUnreachable, True),
        (500, "internal error", ModelUnreachable, False),
        (501, "not implemented", ModelRefused, None),
        (502, "bad gateway", ModelUnreachable, False),
        (503, "Loading model", ModelUnreachable, False),
    ],
)
async def test_a_status_becomes_the_error_that_says_whether_another_try_is_worth_it(server, model, limits, status, text, kind, alive):
    server.says({"error": {"message": text, "code": status}}, status=status)
    error = await failure(model, limits)
    assert type(error) is kind
    assert getattr(error, "alive", None) == alive
    assert "small:1b" in str(error)
    assert server.url in str(error)
    assert text[:20] in str(error)


async def test_when_to_come_again_is_read_from_the_answer(server, model, limits):
    async def handler(request):
        return web.json_response({"error": "busy"}, status=503, headers={"Retry-After": "7"})

    server.handler = handler
    assert (await failure(model, limits)).retry_after == 7.0


async def test_a_redirect_is_not_followed_with_the_prompt(server, model, limits):
    async def handler(request):
        raise web.HTTPTemporaryRedirect("http://elsewhere.invalid/")

    server.handler = handler
    assert type(await failure(model, limits)) is ModelRefused


@pytest.mark.parametrize(
    "body",
    [
        {},
        {**GOOD, "choices": []},
        changed(message=None),
        changed(message={"role": "assistant", "content": None, "reasoning_content": "hm"}),
        changed(message={"role": "assistant", "content": " \n"}),
        changed(finish_reason="tool_calls"),
        changed(finish_reason="content_filter"),
        {**GOOD, "usage": {"prompt_tokens": "many"}},
        [1, 2],
        "text",
    ],
)
async def test_an_answer_without_a_usable_text_is_misbehaviour(server, model, limits, body):
    server.says(body)
    assert type(await failure(model, limits)) is ModelMisbehaved


@pytest.mark.parametrize("text", ["", "<html>", '{"choices": [', "NaN"])
async def test_a_success_that_is_no_json_object_is_misbehaviour(server, model, limits, text):
    server.says(text=text)
    assert type(await failure(model, limits)) is ModelMisbehaved


async def test_an_error_inside_a_success_is_taken_for_a_servers_failure(server, model, limits):
    server.says({"error": {"message": "the engine has died"}})
    assert type(await failure(model, limits)) is ModelUnreachable


async def test_a_refused_connection_is_unreachable(refusing_url, limits):
    model = OpenAIModel("small:1b", refusing_url)
    error = await failure(model, limits)
    await model.close()
    assert type(error) is ModelUnreachable
    assert refusing_url in str(error)


async def test_a_dropped_connection_is_unreachable(server, model, limits):
    async def handler(request):
        request.transport.abort()
        return web.Response()

    server.handler = handler
    assert type(await failure(model, limits)) is ModelUnreachable


async def test_an_answer_that_breaks_off_half_way_is_unreachable(server, model, limits):
    async def handler(request):
        text = json.dumps(GOOD).encode()
        response = web.StreamResponse(headers={"Content-Length": str(len(text)), "Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(text[:20])
        request.transport.close()
        return response

    server.handler = handler
    assert type(await failure(model, limits)) is ModelUnreachable


async def test_a_server_that_never_answers_ends_in_a_timeout_and_sees_the_connection_close(server, model):
    hung_up = asyncio.Event()

    async def handler(request):
        try:
            await asyncio.Event().wait()
        finally:
            hung_up.set()
        return web.Response()

    server.handler = handler
    assert type(await failure(model, CallLimits(answer_tokens=8, context_tokens=2048, seconds=0.1))) is ModelTimeout
    await hung_up.wait()


async def test_cancelling_a_call_closes_its_connection(server, model, limits):
    begun, hung_up = asyncio.Event(), asyncio.Event()

    async def handler(request):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            hung_up.set()
        return web.Response()

    server.handler = handler
    call = asyncio.create_task(ask(model, limits))
    await begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await hung_up.wait()


async def test_closing_ends_a_pending_call_and_refuses_later_ones(server, model, limits):
    begun = asyncio.Event()

    async def handler(request):
        begun.set()
        await asyncio.Event().wait()
        return web.Response()

    server.handler = handler
    call = asyncio.create_task(failure(model, limits))
    await begun.wait()
    await model.close()
    assert isinstance(await call, ModelError)
    assert type(await failure(model, limits)) is ModelRefused


async def test_text_that_is_no_unicode_is_refused_before_it_is_sent(server, model, limits):
    with pytest.raises(ModelRefused):
        await ask(model, limits, content="half a pair: \ud800")
    assert server.bodies == []


@pytest.mark.parametrize("host", ["http://127.0.0.1:port", "http://[::1", "127.0.0.1:8000", ""])
def test_a_host_that_is_no_address_is_refused_at_once(host):
    with pytest.raises(ModelRefused, match="no address"):
        OpenAIModel("small:1b", host)


async def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(server, limits, refusing_url, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", refusing_url)
    server.says(GOOD)
    model = OpenAIModel("small:1b", server.url)
    assert (await ask(model, limits)).finish == "stop"
    await model.close()


async def test_a_model_is_known_by_the_servers_list_and_asked_for_once(server, model):
    served = [{"id": "other:1b", "owned_by": "vllm"}, {"id": "small:1b", "object": "model", "owned_by": "vllm", "max_model_len": 4096}]
    answering(server, (200, {"object": "list", "data": served}))
    identity = await model.identify()
    assert (identity.name, identity.digest, identity.backend) == ("small:1b", "", "openai vllm")
    assert await model.identify() == identity


async def test_a_model_that_is_not_served_is_missing_and_those_that_are_are_named(server, model):
    server.says({"data": [{"id": "/models/qwen.gguf"}, {"id": "other:1b"}]})
    with pytest.raises(ModelMissing, match=r"model\.name must be one of .*qwen\.gguf, other:1b"):
        await model.identify()


async def test_the_protocol_offers_no_tokeniser(model):
    assert model.count_tokens("a text") is None
