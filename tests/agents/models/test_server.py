"""What every request to a server owes, whichever protocol its backend speaks."""

from __future__ import annotations

import asyncio
import ssl
from datetime import timedelta

import pytest
from aiohttp import web

from agents.errors import ModelRefused, ModelTimeout, ModelUnreachable
from agents.models.addresses import proxy_of
from agents.models.server import Server

SECONDS = 60.0


@pytest.fixture
def make():
    def build(host, **more):
        return Server(host, "small:1b", connect_timeout=timedelta(seconds=SECONDS), connections=1, **more)

    return build


async def test_an_answer_is_status_headers_of_any_case_and_body_and_carries_the_headers_of_every_request(server, make):
    asked = []

    async def handler(request):
        asked.append((request.method, request.path, request.headers["Content-Type"], request.headers["X-Key"]))
        return web.Response(status=418, headers={"Retry-After": "7"}, body=b"\xfftea")

    server.handler = handler
    one = make(f"{server.url}/behind/", headers={"X-Key": "k"})
    response = await one.ask("POST", "/api/chat", SECONDS, {"n": 1})
    await one.close()
    assert (response.status, response.is_success, response.headers["retry-after"], response.text) == (418, False, "7", "\ufffdtea")
    assert asked == [("POST", "/behind/api/chat", "application/json", "k")]
    assert server.bodies == [("/behind/api/chat", {"n": 1})]


async def test_the_bound_is_one_of_the_whole_request_for_a_body_that_never_ends_is_never_silent(server, make):
    hung_up = asyncio.Event()

    async def handler(request):
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b" ")
                await asyncio.sleep(0.01)
        finally:
            hung_up.set()

    server.handler = handler
    one = make(server.url)
    with pytest.raises(ModelTimeout):
        await one.ask("GET", "/", 0.3)
    await asyncio.wait_for(hung_up.wait(), SECONDS)
    await one.close()


async def test_a_connection_is_used_again_and_a_broken_one_does_not_make_a_prompt_go_out_twice(server, make):
    seen = []

    async def handler(request):
        seen.append(request.transport.get_extra_info("peername"))
        if len(seen) == 2:
            request.transport.abort()
        return web.json_response({})

    server.handler = handler
    one = make(server.url)
    await one.ask("POST", "/", SECONDS, {})
    with pytest.raises(ModelUnreachable):
        await one.ask("POST", "/", SECONDS, {})
    await one.ask("POST", "/", SECONDS, {})
    await one.close()
    first, second, third = seen
    assert first == second != third


async def test_a_redirect_is_an_answer_and_its_target_is_not_asked(server, make):
    async def handler(request):
        raise web.HTTPTemporaryRedirect(f"{server.url}/elsewhere")

    server.handler = handler
    one = make(server.url)
    assert (await one.ask("POST", "/here", SECONDS, {})).status == 307
    await one.close()
    assert [path for path, _ in server.bodies] == ["/here"]


async def test_a_server_whose_certificate_nobody_vouches_for_is_not_asked(make, tmp_path):
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1")
    made = await asyncio.create_subprocess_exec(
        *command, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate),
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert await made.wait() == 0
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    asked = []

    async def handler(request):
        asked.append(request.path)
        return web.json_response({})

    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    host = f"https://localhost:{runner.addresses[0][1]}"
    stranger = make(host)
    with pytest.raises(ModelUnreachable, match="certificate"):
        await stranger.ask("POST", "/", SECONDS, {})
    await stranger.close()
    assert asked == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(certificate))
        known = make(host)
        assert (await known.ask("POST", "/", SECONDS, {})).is_success
        await known.close()
    await runner.cleanup()


async def test_a_proxy_of_the_environment_is_asked_for_another_machine(server, make, monkeypatch):
    for name in ("http_proxy", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", server.url)
    server.says({"through": "the proxy"})
    one = make("http://model.invalid:11434")
    assert (await one.ask("GET", "/api/tags", SECONDS)).text == '{"through": "the proxy"}'
    await one.close()


@pytest.mark.parametrize(
    ("environment", "host", "proxy"),
    [
        ({"HTTP_PROXY": "http://p:1"}, "http://model.example:11434", "http://p:1"),
        ({"http_proxy": "p:1"}, "http://model.example", "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, "https://model.example", None),
        ({"ALL_PROXY": "http://p:1"}, "https://model.example", "http://p:1"),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "example"}, "https://model.example:8443", None),
        ({"ALL_PROXY": "http://p:1"}, "http://127.0.0.1:11434", None),
        ({}, "http://model.example", None),
    ],
)
def test_the_proxy_is_the_environments_but_for_this_machine_and_for_what_it_excepts(monkeypatch, environment, host, proxy):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_of(host) == proxy


def test_a_proxy_of_another_protocol_is_refused_before_anything_is_asked(make, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALL_PROXY", "socks5://p:1")
    with pytest.raises(ModelRefused, match="proxy"):
        make("http://model.example")


async def test_a_key_that_is_no_header_is_refused(server, make):
    one = make(server.url, headers={"Authorization": "Bearer two\nlines"})
    with pytest.raises(ModelRefused):
        await one.ask("GET", "/", SECONDS)
    await one.close()


@pytest.mark.parametrize("host", ["model.example:8000", "ftp://model.example", "http://", "http://[::1", "http://model.example:port"])
def test_what_is_no_address_is_refused_before_anything_is_asked(make, host):
    with pytest.raises(ModelRefused, match="no address"):
        make(host)
