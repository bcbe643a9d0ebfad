"""What `palimpsest workers` and `palimpsest entity` print, and how they end."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from schemas.messages import ArmScore
from schemas.queries import EntityReport, InputProgress, MemoryReport, RestoreProgress, Served, Unanswered
from schemas.settings import Settings
from streams import exits
from streams.fleet import Fleet, FleetPartition, FleetWorker

if TYPE_CHECKING:
    from tests.streams.cli.conftest import Command

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
HALF = RestoreProgress(partition=1, role="active", start=100, position=150, end=200)
RUNNING = FleetWorker(
    url="http://a:1", member="m-a", host="10.0.0.1", state="running", partitions=(0,), standby=(1,), lag=3, entities=7, in_flight=2
)
RESTORING = FleetWorker(
    url="http://b:1", member="m-b", host="10.0.0.2", state="restoring", reasons=("restoring state",), partitions=(1,), restoring=(HALF,)
)
SILENT = FleetWorker(url="", member="m-c", host="10.0.0.3", state="silent", reasons=("it does not say",))
INPUTS = (
    InputProgress(input="observations", topic="o", partition=0, position=17, end=20, lag=3),
    InputProgress(input="truths", topic="t", partition=0, end=4),
)
PARTITIONS = (
    FleetPartition(partition=0, worker="http://a:1", lag=3, inputs=INPUTS, entities=7),
    FleetPartition(partition=1, worker="http://b:1", standby=("http://a:1",), restoring=HALF),
    FleetPartition(partition=2, lag=5),
)
NOTE = "nobody holds partitions 2; 5 records wait there"
FLEET = Fleet(app="palimpsest", group="Stable", workers=(RUNNING, RESTORING, SILENT), partitions=PARTITIONS, notes=(NOTE,))


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    async def muster(_: Settings) -> Fleet:
        return FLEET

    monkeypatch.setattr("streams.cli.workers.muster", muster)


@pytest.mark.usefixtures("fleet")
def test_workers_are_listed_one_a_line_and_what_is_wrong_with_them_beside_it(command: Command) -> None:
    ran = command("workers")
    assert ran.code == exits.OK
    assert ran.out.splitlines() == [
        "http://a:1\trunning\t0\t1\t3\t-\t7\t2",
        "http://b:1\trestoring\t1\t-\t-\t50%\t-\t-",
        "m-c\tsilent\t-\t-\t-\t-\t-\t-",
    ]
    assert ran.err.splitlines() == [
        "http://b:1 (10.0.0.2): restoring state",
        "m-c (10.0.0.3): it does not say",
        NOTE,
    ]


@pytest.mark.usefixtures("fleet")
def test_partitions_are_listed_with_their_inputs_when_asked_for(command: Command) -> None:
    ran = command("workers", "--partitions")
    assert ran.out.splitlines() == [
        "0\thttp://a:1\t-\t3\tobservations 17/20, truths -/4\t7\t-",
        "1\thttp://b:1\thttp://a:1\t-\t-\t-\t50%",
        "2\t-\t-\t5\t-\t-\t-",
    ]
    assert "nobody holds partitions 2" in ran.err


@pytest.mark.usefixtures("fleet")
def test_for_programs_there_is_everything_in_one_document(command: Command) -> None:
    ran = command("workers", "--json")
    assert Fleet.model_validate_json(ran.out) == FLEET
    assert ran.err == ""


@pytest.mark.integration
def test_a_group_that_nobody_is_in_is_told_and_ends_with_1(command: Command, own_file: Path, own_settings: Settings) -> None:
    ran = command("workers", "-c", own_file)
    assert (ran.code, ran.out) == (exits.FAILED, "")
    assert f"the group {own_settings.app} has no members" in ran.err
    command("topics", "create", "--inputs", "-c", own_file)
    ran = command("workers", "-c", own_file, "--json")
    found = orjson.loads(ran.out)
    assert (ran.code, found["workers"]) == (exits.FAILED, [])
    assert [(p["partition"], p["worker"], p["lag"]) for p in found["partitions"]] == [(number, None, 0) for number in range(4)]
    assert found["notes"][1] == "nobody holds partitions 0-3; 0 records wait there"


@pytest.mark.integration
def test_without_a_worker_an_entity_cannot_be_asked_for(command: Command, own_file: Path) -> None:
    ran = command("entity", "seattle", "-c", own_file)
    assert (ran.code, ran.out) == (exits.UNAVAILABLE, "")
    assert "has no members that say where they are reached" in ran.err


def answers(monkeypatch: pytest.MonkeyPatch, answer: EntityReport | Unanswered) -> None:
    async def ask(_: Settings, entity: str) -> Any:
        assert entity == "seattle"
        return answer

    monkeypatch.setattr("streams.cli.entity.ask", ask)


def served(*lags: int | None) -> Served:
    inputs = tuple(InputProgress(input=f"input{number}", topic="t", partition=2, lag=lag) for number, lag in enumerate(lags))
    return Served(worker="http://a:1", partition=2, generation=1, changelog="c", at=NOW, inputs=inputs)


def test_an_entity_is_printed_with_its_memory_and_how_fresh_it_is(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = MemoryReport(revision=3, text="Notes:\n- Wind turns before rain.", words=6, cause="feedback", made_at=NOW)
    scores = {"published": ArmScore(n=40, mae=1.25, mse=2.5)}
    answers(monkeypatch, EntityReport(entity="seattle", memory=memory, frozen=True, outcomes=40, scores=scores, served=served(0, 3, None)))
    ran = command("entity", "seattle")
    assert ran.code == exits.OK
    assert ran.out.splitlines() == [
        "memory\trevision 3, feedback, 2024-05-01 12:00:00Z, 6 words",
        "state\tfrozen",
        "newest\t-",
        "outcomes\t40",
        "  published\tmae 1.25, mse 2.5, n 40",
        "pending\t0",
        "early truths\t0",
        "feedback\t0",
        "",
        "Notes:",
        "- Wind turns before rain.",
    ]
    assert (
        ran.err == "partition 2 at http://a:1, 2024-05-01 12:00:00Z: 3 input1 of its partition not applied yet, those of input2 not known\n"
    )
    assert orjson.loads(command("entity", "seattle", "--json").out)["memory"]["revision"] == 3


def test_an_entity_that_does_not_exist_ends_with_1_and_says_as_of_when(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, Unanswered(status="unknown", reasons=("no entity 'seattle'",), served=served(0)))
    ran = command("entity", "seattle")
    assert (ran.code, ran.out) == (exits.FAILED, "")
    assert ran.err == "no entity 'seattle' (partition 2 at http://a:1, 2024-05-01 12:00:00Z: all of its partition's records applied)\n"
