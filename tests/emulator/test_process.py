import httpx
import pytest

from tests.emulator.faults import Fault
from tests.emulator.process import EmulatorFailed, EmulatorProcess
from tests.emulator.wire import chat, post


async def test_the_emulator_runs_as_a_process_and_is_steered_from_outside() -> None:
    async with EmulatorProcess(
        "--slots", "2", "--latency", "0.01", "--rewrite-latency", "0.02", "--distribution", "lognormal", "--model", "small:1b"
    ) as emulator:
        host = emulator.host
        await emulator.on(Fault.BUSY, kinds=["predict"], times=1)
        assert [(await post(host, chat(model="small:1b"))).status_code for _ in range(2)] == [503, 200]
        assert (await post(host, chat())).status_code == 404
        await emulator.on("error")
        await emulator.off()
        found = await emulator.statistics()
        assert (found["slots"], found["faults"], found["calls"]["predict"]["failed"]) == (2, {"busy": 1}, 2)
        assert [call["outcome"] for call in await emulator.calls(after=1)] == ["answered", "failed"]
        await emulator.reset()
        assert (await emulator.statistics())["calls"] == {}
    with pytest.raises(httpx.ConnectError):
        await post(host, chat())


async def test_a_process_that_does_not_come_up_is_no_emulator() -> None:
    with pytest.raises(EmulatorFailed, match="2"):
        async with EmulatorProcess("--nonsense"):
            raise AssertionError("it must not come up")
