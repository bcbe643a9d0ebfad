"""Slots, their queue and their clock. Nothing here looks at how long something took: only at what the slots wrote down."""

import asyncio
import random
from itertools import pairwise

import pytest

from tests.emulator.journal import Journal
from tests.emulator.latency import Latency
from tests.emulator.slots import Slots

SHORT = Latency(seconds=0.01)


class Bench:
    """Slots, and calls that hold them."""

    def __init__(self, number: int, latency: Latency = SHORT) -> None:
        self.journal = Journal(number)
        self.slots = Slots(number, self.journal, random.Random(0))
        self._latency = latency

    async def call(self, prompt: str = "prompt", answer_tokens: int = 4):
        call = self.journal.arrived("predict")
        async with self.slots.hold(call, prompt=prompt, answer="", answer_tokens=answer_tokens, latency=self._latency):
            pass
        return call

    def start(self, **how) -> asyncio.Task:
        return asyncio.create_task(self.call(**how))


async def test_no_more_calls_than_slots_run_and_the_rest_wait_in_the_order_of_arrival() -> None:
    bench = Bench(2)
    calls = await asyncio.gather(*(bench.call() for _ in range(7)))
    assert [call.began for call in calls] == sorted(call.began for call in calls)
    for slot in (0, 1):
        on_slot = [call for call in calls if call.slot == slot]
        assert all(before.freed <= after.began for before, after in pairwise(on_slot))


async def test_a_call_that_waited_begins_when_the_one_before_it_ended_however_late_the_event_loop_is() -> None:
    bench = Bench(1)
    calls = await asyncio.gather(*(bench.call() for _ in range(10)))
    for before, after in pairwise(calls):
        assert after.began == before.freed
    assert all(call.freed - call.began == pytest.approx(0.01, abs=1e-5) for call in calls)


async def test_a_cancelled_wait_leaves_the_queue() -> None:
    bench = Bench(1, Latency(seconds=0.2))
    running, waiting, next_one = bench.start(), bench.start(), bench.start()
    await bench.journal.until(lambda: bench.journal.waiting == 2)
    waiting.cancel()
    await bench.journal.until(lambda: bench.journal.waiting == 1)
    first, third = await running, await next_one
    assert third.began == first.freed
    assert bench.journal.statistics().most_waiting == 2


async def test_a_slot_that_comes_in_the_same_moment_as_a_cancellation_is_not_lost() -> None:
    bench = Bench(1)
    running, waiting = bench.start(), bench.start()
    await bench.journal.until(lambda: bench.journal.running == 1 and bench.journal.waiting == 1)
    await bench.journal.until(lambda: bench.journal.waiting == 0)
    waiting.cancel()
    await running
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await bench.call()).slot == 0


async def test_a_caller_that_leaves_while_its_prompt_is_read_keeps_the_slot_until_the_first_token() -> None:
    bench = Bench(1, Latency(prompt_token=0.1, answer_token=0.01))
    call = bench.start(prompt="0123456789ab", answer_tokens=1000)
    await bench.journal.until(lambda: bench.journal.running == 1)
    call.cancel()
    await bench.journal.until(lambda: bench.journal.running == 0)
    [left] = bench.journal.calls
    assert left.freed - left.began == pytest.approx(0.31, abs=1e-5)


async def test_a_caller_that_leaves_while_its_answer_is_written_keeps_the_slot_for_the_token_under_way() -> None:
    bench = Bench(1, Latency(answer_token=0.05))
    call = bench.start(answer_tokens=1000)
    await bench.journal.until(lambda: bench.journal.running == 1)
    call.cancel()
    after = await bench.call(answer_tokens=1)
    left = next(bench.journal.calls)
    tokens = (left.freed - left.began) / 0.05
    assert tokens == pytest.approx(round(tokens), abs=1e-4)
    assert 1 <= round(tokens) < 1000
    assert after.began == left.freed


async def test_a_prompt_goes_to_the_free_slot_that_knows_most_of_it_and_reads_only_the_rest() -> None:
    bench = Bench(3)
    await asyncio.gather(bench.call(prompt="a" * 40), bench.call(prompt="b" * 40), bench.call(prompt="c" * 40))
    again = await bench.call(prompt="b" * 40 + "d" * 40)
    assert (again.slot, again.prompt_tokens, again.cached_tokens) == (1, 20, 10)
    other = await bench.call(prompt="e" * 40)
    assert (other.slot, other.cached_tokens) == (0, 0)


async def test_one_token_of_a_known_prompt_is_read_again() -> None:
    bench = Bench(1)
    await bench.call(prompt="a" * 40)
    assert (await bench.call(prompt="a" * 40)).cached_tokens == 9


async def test_a_model_that_is_loaded_anew_knows_no_prompt() -> None:
    bench = Bench(1)
    await bench.call(prompt="a" * 40)
    bench.slots.forget()
    assert (await bench.call(prompt="a" * 40)).cached_tokens == 0


async def test_a_body_that_fails_frees_the_slot_at_once() -> None:
    bench = Bench(1, Latency(seconds=3600.0))
    call = bench.journal.arrived("predict")
    with pytest.raises(ValueError, match="broken"):
        async with bench.slots.hold(call, prompt="p", answer="", answer_tokens=1, latency=Latency(seconds=3600.0)):
            raise ValueError("broken")
    assert call.freed is not None
    assert bench.journal.running == 0
