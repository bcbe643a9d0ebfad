"""All workers at once: what the group and the workers say, put together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka.structs import TopicPartition
from faust.types import TP

from deploy.services.ports import free_ports
from schemas.queries import EntityReport, InputProgress, RestoreProgress, Unanswered, WorkerReport
from schemas.settings import Settings
from schemas.state import EntityState
from streams import exits, fleet
from streams.cluster import Span, TopicState
from streams.fleet import WorkersSilent, assemble
from streams.membership import Group, Member
from tests.streams.worker_double import PARTITIONS, serving

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
SETTINGS = Settings(observations={"key": "entity"}, commands={"key": "entity"}, truths={"source": "none"})


def member(name: str, *partitions: int, url: str | None = None, standby: Iterable[int] = ()) -> Member:
    return Member(f"id-{name}", "10.0.0.1", f"http://{name}:1" if url is None else url, frozenset(partitions), frozenset(standby))


def group(*members: Member, state: str = "Stable") -> Group:
    return Group("palimpsest", state, members)


def report(*partitions: int, **fields: Any) -> WorkerReport:
    fields = {"app": "palimpsest", "url": "http://w:1", "state": "running", "at": NOW, **fields}
    return WorkerReport(partitions=partitions, **fields)


def progress(partition: int, lag: int | None, name: str = "observations") -> InputProgress:
    return InputProgress(input=name, topic=name, partition=partition, lag=lag)


# --- put together -------------------------------------------------------------------------------------------------------------


def test_each_worker_has_the_lag_of_its_partitions_and_each_partition_its_worker() -> None:
    reports = [report(0, 1, entities={0: 5, 1: 2}, in_flight=3), report(2, standby=(0,))]
    lags = [progress(0, 4), progress(0, 1, "commands"), progress(1, None), progress(2, 0)]
    found = assemble(group(member("a", 0, 1), member("b", 2)), reports, lags, 3)
    assert [(w.url, w.state, w.partitions, w.lag, w.entities, w.in_flight) for w in found.workers] == [
        ("http://a:1", "running", (0, 1), 5, 7, 3),
        ("http://b:1", "running", (2,), 0, 0, 0),
    ]
    assert [(p.worker, p.standby, p.lag, p.entities) for p in found.partitions] == [
        ("http://a:1", ("http://b:1",), 5, 5),
        ("http://a:1", (), None, 2),
        ("http://b:1", (), 0, None),
    ]
    assert (found.group, found.notes) == ("Stable", ())


def test_a_worker_that_does_not_answer_stands_with_what_the_group_says_of_it() -> None:
    found = assemble(group(member("a", 0, 2, standby=[1])), ["connection refused"], [progress(0, 7), progress(2, 1)], 3)
    (worker,) = found.workers
    assert (worker.state, worker.reasons, worker.partitions, worker.standby, worker.lag) == (
        "silent",
        ("connection refused",),
        (0, 2),
        (1,),
        8,
    )
    assert (worker.entities, worker.in_flight) == (None, None)


def test_partitions_that_nobody_holds_are_named_with_what_waits_there() -> None:
    found = assemble(group(member("a", 1)), [report(1)], [progress(0, 3), progress(2, 4), progress(3, 2)], 4)
    assert [p.partition for p in found.partitions if p.worker is None] == [0, 2, 3]
    assert found.notes == ("nobody holds partitions 0, 2-3; 9 records wait there",)


def test_a_group_without_members_is_told_so() -> None:
    found = assemble(group(state="Empty"), [], [progress(0, 3)], 1)
    assert found.notes == ("the group palimpsest has no members: no worker runs", "nobody holds partitions 0; 3 records wait there")


def test_during_a_rebalance_nothing_is_said_about_who_holds_what() -> None:
    found = assemble(group(member("a", url=""), state="PreparingRebalance"), ["it does not say"], [progress(0, 3)], 1)
    assert found.notes == ("the group is rebalancing: who is given what is not known yet",)
    assert found.workers[0].member == "id-a"


def test_of_two_that_name_a_partition_the_one_that_works_on_it_has_it() -> None:
    found = assemble(group(member("a"), member("b")), [report(0, state="rebalancing"), report(0)], [], 1)
    assert found.partitions[0].worker == "http://b:1"


def test_what_is_still_to_be_restored_is_told_by_worker_and_by_partition() -> None:
    active = RestoreProgress(partition=0, role="active", start=0, position=50, end=100)
    standby = RestoreProgress(partition=1, role="standby", start=0, position=9, end=10)
    found = assemble(group(member("a", 0)), [report(0, state="restoring", restoring=(active, standby))], [], 2)
    assert found.workers[0].restoring == (active, standby)
    assert [p.restoring for p in found.partitions] == [active, None]


def test_urls_that_cannot_be_right_are_noted() -> None:
    members = group(member("a", 0, url="http://x:1"), member("b", 1, url="http://x:1"))
    (note,) = assemble(members, [report(0), "another worker answers there"], [], 2).notes
    assert "2 workers say that they are reached at http://x:1" in note


# --- asked --------------------------------------------------------------------------------------------------------------------


class Kafka:
    """What the cluster says, set by a test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.members: list[Member] = []
        self.state = "Stable"
        self.committed: dict[TopicPartition, int] = {}
        self.spans: dict[str, Span] = {}
        self.topics = ["palimpsest-state-changelog", "observations", "commands"]

        @asynccontextmanager
        async def admin(_: Any) -> AsyncIterator[None]:
            yield None

        async def describe_group(*_: Any) -> Group:
            return group(*self.members, state=self.state)

        async def describe(_: Any, names: Iterable[str]) -> dict[str, TopicState]:
            return {name: TopicState(name, PARTITIONS, 1) for name in names if name in self.topics}

        async def committed(*_: Any) -> dict[TopicPartition, int]:
            return self.committed

        async def spans(_: Any, places: Iterable[TopicPartition]) -> dict[TopicPartition, Span]:
            return {place: self.spans.get(place.topic, Span(0, 0)) for place in places}

        for stand_in in (admin, describe_group, describe, committed, spans):
            monkeypatch.setattr(fleet, stand_in.__name__, stand_in)


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> Kafka:
    return Kafka(monkeypatch)


