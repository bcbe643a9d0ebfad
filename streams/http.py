"""The worker's HTTP port: metrics, the two questions an orchestrator asks, and the state for people and programs.

It is up from the first second, before any state is restored, so that a long recovery can be watched and does not look like a
death. It answers

==================== ===================================================================================================
`/metrics`            Prometheus text, or OpenMetrics where the scraper asks for it
`/healthz`            liveness: 200, or 503 with the reasons why the process should be restarted; idle is healthy
`/readyz`             readiness: 200, or 503 with what is still missing: restored tables, a finished rebalance, an assignment
`/v1/entities/{id}`   an entity's committed state, from whichever worker owns it (`streams.query`)
`/v1/worker`          how this worker stands: its state, its partitions, lag, what is still to be restored
==================== ===================================================================================================

What the reasons are is for `Health` to say; the routes below `/v1/` are handed in. The server runs in the worker's own event loop, on
purpose: **a loop that stands still answers nothing, and the probe's timeout is the alarm**. A thread would go on answering for a dead
worker. How late the loop is while it still turns is measured by a timer beside the server and told to `loop_delay`.

There is no authentication, and `/v1/entities` shows the texts of entities: bind it to where only the orchestrator, the scraper, the other
workers and those who may read them reach it (`worker.http_host`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from streams import exits
from streams.errors import StreamError

#: Seconds between two looks at the event loop's delay.
_TICK: Final = 1.0
#: Seconds that requests in progress may take when the server stops; aiohttp's own 60 would outlast a pod's grace period.
_SHUTDOWN: Final = 2.0


class Health(Protocol):
    """How the worker is. Both are called on the event loop and return at once; an empty list means that all is well."""

    def live(self) -> list[str]:
        """Why this process should be restarted: work that is older than twice its own deadline. Idle is healthy."""
        ...

    def ready(self) -> list[str]:
        """Why this worker does no work yet: tables being restored, a rebalance, nothing assigned."""
        ...


class PortUnavailable(StreamError):
    """The HTTP port cannot be bound."""

    exit_code = exits.UNAVAILABLE


class HttpServer:
    """Serves `/metrics`, `/healthz` and `/readyz`.

    Parameters
    ----------
    host, port
        Where to listen; port 0 takes a free one, which `port` tells after `start`.
    registry
        What `/metrics` shows.
    health
        Answers the probes.
    routes
        Further routes, below `/v1/`.
    loop_delay
        Told about once a second by how many seconds the event loop woke a timer too late.

    Examples
    --------
    >>> async def serve(registry: CollectorRegistry, health: Health) -> None:
    ...     async with HttpServer("127.0.0.1", 0, registry, health) as server:
    ...         print(server.url)
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        health: Health,
        *,
        routes: Iterable[web.AbstractRouteDef] = (),
        loop_delay: Callable[[float], None] | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self._registry = registry
        self._health = health
        self._routes = tuple(routes)
        self._loop_delay = loop_delay
        self._runner: web.AppRunner | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    async def start(self) -> None:
        """Listen.

        Raises
        ------
        PortUnavailable
            The address is taken, not this machine's, or not allowed.
        """
        app = web.Application()
        app.add_routes([
            web.get("/metrics", self._metrics),
            web.get("/healthz", self._live),
            web.get("/readyz", self._ready),
            *self._routes,
        ])  # fmt: skip
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_SHUTDOWN)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.host, self.port).start()
        except OSError as error:
            await runner.cleanup()
            raise PortUnavailable(
                f"cannot listen on {self.url}: {error.strerror or error}. Another worker may have the port: "
                "set worker.http_port to another one, or to 0 for any that is free."
            ) from error
        self.port = runner.addresses[0][1]
        self._runner = runner
        if self._loop_delay is not None:
            self._watch = asyncio.create_task(_watch_loop(self._loop_delay), name="event-loop-delay")

    async def stop(self) -> None:
        """Let go of the port; stopping what was not started does nothing."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def __aenter__(self) -> HttpServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        response = web.Response(body=encode(self._registry), headers={"Content-Type": content_type})
        response.enable_compression()
        return response

    async def _live(self, _: web.Request) -> web.Response:
        return _verdict(self._health.live())

    async def _ready(self, _: web.Request) -> web.Response:
        return _verdict(self._health.ready())


def _verdict(reasons: list[str]) -> web.Response:
    body = {"status": "unavailable", "reasons": reasons} if reasons else {"status": "ok"}
    return web.json_response(body, status=503 if reasons else 200, headers={"Cache-Control": "no-store"})


async def _watch_loop(tell: Callable[[float], None]) -> None:
    while True:
        before = time.monotonic()
        await asyncio.sleep(_TICK)
        tell(max(0.0, time.monotonic() - before - _TICK))
