"""The emulator of Ollama and the real server, asked the same: what a program can see of them must not differ.

Whatever fails here for the emulator alone is to be mended in `tests.emulator`; the real server is the reference. What the program's client
does not use of the protocol is left out on both sides, and so is what a model says: the emulator has none.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import pytest_asyncio

from agents.errors import ModelMissing
from agents.models.ollama import OllamaModel
from agents.models.protocol import CallLimits, ChatMessage, Reply
from deploy.services import OllamaServer
from tests.conftest import TEST_MODEL
from tests.emulator.latency import Latency
from tests.emulator.requests import FOREVER
from tests.emulator.server import Emulator
from tests.emulator.wire import connected

pytestmark = pytest.mark.integration

#: Seconds after which a test gives up; the real server may have to share its cores.
PATIENCE = 300.0
#: The window that all calls ask for, but those that are about it: another one loads the model anew.
WINDOW = 2048
SMALL_WINDOW = 64
SCHEMA = {
    "type": "object",
    "properties": {"days": {"type": "integer", "minimum": 1, "maximum": 9}, "sky": {"type": "string", "enum": ["sun", "rain"]}},
    "required": ["days", "sky"],
    "additionalProperties": False,
}
#: An answer of many tokens, whatever the model.
ENDLESS = {"type": "array", "items": {"type": "string", "minLength": 200}, "minItems": 60}
SHORT = Latency(prompt_token=0.0002, answer_token=0.01)


@pytest_asyncio.fixture
async def emulated() -> AsyncIterator[str]:
    """Address of an emulator that is set up as the real server is."""
    async with Emulator(model=TEST_MODEL, latency=SHORT, load_seconds=0.2, keep_alive=FOREVER) as emulator:
        yield emulator.host


@pytest.fixture(params=["emulated", "ollama"])
def host(request: pytest.FixtureRequest) -> str:
    """One of the two servers after the other; each that is not needed is not started."""
    address: str = request.getfixturevalue(request.param)
    return address


@pytest_asyncio.fixture
async def model(host: str) -> AsyncIterator[OllamaModel]:
    model = OllamaModel(TEST_MODEL, host)
    yield model
    await model.close()


def body(*messages: tuple[str, str], **more: Any) -> dict[str, Any]:
    """The body of a chat as the program's client sends it, but for `more`."""
    options = {"temperature": 0.0, "seed": 0, "num_ctx": WINDOW, "num_predict": 4, **more.pop("options", {})}
    said = [{"role": role, "content": content} for role, content in messages or (("user", "Hi there"),)]
    asked = {"model": TEST_MODEL, "messages": said, "stream": False, "think": False, "truncate": False, "shift": False, "keep_alive": -1}
    return {**asked, "options": options, **more}


async def ask(host: str, method: str, path: str, content: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=host, timeout=PATIENCE, trust_env=False) as client:
        return await client.request(method, path, **({} if content is None else {"json": content}))


async def complete(model: OllamaModel, *messages: tuple[str, str], schema: Any = None, tokens: int = 4, window: int = WINDOW) -> Reply:
    limits = CallLimits(answer_tokens=tokens, context_tokens=window, seconds=PATIENCE)
    said = [ChatMessage(role, content) for role, content in messages or (("user", "Hi there"),)]  # type: ignore[arg-type]
    return await model.complete(said, schema=schema, limits=limits, purpose="predict")


def shape(value: Any) -> Any:
    """What a JSON value is made of: names and types; of a list its first item."""
    match value:
        case dict():
            return {name: shape(part) for name, part in sorted(value.items())}
        case list():
            return [shape(part) for part in value[:1]]
    return type(value).__name__


def common(shown: Any, real: Any) -> Any:
    """The part of a shape whose names the other one has too."""
    if isinstance(shown, dict) and isinstance(real, dict):
        return {name: common(shown[name], part) for name, part in real.items() if name in shown}
    if isinstance(shown, list) and isinstance(real, list):
        return [common(one, other) for one, other in zip(shown, real, strict=True)]
    return real


def head(answer: httpx.Response) -> tuple[int, str, bool]:
    """Status, kind of content, and whether it comes in chunks."""
    return answer.status_code, answer.headers["content-type"], answer.headers.get("transfer-encoding") == "chunked"


