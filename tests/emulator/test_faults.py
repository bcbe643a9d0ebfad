import asyncio
import random

import pytest

from tests.emulator.faults import Fault, Faults
from tests.emulator.kinds import INFERENCE, KINDS


@pytest.fixture
def faults() -> Faults:
    return Faults(random.Random(1))


def met(faults: Faults, kind="predict", *, used_before: bool = False):
    return faults.meet(kind, used_before=used_before)


def test_nothing_is_wrong_until_something_is_switched_on(faults) -> None:
    assert met(faults) is None
    faults.on("busy")
    assert met(faults) is Fault.BUSY
    faults.off("busy")
    assert met(faults) is None


def test_only_calls_that_take_a_slot_meet_a_fault_unless_it_says_otherwise(faults) -> None:
    faults.on(Fault.ERROR)
    assert {kind for kind in KINDS if met(faults, kind)} == INFERENCE
    faults.on(Fault.ERROR, kinds=["show", "rewrite"])
    assert met(faults) is None
    assert met(faults, "show") is met(faults, "rewrite") is Fault.ERROR


def test_a_share_of_the_calls_meets_it(faults) -> None:
    faults.on("reset", share=0.25)
    assert 200 < sum(met(faults) is Fault.RESET for _ in range(1000)) < 300


def test_it_goes_off_after_so_many_calls(faults) -> None:
    faults.on("reset", times=2)
    assert [met(faults) for _ in range(3)] == [Fault.RESET, Fault.RESET, None]
    assert faults.on_now == {}


def test_a_call_meets_one_fault_the_first_that_is_its(faults) -> None:
    faults.on("stale")
    faults.on("busy", kinds=["rewrite"])
    faults.on("error")
    assert met(faults) is Fault.ERROR
    assert met(faults, "rewrite") is Fault.BUSY
    assert met(faults, "rewrite", used_before=True) is Fault.STALE
    faults.off()
    assert met(faults, "rewrite", used_before=True) is None


@pytest.mark.parametrize(
    "how",
    [
        {"fault": "nonsense"},
        {"fault": "busy", "share": 0.0},
        {"fault": "busy", "share": 1.5},
        {"fault": "busy", "times": 0},
        {"fault": "busy", "kinds": ["nonsense"]},
        {"fault": "busy", "kinds": []},
        {"fault": "loop", "kinds": ["show"]},
    ],
)
def test_what_cannot_be_is_refused(faults, how) -> None:
    with pytest.raises(ValueError, match=r"nonsense|share|meet"):
        faults.on(how.pop("fault"), **how)


async def test_what_hangs_goes_on_when_hanging_is_switched_off_and_not_before(faults) -> None:
    faults.on("hang", times=1)
    faults.on("busy")
    assert met(faults) is Fault.HANG
    waiting = asyncio.create_task(faults.until_off())
    await asyncio.sleep(0)
    faults.off("busy")
    await asyncio.sleep(0)
    assert not waiting.done()
    faults.off("hang")
    await waiting
