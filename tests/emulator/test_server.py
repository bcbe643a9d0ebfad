"""What the emulator does over HTTP beyond what the contract with the real server covers."""

import asyncio
import json

import httpx
import orjson
import pytest

from tests.emulator.answers import Answers
from tests.emulator.latency import Latency
from tests.emulator.server import Emulator
from tests.emulator.wire import MODEL, SCHEMA, chat, connected, lines, post


async def test_an_answer_obeys_the_schema_and_accounts_for_its_time_and_tokens() -> None:
    async with Emulator(latency=Latency(seconds=0.01, prompt_token=0.0001)) as emulator:
        answer = (await post(emulator.host, chat())).json()
        [call] = emulator.journal.calls
    text = answer["message"]["content"]
    assert json.loads(text)["answer"] in SCHEMA["properties"]["answer"]["enum"]
    assert answer["eval_count"] == -(-len(text) // 4) + 1
    assert (answer["eval_count"], answer["prompt_eval_count"]) == (call.answer_tokens, call.prompt_tokens)
    assert answer["prompt_eval_duration"] == pytest.approx(call.prompt_tokens * 0.0001 * 1e9, rel=0.01)
    assert answer["eval_duration"] == pytest.approx(0.01 * 1e9, rel=0.01)
    assert answer["total_duration"] >= answer["prompt_eval_duration"] + answer["eval_duration"]
    assert (call.kind, call.outcome, call.slot) == ("predict", "answered", 0)


async def test_equal_requests_get_equal_answers_and_another_seed_other_ones() -> None:
    async def said(seed: int, *, each_anew: bool = False) -> list[str]:
        async with Emulator(answer=Answers(seed, each_anew=each_anew)) as emulator:
            asked = [chat("one", format=None), chat("two", format=None), chat("one", format=None)]
            return [(await post(emulator.host, body)).json()["message"]["content"] for body in asked]

    first, second, third = await said(1)
    assert first == third != second
    assert await said(1) == [first, second, third]
    assert (await said(2))[0] != first
    anew = await said(1, each_anew=True)
    assert len(set(anew)) == 3
    assert await said(1, each_anew=True) == anew


async def test_what_it_says_can_be_a_function_of_the_request() -> None:
    async with Emulator(answer=lambda request: request.messages[-1].content.upper()) as emulator:
        assert (await post(emulator.host, chat("hear me"))).json()["message"]["content"] == "HEAR ME"


async def test_rewrites_take_their_own_time() -> None:
    async with Emulator(latency=Latency(seconds=0.0), rewrites=Latency(seconds=0.125)) as emulator:
        await post(emulator.host, chat("predict: wind north"))
        await post(emulator.host, chat("Task: improve the memory"))
        predict, rewrite = emulator.journal.calls
    assert (predict.kind, predict.freed - predict.began) == ("predict", 0.0)
    assert (rewrite.kind, rewrite.freed - rewrite.began) == ("rewrite", pytest.approx(0.125, abs=1e-5))


async def test_the_cache_of_a_slot_is_counted_where_servers_count_it() -> None:
    async with Emulator(cached_counts=True) as emulator:
        first = (await post(emulator.host, chat("a question of some length"))).json()
        second = (await post(emulator.host, chat("a question of more length"))).json()
    assert first["prompt_eval_cached_count"] == 0
    assert 0 < second["prompt_eval_cached_count"] < second["prompt_eval_count"] == first["prompt_eval_count"]


async def test_loading_is_told_and_other_options_load_anew_and_lose_the_cache() -> None:
    async with Emulator(load_seconds=0.05, cached_counts=True) as emulator:
        answers = [(await post(emulator.host, chat(options={"num_ctx": window}))).json() for window in (4096, 4096, 2048)]
        assert emulator.journal.statistics().loads == 2
    assert [answer["load_duration"] >= 0.05e9 for answer in answers] == [True, False, True]
    assert [answer["prompt_eval_cached_count"] > 0 for answer in answers] == [False, True, False]


async def test_a_model_is_loaded_and_unloaded_without_a_question() -> None:
    async with Emulator() as emulator, httpx.AsyncClient(base_url=emulator.host, trust_env=False) as client:
        assert (await client.get("/api/ps")).json() == {"models": []}
        assert (await client.post("/api/chat", json={"model": MODEL, "keep_alive": 60})).json()["done_reason"] == "load"
        [loaded] = (await client.get("/api/ps")).json()["models"]
        assert (loaded["name"], loaded["context_length"]) == (MODEL, 4096)
        assert (await client.post("/api/chat", json={"model": MODEL, "keep_alive": 0})).json()["done_reason"] == "unload"
        assert (await client.get("/api/ps")).json() == {"models": []}


async def test_a_caller_that_leaves_while_waiting_never_has_a_slot_and_the_next_is_served() -> None:
    async with Emulator(latency=Latency(seconds=0.2)) as emulator:
        running = asyncio.create_task(post(emulator.host, chat()))
        await emulator.journal.until(lambda: emulator.journal.running == 1)
        async with connected(emulator.host) as gone:
            await gone.send(chat())
            await emulator.journal.until(lambda: emulator.journal.waiting == 1)
        await emulator.journal.until(lambda: emulator.journal.waiting == 0)
        assert (await running).status_code == 200
        assert (await post(emulator.host, chat())).status_code == 200
        first, left, last = emulator.journal.calls
        sums = emulator.journal.statistics().calls["predict"]
    assert (first.outcome, left.outcome, left.began, last.outcome) == ("answered", "cancelled", None, "answered")
    assert (sums.cancelled_waiting, sums.cancelled_running) == (1, 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_that_leaves_while_its_answer_is_written_gives_the_slot_to_the_next(stream) -> None:
    async with Emulator(latency=Latency(answer_token=0.02), answer=lambda request: "word" * 100_000) as emulator:
        endless = chat(stream=stream, options={"num_predict": 40_000})
        async with connected(emulator.host) as gone:
            await gone.send(endless)
            await emulator.journal.until(lambda: emulator.journal.running == 1)
            waiting = asyncio.create_task(post(emulator.host, chat(options={"num_predict": 1})))
            await emulator.journal.until(lambda: emulator.journal.waiting == 1)
        assert (await waiting).status_code == 200
        left, served = emulator.journal.calls
        sums = emulator.journal.statistics().calls["predict"]
    assert (left.outcome, served.outcome, served.began) == ("cancelled", "answered", left.freed)
    assert left.freed - left.began < 40_000 * 0.02
    assert sums.cancelled_running == 1


async def test_a_stream_tells_each_token_when_it_is_written() -> None:
    async with Emulator(latency=Latency(answer_token=0.001), answer=lambda request: "one two three") as emulator:
        *pieces, last = lines(await post(emulator.host, chat(stream=True)))
    assert [piece["message"]["content"] for piece in pieces] == ["one ", "two ", "thre", "e"]
    assert not any(piece["done"] for piece in pieces)
    assert (last["message"]["content"], last["done"], last["done_reason"], last["eval_count"]) == ("", True, "stop", 5)


async def test_faults_are_switched_and_read_over_http() -> None:
    async with Emulator() as emulator, httpx.AsyncClient(base_url=emulator.host, trust_env=False) as client:
        assert (await client.put("/emulator/faults/busy", json={"times": 2, "kinds": ["rewrite"]})).status_code == 204
        assert (await client.put("/emulator/faults/error")).status_code == 204
        on = (await client.get("/emulator/faults")).json()
        assert on["busy"] == {"share": 1.0, "kinds": ["rewrite"], "left": 2}
        assert (await client.post("/api/chat", json=chat())).status_code == 500
        assert (await client.post("/api/chat", json=chat("Task: improve"))).status_code == 503
        assert (await client.delete("/emulator/faults/error")).status_code == 204
        assert (await client.post("/api/chat", json=chat())).status_code == 200
        assert (await client.delete("/emulator/faults")).status_code == 204
        assert (await client.get("/emulator/faults")).json() == {}


@pytest.mark.parametrize(("path", "body"), [("nonsense", {}), ("busy", {"share": 7}), ("busy", {"nonsense": 1}), ("busy", [1])])
async def test_a_fault_that_cannot_be_is_refused_over_http(path, body) -> None:
    async with Emulator() as emulator, httpx.AsyncClient(base_url=emulator.host, trust_env=False) as client:
        answer = await client.put(f"/emulator/faults/{path}", json=body)
        assert (answer.status_code, list(answer.json())) == (400, ["error"])
        assert (await client.get("/emulator/faults")).json() == {}


async def test_what_happened_is_read_and_begun_anew_over_http() -> None:
    async with Emulator(slots=3) as emulator, httpx.AsyncClient(base_url=emulator.host, trust_env=False) as client:
        for content in ("predict: a", "Task: improve", "predict: b"):
            await client.post("/api/chat", json=chat(content))
        found = (await client.get("/emulator/statistics")).json()
        assert (found["slots"], found["calls"]["predict"]["answered"], found["calls"]["rewrite"]["answered"]) == (3, 2, 1)
        calls = [orjson.loads(line) for line in (await client.get("/emulator/calls", params={"after": 1})).text.splitlines()]
        assert [(call["number"], call["kind"], call["outcome"]) for call in calls] == [
            (2, "rewrite", "answered"),
            (3, "predict", "answered"),
        ]
        assert all(call["arrived"] <= call["began"] <= call["freed"] <= call["ended"] for call in calls)
        assert (await client.get("/emulator/calls", params={"after": "x"})).status_code == 400
        assert (await client.delete("/emulator/statistics")).status_code == 204
        assert (await client.get("/emulator/statistics")).json()["calls"] == {}
        assert (await client.get("/emulator/calls")).text == ""
