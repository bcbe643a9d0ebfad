"""Questions about the live state, answered on every worker's port: `/v1/entities/{id}` and `/v1/worker`.

An entity is read where its partition is owned, under the lease, from RocksDB, which holds what is committed and nothing else. A worker
that does not own it passes the question on to the one that does, **once**: whoever gets a question that was passed on answers it
or says why not, so that two workers that disagree cannot send it to and fro. The way to the owner is the one that the group's leader
gave out with the assignment (`streams.membership`); nobody is asked for it.

| status | when |
| --- | --- |
| 200 | `EntityReport`: the state, and in `served` what it was read from and how far the inputs were applied |
| 404 | there is no such entity, as of `served` |
| 421 | the question was passed on to a worker of another application: two share an address |
| 502 | the owner answered what no worker answers |
| 503 | not now: `reasons` says why (restoring, rebalancing, the owner unknown or silent), `Retry-After` when to ask again |

An owner that was cut off from Kafka goes on answering until its session is over; `served` tells its generation and positions then as ever.
There is no authentication: the answers hold the texts of entities.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol

import httpx
import orjson
from aiohttp import web
from pydantic import BaseModel

from agents.memory import render, words
from agents.scoring import view
from schemas.queries import WORKER_PATH, EntityReport, MemoryReport, Served, Unanswered, WorkerReport, entity_path
from schemas.settings import Settings
from schemas.state import EntityState, decode_state, entity_key, next_due
from streams import status
from streams.lease import Lease
from streams.partitioner import state_partition
from streams.topics import changelog_topic

if TYPE_CHECKING:
    from streams.app import PalimpsestApp

#: Rows of the ledger that an answer shows; `outcomes` has all of them.
LEDGER_ROWS = 20
#: Seconds for the owner's answer. It reads from its disk; what takes longer is a worker in trouble.
FORWARD_TIMEOUT = 5.0
#: Seconds after which to ask again: a rebalance takes about as long.
RETRY_AFTER = 2
#: Marks a question that was passed on; its value is the application that passed it.
FORWARDED = "Palimpsest-Forwarded-By"
#: What a worker answers, and passes on as it is.
_ANSWERS: Final = (200, 404, 503)


class Standing(Protocol):
    """What the answers are about; the worker's health is one."""

    app: PalimpsestApp | None

    def ready(self) -> list[str]:
        """Why this worker does no work yet."""
        ...


