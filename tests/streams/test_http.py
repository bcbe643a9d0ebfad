"""The HTTP port, over real sockets."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter

from streams import exits
from streams.http import HttpServer, PortUnavailable


class Worker:
    """A worker whose health a test says."""

    def __init__(self) -> None:
        self.not_live: list[str] = []
        self.not_ready: list[str] = []

    def live(self) -> list[str]:
        return self.not_live

    def ready(self) -> list[str]:
        return self.not_ready


def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("palimpsest_things", "Things.", registry=registry).inc(3)
    return registry


async def _get(server: HttpServer, path: str, **headers: str) -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session, session.get(server.url + path, headers=headers) as response:
        return response.status, response.headers["Content-Type"], await response.text()


async def _get_json(server: HttpServer, path: str) -> tuple[int, object]:
    async with aiohttp.ClientSession() as session, session.get(server.url + path) as response:
        return response.status, await response.json()


async def test_metrics_are_served_in_prometheus_text() -> None:
    async with HttpServer("127.0.0.1", 0, _registry(), Worker()) as server:
        status, content_type, text = await _get(server, "/metrics")
    assert status == 200
    assert content_type.startswith("text/plain; version=")
    assert "palimpsest_things_total 3.0\n" in text


async def test_metrics_are_served_as_openmetrics_when_asked() -> None:
    async with HttpServer("127.0.0.1", 0, _registry(), Worker()) as server:
        _, content_type, text = await _get(server, "/metrics", Accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith("# EOF\n")


async def test_a_healthy_worker_is_live_and_ready() -> None:
    async with HttpServer("127.0.0.1", 0, _registry(), Worker()) as server:
        assert await _get_json(server, "/healthz") == (200, {"status": "ok"})
        assert await _get_json(server, "/readyz") == (200, {"status": "ok"})


async def test_a_worker_in_recovery_is_live_and_says_why_it_is_not_ready() -> None:
    worker = Worker()
    worker.not_ready = ["restoring tables: 3 of 40 records", "nothing assigned"]
    async with HttpServer("127.0.0.1", 0, _registry(), worker) as server:
        assert (await _get_json(server, "/healthz"))[0] == 200
        assert await _get_json(server, "/readyz") == (503, {"status": "unavailable", "reasons": worker.not_ready})
        worker.not_ready = []
        assert (await _get_json(server, "/readyz"))[0] == 200


async def test_a_stuck_worker_says_what_is_stuck() -> None:
    worker = Worker()
    worker.not_live = ["observations/2 offset 17 has been worked on for 250 s, its deadline is 60 s"]
    async with HttpServer("127.0.0.1", 0, _registry(), worker) as server:
        assert await _get_json(server, "/healthz") == (503, {"status": "unavailable", "reasons": worker.not_live})


async def test_a_health_check_that_fails_counts_as_unhealthy() -> None:
    class Broken(Worker):
        def live(self) -> list[str]:
            raise RuntimeError("a defect")

    async with HttpServer("127.0.0.1", 0, _registry(), Broken()) as server:
        assert (await _get(server, "/healthz"))[0] == 500


async def test_further_routes_are_served_beside_the_probes() -> None:
    async def version(_: web.Request) -> web.Response:
        return web.json_response({"entity": "a"})

    async with HttpServer("127.0.0.1", 0, _registry(), Worker(), routes=[web.get("/v1/state", version)]) as server:
        assert await _get_json(server, "/v1/state") == (200, {"entity": "a"})


async def test_a_port_in_use_is_named_together_with_the_setting_to_change() -> None:
    async with HttpServer("127.0.0.1", 0, _registry(), Worker()) as first:
        second = HttpServer("127.0.0.1", first.port, _registry(), Worker())
        with pytest.raises(PortUnavailable, match=rf"127\.0\.0\.1:{first.port}.*worker\.http_port") as caught:
            await second.start()
        assert caught.value.exit_code == exits.UNAVAILABLE


async def test_a_stopped_server_frees_its_port_and_can_be_stopped_again() -> None:
    first = HttpServer("127.0.0.1", 0, _registry(), Worker())
    await first.start()
    await first.stop()
    await first.stop()
    async with HttpServer("127.0.0.1", first.port, _registry(), Worker()) as second:
        assert (await _get(second, "/metrics"))[0] == 200


async def test_the_event_loop_s_delay_is_told_while_it_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.http._TICK", 0.01)
    told: asyncio.Queue[float] = asyncio.Queue()
    async with HttpServer("127.0.0.1", 0, _registry(), Worker(), loop_delay=told.put_nowait):
        assert await told.get() >= 0.0
