"""Delivery checks, with a consumer in memory."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from schemas.settings import Settings
from streams import intake as intake_module
from streams.cluster import Span
from streams.intake import Intake
from streams.lease import Lease
from streams.positions import Hole, Received

READINGS = TP("readings", 0)


class App:
    def __init__(self, committed: int | None, start: int) -> None:
        self.settings = Settings(observations={"key": "entity"})
        self.received = Received()
        self.lease: Lease | None = Lease(3, frozenset({0}))
        self.inputs = self.aligned = {"observations": "readings"}
        self.consumer = SimpleNamespace(_committed_offset={READINGS: committed}, assignment=lambda: {READINGS})
        self.start = start
        self.lost: list[int] = []
        self.broken_by: list[BaseException] = []

    def broken(self, error: BaseException) -> None:
        self.broken_by.append(error)


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Build an intake whose broker has the log start and, in what was jumped over, the record that the test says."""

    def build(*, committed: int | None = None, start: int = 0, first: int | None = None) -> tuple[Intake, App]:
        app = App(committed, start)

        async def spans(_: Any, places: Any) -> dict[Any, Span]:
            return dict.fromkeys(places, Span(app.start, 100))

        async def first_offset_in(*_: Any, **__: Any) -> int | None:
            return first

        monkeypatch.setattr(intake_module, "spans", spans)
        monkeypatch.setattr(intake_module, "first_offset_in", first_offset_in)
        found = Intake(app, None, lambda role, partition, count: app.lost.append(count))  # type: ignore[arg-type]
        return found, app

    return build


def message(offset: int, generation: int = 3) -> Any:
    return SimpleNamespace(tp=READINGS, offset=offset, generation_id=generation, timestamp=0.0)


async def admit(intake: Intake, app: App, *offsets: int) -> list[bool]:
    app.received.add(READINGS, offsets)
    admitted = []
    for offset in offsets:
        lease = await intake.admit("observations", message(offset))
        if lease is not None:
            lease.trackers[READINGS].open(offset, 0)
        admitted.append(lease is not None)
    return admitted


async def test_records_from_the_committed_position_on_are_taken(look: Any) -> None:
    intake, app = look(committed=5)
    assert await admit(intake, app, 5, 6, 7) == [True, True, True]


async def test_a_stream_that_begins_after_a_readable_record_is_a_hole(look: Any) -> None:
    intake, app = look(committed=5, first=6)
    with pytest.raises(Hole, match="offset 6 is there to be read, the stream began with 8"):
        await admit(intake, app, 8)


async def test_a_compacted_beginning_is_no_hole(look: Any) -> None:
    intake, app = look(committed=5)
    assert await admit(intake, app, 8) == [True]
    assert app.lost == []


async def test_what_retention_took_is_counted_and_the_stream_goes_on(look: Any) -> None:
    intake, app = look(committed=5, start=20)
    assert await admit(intake, app, 20) == [True]
    assert app.lost == [15]


async def test_a_jump_that_the_fetcher_received_is_the_logs_own(look: Any) -> None:
    intake, app = look(committed=5)
    assert await admit(intake, app, 5, 9) == [True, True]
    assert app.lost == []


async def test_retention_that_overtakes_a_running_worker_is_counted(look: Any) -> None:
    intake, app = look(committed=5)
    await admit(intake, app, 5)
    app.start = 30
    assert await admit(intake, app, 30) == [True]
    assert app.lost == [24]


async def test_the_log_start_is_asked_for_once_a_fetch_however_many_jumps_it_has(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    intake, app = look(committed=5)
    asked = 0

    async def spans(_: Any, places: Any) -> dict[Any, Span]:
        nonlocal asked
        asked += 1
        return dict.fromkeys(places, Span(app.start, 100))

    monkeypatch.setattr(intake_module, "spans", spans)
    await admit(intake, app, 5)
    asked = 0
    await admit(intake, app, 7, 9, 11)
    assert asked == 1
    app.start = 20
    await admit(intake, app, 20)
    assert (asked, app.lost) == (2, [8])


async def test_positions_pass_what_was_read_and_is_never_delivered(look: Any) -> None:
    intake, app = look(committed=5)
    await admit(intake, app, 5, 6)
    tracker = app.lease.trackers[READINGS]
    app.received.reach({READINGS: 9}, app.received.seeks)
    await intake.pass_silence(app.lease)
    assert tracker.position is None  # two are not done
    for entry in tuple(tracker._entries):
        tracker.close(entry)
    await intake.pass_silence(app.lease)
    assert tracker.position == 9
    assert await admit(intake, app, 9) == [True]
    assert app.lost == []


async def test_a_record_that_waits_for_delivery_is_not_passed(look: Any) -> None:
    intake, app = look(committed=5)
    app.received.add(READINGS, [5])
    app.received.reach({READINGS: 6}, app.received.seeks)
    await intake.pass_silence(app.lease)
    assert app.lease.trackers[READINGS].position is None


async def test_where_the_fetcher_stood_before_a_seek_says_nothing_after_it(look: Any) -> None:
    intake, app = look(committed=5)
    seeks = app.received.seeks
    app.received.clear()
    app.received.reach({READINGS: 9}, seeks)
    await intake.pass_silence(app.lease)
    assert app.lease.trackers[READINGS].position is None


async def test_a_record_that_was_read_and_lost_before_anything_was_delivered_is_a_hole(look: Any) -> None:
    intake, app = look(committed=5, first=6)
    app.received.reach({READINGS: 9}, app.received.seeks)
    await intake.pass_silence(app.lease)
    assert [type(error) for error in app.broken_by] == [Hole]
    assert app.lease.trackers[READINGS].position is None


async def test_what_retention_took_to_the_last_record_is_counted(look: Any) -> None:
    intake, app = look(committed=5, start=20)
    app.received.reach({READINGS: 20}, app.received.seeks)
    await intake.pass_silence(app.lease)
    assert app.lost == [15]
    assert app.lease.trackers[READINGS].position == 20
    await intake.pass_silence(app.lease)
    assert app.lost == [15]


async def test_while_kafka_is_away_positions_stay(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    intake, app = look(committed=5)
    app.received.reach({READINGS: 9}, app.received.seeks)

    async def away(*_: Any) -> dict[Any, Span]:
        raise TimeoutError

    monkeypatch.setattr(intake_module, "spans", away)
    await intake.pass_silence(app.lease)
    assert app.lease.trackers[READINGS].position is None
    assert app.broken_by == []


async def test_an_event_that_was_dropped_on_the_way_is_a_hole(look: Any) -> None:
    intake, app = look(committed=5)
    await admit(intake, app, 5)
    app.received.add(READINGS, [6, 7])
    with pytest.raises(Hole):
        await intake.admit("observations", message(7))


async def test_records_of_an_assignment_that_has_ended_are_left_alone(look: Any) -> None:
    intake, app = look(committed=5)
    assert await intake.admit("observations", message(5, generation=2)) is None
    app.lease.accepting = False
    assert await intake.admit("observations", message(5)) is None


async def test_a_lease_that_ends_while_kafka_is_asked_admits_nothing(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    intake, app = look(committed=5)
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slow(_: Any, places: Any) -> dict[Any, Span]:
        asked.set()
        await answer.wait()
        return dict.fromkeys(places, Span(0, 100))

    monkeypatch.setattr(intake_module, "spans", slow)
    app.received.add(READINGS, [5])
    admitting = asyncio.create_task(intake.admit("observations", message(5)))
    await asked.wait()
    app.lease = Lease(4, frozenset({0}))
    answer.set()
    assert await admitting is None