class Queries:
    """The routes, and the client that passes questions on; an asynchronous context manager for the client's sake.

    Parameters
    ----------
    clock
        The time, for telling ages.
    """

    def __init__(self, settings: Settings, standing: Standing, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._settings = settings
        self._standing = standing
        self._clock = clock
        # Workers are reached directly: a proxy for the outside world, in the environment, knows nothing of them.
        self._client = httpx.AsyncClient(timeout=FORWARD_TIMEOUT, trust_env=False, headers={FORWARDED: settings.app})
        #: Where other workers reach this one; set when its port is known.
        self.url = ""

    async def __aenter__(self) -> Queries:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._client.aclose()

    def routes(self) -> list[web.RouteDef]:
        # Every character may be part of an id, a slash that was not encoded included.
        return [web.get(r"/v1/entities/{entity:[\s\S]+}", self._entity), web.get(WORKER_PATH, self._worker)]

    def worker(self) -> WorkerReport:
        """How this worker stands."""
        return status.report(self._settings, self._standing.app, self.url, self._standing.ready(), self._clock())

    async def _worker(self, _: web.Request) -> web.Response:
        return _json(self.worker())

    async def _entity(self, request: web.Request) -> web.Response:
        entity, passed_on_by = request.match_info["entity"], request.headers.get(FORWARDED)
        if passed_on_by is not None and passed_on_by != self._settings.app:
            return _refuse(421, f"this is a worker of {self._settings.app}, not of {passed_on_by}")
        app = self._standing.app
        if app is None:
            return _refuse(503, *self._standing.ready())
        partition = state_partition(self._settings, entity, app.partitions)
        lease = app.lease
        if lease is not None and lease.open and partition in lease.partitions:
            return self._read(app, lease, partition, entity)
        owner = owner_of(app, partition)
        if owner is None:
            return _refuse(503, f"no worker is known to own partition {partition}", *self._standing.ready())
        if owner == str(app.conf.canonical_url):
            return _refuse(503, *self._standing.ready() or [f"this worker and the owner of partition {partition} share the URL {owner}"])
        if passed_on_by is not None:
            return _refuse(503, f"partition {partition} is not owned by this worker but by {owner}", *self._standing.ready())
        return await self._ask(owner, partition, entity)

    def _read(self, app: PalimpsestApp, lease: Lease, partition: int, entity: str) -> web.Response:
        served = status.served(app, lease, partition, self._clock())
        record = app.state_table.read(partition, entity_key(entity))
        state = None if record is None else decode_state(record)
        if state is None or (state.forgotten and not state.memory.revision):
            # The second is what remembers that a command was refused because there is no such entity.
            return _refuse(404, f"no entity {entity!r}", served=served)
        return _json(entity_report(state, self._settings, served))

    async def _ask(self, owner: str, partition: int, entity: str) -> web.Response:
        """Pass a question on to the owner, and its answer back."""
        try:
            answer = await self._client.get(owner + entity_path(entity))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            why = str(error) or type(error).__name__
            return _refuse(503, f"partition {partition} is owned by the worker at {owner}, which does not answer: {why}")
        if answer.status_code not in _ANSWERS or answer.headers.get("Content-Type") != _CONTENT_TYPE:
            what = f"{answer.status_code} {answer.headers.get('Content-Type', '')}".strip()
            return _refuse(502, f"partition {partition} is owned by the worker at {owner}, where something answers {what}")
        headers = {name: answer.headers[name] for name in ("Content-Type", "Retry-After") if name in answer.headers}
        return web.Response(body=answer.content, status=answer.status_code, headers=headers | _FRESH)


def owner_of(app: PalimpsestApp, partition: int) -> str | None:
    """URL of the worker that was given the partition in the latest assignment; None before the first, and where URLs are shared."""
    changelog = changelog_topic(app.settings)
    for url, topics in app.assignor.changelog_distribution.items():
        if partition in topics.get(changelog, ()):
            return str(url)
    return None


def entity_report(state: EntityState, settings: Settings, served: Served) -> EntityReport:
    """A state as it is shown; pure."""
    revision = next((past for past in state.revisions if past.memory.revision == state.memory.revision), None)
    memory = MemoryReport(
        revision=state.memory.revision,
        text=render(state.memory),
        words=words(state.memory),
        cause=None if revision is None else revision.cause,
        made_at=None if revision is None else revision.made_at,
        sections=state.memory.sections,
        kept=tuple(past.memory.revision for past in state.revisions),
    )
    return EntityReport(
        entity=state.entity,
        memory=memory,
        frozen=state.frozen,
        forgotten=state.forgotten,
        newest=state.newest,
        learned_to=state.learned_to,
        touched_at=state.touched_at,
        outcomes=state.outcomes,
        scores=view(state.scores, settings.target),
        ledger=state.resolved[-LEDGER_ROWS:],
        ledger_rows=len(state.resolved),
        pending=state.pending,
        early=len(state.early),
        feedback=state.feedback,
        folded=state.folded,
        rewrite_wanted=state.rewrite_wanted,
        rewrite_attempts=state.rewrite_attempts,
        due=None if state.forgotten else next_due(state, settings.entity_ttl),
        dropped=state.dropped,
        applied=state.applied,
        served=served,
    )


_CONTENT_TYPE: Final = "application/json"
_FRESH: Final = {"Cache-Control": "no-store"}


def _json(body: BaseModel, code: int = 200, **headers: str) -> web.Response:
    raw = orjson.dumps(body.model_dump(mode="json"))
    return web.Response(body=raw, status=code, headers={"Content-Type": _CONTENT_TYPE, **_FRESH, **headers})


def _refuse(code: int, *reasons: str, served: Served | None = None) -> web.Response:
    body = Unanswered(status="unknown" if code == 404 else "unavailable", reasons=reasons, served=served)
    return _json(body, code, **({"Retry-After": str(RETRY_AFTER)} if code == 503 else {}))
