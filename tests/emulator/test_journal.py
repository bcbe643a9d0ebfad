import asyncio

from tests.emulator.faults import Fault
from tests.emulator.journal import Journal, Sums


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_sums_are_by_kind_and_busy_time_is_that_of_the_slots() -> None:
    clock = Clock()
    journal = Journal(2, clock)
    predict, rewrite, gone = journal.arrived("predict"), journal.arrived("rewrite"), journal.arrived("predict")
    journal.began(predict, 0, clock())
    journal.counted(predict, prompt=100, cached=90, answer=7)
    journal.began(rewrite, 1, clock())
    clock.seconds += 5.0
    journal.freed(predict, clock() - 2.0)
    journal.freed(rewrite, clock())
    journal.met(rewrite, Fault.HALF_BODY)
    journal.ended(predict, "answered")
    journal.ended(rewrite, "failed")
    journal.ended(gone, "cancelled")
    clock.seconds += 5.0
    found = journal.statistics()
    assert (found.seconds, found.busy_seconds, found.busy_share, found.faults) == (10.0, 8.0, 0.4, {Fault.HALF_BODY: 1})
    assert found.calls == {
        "predict": Sums(arrived=2, answered=1, cancelled_waiting=1, prompt_tokens=100, cached_tokens=90, answer_tokens=7, busy_seconds=3.0),
        "rewrite": Sums(arrived=1, failed=1, busy_seconds=5.0),
    }


def test_a_call_under_way_counts_as_busy_and_only_from_the_windows_begin() -> None:
    clock = Clock()
    journal = Journal(1, clock)
    call = journal.arrived("predict")
    journal.began(call, 0, clock())
    clock.seconds += 3.0
    assert journal.statistics().busy_share == 1.0
    journal.reset()
    clock.seconds += 2.0
    assert journal.statistics().busy_seconds == 2.0
    journal.freed(call, clock())
    clock.seconds += 2.0
    assert (journal.statistics().busy_seconds, journal.statistics().busy_share) == (2.0, 0.5)


def test_a_new_window_forgets_what_is_finished_and_keeps_what_is_not() -> None:
    journal = Journal(1)
    done, still = journal.arrived("predict"), journal.arrived("rewrite")
    journal.ended(done, "answered")
    journal.reset()
    journal.ended(still, "answered")
    assert list(journal.calls) == [still]
    assert {kind: sums.answered for kind, sums in journal.statistics().calls.items()} == {"rewrite": 1}


def test_the_first_end_of_a_call_is_its_end() -> None:
    journal = Journal(1)
    call = journal.arrived("predict")
    journal.ended(call, "failed")
    journal.ended(call, "answered")
    assert (call.outcome, journal.statistics().calls["predict"].answered) == ("failed", 0)


def test_the_queue_is_measured_over_time() -> None:
    clock = Clock()
    journal = Journal(1, clock)
    journal.queue(3)
    clock.seconds += 2.0
    journal.queue(1)
    clock.seconds += 2.0
    found = journal.statistics()
    assert (found.waiting, found.most_waiting, found.mean_waiting) == (1, 3, 2.0)


async def test_waiting_for_something_ends_when_it_happens() -> None:
    journal = Journal(1)
    seen = asyncio.create_task(journal.until(lambda: journal.waiting == 2))
    await asyncio.sleep(0)
    journal.queue(1)
    await asyncio.sleep(0)
    assert not seen.done()
    journal.queue(2)
    await seen
