"""What the Ollama backend sends, how it reads answers, and which error each failure becomes."""

import asyncio
import json

import pytest
from aiohttp import web

from agents.errors import ModelError, ModelMisbehaved, ModelMissing, ModelRefused, ModelTimeout, ModelUnreachable
from agents.models.ollama import RAW_TEMPLATE, OllamaModel
from agents.models.protocol import CallLimits, ChatMessage

GOOD = {
    "model": "small:1b",
    "message": {"role": "assistant", "content": '{"value":"+1.5"}'},
    "done": True,
    "done_reason": "stop",
    "total_duration": 2_500_000_000,
    "load_duration": 500_000_000,
    "prompt_eval_count": 120,
    "prompt_eval_duration": 1_000_000_000,
    "eval_count": 9,
    "eval_duration": 750_000_000,
}
SCHEMA = {"type": "object", "properties": {"value": {"type": "string"}, "aside": {"type": "string"}}, "required": ["value"]}


@pytest.fixture
async def model(server):
    model = OllamaModel("small:1b", server.url, seed=7)
    yield model
    await model.close()


async def ask(model, limits, *, schema=SCHEMA, content="Predict."):
    return await model.complete([ChatMessage("user", content)], schema=schema, limits=limits, purpose="predict")


async def failure(model, limits) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await ask(model, limits)
    return caught.value


async def test_a_call_carries_every_field_whose_default_would_do_harm(server, model, messages, limits):
    server.says(GOOD)
    await model.complete(messages, schema=SCHEMA, limits=limits, purpose="rewrite")
    [(path, body)] = server.bodies
    assert path == "/api/chat"
    assert body == {
        "model": "small:1b",
        "messages": [
            {"role": "system", "content": "You forecast the weather."},
            {"role": "user", "content": "Predict: wind north, sky clear."},
        ],
        "stream": False,
        "think": False,
        "truncate": False,
        "shift": False,
        "keep_alive": -1,
        "format": SCHEMA,
        "options": {"temperature": 0.0, "seed": 7, "num_ctx": 2048, "num_predict": 32},
    }
    assert list(body["format"]["properties"]) == ["value", "aside"], "the order of keys is the order in which the model writes"


async def test_without_a_schema_no_format_is_sent(server, model, limits):
    server.says(GOOD)
    await ask(model, limits, schema=None)
    assert "format" not in server.bodies[0][1]


async def test_an_answer_bound_of_zero_is_never_sent_for_some_servers_take_it_for_none(server, model):
    server.says(GOOD)
    await ask(model, CallLimits(answer_tokens=0, context_tokens=2048, seconds=30))
    assert server.bodies[0][1]["options"]["num_predict"] == 1


@pytest.mark.parametrize(("text", "sent"), [("-1", -1), ("300", 300), ("0.5", 0.5), ("10m", "10m")])
async def test_a_numeric_keep_alive_is_sent_as_a_number_and_a_duration_as_text(server, limits, text, sent):
    server.says(GOOD)
    model = OllamaModel("small:1b", server.url, keep_alive=text)
    await ask(model, limits)
    await model.close()
    assert server.bodies[0][1]["keep_alive"] == sent
    assert type(server.bodies[0][1]["keep_alive"]) is type(sent)


async def test_load_options_are_the_same_for_every_purpose(server, limits):
    server.says(GOOD)
    model = OllamaModel("small:1b", server.url, threads=2)
    for purpose, tokens in (("predict", 32), ("rewrite", 500)):
        await model.complete([ChatMessage("user", "x")], schema=None, limits=CallLimits(tokens, limits.context_tokens, 30), purpose=purpose)
    await model.close()
    first, second = ({key: body["options"][key] for key in ("num_ctx", "num_thread")} for _, body in server.bodies)
    assert first == second == {"num_ctx": 2048, "num_thread": 2}


async def test_a_reply_carries_text_counts_and_the_servers_own_account_in_seconds(server, model, limits):
    server.says(GOOD)
    reply = await ask(model, limits)
    assert reply.text == '{"value":"+1.5"}'
    assert reply.finish == "stop"
    assert (reply.prompt_tokens, reply.cached_tokens, reply.output_tokens) == (120, None, 9)
    assert (reply.load_seconds, reply.prompt_seconds, reply.generate_seconds) == (0.5, 1.0, 0.75)
    assert reply.seconds > 0


async def test_cached_tokens_are_read_from_servers_that_count_them(server, model, limits):
    server.says({**GOOD, "prompt_eval_cached_count": 100})
    assert (await ask(model, limits)).cached_tokens == 100


