"""A worker that lost its session without knowing it: the group has given its partitions away, and it still writes.

The worker stands within a transaction when it falls silent towards the group's coordinator, as one that is frozen, or cut off
from that broker. Its successor takes over meanwhile, and only then does it go on with the transaction.
"""

from __future__ import annotations

import pytest

from streams import exits
from tests.integration.conftest import Worker
from tests.integration.faults.conftest import Scene, until, until_reached
from tests.integration.faults.directed import HELD_ENTITY, Stage
from tests.integration.undone import fails_without

pytestmark = pytest.mark.integration


@fails_without("fencing", "Counter({'a0': 2, 'a1': 1})")
@fails_without("fence-first", "Counter({'a0': 2, 'a1': 1})")
async def test_a_worker_that_lost_its_session_can_write_nothing_that_its_successor_has_not_read(scene: Scene) -> None:
    first, second = scene.worker, scene.bench.another()
    within = await _loses_its_session(scene, first, "commit")
    reading = scene.stage()
    await scene.launch(second, **reading.directions(holds=("recovered",)))
    await until_reached(second, reading, "recovered")
    await _goes_on(first, within, "commit")
    reading.release("recovered")
    await scene.observe((HELD_ENTITY, "a1"))
    await scene.until_predicted("a1")
    assert await scene.predicted() == {"a0": 1, "a1": 1}
    assert await first.wait() == exits.RESTART


@fails_without("fencing", "assert [] == ['b0']")
async def test_a_worker_that_comes_back_after_losing_its_session_has_what_its_successor_wrote_meanwhile(scene: Scene) -> None:
    first, second = scene.worker, scene.bench.another()
    within = await _loses_its_session(scene, first, "send")
    await scene.start(second)
    await scene.observe(("b", "b0"))
    await scene.until_committed("observations", 2)
    # In the changelog what it still writes, of one entity, would come after what its successor wrote, of both.
    await _goes_on(first, within, "send")
    if first.running:
        await first.kill()
    assert await second.stop() == exits.OK
    await scene.start(first)
    await scene.tell("b", "b0", 5.0)
    await scene.until_committed("truths", 1)
    assert [outcome["prediction_id"] for outcome in await scene.bench.messages("outcomes")] == ["b0"]


async def _loses_its_session(scene: Scene, worker: Worker, point: str) -> Stage:
    """Start a worker, let it come to a point of its first transaction, and cut it off from the group."""
    stage = scene.stage()
    await scene.start(worker, **stage.directions(holds=(point,), leaves_group=True))
    await scene.observe((HELD_ENTITY, "a0"))
    await until_reached(worker, stage, point)
    return stage


async def _goes_on(worker: Worker, stage: Stage, point: str) -> None:
    """Let the cut-off worker go on with its transaction, whatever comes of it."""

    async def is_over() -> bool:
        return stage.is_passed(point) or not worker.running

    stage.release(point)
    await until(worker, is_over)
