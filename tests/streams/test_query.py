"""Questions about entities, over real sockets: who answers, who passes on, and what is said when nobody can."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from aiohttp import web
from faust.types import TP
from hypothesis import HealthCheck, given
from hypothesis import settings as trying
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from deploy.services.ports import free_ports
from schemas.messages import Answer
from schemas.queries import WORKER_PATH, EntityReport, Unanswered, WorkerReport, entity_path
from schemas.settings import Settings
from schemas.state import ArmTotals, EarlyTruth, EntityState, Feedback, Memory, Pending, Resolved, Revision, Statement
from streams.http import HttpServer
from streams.query import FORWARDED, LEDGER_ROWS
from streams.table import Mark
from tests.streams.worker_double import Standing, Worker, serving

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
EVERYWHERE = range(4)


Start = Callable[..., Any]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts workers: `await start(app="...")`; without partitions and routes."""
    async with AsyncExitStack() as stack:

        async def started(**settings: Any) -> Worker:
            return await stack.enter_async_context(serving(Settings(**settings), NOW))

        yield started


@pytest.fixture
async def two(start: Start) -> tuple[Worker, Worker]:
    """One worker with every partition, and one that knows."""
    owner, other = await start(), await start()
    owner.app.assign(EVERYWHERE)
    other.app.assign(())
    for worker in (owner, other):
        worker.app.route({owner.url: EVERYWHERE, other.url: ()})
    return owner, other


def put(worker: Worker, state: EntityState) -> int:
    return worker.app.state_table.put(worker.app.settings, state)


async def test_an_entity_is_shown_with_its_memory_its_ledger_and_what_waits(start: Start) -> None:
    worker: Worker = await start()
    memory = Memory(revision=3, sections={"rules": (), "notes": (Statement(text="Wind turns before rain."),)})
    row = Resolved(seq=1, id="o0", time=NOW, made_at=NOW, forecast=Answer(value=1.0), truth=2.0)
    state = EntityState(
        entity="a",
        frozen=True,
        applied={"observations": 41},
        newest=NOW,
        memory=memory,
        revisions=(Revision(memory=memory, cause="feedback", made_at=NOW),),
        pending=(Pending(id="o9", time=NOW, made_at=NOW, forecast=Answer(value=4.5), due=NOW + timedelta(hours=2)),),
        resolved=tuple(row.model_copy(update={"seq": seq}) for seq in range(1, 31)),
        early=(EarlyTruth(observation_id="o10", value=1.0, arrived=NOW, due=NOW + timedelta(hours=1), raw="secret"),),
        feedback=(Feedback(seq=30, text="wind north -> 2.0", miss=True),),
        outcomes=30,
        scores={"published": ArmTotals(n=30, abs_sum=15.0, square_sum=30.0)},
    )
    partition = put(worker, state)
    worker.app.assign([partition])
    answer = await worker.entity("a")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    shown = EntityReport.model_validate_json(answer.content)
    assert (shown.entity, shown.frozen, shown.forgotten, shown.applied) == ("a", True, False, {"observations": 41})
    assert (shown.memory.text, shown.memory.revision, shown.memory.words) == ("Notes:\n- Wind turns before rain.", 3, 6)
    assert (shown.memory.cause, shown.memory.kept, shown.memory.sections) == ("feedback", (3,), memory.sections)
    assert (shown.ledger, shown.ledger_rows) == (state.resolved[-LEDGER_ROWS:], 30)
    assert (shown.pending, shown.feedback, shown.early) == (state.pending, state.feedback, 1)
    assert (shown.scores["published"].mae, shown.outcomes) == (0.5, 30)
    assert shown.due == NOW + timedelta(hours=1)
    assert "secret" not in answer.text


