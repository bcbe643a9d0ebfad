import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from faust.types import TP

from streams.merge import Merge

ONE, TWO = TP("readings", 0), TP("truths", 0)


class Bench:
    """A merge of two partitions, what it took, and what it does to the fetcher."""

    def __init__(self, *, hold_at: int = 128, release_at: int = 32) -> None:
        self.lagging: set[TP] = set()
        self.taken: list[str] = []
        self.held: set[TP] = set()
        self.merge = Merge(lambda: [ONE, TWO], self.lagging.__contains__, self.take, self, hold_at=hold_at, release_at=release_at)

    async def take(self, item: str) -> None:
        await asyncio.sleep(0)
        self.taken.append(item)

    def hold(self, tp: TP) -> None:
        self.held.add(tp)

    def release(self, tp: TP) -> None:
        self.held.discard(tp)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.merge.run(lambda: None))
        try:
            yield
        finally:
            task.cancel()

    async def until(self, enough: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while True:
                if enough():
                    return
                await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.merge.LOOK", 0.001)


async def test_records_of_all_partitions_are_taken_by_their_timestamps_and_those_of_one_in_its_order() -> None:
    bench = Bench()
    for timestamp, item in ((1, "a"), (5, "b"), (4, "c"), (9, "d")):
        bench.merge.put(ONE, timestamp, item)
    for timestamp, item in ((2, "v"), (3, "w"), (8, "x")):
        bench.merge.put(TWO, timestamp, item)
    async with bench.running():
        await bench.until(lambda: len(bench.taken) == 7)
    assert bench.taken == ["a", "v", "w", "b", "c", "x", "d"]
    assert bench.merge.frontier == 9


async def test_a_partition_that_has_more_to_read_is_waited_for() -> None:
    bench = Bench()
    bench.lagging.add(TWO)
    bench.merge.put(ONE, 5, "later")
    async with bench.running():
        await asyncio.sleep(0.02)
        assert bench.taken == []
        assert bench.merge.holds("readings")
        bench.merge.put(TWO, 3, "earlier")
        bench.lagging.clear()
        await bench.until(lambda: len(bench.taken) == 2)
    assert bench.taken == ["earlier", "later"]
    assert not bench.merge.holds("readings")


async def test_a_partition_that_runs_out_in_between_is_waited_for_again() -> None:
    bench = Bench()
    bench.lagging.add(TWO)
    bench.merge.put(ONE, 5, "third")
    bench.merge.put(TWO, 3, "first")
    async with bench.running():
        await bench.until(lambda: bench.taken == ["first"])
        await asyncio.sleep(0.02)
        bench.merge.put(TWO, 4, "second")
        bench.lagging.clear()
        await bench.until(lambda: len(bench.taken) == 3)
    assert bench.taken == ["first", "second", "third"]


async def test_a_partition_whose_rest_is_never_delivered_holds_nobody_up() -> None:
    bench = Bench()
    bench.lagging.add(TWO)
    bench.merge.put(ONE, 5, "record")
    async with bench.running():
        await asyncio.sleep(0.01)
        bench.lagging.clear()
        await bench.until(lambda: bench.taken == ["record"])


async def test_a_partition_that_sends_nothing_is_given_up_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.merge.PATIENCE", 0.01)
    bench = Bench()
    bench.lagging.add(TWO)
    bench.merge.put(ONE, 5, "record")
    async with bench.running():
        await bench.until(lambda: bench.taken == ["record"])


async def test_a_full_queue_is_fetched_further_once_it_has_drained_and_a_stopped_merge_holds_nothing() -> None:
    bench = Bench(hold_at=3, release_at=1)
    bench.lagging.add(TWO)
    for timestamp in range(3):
        bench.merge.put(ONE, timestamp, f"{timestamp}")
    assert bench.held == {ONE}
    async with bench.running():
        bench.lagging.clear()
        await bench.until(lambda: len(bench.taken) == 3)
    assert bench.held == set()
    for timestamp in range(3):
        bench.merge.put(TWO, timestamp, f"{timestamp}")
    assert bench.held == {TWO}
    bench.merge.stop()
    assert bench.held == set()


async def test_a_record_that_comes_while_another_is_taken_finds_its_place() -> None:
    bench = Bench()
    bench.merge.put(ONE, 5, "first")
    bench.merge.put(ONE, 6, "third")
    take = bench.take

    async def put_meanwhile(item: str) -> None:
        if item == "first":
            bench.merge.put(TWO, 1, "second")
        await take(item)

    bench.merge._take = put_meanwhile
    async with bench.running():
        await bench.until(lambda: len(bench.taken) == 3)
    assert bench.taken == ["first", "second", "third"]
