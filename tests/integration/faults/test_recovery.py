"""Between the end of recovery and the seek to the committed positions Faust loses events, or delivers them twice (faust#596).

What closes that gap, and what sees it where something is dropped all the same: the worker ends before anything is committed past it.
"""

from __future__ import annotations

import asyncio
import signal

import pytest

from streams import exits
from streams.app import PalimpsestApp
from tests.integration.faults.conftest import Scene
from tests.integration.undone import fails_without

pytestmark = pytest.mark.integration


@fails_without("stopped-flow", "the worker ended with 75")
async def test_events_that_wait_at_the_end_of_recovery_are_delivered_once_and_the_worker_goes_on(scene: Scene) -> None:
    before, waiting = [f"a{n}" for n in range(5)], [f"b{n}" for n in range(200)]
    await scene.start(**scene.stage().directions(seeks_late=True))
    await scene.observe(*(("a", identity) for identity in before))
    await scene.until_committed("observations", len(before))
    # From its second assignment on it fetches all through recovery.
    await scene.freeze(scene.worker)
    await scene.observe(*((f"e{n % 7}", identity) for n, identity in enumerate(waiting)))
    scene.worker.signal(signal.SIGCONT)
    await scene.survives(scene.worker, scene.until_predicted(*waiting))
    assert await scene.predicted() == dict.fromkeys(before + waiting, 1)


@fails_without("rewind", "the worker ended with 75")
async def test_a_new_application_goes_back_to_the_beginning_of_what_was_fetched_and_not_delivered(scene: Scene) -> None:
    identities = [f"a{n}" for n in range(5)]
    await scene.observe(*(("a", identity) for identity in identities))
    await scene.launch(scene.worker, **scene.stage().directions(reads_ahead=2))
    await scene.survives(scene.worker, scene.until_predicted(*identities))
    assert await scene.predicted() == dict.fromkeys(identities, 1)


@fails_without("received", "Counter({'a0': 1, 'a1': 1, 'a3': 1, 'a4': 1, 'last': 1})")
async def test_an_event_that_is_dropped_on_its_way_ends_the_worker_and_is_read_again(scene: Scene) -> None:
    await scene.start(**scene.stage().directions(drops=2))
    await _all_are_predicted_after_a_restart(scene)


@fails_without("first-record", "Counter({'a2': 1, 'a3': 1, 'a4': 1, 'last': 1})")
async def test_events_that_are_passed_over_after_recovery_end_the_worker_and_are_read_again(scene: Scene) -> None:
    await scene.start(**scene.stage().directions(skips=2))
    await _all_are_predicted_after_a_restart(scene)


async def _all_are_predicted_after_a_restart(scene: Scene) -> None:
    identities = [f"a{n}" for n in range(5)]
    await scene.observe(*(("a", identity) for identity in identities))
    code = await scene.end_or(scene.worker, scene.until_committed("observations", len(identities)))
    if code is None:
        await scene.worker.kill()
    await scene.start()
    await scene.observe(("a", "last"))
    await scene.until_predicted("last")
    assert await scene.predicted() == dict.fromkeys([*identities, "last"], 1)
    assert code == exits.RESTART


@fails_without("ended-assignment", "is None")
async def test_no_lease_begins_once_its_assignment_has_ended(app: PalimpsestApp, monkeypatch: pytest.MonkeyPatch) -> None:
    recovery = app.tables.recovery
    restoring, revoked = asyncio.Event(), asyncio.Event()

    async def restore(ends: dict[int, int]) -> None:
        restoring.set()
        await revoked.wait()

    monkeypatch.setattr(app.restoration, "restore", restore)
    await recovery.on_rebalance(set(), set(), set(), app.consumer_generation_id)
    completing = asyncio.create_task(recovery.on_recovery_completed(app.consumer_generation_id))
    await restoring.wait()
    recovery.on_partitions_revoked(set())
    revoked.set()
    await asyncio.wait([completing])
    assert app.lease is None
