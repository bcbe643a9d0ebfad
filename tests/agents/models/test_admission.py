"""Waiting for a slot, holding it, losing it, on a simulated clock."""

from __future__ import annotations

import asyncio
import random

import pytest

from agents.errors import ModelOverloaded
from agents.models.admission import Admission, LineUpAgain
from agents.models.schedule import Schedule, Ticket
from tests.agents.models.simulated import simulate


def admission(slots=1, *, queue=100):
    return Admission(Schedule(slots, queue=queue, rewrite_share=0.2, rewrite_max_wait=10.0))


def ticket(purpose="predict", *, seconds=100.0, number=0):
    now = asyncio.get_running_loop().time()
    return Ticket(purpose, now, now + seconds, number)


async def turns(number=5):
    for _ in range(number):
        await asyncio.sleep(0)


class Work:
    """Takes so many seconds; notes when it began and how it ended."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.begun = []
        self.cancelled = []

    async def __call__(self):
        clock = asyncio.get_running_loop().time
        self.begun.append(clock())
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled.append(clock())
            raise
        return "done"


def test_a_cut_rewrite_is_cancelled_at_once_and_its_slot_goes_to_the_prediction():
    async def main():
        line = admission()
        rewriting, predicting = Work(10.0), Work(1.0)
        first = asyncio.create_task(line.run(ticket("rewrite"), rewriting))
        await asyncio.sleep(2.0)
        assert await line.run(ticket(), predicting) == "done"
        with pytest.raises(LineUpAgain):
            await first
        return rewriting.cancelled, predicting.begun, line.cut, line.schedule.running

    assert simulate(main) == ([2.0], [2.0], 1, 0)


def test_a_rewrite_that_is_cut_before_it_could_begin_does_nothing():
    async def main():
        line, over = admission(), asyncio.Event()
        rewriting, predicting = Work(10.0), Work(1.0)

        async def predict_then():
            await over.wait()
            return await line.run(ticket(number=2), predicting)

        held = asyncio.create_task(line.run(ticket(), over.wait))
        await turns()
        first, second = asyncio.create_task(line.run(ticket("rewrite", number=1), rewriting)), asyncio.create_task(predict_then())
        await turns()
        # The slot is given to the rewrite, and taken from it before its task runs.
        over.set()
        results = await asyncio.gather(held, first, second, return_exceptions=True)
        return isinstance(results[1], LineUpAgain), results[2], rewriting.begun, predicting.begun

    assert simulate(main) == (True, "done", [], [0.0])


def test_a_deadline_that_passes_in_line_and_one_that_passes_in_the_slot_free_both():
    async def main():
        line = admission()
        long, never = Work(50.0), Work(1.0)
        holding = asyncio.create_task(line.run(ticket(seconds=20.0), long))
        await turns()
        with pytest.raises(TimeoutError):
            await line.run(ticket(seconds=5.0, number=1), never)
        after_line = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            await holding
        return after_line, long.cancelled, never.begun, line.schedule.running, line.schedule.waiting_predictions

    assert simulate(main) == (5.0, [20.0], [], 0, 0)


def test_a_timeout_of_the_work_itself_is_not_taken_for_the_deadline_nor_for_a_cut():
    async def main():
        async def fails():
            raise TimeoutError("its own")

        line = admission()
        with pytest.raises(TimeoutError, match="its own"):
            await line.run(ticket(), fails)
        return line.schedule.running

    assert simulate(main) == 0


@pytest.mark.parametrize("cancel_before_the_slot_comes", [True, False])
async def test_a_slot_that_comes_in_the_same_moment_as_a_cancellation_is_not_lost(cancel_before_the_slot_comes):
    line = admission()
    leave, never = asyncio.Event(), asyncio.Event()
    got = []

    def holder(name, until):
        async def work():
            got.append(name)
            await until.wait()

        return asyncio.create_task(line.run(ticket(number=len(tasks)), work))

    tasks = []
    for name, until in (("first", leave), ("second", never), ("third", leave)):
        tasks.append(holder(name, until))
    first, second, third = tasks
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
    assert line.schedule.running == 0


def test_who_is_sent_away_learns_why():
    async def main():
        line = admission(queue=1)
        holding = asyncio.create_task(line.run(ticket(), Work(9.0)))
        await turns()
        waiting = asyncio.create_task(line.run(ticket(number=1), Work(1.0)))
        await turns()
        with pytest.raises(ModelOverloaded, match="1 calls wait"):
            await line.run(ticket(number=2), Work(1.0))
        await asyncio.gather(holding, waiting)
        # A prediction takes about 8 s now.
        holding = asyncio.create_task(line.run(ticket(seconds=60.0, number=3), Work(9.0)))
        await turns()
        with pytest.raises(ModelOverloaded, match=r"3\.0 s before its deadline"):
            await line.run(ticket(seconds=12.0, number=4), Work(1.0))
        await holding

    simulate(main)


def test_clearing_the_line_sends_away_who_waits_and_leaves_who_runs():
    async def main():
        line = admission()
        running = asyncio.create_task(line.run(ticket(), Work(3.0)))
        waiting = [
            asyncio.create_task(line.run(ticket(purpose, number=n), Work(1.0))) for n, purpose in enumerate(("predict", "rewrite"), 1)
        ]
        await turns()
        line.clear()
        results = await asyncio.gather(running, *waiting, return_exceptions=True)
        return results[0], [type(result) for result in results[1:]], line.schedule.running

    assert simulate(main) == ("done", [LineUpAgain, LineUpAgain], 0)


@pytest.mark.parametrize("seed", range(20))
def test_through_cancellations_deadlines_and_cuts_no_slot_is_lost_and_no_more_run_than_there_are(seed):
    chance = random.Random(seed)

    async def main():
        line = admission(slots := chance.choice([1, 2, 3]), queue=5)
        running = most = 0

        async def work():
            nonlocal running, most
            running += 1
            most = max(most, running)
            try:
                await asyncio.sleep(chance.uniform(0, 5))
                if chance.random() < 0.2:
                    raise ValueError("the backend fails")
            finally:
                # A backend that takes a moment to close its connection.
                running -= 1

        async def call(number):
            await asyncio.sleep(chance.uniform(0, 60))
            mine = ticket(chance.choice(["predict", "rewrite"]), seconds=chance.choice([2.0, 10.0, 60.0]), number=number)
            while True:
                try:
                    return await line.run(mine, work)
                except LineUpAgain:
                    continue
                except (TimeoutError, ModelOverloaded, ValueError):
                    return None

        calls = [asyncio.create_task(call(number)) for number in range(60)]
        for victim in chance.sample(calls, 15):
            await asyncio.sleep(chance.uniform(0, 4))
            victim.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        schedule = line.schedule
        assert (running, schedule.running, schedule.waiting_predictions, schedule.waiting_rewrites) == (0, 0, 0, 0)
        assert most <= slots
        assert await line.run(ticket(), Work(1.0)) == "done"

    simulate(main)
