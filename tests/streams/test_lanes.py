import asyncio
from collections.abc import Awaitable, Callable

from streams.lanes import Lanes


def recorder(log: list[str], name: str, gate: asyncio.Event | None = None) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        log.append(f"{name} began")
        if gate is not None:
            await gate.wait()
        log.append(f"{name} ended")

    return work


async def test_work_of_one_key_runs_in_the_order_it_came() -> None:
    lanes, log, gate = Lanes(8), list[str](), asyncio.Event()
    first = await lanes.submit(b"a", recorder(log, "first", gate))
    second = await lanes.submit(b"a", recorder(log, "second"))
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, second)
    assert log == ["first began", "first ended", "second began", "second ended"]
    assert lanes.in_flight == lanes.lanes == 0


async def test_work_of_different_keys_runs_together() -> None:
    lanes, log, gate = Lanes(8), list[str](), asyncio.Event()
    slow = await lanes.submit(b"a", recorder(log, "slow", gate))
    await (await lanes.submit(b"b", recorder(log, "quick")))
    assert log == ["slow began", "quick began", "quick ended"]
    gate.set()
    await slow


async def test_a_full_window_makes_the_next_wait() -> None:
    lanes, log, gate = Lanes(1), list[str](), asyncio.Event()
    first = await lanes.submit(b"a", recorder(log, "first", gate))
    waiting = asyncio.create_task(lanes.submit(b"b", recorder(log, "second")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    gate.set()
    await first
    await (await waiting)
    assert log[-1] == "second ended"


async def test_a_failure_does_not_stop_its_lane() -> None:
    lanes, log = Lanes(8), list[str]()

    async def fails() -> None:
        raise ValueError("no")

    failed = await lanes.submit(b"a", fails)
    await (await lanes.submit(b"a", recorder(log, "next")))
    assert isinstance(failed.exception(), ValueError)
    assert log == ["next began", "next ended"]


async def test_draining_ends_with_its_deadline_and_says_what_was_cut_short() -> None:
    lanes, log = Lanes(8), list[str]()
    hanging = await lanes.submit(b"a", recorder(log, "hanging", asyncio.Event()))
    behind = await lanes.submit(b"a", recorder(log, "behind"))
    assert await lanes.drain(0.05) == 2
    assert hanging.cancelled()
    assert behind.cancelled()
    assert log == ["hanging began"]


async def test_age_is_that_of_the_item_worked_on_longest_and_idle_has_none() -> None:
    lanes, log, gate = Lanes(8), list[str](), asyncio.Event()
    assert lanes.oldest_age() is None
    task = await lanes.submit(b"a", recorder(log, "one", gate))
    await asyncio.sleep(0)
    age = lanes.oldest_age()
    assert age is not None
    assert age >= 0
    gate.set()
    await task
    assert lanes.oldest_age() is None


async def test_draining_waits_for_what_comes_in_meanwhile_too() -> None:
    lanes, done = Lanes(8), asyncio.Event()

    async def late() -> None:
        done.set()

    async def early() -> None:
        await asyncio.sleep(0)
        await lanes.submit(b"b", late)

    await lanes.submit(b"a", early)
    assert await lanes.drain(10.0) == 0
    assert done.is_set()
