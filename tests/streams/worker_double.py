"""A worker without Kafka: what `streams.query` and `streams.status` read off the application, set by a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import httpx
from faust.types import TP
from prometheus_client import CollectorRegistry

from schemas.queries import entity_path
from schemas.settings import Settings
from schemas.state import EntityState, encode_state, entity_key
from streams.http import HttpServer
from streams.lease import Lease
from streams.partitioner import state_partition
from streams.query import Queries
from streams.restoring import Progress
from streams.table import Mark
from streams.topics import changelog_topic, consumed_topics

PARTITIONS = 4


class Table:
    """States in memory, as the table reads them."""

    def __init__(self) -> None:
        self.records: dict[tuple[int, bytes], bytes] = {}
        self.marks: dict[int, Mark] = {}

    def put(self, settings: Settings, state: EntityState) -> int:
        """Store a state where it belongs; return the partition."""
        partition = state_partition(settings, state.entity, PARTITIONS)
        self.records[partition, entity_key(state.entity)] = encode_state(state)
        return partition

    def read(self, partition: int, key: bytes) -> bytes | None:
        return self.records.get((partition, key))

    def mark(self, partition: int) -> Mark | None:
        return self.marks.get(partition)


class App:
    """Stands in for `PalimpsestApp`."""

    def __init__(self, settings: Settings, url: str) -> None:
        self.settings, self.partitions = settings, PARTITIONS
        self.conf = SimpleNamespace(canonical_url=url)
        self.inputs = {name: topic for name, topic in consumed_topics(settings).items() if not name.endswith("-source")}
        self.state_table = Table()
        self.lease: Lease | None = None
        self.rebalancing = False
        self.restoration = SimpleNamespace(progress=dict[int, Progress](), restoring=False)
        self.entities = SimpleNamespace(counts=dict[int, int]())
        self.lanes = SimpleNamespace(in_flight=0, oldest_age=lambda: None)
        self._actives: set[TP] = set()
        self._standbys: set[TP] = set()
        self.assignor = SimpleNamespace(
            changelog_distribution={}, assigned_actives=lambda: self._actives, assigned_standbys=lambda: self._standbys
        )
        self.ends: dict[TP, int] = {}
        self.consumer: Any = SimpleNamespace(assignment=lambda: set(self.ends), highwater=self.ends.get, _committed_offset={})

    def assign(self, owned: Iterable[int], *, standby: Iterable[int] = (), generation: int = 1) -> Lease:
        """Give it partitions, and let it work on them."""
        changelog = changelog_topic(self.settings)
        self._actives = {TP(changelog, partition) for partition in owned}
        self._standbys = {TP(changelog, partition) for partition in standby}
        self.lease = Lease(generation, frozenset(tp.partition for tp in self._actives))
        return self.lease

    def route(self, owners: Mapping[str, Iterable[int]]) -> None:
        """What the leader told about who has what."""
        self.assignor.changelog_distribution = {url: {changelog_topic(self.settings): list(owned)} for url, owned in owners.items()}


class Standing:
    """Stands in for the worker's health."""

    def __init__(self, app: Any = None, reasons: Iterable[str] = ()) -> None:
        self.app, self.reasons = app, list(reasons)

    def live(self) -> list[str]:
        return []

    def ready(self) -> list[str]:
        return self.reasons


class Worker:
    """A worker's port, with an application that a test sets."""

    def __init__(self, url: str, standing: Standing) -> None:
        self.url, self.standing = url, standing

    @property
    def app(self) -> App:
        app: App = self.standing.app
        return app

    async def get(self, path: str, **headers: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.get(self.url + path, headers=headers)

    async def entity(self, entity: str) -> httpx.Response:
        return await self.get(entity_path(entity))


@asynccontextmanager
async def serving(settings: Settings, now: datetime) -> AsyncIterator[Worker]:
    """A worker's port for the time of the context."""
    standing = Standing()
    async with AsyncExitStack() as stack:
        queries = await stack.enter_async_context(Queries(settings, standing, clock=lambda: now))
        server = HttpServer("127.0.0.1", 0, CollectorRegistry(), standing, routes=queries.routes())
        await stack.enter_async_context(server)
        queries.url = server.url
        standing.app = App(settings, server.url)
        yield Worker(server.url, standing)