async def test_an_answer_says_where_it_was_read_and_how_far_the_inputs_are_applied(start: Start) -> None:
    worker: Worker = await start(observations={"key": "entity"}, truths={"source": "none"}, commands={"key": "entity"})
    partition = put(worker, EntityState(entity="a"))
    lease = worker.app.assign([partition], generation=7)
    worker.app.state_table.marks[partition] = Mark(812, 0, 0)
    read, idle = TP("observations", partition), TP("commands", partition)
    worker.app.ends.update({read: 120, idle: 5, TP("observations", (partition + 1) % 4): 99})
    worker.app.consumer._committed_offset.update({read: 90, idle: 5})
    tracker = lease.trackers[read]
    tracker.close(tracker.open(99, int((NOW - timedelta(seconds=3)).timestamp() * 1000)))
    tracker.open(100, int(NOW.timestamp() * 1000))
    served = EntityReport.model_validate_json((await worker.entity("a")).content).served
    assert (served.worker, served.role, served.partition, served.generation) == (worker.url, "owner", partition, 7)
    assert (served.changelog, served.changelog_offset, served.at) == ("palimpsest-state-changelog", 812, NOW)
    observations, commands = served.inputs
    # The record at offset 100 is still being worked on.
    assert (observations.input, observations.position, observations.end, observations.lag) == ("observations", 100, 120, 20)
    assert (observations.newest, observations.age) == (NOW - timedelta(seconds=3), 3.0)
    assert (commands.input, commands.position, commands.lag, commands.newest) == ("commands", 5, 0, None)


async def test_an_entity_that_does_not_exist_is_unknown_as_of_what_was_read(two: tuple[Worker, Worker]) -> None:
    owner, other = two
    for worker in (owner, other):
        answer = await worker.entity("nobody")
        assert answer.status_code == 404
        refusal = Unanswered.model_validate_json(answer.content)
        assert (refusal.status, refusal.reasons) == ("unknown", ("no entity 'nobody'",))
        assert refusal.served is not None
        assert refusal.served.worker == owner.url


async def test_any_worker_answers_as_the_owner_does(two: tuple[Worker, Worker]) -> None:
    owner, other = two
    put(owner, EntityState(entity="a", outcomes=3))
    asked, passed_on = await owner.entity("a"), await other.entity("a")
    assert asked.json() == passed_on.json()
    assert passed_on.status_code == 200
    assert EntityReport.model_validate_json(passed_on.content).served.worker == owner.url


