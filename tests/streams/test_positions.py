import pytest
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from streams.positions import Hole, Received, Tracker

OBSERVATIONS = TP("observations", 0)


def test_nothing_is_committed_past_unfinished_work() -> None:
    tracker = Tracker()
    entries = [tracker.open(offset, 1_000 + offset) for offset in (17, 18, 20, 21)]
    tracker.close(entries[0])
    tracker.close(entries[2])
    tracker.close(entries[3])
    assert tracker.position == 18
    assert tracker.oldest_ms == 1_018
    tracker.close(entries[1])
    assert tracker.position == 22
    assert tracker.unfinished == 0
    assert tracker.done_ms == 1_021


@given(st.lists(st.integers(1, 3), min_size=1, max_size=30), st.randoms())
def test_the_position_is_the_first_unfinished_record_whatever_the_order_of_finishing(steps: list[int], random: object) -> None:
    offsets = [sum(steps[: i + 1]) for i in range(len(steps))]
    tracker = Tracker()
    entries = {offset: tracker.open(offset, offset) for offset in offsets}
    order = list(offsets)
    random.shuffle(order)  # type: ignore[attr-defined]
    done: set[int] = set()
    for offset in order:
        tracker.close(entries[offset])
        done.add(offset)
        finished = []
        for o in offsets:
            if o not in done:
                break
            finished.append(o)
        assert tracker.position == (finished[-1] + 1 if finished else None)


def test_offsets_that_the_log_skips_are_no_hole() -> None:
    received = Received()
    received.add(OBSERVATIONS, [3, 4, 9])
    for offset in (3, 4, 9):
        received.delivered(OBSERVATIONS, offset)
    assert received.waiting(OBSERVATIONS) == 0


def test_a_record_that_was_fetched_and_not_delivered_is_a_hole() -> None:
    received = Received()
    received.add(OBSERVATIONS, [3, 4, 5])
    received.delivered(OBSERVATIONS, 3)
    with pytest.raises(Hole, match="sent offset 4 next, the stream delivered 5"):
        received.delivered(OBSERVATIONS, 5)


def test_a_seek_forgets_what_will_be_fetched_again() -> None:
    received = Received()
    received.add(OBSERVATIONS, [3, 4])
    received.clear()
    received.add(OBSERVATIONS, [3])
    received.delivered(OBSERVATIONS, 3)
