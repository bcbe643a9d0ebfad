"""Each fault twice: what is on the wire, seen by a client that hides nothing; and what the program's own client makes of it."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from agents import answers
from agents.asking import Asked, Asker
from agents.budget import TokenCounter
from agents.errors import AnswerInvalid, ModelError
from agents.models.factory import build_model
from agents.models.protocol import CallLimits, ChatMessage, LanguageModel, Reply
from schemas.messages import Answer, Observation
from schemas.settings import Settings
from schemas.state import EntityState
from tests.emulator.faults import Fault
from tests.emulator.server import Emulator
from tests.emulator.wire import MODEL, PATIENCE, SCHEMA, chat, connected, lines, post

#: Long enough for a call that is answered, on a busy machine.
SECONDS = 60.0
#: Short enough to wait for a call that is never answered.
SOON = 0.3
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
SEEN = Observation(entity="north", id="o1", time=NOON, values={"wind": "north"})


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(drip_seconds=0.02) as running:
        yield running


@pytest.fixture
def settings(emulator: Emulator) -> Callable[..., Settings]:
    """Settings of a program that asks the emulator; unless they say otherwise, nothing is tried again and no answer is remembered."""
    target = {"field": "smog", "kind": "category", "labels": ("low", "medium", "high")}

    def build(**model: Any) -> Settings:
        return Settings(target=target, model={"name": MODEL, "host": emulator.host, "retry_share": 0.0, "answer_cache": 0, **model})

    return build


@asynccontextmanager
async def model_of(settings: Settings) -> AsyncIterator[LanguageModel]:
    """The client as the program makes it, with all that stands in front of it."""
    model = build_model(settings.model)
    try:
        yield model
    finally:
        await model.close()


async def complete(model: LanguageModel, *, seconds: float = SECONDS, schema: Any = SCHEMA, answer_tokens: int = 32) -> Reply:
    limits = CallLimits(answer_tokens=answer_tokens, context_tokens=4096, seconds=seconds)
    return await model.complete([ChatMessage("user", "predict: wind north")], schema=schema, limits=limits, purpose="predict")


async def slug_of(settings: Settings, *, seconds: float = SECONDS) -> str:
    async with model_of(settings) as model:
        with pytest.raises(ModelError) as caught:
            await complete(model, seconds=seconds)
    return caught.value.slug


async def predict(model: LanguageModel, settings: Settings, counter: TokenCounter | None = None) -> Asked:
    asker = Asker(settings, model, counter or TokenCounter(model, MODEL, window=4096))
    return await asker.predict(EntityState(entity="north"), SEEN, reference=None, now=NOON)


@pytest.mark.parametrize(
    ("fault", "status", "says", "slug"),
    [
        (Fault.MISSING, 404, f'model "{MODEL}" not found', "missing"),
        (Fault.ERROR, 500, "model runner has unexpectedly stopped", "unreachable"),
        (Fault.BUSY, 503, "server busy", "unreachable"),
        (Fault.ERROR_LINE, 500, "error was encountered while running the model", "unreachable"),
    ],
)
async def test_a_status_of_failure_comes_with_its_reason(emulator, settings, fault, status, says, slug) -> None:
    emulator.faults.on(fault)
    answer = await post(emulator.host, chat())
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert says in answer.json()["error"]
    assert await slug_of(settings()) == slug
    assert emulator.journal.statistics().faults == {fault: 2}


async def test_an_error_line_stands_in_a_stream_that_began_well(emulator) -> None:
    emulator.faults.on(Fault.ERROR_LINE)
    answer = await post(emulator.host, chat(stream=True))
    assert answer.status_code == 200
    *pieces, last = lines(answer)
    assert pieces
    assert all(piece["message"]["content"] and not piece["done"] for piece in pieces)
    assert list(last) == ["error"]
    assert [call.outcome for call in emulator.journal.calls] == ["failed"]


async def test_a_hanging_server_takes_the_call_and_answers_nothing_until_it_is_back(emulator) -> None:
    emulator.faults.on(Fault.HANG)
    async with connected(emulator.host) as connection:
        await connection.send(chat())
        await emulator.journal.until(lambda: emulator.journal.statistics().faults.get(Fault.HANG) == 1)
        nothing = asyncio.create_task(connection.head())
        # Later calls of other kinds are answered in the meantime.
        assert (await post(emulator.host, {"model": MODEL}, "/api/show")).status_code == 200
        assert not nothing.done()
        emulator.faults.off(Fault.HANG)
        status, _ = await nothing
        assert status == 200


async def test_a_hanging_server_is_a_timeout_and_sees_the_connection_close(emulator, settings) -> None:
    emulator.faults.on(Fault.HANG)
    assert await slug_of(settings(), seconds=SOON) == "timeout"
    [call] = emulator.journal.calls
    await emulator.journal.until(lambda: call.outcome == "cancelled")


async def test_a_server_that_hangs_when_it_is_asked_for_the_model_is_a_timeout_too(emulator, settings) -> None:
    emulator.faults.on(Fault.HANG, kinds=["show"])
    async with model_of(settings(deadline="300ms")) as model:
        with pytest.raises(ModelError) as caught:
            await model.identify()
    assert caught.value.slug == "timeout"


async def test_a_connection_is_reset(emulator, settings) -> None:
    emulator.faults.on(Fault.RESET)
    async with connected(emulator.host) as connection:
        await connection.send(chat())
        with pytest.raises(ConnectionResetError):
            await connection.head()
    assert await slug_of(settings()) == "unreachable"


async def test_half_a_body_ends_before_the_length_that_its_head_promised(emulator, settings) -> None:
    emulator.faults.on(Fault.HALF_BODY)
    async with connected(emulator.host) as connection:
        await connection.send(chat())
        status, headers = await connection.head()
        body = await connection.rest()
    assert status == 200
    assert 0 < len(body) < int(headers["content-length"])
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(body)
    assert await slug_of(settings()) == "unreachable"


async def test_half_a_stream_ends_within_a_line_and_frees_its_slot(emulator) -> None:
    emulator.faults.on(Fault.HALF_BODY, times=1)
    async with connected(emulator.host) as connection:
        await connection.send(chat(stream=True))
        _, headers = await connection.head()
        body = await connection.rest()
    assert headers["transfer-encoding"] == "chunked"
    assert not body.endswith(b"\n0\r\n\r\n")
    assert (await post(emulator.host, chat())).status_code == 200


async def test_a_prompt_that_was_cut_shows_in_its_count_alone(emulator, settings) -> None:
    whole = (await post(emulator.host, chat())).json()
    emulator.faults.on(Fault.TRUNCATE, times=1)
    cut = (await post(emulator.host, chat())).json()
    assert cut["prompt_eval_count"] == pytest.approx(whole["prompt_eval_count"] / 2, abs=1)
    assert (cut["message"], cut["done_reason"]) == (whole["message"], "stop")

    made = settings()
    async with model_of(made) as model:
        counter = TokenCounter(model, MODEL, window=4096)
        assert (await predict(model, made, counter)).call.error == ""
        emulator.faults.on(Fault.TRUNCATE)
        asked = await predict(model, made, counter)
    assert (asked.answer, asked.call.error) == (None, "truncated")


async def test_an_answer_of_another_shape_is_invalid_also_after_its_repair(emulator, settings) -> None:
    emulator.faults.on(Fault.WRONG_SCHEMA)
    said = json.loads((await post(emulator.host, chat())).json()["message"]["content"])
    assert not set(said) & set(SCHEMA["properties"])
    made = settings()
    async with model_of(made) as model:
        asked = await predict(model, made)
    assert (asked.answer, asked.call.calls, asked.call.error) == (None, 2, "invalid")
    assert [call.kind for call in emulator.journal.calls if call.kind == "repair"] == ["repair"]


async def test_an_answer_of_another_shape_is_repaired_where_the_second_one_is_right(emulator, settings) -> None:
    emulator.faults.on(Fault.WRONG_SCHEMA, kinds=["predict"])
    made = settings()
    async with model_of(made) as model:
        asked = await predict(model, made)
    assert isinstance(asked.answer, Answer)
    assert asked.call.error == ""


async def test_a_number_that_no_float_holds_is_invalid(emulator, settings) -> None:
    emulator.faults.on(Fault.OVERFLOW)
    number = Settings(target={"field": "temp", "kind": "number"}, model=settings().model)
    bare = (await post(emulator.host, chat(format=answers.JUDGE_SCHEMA))).json()["message"]["content"]
    assert bare == '{"a_score":1e999}'
    assert math.isinf(json.loads(bare)["a_score"])
    text = (await post(emulator.host, chat(format=answers.forecast_schema(number.target, 12.5)))).json()["message"]["content"]
    assert text == '{"adjust":"1e999"}'
    async with model_of(number) as model:
        asked = await predict(model, number)
        judged = await complete(model, schema=answers.JUDGE_SCHEMA)
    assert (asked.answer, asked.call.error) == (None, "invalid")
    with pytest.raises(AnswerInvalid):
        answers.read_score(judged)


async def test_a_loop_goes_on_until_the_bound_of_the_answer(emulator, settings) -> None:
    emulator.faults.on(Fault.LOOP)
    answer = (await post(emulator.host, chat())).json()
    assert (answer["done_reason"], answer["eval_count"]) == ("length", 32)
    assert answer["message"]["content"].count("and then more") > 4
    made = settings()
    async with model_of(made) as model:
        reply = await complete(model, answer_tokens=100)
        asked = await predict(model, made)
    assert (reply.finish, reply.output_tokens) == ("length", 100)
    assert (asked.answer, asked.call.error) == (None, "invalid")


@pytest.mark.parametrize("stream", [False, True])
async def test_equal_tokens_in_a_row_break_an_answer_off_without_its_last_record(emulator, settings, stream) -> None:
    emulator.faults.on(Fault.REPEAT)
    answer = await post(emulator.host, chat(stream=stream))
    assert answer.status_code == 200
    records = lines(answer) if stream else [answer.json()]
    assert "".join(record["message"]["content"] for record in records).endswith("0" * 31)
    assert not any(record["done"] or "done_reason" in record or "eval_count" in record for record in records)
    assert await slug_of(settings()) == "misbehaved"


async def test_an_answer_that_drips_is_whole_but_late_and_the_deadline_of_the_whole_call_ends_it(emulator, settings) -> None:
    emulator.faults.on(Fault.DRIP)
    pieces = []
    async with connected(emulator.host) as connection:
        await connection.send(chat())
        _, headers = await connection.head()
        while sum(map(len, pieces)) < int(headers["content-length"]):
            pieces.append(await asyncio.wait_for(connection.reader.read(4096), PATIENCE))
    assert len(pieces) > 5
    assert orjson.loads(b"".join(pieces))["done"] is True
    # Nothing that looks at silence would end this one: a piece comes every 20 ms.
    assert await slug_of(settings(), seconds=SOON) == "timeout"


async def test_a_connection_that_was_used_before_is_closed_and_a_new_one_is_not(emulator, settings) -> None:
    emulator.faults.on(Fault.STALE)
    async with connected(emulator.host) as connection:
        await connection.send(chat())
        status, headers = await connection.head()
        assert (status, headers.get("connection")) == (200, None)
        await connection.reader.readexactly(int(headers["content-length"]))
        await connection.send(chat())
        assert await connection.rest() == b""
    async with model_of(settings()) as model:
        assert (await complete(model)).finish == "stop"
        with pytest.raises(ModelError) as caught:
            await complete(model)
    assert caught.value.slug == "unreachable"


@pytest.mark.parametrize("fault", [Fault.BUSY, Fault.ERROR, Fault.RESET, Fault.HALF_BODY])
async def test_what_passes_is_tried_again(emulator, settings, fault) -> None:
    emulator.faults.on(fault, times=1)
    async with model_of(settings(retry_share=1.0)) as model:
        assert (await complete(model)).finish == "stop"
    first, second = emulator.journal.calls
    assert (first.fault, first.outcome, second.outcome) == (fault, "failed", "answered")
