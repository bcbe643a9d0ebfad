"""A model that runs inside this process: llama.cpp by way of xllamacpp, from a GGUF file.

For trying things out where Ollama cannot be had. It shares the worker's processors and memory, and a crash of llama.cpp ends the
worker; so it is not the backend for production.

Calls are computed one after another on a thread of their own (llama.cpp lets go of Python's lock meanwhile): the event loop never
waits for inference. A cancelled or late call that has not begun is dropped; one that is being computed stops at the next token, or at the
next batch of its prompt (`BATCH` tokens), and the next call begins after that. So a stopped call costs the one behind it at most a batch.

A prompt that does not fit the window is refused, never cut. Answers are constrained by a grammar made from the schema, without free
whitespace. A schema that is none does not fail: llama.cpp says so on standard error and answers freely; callers parse strictly anyway.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, TypeVar

import httpx

from agents.errors import ModelError, ModelMisbehaved, ModelMissing, ModelRefused, ModelTimeout, ModelUnreachable
from agents.models.protocol import CallLimits, ChatMessage, ModelIdentity, Purpose, Reply

#: Tokens of a prompt computed in one go: how late a call notices that it was cancelled (about 2 s for a 1.5B model on 2 cores). There,
#: larger batches, up to llama.cpp's own 2048, were no faster beyond the noise.
BATCH = 128
#: Memory for the prefixes of prompts that other prompts have displaced, MiB. llama.cpp's own bound of 8 GiB would end the worker on a small
#: machine. A token of a 1.5B model takes about 28 kB, so this keeps some thirty prompts of 1200 tokens warm.
PREFIX_CACHE = 1024
#: JSON on one line. Where whitespace is free, as in llama.cpp's `response_format`, small models fill the answer's bound with line breaks:
#: 43 tokens instead of 28 for one and the same answer. Read by llguidance, which xllamacpp's wheels carry; other builds pass over it.
ONE_LINE = {"x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}}
#: llama.cpp's log level: errors.
ERRORS_ONLY = 1
#: Texts whose token count is remembered: the system message of each entity comes again with every call.
COUNTED = 1024
#: Seconds after which a count is given up; the event loop waits for it.
COUNT_SECONDS = 1.0

Result = TypeVar("Result")


class EmbeddedModel:
    """A GGUF file, run in this process.

    The model is loaded at the first call or by `identify`. The window is `context_tokens`; a call that asks for a larger one loads the
    model anew, as an Ollama server would.

    Parameters
    ----------
    name
        For `identify`.
    path
        The GGUF file. Its own chat template is used.
    context_tokens
        The window to load it with.
    temperature, seed
        Of sampling.
    threads
        For inference; None leaves it to llama.cpp.
    """

    def __init__(
        self, name: str, path: Path, *, context_tokens: int, temperature: float = 0.0, seed: int = 0, threads: int | None = None
    ) -> None:
        self._name = name
        self._path = path
        self._context = context_tokens
        self._sampling = {"temperature": temperature, "seed": seed}
        self._threads = threads
        self._server: Any = None
        self._http: httpx.Client | None = None
        self._identity: ModelIdentity | None = None
        self._closed = threading.Event()
        # One thread is one slot; its queue is in the order of arrival.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedded-model")
        self._count = lru_cache(maxsize=COUNTED)(self._ask_for_count)

    async def complete(
        self,
        messages: Sequence[ChatMessage],
        *,
        schema: Mapping[str, Any] | None,
        limits: CallLimits,
        purpose: Purpose,
        entity: str = "",
        fresh: bool = False,
    ) -> Reply:
        """Answer a chat; see `LanguageModel`. `seconds` of the reply do not count the wait for the thread."""
        request: dict[str, Any] = {
            **self._sampling,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "max_tokens": max(1, limits.answer_tokens),
            "cache_prompt": True,
            "stream": True,
            "stream_options": {"include_usage": True},
            # Without news of the prompt there would be no chance to stop before the first token.
            "return_progress": True,
        }
        stop = threading.Event()
        try:
            async with asyncio.timeout(limits.seconds):
                return await self._on_thread(lambda: self._complete(request, schema, limits.context_tokens, stop))
        except TimeoutError as error:
            raise ModelTimeout(f"{self._where} gave no answer within {limits.seconds:.1f} s") from error
        finally:
            stop.set()

    async def identify(self) -> ModelIdentity:
        """Load the model and return its name, the SHA-256 of its file, and the version of xllamacpp.

        Raises
        ------
        ModelMissing
            xllamacpp is not installed, or the file is not there.
        ModelRefused
            The file cannot be loaded.
        """
        return await self._on_thread(self._identify)

    def count_tokens(self, text: str) -> int | None:
        """Return the exact number of tokens, special ones of the chat template not included; None before the model is loaded.

        Takes some 2 ms for 1600 tokens, also while an answer is being computed.
        """
        try:
            return self._count(text)
        except (httpx.HTTPError, RuntimeError):  # not loaded, or just being unloaded
            return None

    async def close(self) -> None:
        """Stop what is being computed and unload the model; calls after that are refused."""
        if self._closed.is_set():
            return
        self._closed.set()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._unload)
        self._thread.shutdown(wait=False)

    @property
    def _where(self) -> str:
        return f"{self._name} from {self._path}"

    async def _on_thread(self, work: Callable[[], Result]) -> Result:
        if self._closed.is_set():
            raise ModelRefused(f"{self._where} was closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _complete(self, request: dict[str, Any], schema: Mapping[str, Any] | None, context: int, stop: threading.Event) -> Reply:
        answer = _Stream(lambda: stop.is_set() or self._closed.is_set())
        if answer.stopped():
            raise ModelTimeout(f"{self._where} was not asked: the call ended before its turn")
        server = self._loaded(context)
        started = time.monotonic()
        try:
            if schema is not None:
                request["grammar"] = import_module("xllamacpp").json_schema_to_grammar({**schema, **ONE_LINE})
            server.handle_chat_completions(request, answer.take)
        except Exception as error:  # ValueError for a bad field, TypeError for text that is no UTF-8, …
            raise ModelRefused(f"{self._where} cannot be asked this: {type(error).__name__}: {error}") from error
        return answer.reply(self._where, time.monotonic() - started)

    def _loaded(self, context: int) -> Any:
        if self._server is not None and context <= self._context:
            return self._server
        try:
            xllamacpp = import_module("xllamacpp")
        except ImportError as error:
            raise ModelMissing(f"the embedded model needs the package xllamacpp, which cannot be imported here: {error}") from error
        if not self._path.is_file():
            raise ModelMissing(f"there is no model file {self._path}; `palimpsest models pull {self._name}` gets it")
        self._unload()
        self._context = max(context, self._context)
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(self._path)
        parameters.n_ctx = self._context
        parameters.n_parallel = 1
        parameters.n_batch = BATCH
        parameters.cache_ram_mib = PREFIX_CACHE
        parameters.verbosity = ERRORS_ONLY
        # xllamacpp always listens on a loopback port of its own, which here serves for counting tokens: with a key, nobody else does.
        key = secrets.token_hex()
        parameters.api_keys = [key]
        parameters.ui = False
        parameters.endpoint_slots = False
        if self._threads is not None:
            parameters.cpuparams.n_threads = self._threads
        try:
            self._server = xllamacpp.Server(parameters)
        except RuntimeError as error:
            raise ModelRefused(f"llama.cpp cannot load {self._path} with a window of {self._context} tokens: {error}") from error
        self._http = httpx.Client(
            base_url=self._server.listening_address, headers={"Authorization": f"Bearer {key}"}, trust_env=False, timeout=COUNT_SECONDS
        )
        return self._server

    def _unload(self) -> None:
        if self._http is not None:
            self._http.close()
        self._http = self._server = None

    def _identify(self) -> ModelIdentity:
        self._loaded(self._context)
        if self._identity is None:
            with self._path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            self._identity = ModelIdentity(self._name, digest, f"xllamacpp {metadata.version('xllamacpp')}")
        return self._identity

    def _ask_for_count(self, text: str) -> int:
        http = self._http
        if http is None:
            raise RuntimeError("the model is not loaded")
        answer = http.post("/tokenize", json={"content": text, "add_special": False})
        answer.raise_for_status()
        return len(answer.json()["tokens"])


class _Stream:
    """Gathers the pieces of one answer, and tells llama.cpp after each whether to stop."""

    def __init__(self, stopped: Callable[[], bool]) -> None:
        self.stopped = stopped
        self._text: list[str] = []
        self._finish: str | None = None
        self._usage: Mapping[str, Any] = {}
        self._timings: Mapping[str, Any] = {}
        self._error: Mapping[str, Any] | None = None

    def take(self, piece: Mapping[str, Any]) -> bool:
        """Take a piece; True stops the computing. Must not raise: xllamacpp drops exceptions."""
        self._error = piece.get("error", self._error)
        self._usage = piece.get("usage") or self._usage
        self._timings = piece.get("timings") or self._timings
        for choice in piece.get("choices", ()):
            self._text.append(choice.get("delta", {}).get("content") or "")
            self._finish = choice.get("finish_reason") or self._finish
        return self.stopped()

    def reply(self, where: str, seconds: float) -> Reply:
        text = "".join(self._text)
        if self._error is not None:
            raise _failure(where, self._error)
        if self._finish is None:
            raise ModelTimeout(f"{where} was stopped after {len(text)} characters: the call was cancelled or the model closed")
        if not text.strip():
            raise ModelMisbehaved(f"{where} answered with an empty text ({self._finish})")
        return Reply(
            text=text,
            finish="length" if self._finish == "length" else "stop",
            prompt_tokens=self._usage.get("prompt_tokens"),
            cached_tokens=(self._usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
            output_tokens=self._usage.get("completion_tokens", 0),
            seconds=seconds,
            prompt_seconds=self._timings.get("prompt_ms", 0.0) / 1e3,
            generate_seconds=self._timings.get("predicted_ms", 0.0) / 1e3,
        )


def _failure(where: str, error: Mapping[str, Any]) -> ModelError:
    text = f"{where}: {error.get('message', json.dumps(dict(error)))}"
    return ModelRefused(text) if 400 <= error.get("code", 500) < 500 else ModelUnreachable(text)
