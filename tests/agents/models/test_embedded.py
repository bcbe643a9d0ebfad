"""The embedded backend beside what every backend owes (`test_backends.py`): its faults, with a llama.cpp of straw, and its own promises."""

import asyncio
import json
import sys
import threading
import time
from types import ModuleType, SimpleNamespace

import pytest

from agents.errors import ModelMisbehaved, ModelMissing, ModelRefused, ModelTimeout, ModelUnreachable
from agents.models.embedded import EmbeddedModel
from agents.models.protocol import CallLimits, ChatMessage

USAGE = {"usage": {"prompt_tokens": 40, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 30}}}
TIMINGS = {"timings": {"prompt_ms": 500.0, "predicted_ms": 250.0}}
GOOD = [
    {"choices": [{"finish_reason": None, "delta": {"role": "assistant", "content": None}}], "prompt_progress": {"total": 40}},
    {"choices": [{"finish_reason": None, "delta": {"content": "warm"}}]},
    {"choices": [{"finish_reason": None, "delta": {"content": "er"}}]},
    {"choices": [{"finish_reason": "stop", "delta": {}}]},
    {"choices": [], **USAGE, **TIMINGS},
]


class Straw:
    """Stands for the module xllamacpp: plays pieces to the callback, as its server does."""

    def __init__(self) -> None:
        self.pieces = GOOD
        self.error: Exception | None = None
        self.loads: list[SimpleNamespace] = []
        self.requests: list[dict] = []
        self.stopped = threading.Event()
        self.begun = threading.Event()
        #: Plays its first piece again and again, until it is told to stop.
        self.endless = False

    def module(self) -> ModuleType:
        module = ModuleType("xllamacpp")
        module.CommonParams = lambda: SimpleNamespace(model=SimpleNamespace(), cpuparams=SimpleNamespace())
        module.Server = self._load
        module.json_schema_to_grammar = lambda schema: f"grammar of {schema}"
        return module

    def _load(self, parameters):
        if self.error is not None:
            raise self.error
        self.loads.append(parameters)
        return SimpleNamespace(listening_address="http://127.0.0.1:9", handle_chat_completions=self._answer)

    def _answer(self, request, take):
        self.requests.append(request)
        if self.error is not None:
            raise self.error
        self.begun.set()
        for piece in self.pieces:
            while self.endless:
                if take(piece):
                    self.stopped.set()
                    return
                time.sleep(0.001)  # a token takes its time
            if take(piece):
                return


@pytest.fixture
def straw(monkeypatch):
    straw = Straw()
    monkeypatch.setitem(sys.modules, "xllamacpp", straw.module())
    return straw


@pytest.fixture
async def model(straw, tmp_path):
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"GGUF")
    model = EmbeddedModel("tiny", path, context_tokens=2048, seed=7, threads=1)
    yield model
    await model.close()


async def ask(model, limits, *, schema=None):
    return await model.complete([ChatMessage("user", "Predict.")], schema=schema, limits=limits, purpose="predict")


async def test_pieces_become_one_reply_with_counts_and_times(model, limits):
    reply = await ask(model, limits)
    assert (reply.text, reply.finish) == ("warmer", "stop")
    assert (reply.prompt_tokens, reply.cached_tokens, reply.output_tokens) == (40, 30, 2)
    assert (reply.prompt_seconds, reply.generate_seconds) == (0.5, 0.25)


async def test_a_call_carries_bounds_sampling_and_schema(straw, model, limits):
    await ask(model, limits, schema={"enum": ["sun"]})
    [request] = straw.requests
    assert (request["max_tokens"], request["temperature"], request["seed"]) == (32, 0.0, 7)
    assert request["grammar"].startswith("grammar of {'enum': ['sun'], 'x-guidance'")


async def test_without_a_schema_there_is_no_grammar(straw, model, limits):
    await ask(model, limits)
    assert "grammar" not in straw.requests[0]


async def test_the_model_is_loaded_once_and_again_only_for_a_larger_window(straw, model, limits):
    for window in (2048, 1024, 4096, 2048):
        await ask(model, CallLimits(8, window, 30))
    assert [parameters.n_ctx for parameters in straw.loads] == [2048, 4096]


async def test_nobody_else_can_use_the_port_that_llama_cpp_opens(straw, model, limits):
    await ask(model, limits)
    [parameters] = straw.loads
    assert len(parameters.api_keys[0]) >= 32
    assert (parameters.ui, parameters.endpoint_slots) == (False, False)


async def test_without_the_package_the_error_says_what_is_missing(model, limits, monkeypatch):
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(ModelMissing, match="xllamacpp"):
        await ask(model, limits)


async def test_without_the_file_the_error_says_how_to_get_it(straw, tmp_path, limits):
    model = EmbeddedModel("tiny", tmp_path / "none.gguf", context_tokens=2048)
    with pytest.raises(ModelMissing, match="palimpsest models pull tiny"):
        await ask(model, limits)
    await model.close()
    assert straw.loads == []


