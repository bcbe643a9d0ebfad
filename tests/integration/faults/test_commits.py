"""What Faust commits, when: acknowledgements out of order, commits that overtake sends, records of aborted transactions."""

from __future__ import annotations

import pytest

from streams.kafka import producer
from tests.integration.faults.conftest import Scene, until_reached
from tests.integration.faults.directed import HELD, HELD_ENTITY
from tests.integration.undone import fails_without

pytestmark = pytest.mark.integration


@fails_without("own-commits", "assert 6 == 0")
async def test_nothing_is_committed_past_a_record_that_is_not_finished(scene: Scene) -> None:
    stage = scene.stage()
    await scene.start(**stage.directions(holds=("model",)))
    await scene.observe(("slow", "s0", HELD), *((f"quick-{n}", f"q{n}") for n in range(5)))
    await scene.until_predicted(*(f"q{n}" for n in range(5)))
    # Positions are committed together: once the truth's is, so is whatever may be of the observations.
    await scene.tell("quick-0", "q0", 1.0)
    await scene.until_committed("truths", 1)
    assert await scene.positions("observations") == 0
    await scene.worker.kill()
    await scene.start()
    await scene.observe(("slow", "s1"))
    await scene.until_predicted("s1")
    assert await scene.predicted() == dict.fromkeys(["s0", "s1", *(f"q{n}" for n in range(5))], 1)


@fails_without("awaited-transaction", "Counter({'a1': 1})")
@fails_without("store-after-commit", "Counter({'a1': 1})")
@fails_without("committed-state", "Counter({'a1': 1})")
async def test_a_worker_killed_within_a_transaction_leaves_nothing_of_it_and_nothing_undone(scene: Scene) -> None:
    stage = scene.stage()
    await scene.start(**stage.directions(holds=("commit",)))
    await scene.observe((HELD_ENTITY, "a0"))
    await until_reached(scene.worker, stage, "commit")
    # Positions are committed together, and a tombstone needs no transaction.
    await scene.bench.send("truths", [(b"nobody", None, 0)])
    await scene.until_committed("truths", 1)
    await scene.worker.kill()
    await scene.start()
    await scene.observe((HELD_ENTITY, "a1"))
    await scene.until_predicted("a1")
    assert await scene.predicted() == {"a0": 1, "a1": 1}


@fails_without("committed-inputs", "Counter({'withdrawn': 1, 'meant': 1})")
async def test_an_observation_of_an_aborted_transaction_is_never_seen(scene: Scene) -> None:
    await scene.start()
    topic = scene.bench.settings.topics.observations
    async with producer(scene.bench.settings.kafka, transactional_id=f"{scene.bench.settings.app}-source") as source:
        for identity, committed in (("withdrawn", False), ("meant", True)):
            await source.begin_transaction()
            key, value, partition = scene.observation("a", identity)
            await source.send_and_wait(topic, value, key=key, partition=partition)
            await (source.commit_transaction() if committed else source.abort_transaction())
    await scene.until_predicted("meant")
    assert await scene.predicted() == {"meant": 1}
