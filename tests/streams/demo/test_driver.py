"""Tests of `streams.demo.driver` against a fake worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from schemas.messages import Observation, Outcome, Prediction, Truth
from streams.demo.driver import DemoFailed, Driver, Patience, first_of
from streams.demo.record import Record

MakeRecord = Callable[..., Record]
MakeWorker = Callable[..., object]

PATIENT = Patience(prediction=30, outcome=30)


async def test_every_day_is_predicted_and_labelled(make_record: MakeRecord, make_worker: MakeWorker) -> None:
    record, worker = make_record(steps=7), make_worker()
    await Driver(record, worker, patience=PATIENT).run()
    assert len(record.labelled) == 7
    assert [revision.accepted for revision in record.revisions] == [True, False]


async def test_a_truth_goes_out_after_its_prediction_and_before_the_next_day(make_record: MakeRecord, make_worker: MakeWorker) -> None:
    record, worker = make_record(steps=4), make_worker()
    await Driver(record, worker, patience=PATIENT).run()
    assert [type(message) for message in worker.sent] == [Observation, Truth] * 4
    for observation, truth in zip(worker.sent[::2], worker.sent[1::2], strict=True):
        assert truth.observation_id == observation.id
        assert truth.time == observation.time.replace(day=observation.time.day + 1)


async def test_a_truth_is_never_sent_before_its_prediction_is_there(make_record: MakeRecord, make_worker: MakeWorker) -> None:
    record, worker = make_record(steps=3), make_worker(silent={1})
    with pytest.raises(DemoFailed, match="2014-04-13"):
        await Driver(record, worker, patience=Patience(prediction=0.02, outcome=30)).run()
    assert [type(message) for message in worker.sent] == [Observation, Truth, Observation]


async def test_a_dead_letter_instead_of_a_prediction_ends_the_run_at_once_and_is_quoted(
    make_record: MakeRecord, make_worker: MakeWorker
) -> None:
    record, worker = make_record(steps=3), make_worker(refused={1})
    with pytest.raises(DemoFailed, match="wrong-type: no number"):
        await Driver(record, worker, patience=PATIENT).run()


async def test_an_outcome_that_does_not_come_is_noted_and_the_replay_goes_on(make_record: MakeRecord, make_worker: MakeWorker) -> None:
    record, worker = make_record(steps=5), make_worker(unlearned={2})
    await Driver(record, worker, patience=Patience(prediction=30, outcome=0.02)).run()
    assert (len(record.predicted), len(record.labelled)) == (5, 4)
    assert len(record.notes) == 1
    assert "2014-04-14" in record.notes[0]


async def test_without_a_model_the_replay_goes_on_with_fallback_predictions(make_record: MakeRecord, make_worker: MakeWorker) -> None:
    record, worker = make_record(steps=5), make_worker(modelless={1, 2})
    await Driver(record, worker, patience=PATIENT).run()
    sources = [step.prediction.source for step in record.steps if step.prediction]
    assert sources == ["model", "fallback", "fallback", "model", "model"]


async def test_everything_that_was_published_is_kept_in_order(make_record: MakeRecord, make_worker: MakeWorker) -> None:
    kept: list[object] = []
    news: list[int] = []
    driver = Driver(make_record(steps=2), make_worker(), patience=PATIENT, keep=kept.append, changed=lambda: news.append(len(kept)))
    await driver.run()
    assert [type(item) for item in kept] == [Prediction, Outcome] * 2
    assert news[-1] == 4


async def test_a_failing_reader_ends_the_replay_with_its_error(make_record: MakeRecord, make_worker: MakeWorker) -> None:
    worker = make_worker(silent={0})

    async def broken() -> list[object]:
        raise ConnectionError("the broker is gone")

    worker.receive = broken
    with pytest.raises(ConnectionError, match="gone"):
        await Driver(make_record(), worker, patience=PATIENT).run()


async def test_a_watcher_that_fails_ends_the_main_task_and_one_that_ends_does_not() -> None:
    ended = asyncio.Event()

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def fails() -> None:
        raise DemoFailed("the worker ended")

    async def returns() -> int:
        await asyncio.sleep(0)
        return 3

    async def quiet() -> None:
        return

    with pytest.raises(DemoFailed):
        await first_of(forever(), fails())
    assert ended.is_set()
    assert await first_of(returns(), quiet()) == 3
