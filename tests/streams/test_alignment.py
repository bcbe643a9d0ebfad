import asyncio

import pytest

from streams.alignment import Alignment
from streams.records import Role

MINUTE = 60_000


def aligned(lagging: set[Role]) -> Alignment:
    return Alignment(("observations", "truths"), MINUTE, lambda role: False, lambda role: role in lagging)


async def test_a_record_ahead_of_a_lagging_input_waits_for_it() -> None:
    alignment = aligned({"truths"})
    await alignment.turn("truths", 0)
    ahead = asyncio.create_task(alignment.turn("observations", 10 * MINUTE))
    await asyncio.sleep(0)
    assert not ahead.done()
    await alignment.turn("truths", 9 * MINUTE)
    await ahead


async def test_an_input_without_lag_holds_nobody_up() -> None:
    await aligned({"observations"}).turn("observations", 10 * MINUTE)


async def test_records_within_the_slack_do_not_wait() -> None:
    alignment = aligned({"truths"})
    await alignment.turn("truths", 0)
    await alignment.turn("observations", MINUTE)


async def test_two_inputs_never_wait_for_each_other() -> None:
    alignment = aligned({"observations", "truths"})
    await asyncio.gather(alignment.turn("observations", 50 * MINUTE), alignment.turn("truths", 50 * MINUTE))


async def test_an_input_that_sends_nothing_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.alignment.PATIENCE", 0.05)
    monkeypatch.setattr("streams.alignment.LOOK", 0.01)
    await aligned({"truths"}).turn("observations", 10 * MINUTE)


async def test_an_input_that_turns_out_to_be_read_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.alignment.LOOK", 0.01)
    lagging: set[Role] = {"truths"}
    ahead = asyncio.create_task(aligned(lagging).turn("observations", 10 * MINUTE))
    done, _ = await asyncio.wait([ahead], timeout=0.05)
    assert not done
    lagging.clear()
    await ahead


async def test_what_is_still_to_be_sent_on_by_entity_is_waited_for_up_to_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.alignment.PATIENCE", 0.0)
    sent_on_to: int | None = 0
    alignment = Alignment(("observations", "truths"), MINUTE, lambda role: False, lambda role: False, lambda role: sent_on_to)
    ahead = asyncio.create_task(alignment.turn("truths", 10 * MINUTE))
    await asyncio.sleep(0)
    assert not ahead.done()
    sent_on_to = 9 * MINUTE
    alignment.announce()
    await ahead
    sent_on_to = None
    await alignment.turn("truths", 90 * MINUTE)


async def test_commands_are_not_aligned() -> None:
    alignment = aligned({"observations", "truths"})
    await alignment.turn("commands", 10**12)


async def test_records_that_are_here_are_waited_for_however_long_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.alignment.PATIENCE", 0.0)
    monkeypatch.setattr("streams.alignment.LOOK", 0.01)
    queued = {"truths"}
    alignment = Alignment(("observations", "truths"), MINUTE, lambda role: role in queued, lambda role: True)
    ahead = asyncio.create_task(alignment.turn("observations", 10 * MINUTE))
    done, _ = await asyncio.wait([ahead], timeout=0.1)
    assert not done
    queued.clear()
    await ahead