def records(answer: httpx.Response) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in answer.text.splitlines()]


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("GET", "/", None),
        ("GET", "/api/version", None),
        ("GET", "/api/nothing-is-here", None),
        ("GET", "/api/chat", None),
        ("POST", "/api/show", {"model": "nobody:1b"}),
        ("POST", "/api/show", {}),
        ("POST", "/api/chat", None),
        ("POST", "/api/chat", []),
        ("POST", "/api/chat", {"messages": []}),
        ("POST", "/api/chat", body(model="nobody:1b")),
        ("POST", "/api/chat", body(model="nobody:1b", stream=True)),
        ("POST", "/api/chat", body(keep_alive="-1")),
        ("POST", "/api/chat", body(keep_alive=True)),
        ("POST", "/api/chat", body(think=True)),
        ("POST", "/api/chat", body(options={"num_ctx": "many"})),
        ("POST", "/api/chat", body(format=5)),
        ("POST", "/api/chat", body(format={"type": "nonsense"})),
        ("POST", "/api/chat", body(format={"type": "nonsense"}, stream=True)),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict | list) else None,
)
async def test_what_needs_no_model_is_answered_by_the_same_bytes(emulated: str, ollama: str, method: str, path: str, content: Any) -> None:
    shown, real = await ask(emulated, method, path, content), await ask(ollama, method, path, content)
    assert head(shown) == head(real)
    assert shown.content == real.content


async def test_a_body_that_is_no_json_is_refused_alike(emulated: str, ollama: str) -> None:
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
        shown, real = [await client.post(f"{host}/api/chat", content=b"{") for host in (emulated, ollama)]
    assert head(shown) == head(real)
    assert shape(shown.json()) == shape(real.json()) == {"error": "str"}


async def test_the_model_is_described_alike(emulated: str, ollama: str) -> None:
    shown, real = [(await ask(host, "POST", "/api/show", {"model": TEST_MODEL})).json() for host in (emulated, ollama)]
    for name in ("template", "capabilities", "parameters"):
        assert shown[name] == real[name]
    assert shape(shown) == common(shape(shown), shape(real))
    listed = [
        next(model for model in (await ask(host, "GET", "/api/tags", None)).json()["models"] if model["name"] == TEST_MODEL)
        for host in (emulated, ollama)
    ]
    assert shape(listed[0]) == shape(listed[1])
    assert all(re.fullmatch(r"[0-9a-f]{64}", model["digest"]) for model in listed)


async def test_a_whole_answer_has_the_same_fields_and_so_has_the_list_of_loaded_models(emulated: str, ollama: str) -> None:
    shown, real = [await ask(host, "POST", "/api/chat", body()) for host in (emulated, ollama)]
    assert head(shown) == head(real)
    assert shape(shown.json()) == shape(real.json())
    assert shown.json()["done_reason"] == real.json()["done_reason"] == "length"
    shown, real = [(await ask(host, "GET", "/api/ps", None)).json() for host in (emulated, ollama)]
    assert shape(shown) == shape(real)
    for found in (shown, real):
        [loaded] = [model for model in found["models"] if model["name"] == TEST_MODEL]
        assert loaded["context_length"] == WINDOW
        assert loaded["expires_at"].startswith("23"), "for ever is some centuries"


async def test_a_stream_has_the_same_records(emulated: str, ollama: str) -> None:
    shown, real = [await ask(host, "POST", "/api/chat", body(stream=True)) for host in (emulated, ollama)]
    assert head(shown) == head(real)
    for answer in (shown, real):
        *pieces, last = records(answer)
        assert len(pieces) == last["eval_count"] == 4
        assert all(piece["message"]["content"] for piece in pieces)
        assert (last["message"]["content"], last["done_reason"]) == ("", "length")
    assert [shape(record) for record in records(shown)] == [shape(record) for record in records(real)]


async def test_a_model_that_is_not_there_is_missing(host: str) -> None:
    nobody = OllamaModel("nobody:1b", host)
    with pytest.raises(ModelMissing):
        await nobody.identify()
    with pytest.raises(ModelMissing):
        await complete(nobody)
    await nobody.close()


async def test_a_model_says_who_it_is(model: OllamaModel) -> None:
    identity = await model.identify()
    assert (identity.name, identity.backend) == (TEST_MODEL, "ollama 0.11.4")
    assert re.fullmatch(r"[0-9a-f]{64}", identity.digest)


async def test_an_answer_obeys_its_schema_and_ends_by_itself(model: OllamaModel) -> None:
    reply = await complete(model, ("system", "You forecast."), ("user", "Predict."), schema=SCHEMA, tokens=64)
    assert reply.finish == "stop"
    answer = json.loads(reply.text)
    assert list(answer) == ["days", "sky"]
    assert answer["days"] in range(1, 10)
    assert answer["sky"] in ("sun", "rain")
    assert 8 < reply.prompt_tokens < 60
    assert 4 < reply.output_tokens <= 64
    assert reply.cached_tokens is None, "servers before 0.34 do not say"
    assert min(reply.prompt_seconds, reply.generate_seconds, reply.load_seconds) > 0
    assert reply.seconds > reply.generate_seconds


