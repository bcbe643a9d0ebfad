"""Faust acknowledges what fails: an agent's exception, a value it cannot decode. Here it is done again, or becomes a dead letter."""

from __future__ import annotations

import pytest

from streams import exits
from streams.dead_letters import from_headers
from tests.integration.faults.conftest import Scene
from tests.integration.faults.directed import DEFECT
from tests.integration.undone import fails_without

pytestmark = pytest.mark.integration


@fails_without("agent-errors", "assert None == 75")
async def test_an_error_in_the_body_of_an_agent_ends_the_worker_and_the_event_is_read_again(scene: Scene) -> None:
    stage = scene.stage()
    await scene.start(**stage.directions(fails_to_take=1))
    await scene.observe(("a", "a0"), ("a", "a1"), ("a", "a2"))
    assert await scene.end_or(scene.worker, scene.until_predicted("a2")) == exits.RESTART
    await scene.start()
    await scene.until_predicted("a2")
    assert await scene.predicted() == {"a0": 1, "a1": 1, "a2": 1}


@fails_without("unfinished-work", "assert None == 75")
async def test_a_record_whose_work_fails_is_not_done_and_is_done_after_a_restart(scene: Scene) -> None:
    stage = scene.stage()
    await scene.start(**stage.directions(fails_to_read="unreadable"))
    await scene.observe(("unreadable", "u0"), ("a", "a0"))
    assert await scene.end_or(scene.worker, scene.until_committed("observations", 2)) == exits.RESTART
    await scene.start()
    await scene.observe(("unreadable", "u1"))
    await scene.until_predicted("a0", "u1")
    assert await scene.predicted() == {"a0": 1, "u0": 1, "u1": 1}


@fails_without("dead-letters", "assert [] == [(1, 'not-json'), (2, 'failed')]")
@fails_without("raw-values", "the worker ended with 75")
async def test_what_cannot_be_read_or_applied_becomes_one_dead_letter_each(scene: Scene) -> None:
    await scene.start()
    await scene.observe(("a", "a0"))
    await scene.bench.send("observations", [(b"a", b"temperature=21.4", 0)])
    await scene.observe(("a", "a1", DEFECT), ("a", "a2"))
    await scene.survives(scene.worker, scene.until_committed("observations", 4))
    assert await scene.predicted() == {"a0": 1, "a2": 1}
    letters = [from_headers(record.headers) for record in await scene.bench.read("dead_letters")]
    assert [(letter.offset, letter.reason) for letter in letters] == [(1, "not-json"), (2, "failed")]
