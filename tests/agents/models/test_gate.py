"""Slots, deadline and retries in front of a backend."""

import asyncio
from datetime import timedelta

import pytest

from agents.errors import ModelMisbehaved, ModelMissing, ModelRefused, ModelTimeout, ModelUnreachable
from agents.models.gate import FIRST_PAUSE, Gate, Slots
from agents.models.protocol import CallLimits, ChatMessage
from agents.models.scripted import ScriptedModel
from schemas.settings import ModelSettings


def gate_of(model, *, chance=lambda: 0.0, **settings):
    return Gate(model, ModelSettings(**settings), chance=chance)


async def ask(gate, limits, *, purpose="predict", content="?"):
    return await gate.complete([ChatMessage("user", content)], schema=None, limits=limits, purpose=purpose)


async def turns(number: int = 20) -> None:
    """Let every task that can go on do so."""
    for _ in range(number):
        await asyncio.sleep(0)


class Held:
    """Calls that stay in the backend until released one by one."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.order: list[str] = []
        self._releases = asyncio.Semaphore(0)
        self.model = ScriptedModel(self._answer, latency=self._wait)

    def release(self, number: int = 1) -> None:
        for _ in range(number):
            self._releases.release()

    def _answer(self, messages, schema, purpose):
        self.order.append(messages[0].content)
        return "answer"

    async def _wait(self):
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self._releases.acquire()
        finally:
            self.running -= 1


@pytest.mark.parametrize("slots", [1, 3])
async def test_no_more_calls_than_slots_reach_the_backend_at_once(limits, slots):
    held = Held()
    gate = gate_of(held.model, slots=slots)
    calls = [asyncio.create_task(ask(gate, limits)) for _ in range(7)]
    await turns()
    assert held.running == slots
    held.release(7)
    await asyncio.gather(*calls)
    assert held.most == slots


async def test_waiting_calls_are_served_in_order_predictions_before_rewrites(limits):
    held = Held()
    gate = gate_of(held.model)
    arrivals = [
        ("first", "predict"),
        ("r1", "rewrite"),
        ("p1", "predict"),
        ("r2", "rewrite"),
        ("j1", "judge"),
        ("p2", "predict"),
        ("f1", "repair"),
    ]
    calls = []
    for content, purpose in arrivals:
        calls.append(asyncio.create_task(ask(gate, limits, purpose=purpose, content=content)))
        await turns(3)
    held.release(len(arrivals))
    await asyncio.gather(*calls)
    assert held.order == ["first", "p1", "j1", "p2", "f1", "r1", "r2"]


async def test_a_cancelled_wait_takes_no_slot(limits):
    held = Held()
    gate = gate_of(held.model)
    first, second, third = (asyncio.create_task(ask(gate, limits, content=name)) for name in ("first", "second", "third"))
    await turns()
    second.cancel()
    held.release(2)
    await asyncio.gather(first, third)
    assert held.order == ["first", "third"]
    with pytest.raises(asyncio.CancelledError):
        await second


async def test_cancelling_a_running_call_gives_its_slot_to_the_next(limits):
    held = Held()
    gate = gate_of(held.model)
    first, second = (asyncio.create_task(ask(gate, limits, content=name)) for name in ("first", "second"))
    await turns()
    first.cancel()
    held.release()
    assert (await second).text == "answer"
    assert held.order == ["second"]


@pytest.mark.parametrize("cancel_before_the_slot_comes", [True, False])
async def test_a_slot_that_comes_in_the_same_moment_as_a_cancellation_is_not_lost(cancel_before_the_slot_comes):
    slots = Slots(1)
    leave = asyncio.Event()
    got = []

    async def holder(name, until):
        async with slots.hold(urgent=True):
            got.append(name)
            await until.wait()

    never = asyncio.Event()
    first = asyncio.create_task(holder("first", leave))
    second = asyncio.create_task(holder("second", never))
    third = asyncio.create_task(holder("third", leave))
    await turns()
    if cancel_before_the_slot_comes:
        second.cancel()
        leave.set()
    else:
        leave.set()
        await asyncio.sleep(0)  # the first lets go of its slot in this turn; the second has it, but does not know yet
        second.cancel()
    await asyncio.wait_for(asyncio.gather(first, third), timeout=30)
    assert got == ["first", "third"]
    await asyncio.gather(second, return_exceptions=True)


async def test_a_slot_comes_back_after_a_failure(limits):
    gate = gate_of(ScriptedModel([ModelRefused("no"), "answer"]))
    with pytest.raises(ModelRefused):
        await ask(gate, limits)
    assert (await ask(gate, limits)).text == "answer"


async def test_what_may_succeed_is_tried_again(limits):
    model = ScriptedModel([ModelUnreachable("reset"), ModelUnreachable("busy"), "answer"])
    assert (await ask(gate_of(model, retries=2), limits)).text == "answer"
    assert len(model.calls) == 3


@pytest.mark.parametrize("retries", [0, 2])
async def test_when_the_tries_are_spent_the_last_error_stands(limits, retries):
    model = ScriptedModel([ModelUnreachable(f"try {number}") for number in range(1, 5)])
    with pytest.raises(ModelUnreachable, match=f"try {retries + 1}"):
        await ask(gate_of(model, retries=retries), limits)
    assert len(model.calls) == retries + 1


@pytest.mark.parametrize("kind", [ModelTimeout, ModelMissing, ModelRefused, ModelMisbehaved, LookupError])
async def test_what_cannot_succeed_is_tried_once(limits, kind):
    model = ScriptedModel(lambda *_: (_ for _ in ()).throw(kind("no")))
    with pytest.raises(kind):
        await ask(gate_of(model, retries=5), limits)
    assert len(model.calls) == 1


async def test_a_pause_that_the_deadline_does_not_allow_is_not_begun(limits):
    model = ScriptedModel([ModelUnreachable("reset"), "answer"])
    gate = gate_of(model, retries=1, chance=lambda: 0.999)
    with pytest.raises(ModelUnreachable, match="reset"):
        await ask(gate, CallLimits(limits.answer_tokens, limits.context_tokens, seconds=FIRST_PAUSE / 2))
    assert len(model.calls) == 1


async def test_the_slot_is_free_during_a_pause(limits, monkeypatch):
    paused, over = asyncio.Event(), asyncio.Event()

    async def pause(seconds):
        paused.set()
        await over.wait()

    monkeypatch.setattr(asyncio, "sleep", pause)
    gate = gate_of(ScriptedModel([ModelUnreachable("reset"), "other", "answer"]), retries=1)
    first = asyncio.create_task(ask(gate, limits, content="first"))
    await paused.wait()
    assert (await ask(gate, limits, content="second")).text == "other"
    over.set()
    assert (await first).text == "answer"


async def test_each_pause_may_be_twice_as_long_as_the_one_before(limits, monkeypatch):
    pauses = []

    async def note(seconds):
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", note)
    model = ScriptedModel([*[ModelUnreachable("reset")] * 6, "answer"])
    assert (await ask(gate_of(model, retries=6, chance=lambda: 0.5), limits)).text == "answer"
    assert pauses == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


async def test_a_call_past_its_deadline_is_cancelled_in_the_backend(limits):
    held = Held()
    with pytest.raises(ModelTimeout, match="at try 1"):
        await ask(gate_of(held.model), CallLimits(8, 2048, seconds=0.01))
    assert (held.running, held.order) == (0, [])


async def test_waiting_for_a_slot_counts_toward_the_deadline(limits):
    held = Held()
    gate = gate_of(held.model)
    first = asyncio.create_task(ask(gate, limits))
    await turns()
    with pytest.raises(ModelTimeout, match="waiting for a slot"):
        await ask(gate, CallLimits(8, 2048, seconds=0.01))
    held.release()
    assert (await first).text == "answer"


async def test_a_backend_is_told_only_the_time_that_is_left(limits):
    held = Held()
    gate = gate_of(held.model)
    clock = asyncio.get_running_loop().time
    first, second = (asyncio.create_task(ask(gate, limits)) for _ in range(2))
    await turns()
    arrived = clock()
    await turns()
    waited = clock() - arrived
    held.release(2)
    await asyncio.gather(first, second)
    assert 0 < held.model.calls[1].limits.seconds <= limits.seconds - waited


async def test_the_rest_passes_through(limits):
    model = ScriptedModel([], tokens=len, name="tiny")
    gate = gate_of(model)
    assert gate.count_tokens("four") == 4
    assert (await gate.identify()).name == "tiny"
    await gate.close()
    assert model.closed


async def test_identifying_has_the_settings_deadline():
    class Silent(ScriptedModel):
        async def identify(self):
            await asyncio.Event().wait()

    with pytest.raises(ModelTimeout, match="which one it is"):
        await gate_of(Silent([]), deadline=timedelta(milliseconds=10)).identify()
