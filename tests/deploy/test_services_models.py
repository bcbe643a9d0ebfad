"""Where a model comes from, and in what form the server will send it prompts."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from deploy.services import StartFailed, TemplateMismatch, UnknownModel, pull
from deploy.services import models as module
from deploy.services.catalogue import CHATML, Model, Part

CONTENT = b"GGUF and so on"
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()
TINY = Model(
    name="tiny:1b",
    weights="",
    use="",
    licence="MIT",
    template="chatml",
    sha256=CHECKSUM,
    size=len(CONTENT),
    part=(Part(package="tiny==1", file="tiny.bin", size=len(CONTENT), sha256=CHECKSUM),),
)


class Server:
    """Ollama's protocol, with a library that answers as it is told to."""

    def __init__(self) -> None:
        self.host = ""
        self.templates: dict[str, str] = {}
        self.blobs: dict[str, bytes] = {}
        self.created: list[dict[str, Any]] = []
        self.pulled: list[str] = []
        self.library = "unreachable"
        self.keeps_template = True
        self.refuses = False

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/api/show", self.show)
        app.router.add_post("/api/pull", self.pull)
        app.router.add_post("/api/create", self.create)
        app.router.add_post("/api/blobs/{digest}", self.put_blob)
        app.router.add_get("/api/blobs/{digest}", self.get_blob)  # and HEAD
        return app

    async def show(self, request: web.Request) -> web.Response:
        name = (await request.json())["model"]
        if name not in self.templates:
            return web.json_response({"error": f"model '{name}' not found"}, status=404)
        stop = "\n".join(f'stop    "{word}"' for word in CHATML.stop)
        return web.json_response({"template": self.templates[name], "parameters": stop, "model_info": {}})

    async def pull(self, request: web.Request) -> web.StreamResponse:
        name = (await request.json())["model"]
        self.pulled.append(name)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"status":"pulling manifest"}\n')
        match self.library:
            case "unreachable":
                error = 'pull model manifest: Get "https://somewhere": dial tcp: lookup somewhere: no such host'
                await response.write(json.dumps({"error": error}).encode() + b"\n")
            case "silent":
                await asyncio.Event().wait()
            case _:
                await response.write(b'{"status":"pulling 1234","completed":5,"total":10}\n{"status":"success"}\n')
                self.templates[name] = "the library's own"
        return response

    async def create(self, request: web.Request) -> web.Response:
        body = await request.json()
        if self.refuses:
            return web.json_response({"error": "unsupported architecture"}, status=500)
        self.created.append(body)
        self.templates[body["model"]] = body["template"] if self.keeps_template else "{{ .Prompt }}"
        return web.json_response({"status": "success"})

    async def put_blob(self, request: web.Request) -> web.Response:
        self.blobs[request.match_info["digest"]] = await request.read()
        return web.Response(status=201)

    async def get_blob(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if request.match_info["digest"] in self.blobs else 404)


class Told(list[tuple[str, str, float | None]]):
    def __call__(self, step: str, text: str, fraction: float | None = None) -> None:
        self.append((step, text, fraction))


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    runner = web.AppRunner(server.app(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.host = f"http://{host}:{port}"
    yield server
    await runner.cleanup()


@pytest.fixture(autouse=True)
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Packages that hold one tiny model; the list says what was taken from them."""
    fetched: list[str] = []

    async def fetch(model: Model, **_: Any) -> Path:
        fetched.append(model.name)
        path = tmp_path / model.file_name
        await asyncio.to_thread(path.write_bytes, CONTENT)
        return path

    def find(name: str) -> Model:
        if name != TINY.name:
            raise UnknownModel(f"No package is known for the model {name!r}")
        return TINY

    monkeypatch.setattr(module, "fetch_gguf", fetch)
    monkeypatch.setattr(module, "find_model", find)
    return fetched


async def test_the_library_is_asked_first(server: Server, packages: list[str]) -> None:
    server.library = "reachable"
    told = Told()
    await pull("tiny:1b", server.host, progress=told)
    assert packages == []
    assert ("tiny:1b", "pulling from Ollama's library: pulling 1234", 0.5) in told


async def test_packages_follow_where_the_library_cannot_be_reached(server: Server, packages: list[str]) -> None:
    told = Told()
    await pull("tiny:1b", server.host, progress=told)
    assert packages == ["tiny:1b"]
    assert server.blobs == {f"sha256:{CHECKSUM}": CONTENT}
    [created] = server.created
    assert created["files"] == {"tiny-1b.gguf": f"sha256:{CHECKSUM}"}
    assert created["template"] == CHATML.text
    assert created["parameters"] == {"stop": ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]}
    assert any("no such host" in text and "Python packages" in text for _, text, _ in told)


async def test_a_library_that_never_answers_is_given_up(server: Server, packages: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIBRARY_FIRST_NEWS", 0.05)
    server.library = "silent"
    await pull("tiny:1b", server.host)
    assert packages == ["tiny:1b"]


async def test_a_model_that_the_server_has_is_left_alone(server: Server, packages: list[str]) -> None:
    server.templates["tiny:1b"] = "its own"
    await pull("tiny:1b", server.host)
    assert (server.pulled, packages, server.created) == ([], [], [])


async def test_a_model_that_the_server_has_with_bare_prompts_is_made_anew(server: Server) -> None:
    server.templates["tiny:1b"] = "{{ .Prompt }}"
    await pull("tiny:1b", server.host, library=False)
    assert server.templates["tiny:1b"] == CHATML.text


async def test_a_file_that_the_server_has_is_not_sent_again(server: Server) -> None:
    server.blobs[f"sha256:{CHECKSUM}"] = b"sent before"
    await pull("tiny:1b", server.host, library=False)
    assert server.blobs == {f"sha256:{CHECKSUM}": b"sent before"}
    assert server.created


async def test_a_server_that_drops_the_template_is_found_out(server: Server) -> None:
    server.keeps_template = False
    with pytest.raises(TemplateMismatch, match="another prompt template"):
        await pull("tiny:1b", server.host, library=False)


async def test_a_server_that_refuses_the_model_is_told_with_its_reason(server: Server) -> None:
    server.refuses = True
    with pytest.raises(StartFailed, match="unsupported architecture"):
        await pull("tiny:1b", server.host, library=False)


async def test_a_model_that_nobody_has_is_told_with_both_reasons(server: Server) -> None:
    with pytest.raises(UnknownModel, match=r"no such host.*No package is known"):
        await pull("huge:1t", server.host)