def dead(*partitions: int) -> Member:
    """A member at whose address nobody listens."""
    (port,) = free_ports(1)
    return member("dead", *partitions, url=f"http://127.0.0.1:{port}")


async def test_workers_tell_the_lag_of_what_they_hold_and_the_group_s_positions_that_of_the_rest(kafka: Kafka) -> None:
    kafka.committed = {TopicPartition("observations", partition): 90 for partition in range(3)}
    kafka.spans = {"observations": Span(40, 100)}
    async with serving(SETTINGS, NOW) as worker:
        worker.app.assign([0])
        worker.app.ends[TP("observations", 0)] = 95
        worker.app.consumer._committed_offset[TP("observations", 0)] = 92
        kafka.members = [member("a", 0, url=worker.url), dead(1, 2)]
        found = await fleet.muster(SETTINGS)
    alive, silent = found.workers
    assert (alive.state, alive.lag, silent.state, silent.partitions) == ("running", 3, "silent", (1, 2))
    assert "attempts failed" in silent.reasons[0]
    # Partition 3 has no position: it is read from where the log begins.
    assert [p.lag for p in found.partitions] == [3, 10, 10, 60]
    assert [p.worker for p in found.partitions] == [worker.url, silent.url, silent.url, None]
    assert [(one.input, one.position, one.end) for one in found.partitions[3].inputs] == [("observations", 40, 100), ("commands", 0, 0)]


async def test_topics_that_are_not_there_are_left_out(kafka: Kafka) -> None:
    kafka.topics = ["observations"]
    assert (await fleet.muster(SETTINGS)).partitions == ()
    kafka.topics = ["palimpsest-state-changelog"]
    assert [p.inputs for p in (await fleet.muster(SETTINGS)).partitions] == [()] * PARTITIONS


async def test_who_answers_in_another_s_place_is_not_taken_for_it(kafka: Kafka) -> None:
    async with serving(SETTINGS, NOW) as worker, serving(Settings(app="other"), NOW) as stranger:
        worker.app.assign([0])
        kafka.members = [
            member("a", 0, url=worker.url),
            member("b", 1, url=worker.url),
            member("c", 2, url=stranger.url),
            member("d", 3, url="nowhere"),
            member("e", url=""),
        ]
        found = await fleet.muster(SETTINGS)
    said = [(one.state, one.reasons, one.partitions) for one in found.workers]
    assert said[:3] == [
        ("running", (), (0,)),
        ("silent", ("another worker answers there",), (1,)),
        ("silent", ("a worker of other answers there",), (2,)),
    ]
    assert said[3][0] == "silent"
    assert said[4] == ("silent", ("the group does not say where it is reached",), ())


async def test_an_entity_is_asked_of_whoever_answers(kafka: Kafka) -> None:
    async with serving(SETTINGS, NOW) as worker:
        partition = worker.app.state_table.put(SETTINGS, EntityState(entity="a", outcomes=2))
        worker.app.assign([partition])
        kafka.members = [dead(partition), member("a", url=worker.url)]
        found = await fleet.ask(SETTINGS, "a")
        assert isinstance(found, EntityReport)
        assert (found.outcomes, found.served.worker) == (2, worker.url)
        worker.app.state_table.records.clear()
        found = await fleet.ask(SETTINGS, "a")
    assert isinstance(found, Unanswered)
    assert found.reasons == ("no entity 'a'",)


async def test_where_nobody_answers_every_reason_is_told(kafka: Kafka) -> None:
    with pytest.raises(WorkersSilent, match="no members that say where they are reached"):
        await fleet.ask(SETTINGS, "a")
    async with serving(SETTINGS, NOW) as worker:
        worker.standing.app, worker.standing.reasons = None, ["restoring state", "no partitions are held"]
        kafka.members = [dead(0), member("a", url=worker.url)]
        with pytest.raises(WorkersSilent) as caught:
            await fleet.ask(SETTINGS, "a")
    silent, restoring = str(caught.value).splitlines()
    assert "attempts failed" in silent
    assert restoring == f"{worker.url}: restoring state; no partitions are held"
    assert caught.value.exit_code == exits.UNAVAILABLE
