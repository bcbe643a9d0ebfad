"""A real Ollama with a real model."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import ollama
import pytest

from deploy.services import OllamaServer, StartFailed, list_models
from deploy.services.catalogue import CHATML
from deploy.services.supervisor import Supervisor, birth_of

pytestmark = pytest.mark.integration

TINY = "smollm2:135m"
FEW_TOKENS: dict[str, Any] = {"temperature": 0, "num_predict": 8, "num_ctx": 512}


async def chat(host: str, *messages: tuple[str, str]) -> ollama.ChatResponse:
    client = ollama.AsyncClient(host=host)
    try:
        return await client.chat(TINY, [{"role": role, "content": content} for role, content in messages], options=FEW_TOKENS)
    finally:
        await client.close()  # type: ignore[no-untyped-call]


async def test_it_sends_chatml_and_comes_back_after_a_kill(tmp_path: Path) -> None:
    async with OllamaServer(root=tmp_path, models=[TINY]) as server:
        client = ollama.AsyncClient(host=server.host)
        shown = await client.show(TINY)
        await client.close()  # type: ignore[no-untyped-call]
        assert (shown.template or "").strip() == CHATML.text.strip()

        short = await chat(server.host, ("user", "Hello"))
        assert short.message.content
        # Each message costs its words and the marks around it: what a bare prompt would not have.
        longer = await chat(server.host, ("system", "Hello"), ("user", "Hello"))
        assert short.prompt_eval_count and longer.prompt_eval_count
        marks_and_words = longer.prompt_eval_count - short.prompt_eval_count
        assert marks_and_words >= 5
        assert not any(word in (short.message.content or "") for word in CHATML.stop)

        host, [record] = server.host, Supervisor(tmp_path / "processes.json").records().values()
        await server.stop(signal.SIGKILL)
        assert birth_of(record.pid) is None
        await server.start()
        assert server.host == host
        assert (await chat(server.host, ("user", "Hello"))).message.content
        [record] = Supervisor(tmp_path / "processes.json").records().values()
    assert birth_of(record.pid) is None


async def test_a_server_that_cannot_start_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match=r"(?s)Ollama ended while it was starting.*Log: "):
        async with OllamaServer(root=tmp_path, environment={"OLLAMA_MODELS": "/dev/null/models"}):
            pass


async def test_the_fetched_file_is_the_pinned_one(tmp_path: Path) -> None:
    from deploy.services import fetch_gguf
    from deploy.services.cache import sha256

    model = list_models()[0]
    path = await fetch_gguf(model, cache=tmp_path)
    assert await asyncio.to_thread(sha256, path) == model.sha256
