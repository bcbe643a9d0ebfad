"""How a worker stands, read off an application whose state a test sets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from faust.types import TP

from schemas.queries import RestoreProgress
from schemas.settings import Settings
from streams import status
from streams.restoring import Progress
from tests.streams.worker_double import App

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
SETTINGS = Settings(observations={"key": "entity"}, truths={"source": "none"})


@pytest.fixture
def app() -> Any:
    return App(SETTINGS, "http://w:1")


def test_the_state_says_what_the_worker_is_about(app: Any) -> None:
    assert status.state_of(app) == "starting"
    app.rebalancing = True
    assert status.state_of(app) == "rebalancing"
    app.restoration.restoring = True
    assert status.state_of(app) == "restoring"
    lease = app.assign([0])
    app.rebalancing = app.restoration.restoring = False
    assert status.state_of(app) == "running"
    lease.accepting = False
    assert status.state_of(app) == "stopping"
    app.rebalancing = True
    assert status.state_of(app) == "rebalancing"
    lease.close()
    assert status.state_of(app) == "rebalancing"


def test_without_a_lease_no_positions_are_told(app: Any) -> None:
    lease = app.assign([0])
    app.ends[TP("observations", 0)] = 5
    assert len(list(status.inputs(app, NOW))) == 1
    lease.close()
    report = status.report(SETTINGS, app, "http://w:1", ["rebalancing"], NOW)
    assert (report.inputs, report.generation, report.partitions) == ((), None, (0,))


def test_inputs_come_by_partition_and_those_that_are_re_keyed_after_what_they_are_re_keyed_into(app: Any) -> None:
    app.assign([0, 1])
    for partition in (1, 0):
        app.ends.update({TP(topic, partition): 3 for topic in ("commands", "palimpsest-commands-by-entity", "observations")})
    app.ends[TP("palimpsest-state-changelog", 0)] = 99
    told = [(one.partition, one.input, one.topic) for one in status.inputs(app, NOW)]
    names = [("observations", "observations"), ("commands", "palimpsest-commands-by-entity"), ("commands-source", "commands")]
    assert told == [(partition, *name) for partition in (0, 1) for name in names]


def test_lag_is_unknown_until_there_is_a_position_and_an_end_but_for_an_empty_log(app: Any) -> None:
    app.assign([0])
    place = TP("observations", 0)

    def lag(end: Any, committed: int | None = None) -> int | None:
        app.ends[place] = end
        app.consumer._committed_offset[place] = committed
        (one,) = status.inputs(app, NOW)
        return one.lag

    assert lag(None) is None
    assert lag(7) is None
    assert lag(None, 3) is None
    assert lag(7, 3) == 4
    # The end is that of the latest fetch, which may be older than the commit.
    assert lag(7, 9) == 0
    assert lag(0) == 0


def test_looking_at_a_partition_that_nothing_came_from_leaves_no_trace_in_the_lease(app: Any) -> None:
    lease = app.assign([0])
    app.ends[TP("observations", 0)] = 5
    list(status.inputs(app, NOW))
    assert not lease.trackers


def test_partitions_that_are_not_restored_are_told_with_how_far_they_are(app: Any) -> None:
    app.assign([0, 1], standby=[3])
    app.restoration.progress.update({
        0: Progress(begin=0, start=10, position=60, end=110, expected=None),
        1: Progress(begin=0, start=0, position=40, end=40, expected=None),
        3: Progress(begin=0, start=0, position=7, end=9, expected=None),
    })  # fmt: skip
    assert status.report(SETTINGS, app, "http://w:1", [], NOW).restoring == (
        RestoreProgress(partition=0, role="active", start=10, position=60, end=110),
        RestoreProgress(partition=3, role="standby", start=0, position=7, end=9),
    )