@pytest.mark.parametrize("left_out", ["prompt_eval_count", "eval_count", "load_duration", "prompt_eval_duration"])
async def test_a_missing_counter_is_unknown_and_no_failure(server, model, limits, left_out):
    server.says({key: value for key, value in GOOD.items() if key != left_out})
    reply = await ask(model, limits)
    assert reply.text == '{"value":"+1.5"}'
    assert (reply.prompt_tokens is None) == (left_out == "prompt_eval_count")


async def test_a_prompt_count_of_zero_is_unknown(server, model, limits):
    server.says({**GOOD, "prompt_eval_count": 0})
    assert (await ask(model, limits)).prompt_tokens is None


async def test_an_answer_that_was_cut_says_so(server, model, limits):
    server.says({**GOOD, "done_reason": "length"})
    assert (await ask(model, limits)).finish == "length"


async def test_an_answer_of_an_old_server_without_a_reason_has_stopped(server, model, limits):
    server.says({key: value for key, value in GOOD.items() if key != "done_reason"})
    assert (await ask(model, limits)).finish == "stop"


BUSY = "server busy, please try again.  maximum pending requests exceeded"
STOPPED = "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error"


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (400, "the input length exceeds the context length", ModelRefused),
        (400, "invalid think value", ModelRefused),
        (401, "unauthorized", ModelRefused),
        (403, "cloud is disabled", ModelRefused),
        (404, "model 'small:1b' not found", ModelMissing),
        (404, 'model "small:1b" not found, try pulling it first', ModelMissing),
        (408, "request timeout", ModelUnreachable),
        (429, "too many requests", ModelUnreachable),
        (499, "request canceled", ModelUnreachable),
        (500, STOPPED, ModelUnreachable),
        (500, "llama runner process has terminated: signal: killed", ModelUnreachable),
        (500, "model requires more system memory (9.1 GiB) than is available (3.0 GiB)", ModelUnreachable),
        (500, "invalid JSON schema in format", ModelRefused),
        (500, "failed to load model vocabulary required for format", ModelRefused),
        (501, "this model does not support chat", ModelRefused),
        (502, "bad gateway", ModelUnreachable),
        (503, BUSY, ModelUnreachable),
        (504, "gateway timeout", ModelUnreachable),
    ],
)
async def test_a_status_becomes_the_error_that_says_whether_another_try_is_worth_it(server, model, limits, status, text, kind):
    server.says({"error": text}, status=status)
    error = await failure(model, limits)
    assert type(error) is kind
    assert error.retryable == (kind is ModelUnreachable)
    assert "small:1b" in str(error)
    assert server.url in str(error)
    assert text[:20] in str(error)


@pytest.mark.parametrize(("status", "alive"), [(429, True), (503, False)])
async def test_a_server_that_is_busy_says_when_to_come_again_and_with_a_4xx_that_it_is_alive(server, model, limits, status, alive):
    async def handler(request):
        return web.json_response({"error": BUSY}, status=status, headers={"Retry-After": "7"})

    server.handler = handler
    error = await failure(model, limits)
    assert (error.retry_after, error.alive) == (7.0, alive)


async def test_a_missing_model_says_how_to_get_it(server, model, limits):
    server.says({"error": "model 'small:1b' not found"}, status=404)
    assert "palimpsest models pull small:1b" in str(await failure(model, limits))


async def test_a_path_that_is_not_there_is_no_missing_model(server, model, limits):
    server.says(status=404, text="404 page not found")
    assert type(await failure(model, limits)) is ModelRefused


async def test_an_html_error_page_keeps_its_status(server, model, limits):
    server.says(status=502, text="<html><h1>Bad Gateway</h1></html>")
    error = await failure(model, limits)
    assert type(error) is ModelUnreachable
    assert "Bad Gateway" in str(error)


@pytest.mark.parametrize("body", [["queue full"], "queue full", None, 17, {"error": {"message": "queue full"}}])
@pytest.mark.parametrize(("status", "kind"), [(503, ModelUnreachable), (400, ModelRefused)])
async def test_an_error_of_another_shape_keeps_its_status(server, model, limits, body, status, kind):
    server.says(body, status=status)
    assert type(await failure(model, limits)) is kind


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I am a teapot",
        '{"message": {"content": "half',
        "[]",
        "[1, 2]",
        '"text"',
        "null",
        "17",
        "{}",
        '{"message": "text"}',
        "[" * 100_000,
    ],
)
async def test_a_success_that_is_no_chat_answer_is_misbehaviour(server, model, limits, text):
    server.says(text=text)
    assert type(await failure(model, limits)) is ModelMisbehaved