async def test_a_file_that_cannot_be_loaded_is_refused(straw, model, limits):
    straw.error = RuntimeError("Failed to init server, please check the input params.")
    with pytest.raises(ModelRefused, match="2048"):
        await ask(model, limits)


@pytest.mark.parametrize("error", [ValueError("JSON schema error at #: unrecognized type"), TypeError("str is not valid UTF-8")])
async def test_what_llama_cpp_will_not_take_is_refused(straw, model, limits, error):
    await model.identify()
    straw.error = error
    with pytest.raises(ModelRefused, match=str(error)[:10]):
        await ask(model, limits)


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ([{"error": {"code": 400, "type": "exceed_context_size_error", "message": "request (6031 tokens) exceeds"}}], ModelRefused),
        ([{"error": {"code": 500, "message": "Compute error."}}], ModelUnreachable),
        ([{"error": {"message": "no code"}}], ModelUnreachable),
        ([GOOD[0], GOOD[3], GOOD[4]], ModelMisbehaved),
        ([GOOD[0], GOOD[1]], ModelTimeout),
    ],
)
async def test_an_end_without_an_answer_becomes_its_error(straw, model, limits, pieces, kind):
    straw.pieces = pieces
    with pytest.raises(kind):
        await ask(model, limits)


async def test_an_answer_that_was_cut_says_so(straw, model, limits):
    straw.pieces = [*GOOD[:3], {"choices": [{"finish_reason": "length", "delta": {}}]}, GOOD[4]]
    assert (await ask(model, limits)).finish == "length"


async def begun(straw):
    await asyncio.get_running_loop().run_in_executor(None, straw.begun.wait)


async def test_a_cancelled_call_stops_the_computing_and_the_next_one_is_answered(straw, model, limits):
    straw.endless = True
    first = asyncio.create_task(ask(model, limits))
    await begun(straw)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await asyncio.get_running_loop().run_in_executor(None, straw.stopped.wait)
    straw.endless = False
    assert (await ask(model, limits)).text == "warmer"


async def test_a_call_past_its_deadline_stops_the_computing(straw, model):
    straw.endless = True
    with pytest.raises(ModelTimeout):
        await ask(model, CallLimits(8, 2048, seconds=0.05))
    await asyncio.get_running_loop().run_in_executor(None, straw.stopped.wait)


async def test_a_call_cancelled_before_its_turn_is_never_computed(straw, model, limits):
    straw.endless = True
    first, second = asyncio.create_task(ask(model, limits)), asyncio.create_task(ask(model, limits))
    await begun(straw)
    second.cancel()
    first.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    straw.endless = False
    await ask(model, limits)
    assert len(straw.requests) == 2


async def test_closing_ends_a_pending_call_and_refuses_later_ones(straw, model, limits):
    straw.endless = True
    call = asyncio.create_task(ask(model, limits))
    await begun(straw)
    await model.close()
    with pytest.raises(ModelTimeout):
        await call
    with pytest.raises(ModelRefused, match="closed"):
        await ask(model, limits)
    await model.close()


async def test_tokens_are_not_known_before_the_model_is_loaded(model):
    assert model.count_tokens("a text") is None


async def test_tokens_are_not_known_when_the_port_does_not_answer(model, limits):
    await ask(model, limits)
    assert model.count_tokens("a text") is None


@pytest.mark.integration
async def test_real_tokens_are_counted_also_while_an_answer_is_computed(gguf, limits):
    model = EmbeddedModel("smollm2:135m", gguf, context_tokens=2048)
    assert model.count_tokens("hello world") is None
    await model.identify()
    alone = model.count_tokens("hello world")
    call = asyncio.create_task(ask(model, limits))
    assert model.count_tokens("hello world") == alone == 2
    assert model.count_tokens("hello world " * 10) > 2 * alone
    assert (await call).output_tokens > 0
    await model.close()


@pytest.mark.integration
async def test_a_real_answer_wastes_no_tokens_on_whitespace(gguf, limits):
    model = EmbeddedModel("smollm2:135m", gguf, context_tokens=2048)
    schema = {"type": "object", "properties": {"sky": {"enum": ["sun", "rain"]}, "days": {"type": "integer"}}, "required": ["sky", "days"]}
    reply = await ask(model, limits, schema={**schema, "additionalProperties": False})
    assert reply.text == json.dumps(json.loads(reply.text))
    await model.close()


@pytest.mark.integration
async def test_a_prompt_above_the_window_is_refused_and_not_cut(gguf):
    model = EmbeddedModel("smollm2:135m", gguf, context_tokens=512)
    with pytest.raises(ModelRefused, match="exceeds"):
        await model.complete([ChatMessage("user", "word " * 2000)], schema=None, limits=CallLimits(8, 512, 60.0), purpose="predict")
    await model.close()


@pytest.mark.integration
async def test_a_file_that_is_no_model_is_refused(tmp_path, limits):
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUFxxxx" * 100)
    model = EmbeddedModel("broken", path, context_tokens=512)
    with pytest.raises(ModelRefused, match="cannot load"):
        await ask(model, limits)
    await model.close()
