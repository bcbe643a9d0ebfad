"""A server that speaks whatever a test wants, and the real ones: an Ollama server and a GGUF file, both with the smallest model."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
import xllamacpp
from aiohttp import web

from agents.models.protocol import CallLimits, ChatMessage
from deploy.services import OllamaServer, fetch_gguf
from deploy.services.catalogue import find_model

SMALLEST = "smollm2:135m"
#: What the llama-server of the tests wants to be sent.
LLAMA_KEY = "open-sesame"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FakeServer:
    """An HTTP server on a loopback port: answers with `handler`, keeps the JSON bodies of requests by path."""

    def __init__(self) -> None:
        self.handler: Handler | None = None
        self.bodies: list[tuple[str, dict]] = []
        self.url = ""

    def says(self, body: object = None, *, status: int = 200, text: str | None = None) -> None:
        async def handler(request: web.Request) -> web.Response:
            return web.Response(status=status, text=text) if text is not None else web.json_response(body, status=status)

        self.handler = handler

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if request.can_read_body:
            self.bodies.append((request.path, await request.json()))
        assert self.handler is not None
        return await self.handler(request)


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    fake = FakeServer()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", fake.serve)
    # A handler whose caller hangs up is cancelled, so that a test can see it.
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield fake
    await runner.cleanup()


@pytest.fixture
def refusing_url() -> str:
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def limits() -> CallLimits:
    return CallLimits(answer_tokens=32, context_tokens=2048, seconds=30.0)


@pytest.fixture
def messages() -> list[ChatMessage]:
    return [ChatMessage("system", "You forecast the weather."), ChatMessage("user", "Predict: wind north, sky clear.")]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def ollama_host(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with OllamaServer(root=tmp_path_factory.mktemp("ollama"), models=[SMALLEST]) as running:
        yield running.host


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gguf() -> Path:
    return await fetch_gguf(find_model(SMALLEST))


@pytest.fixture(scope="session")
def llama_server(gguf: Path) -> Iterator[str]:
    """llama.cpp's own server, with two slots of 2048 tokens and a key."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(gguf)
    parameters.model_alias = {SMALLEST}
    parameters.n_ctx, parameters.n_parallel, parameters.n_batch = 4096, 2, 128
    parameters.cache_ram_mib = 256
    parameters.api_keys = [LLAMA_KEY]
    parameters.verbosity = 1
    parameters.ui = False
    server = xllamacpp.Server(parameters)
    yield server.listening_address
    del server