async def test_a_success_that_is_not_utf8_is_misbehaviour(server, model, limits):
    async def handler(request):
        return web.Response(body=b'{"message": {"content": "\xff\xfe"}}', content_type="application/json")

    server.handler = handler
    assert type(await failure(model, limits)) is ModelMisbehaved


@pytest.mark.parametrize(
    "change",
    [
        {"message": None},
        {"message": {"role": "assistant", "content": ""}},
        {"message": {"role": "assistant", "content": " \n"}},
        {"message": {"role": "assistant", "content": "", "thinking": "hm"}, "done_reason": "length"},
        {"done_reason": "load"},
        {"done_reason": "unload"},
        {"eval_count": "many"},
    ],
)
async def test_an_answer_without_a_usable_text_is_misbehaviour(server, model, limits, change):
    server.says({**GOOD, **change})
    assert type(await failure(model, limits)) is ModelMisbehaved


@pytest.mark.parametrize("change", [{"done": False}, {"done": None}])
async def test_an_answer_that_breaks_off_in_repetition_is_misbehaviour(server, model, limits, change):
    server.says({key: value for key, value in {**GOOD, **change, "done_reason": ""}.items() if value is not None})
    error = await failure(model, limits)
    assert type(error) is ModelMisbehaved
    assert "repeating" in str(error)


async def test_an_error_inside_a_success_is_taken_for_a_servers_failure(server, model, limits):
    server.says({"error": STOPPED})
    assert type(await failure(model, limits)) is ModelUnreachable


async def test_a_refused_connection_is_unreachable(refusing_url, limits):
    model = OllamaModel("small:1b", refusing_url)
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


@pytest.mark.parametrize("host", ["http://127.0.0.1:port", "http://[::1"])
def test_a_host_that_is_no_address_is_refused_at_once(host):
    with pytest.raises(ModelRefused, match="no address"):
        OllamaModel("small:1b", host)


async def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(server, limits, refusing_url, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", refusing_url)
    server.says(GOOD)
    model = OllamaModel("small:1b", server.url)
    assert (await ask(model, limits)).finish == "stop"
    await model.close()


CHATML = "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"


def about(server, *, show, tags=("small:1b",), status=200):
    """Let the server answer questions about its models."""
    asked = []

    async def handler(request):
        asked.append(request.path)
        answers = {
            "/api/show": show,
            "/api/tags": {"models": [{"name": name, "digest": f"digest of {name}"} for name in tags]},
            "/api/version": {"version": "0.11.4"},
        }
        return web.json_response(answers[request.path], status=status)

    server.handler = handler
    return asked


async def test_a_model_tells_name_digest_and_version_and_asks_for_them_once(server, model):
    asked = about(server, show={"template": CHATML, "capabilities": ["completion"]}, tags=("other:1b", "small:1b"))
    identity = await model.identify()
    assert (identity.name, identity.digest, identity.backend) == ("small:1b", "digest of small:1b", "ollama 0.11.4")
    assert await model.identify() == identity
    assert len(asked) == 3


async def test_a_name_without_a_tag_means_the_latest(server):
    about(server, show={"template": CHATML}, tags=("small:latest",))
    model = OllamaModel("small", server.url)
    assert (await model.identify()).digest == "digest of small:latest"
    await model.close()


@pytest.mark.parametrize("template", [RAW_TEMPLATE, f"{RAW_TEMPLATE}\n", "", None])
async def test_a_model_to_which_prompts_would_go_bare_is_refused(server, model, template):
    about(server, show={"template": template, "capabilities": ["completion"]})
    with pytest.raises(ModelRefused, match="template"):
        await model.identify()


async def test_a_raw_template_is_fine_where_the_server_has_a_renderer_of_its_own(server, model):
    about(server, show={"template": RAW_TEMPLATE, "renderer": "qwen3-coder"})
    assert (await model.identify()).name == "small:1b"


async def test_a_model_that_cannot_chat_is_refused(server, model):
    about(server, show={"template": CHATML, "capabilities": ["embedding"]})
    with pytest.raises(ModelRefused, match="embedding"):
        await model.identify()


async def test_identifying_a_model_that_is_not_there_says_missing(server, model):
    server.says({"error": "model 'small:1b' not found"}, status=404)
    with pytest.raises(ModelMissing):
        await model.identify()


def test_a_server_offers_no_tokeniser(refusing_url):
    assert OllamaModel("small:1b", refusing_url).count_tokens("a text") is None
