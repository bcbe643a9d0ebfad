import asyncio

import pytest

from tests.emulator.journal import Journal
from tests.emulator.requests import FOREVER, Refused
from tests.emulator.runner import Runner


class Bench:
    def __init__(self, *, load_seconds: float = 0.0, max_queue: int = 512, keep_alive: float = 300.0) -> None:
        self.journal = Journal(1)
        self.forgotten = 0
        self.runner = Runner(self.journal, load_seconds=load_seconds, max_queue=max_queue, keep_alive=keep_alive, on_load=self._forget)

    def _forget(self) -> None:
        self.forgotten += 1

    @property
    def loads(self) -> int:
        return self.journal.statistics().loads

    async def use(self, window: int = 4096, keep_alive: float | None = None) -> None:
        async with self.runner.use((window,), keep_alive):
            pass


async def test_a_model_is_loaded_once_for_equal_options() -> None:
    bench = Bench()
    assert bench.runner.options is None
    for _ in range(3):
        await bench.use()
    assert (bench.loads, bench.forgotten, bench.runner.options) == (1, 1, (4096,))
    bench.runner.close()


async def test_other_options_load_it_anew_after_the_calls_under_way() -> None:
    bench = Bench()
    async with bench.runner.use((4096,), None):
        other = asyncio.create_task(bench.use(2048))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert bench.runner.options == (4096,)
    await other
    assert (bench.loads, bench.runner.options) == (2, (2048,))
    bench.runner.close()


async def test_those_who_wait_for_a_load_are_let_in_together_and_those_beyond_the_queue_are_refused() -> None:
    bench = Bench(load_seconds=0.1, max_queue=2)
    calls = [asyncio.create_task(bench.use()) for _ in range(6)]
    found = await asyncio.gather(*calls, return_exceptions=True)
    refused = [error for error in found if isinstance(error, Refused)]
    assert (len(refused), {error.status for error in refused}, bench.loads) == (3, {503}, 1)
    bench.runner.close()


async def test_a_loaded_model_refuses_nobody() -> None:
    bench = Bench(max_queue=0)
    await bench.use()
    async with bench.runner.use((4096,), None), bench.runner.use((4096,), None), bench.runner.use((4096,), None):
        assert bench.loads == 1
    bench.runner.close()


async def test_a_caller_that_leaves_while_it_loads_leaves_it_to_the_next() -> None:
    bench = Bench(load_seconds=0.05)
    first, second = asyncio.create_task(bench.use()), asyncio.create_task(bench.use())
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert bench.loads == 1
    bench.runner.close()


async def test_an_idle_model_is_unloaded_after_its_time_and_each_call_may_set_that() -> None:
    bench = Bench(keep_alive=FOREVER)
    await bench.use(keep_alive=0.0)
    assert bench.runner.options is None
    await bench.use()
    assert bench.runner.options == (4096,)
    await bench.use(keep_alive=0.01)
    await bench.journal.until(lambda: bench.runner.options is None)
    await bench.use(keep_alive=FOREVER)
    await bench.use()
    assert (bench.loads, bench.journal.statistics().unloads) == (3, 2)
    assert bench.runner.expires_at == FOREVER


async def test_unloading_waits_for_the_calls_under_way() -> None:
    bench = Bench()
    async with bench.runner.use((4096,), None):
        bench.runner.unload()
        assert bench.runner.options == (4096,)
    assert bench.runner.options is None


async def test_an_error_of_the_body_is_the_bodys() -> None:
    bench = Bench()
    with pytest.raises(ValueError, match="mine"):
        async with bench.runner.use((4096,), None):
            raise ValueError("mine")
    bench.runner.close()