@given(
    entity=st.text(min_size=1, max_size=40)
    | st.sampled_from([".", "..", "a/b", "{id}", "%2F", "%", "a?b#c", " ", "+", "\n", "\0", "ü/東京"])
)
@trying(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_id_reaches_its_entity(two: tuple[Worker, Worker], entity: str) -> None:
    owner, other = two
    put(owner, EntityState(entity=entity))
    assert (await other.entity(entity)).json()["entity"] == entity


async def test_a_question_comes_from_no_proxy_of_the_environment(two: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    owner, other = two
    put(owner, EntityState(entity="a"))
    assert (await other.entity("a")).status_code == 200


# --- not now ------------------------------------------------------------------------------------------------------------------


def refused(answer: httpx.Response, code: int = 503) -> tuple[str, ...]:
    """The reasons of a refusal."""
    assert answer.status_code == code, answer.text
    assert ("Retry-After" in answer.headers) == (code == 503)
    refusal = Unanswered.model_validate_json(answer.content)
    assert (refusal.status, refusal.served) == ("unavailable", None)
    return refusal.reasons


async def test_a_worker_that_starts_says_what_it_is_about(start: Start) -> None:
    worker: Worker = await start()
    worker.standing.app, worker.standing.reasons = None, ["checking topics"]
    assert refused(await worker.entity("a")) == ("checking topics",)


async def test_an_owner_that_restores_its_state_does_not_answer_from_it(two: tuple[Worker, Worker]) -> None:
    owner, other = two
    put(owner, EntityState(entity="a"))
    owner.app.lease, owner.standing.reasons = None, ["restoring state"]
    assert refused(await owner.entity("a")) == ("restoring state",)
    assert refused(await other.entity("a")) == ("restoring state",)


async def test_an_owner_that_has_handed_over_does_not_answer_from_what_it_had(two: tuple[Worker, Worker]) -> None:
    owner, _ = two
    put(owner, EntityState(entity="a"))
    assert owner.app.lease is not None
    owner.app.lease.accepting = False
    assert (await owner.entity("a")).status_code == 200, "while it drains, the state is still its own"
    owner.app.lease.close()
    owner.standing.reasons = ["rebalancing"]
    assert refused(await owner.entity("a")) == ("rebalancing",)


async def test_where_nobody_is_known_to_own_the_partition_the_reasons_say_so(start: Start) -> None:
    worker: Worker = await start()
    worker.app.assign(())
    worker.standing.reasons = ["rebalancing"]
    assert refused(await worker.entity("a")) == ("no worker is known to own partition 0", "rebalancing")


async def test_an_owner_that_does_not_answer_is_named(start: Start) -> None:
    worker: Worker = await start()
    (port,) = free_ports(1)
    worker.app.assign(())
    worker.app.route({f"http://127.0.0.1:{port}": EVERYWHERE})
    (reason,) = refused(await worker.entity("a"))
    assert reason.startswith(f"partition 0 is owned by the worker at http://127.0.0.1:{port}, which does not answer: ")


async def test_an_owner_that_takes_too_long_is_given_up(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.query.FORWARD_TIMEOUT", 0.05)
    worker: Worker = await start()
    worker.app.assign(())

    given_up = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        await given_up.wait()
        return web.Response()

    async with HttpServer("127.0.0.1", 0, CollectorRegistry(), Standing(), routes=[web.get("/v1/entities/a", hang)]) as server:
        worker.app.route({server.url: EVERYWHERE})
        (reason,) = refused(await worker.entity("a"))
        given_up.set()
    assert reason.endswith("which does not answer: ReadTimeout")


async def test_two_workers_that_take_each_other_for_the_owner_ask_each_other_once(start: Start) -> None:
    one, another = await start(), await start()
    for worker, owner in ((one, another), (another, one)):
        worker.app.assign(())
        worker.app.route({owner.url: EVERYWHERE})
    assert refused(await one.entity("a")) == (f"partition 0 is not owned by this worker but by {one.url}",)


async def test_a_worker_whose_url_is_also_another_s_says_so(start: Start) -> None:
    worker: Worker = await start()
    worker.app.assign([1])
    worker.app.route({worker.url: [0, 2]})
    assert refused(await worker.entity("a")) == (f"this worker and the owner of partition 0 share the URL {worker.url}",)


async def test_a_worker_of_another_application_at_the_owner_s_address_does_not_answer_for_it(start: Start) -> None:
    stranger, worker = await start(app="other"), await start()
    stranger.app.assign(EVERYWHERE)
    put(stranger, EntityState(entity="a"))
    worker.app.assign(())
    worker.app.route({stranger.url: EVERYWHERE})
    (reason,) = refused(await worker.entity("a"), 502)
    assert stranger.url in reason
    forwarded = await stranger.get(entity_path("a"), **{FORWARDED: "palimpsest"})
    assert refused(forwarded, 421) == ("this is a worker of other, not of palimpsest",)


async def test_what_is_no_worker_at_the_owner_s_address_is_not_passed_on(start: Start) -> None:
    worker: Worker = await start()

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<h1>Welcome</h1>", content_type="text/html")

    async with HttpServer("127.0.0.1", 0, CollectorRegistry(), Standing(), routes=[web.get("/v1/entities/a", page)]) as server:
        worker.app.assign(())
        worker.app.route({server.url: EVERYWHERE})
        (reason,) = refused(await worker.entity("a"), 502)
    assert reason == f"partition 0 is owned by the worker at {server.url}, where something answers 200 text/html; charset=utf-8"


# --- the worker itself --------------------------------------------------------------------------------------------------------


async def test_a_worker_tells_how_it_stands(start: Start) -> None:
    worker: Worker = await start(worker={"instance_id": "pod-0"})
    worker.app.assign([0, 2], standby=[1], generation=5)
    worker.app.entities.counts = {0: 10, 2: 3}
    report = WorkerReport.model_validate_json((await worker.get(WORKER_PATH)).content)
    assert (report.app, report.url, report.instance, report.state) == ("palimpsest", worker.url, "pod-0", "running")
    assert (report.partitions, report.standby, report.generation, report.entities) == ((0, 2), (1,), 5, {0: 10, 2: 3})


async def test_a_worker_tells_so_before_there_is_anything_to_tell(start: Start) -> None:
    worker: Worker = await start()
    worker.standing.app, worker.standing.reasons = None, ["checking topics"]
    report = WorkerReport.model_validate_json((await worker.get(WORKER_PATH)).content)
    assert (report.state, report.reasons, report.partitions, report.url) == ("starting", ("checking topics",), (), worker.url)