async def test_an_answer_that_reaches_its_bound_is_cut_there(model: OllamaModel) -> None:
    reply = await complete(model, schema=ENDLESS, tokens=5)
    assert (reply.finish, reply.output_tokens) == ("length", 5)


async def test_a_prompt_beyond_the_window_is_cut_without_a_word_and_another_window_loads_the_model_anew(model: OllamaModel) -> None:
    words = " ".join(f"word{number}" for number in range(80))
    system, user, long_user = ("system", words), ("user", "Hi there"), ("user", words)

    async def read(*messages: tuple[str, str]) -> Reply:
        return await complete(model, *messages, tokens=1, window=SMALL_WINDOW)

    await complete(model, tokens=1)
    alone = await read(user)
    again = await read(user)
    assert again.prompt_tokens == alone.prompt_tokens < SMALL_WINDOW, "cached tokens count"
    assert alone.load_seconds > again.load_seconds
    assert (await read(system, user)).prompt_tokens == alone.prompt_tokens, "the system message goes as a whole"
    assert (await read(("system", "Be brief."), long_user)).prompt_tokens == SMALL_WINDOW, "the last message loses its middle"


async def test_a_caller_that_leaves_frees_the_slot(host: str, model: OllamaModel) -> None:
    tokens = 1500
    async with httpx.AsyncClient(base_url=host, timeout=PATIENCE, trust_env=False) as client:
        endless = body(format=ENDLESS, stream=True, options={"num_predict": tokens})
        async with client.stream("POST", "/api/chat", json=endless) as answer:
            lines = answer.aiter_lines()
            written = [_created(orjson.loads(await anext(lines))) for _ in range(4)]
    reply = await complete(model, tokens=1)
    assert reply.finish == "length"
    # The rest of the other answer would have come first: not even half of it did, at the speed that it had.
    assert reply.seconds < (tokens - 4) * (written[-1] - written[0]).total_seconds() / 3 / 2


async def test_calls_are_served_one_after_the_other_in_the_order_of_arrival(host: str) -> None:
    async with (
        connected(host) as first,
        connected(host) as second,
        connected(host) as third,
        httpx.AsyncClient(base_url=host, timeout=PATIENCE, trust_env=False) as client,
        client.stream("POST", "/api/chat", json=body(format=ENDLESS, stream=True, options={"num_predict": 10})) as running,
    ):
        lines = running.aiter_lines()
        for connection in (second, first, third):
            # The running answer goes on by some tokens between one arrival and the next.
            for _ in range(2):
                await anext(lines)
            await connection.send(body(options={"num_predict": 1}))
        *_, last = [line async for line in lines]
        ended = [_created(orjson.loads(last))]
        for connection in (second, first, third):
            status, headers = await connection.head()
            assert status == 200
            answer = orjson.loads(await connection.reader.readexactly(int(headers["content-length"])))
            waited = answer["total_duration"] - answer["load_duration"] - answer["prompt_eval_duration"] - answer["eval_duration"]
            assert waited > 0
            ended.append(_created(answer))
    assert ended == sorted(ended)


async def test_too_many_callers_while_the_model_loads_are_sent_away(tmp_path: Path) -> None:
    async def answers(host: str) -> set[tuple[int, str]]:
        async with AsyncExitStack() as stack:
            connections = [await stack.enter_async_context(connected(host)) for _ in range(8)]
            for connection in connections:
                await connection.send(body(options={"num_predict": 1}))
            found = set()
            for connection in connections:
                status, headers = await connection.head()
                text = await connection.reader.readexactly(int(headers["content-length"]))
                found.add((status, "" if status == 200 else text.decode()))
            return found

    async with Emulator(model=TEST_MODEL, load_seconds=0.5, max_queue=1) as emulator:
        shown = await answers(emulator.host)
    async with OllamaServer(root=tmp_path, models=[TEST_MODEL], environment={"OLLAMA_MAX_QUEUE": "1"}) as server:
        real = await answers(server.host)
    assert shown == real
    assert {status for status, _ in shown} == {200, 503}


async def test_a_model_is_loaded_and_unloaded_alike(emulated: str, ollama: str) -> None:
    for content in ({"options": {"num_ctx": WINDOW}}, {"keep_alive": 0}):
        shown, real = [await ask(host, "POST", "/api/chat", {"model": TEST_MODEL, **content}) for host in (emulated, ollama)]
        assert head(shown) == head(real)
        assert shape(shown.json()) == shape(real.json())
        assert shown.json()["done_reason"] == real.json()["done_reason"] == ("unload" if "keep_alive" in content else "load")


def _created(record: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(record["created_at"])
