"""A model behind an Ollama server.

Sends whole, non-streaming chats by plain HTTP. The official client's `chat()` has no `truncate` and `shift`, and drops
`prompt_eval_cached_count`; what it stands on takes ten times as much processor time (`agents.models.server`).

What it promises: every failure leaves as a `ModelError`; every call of one model carries the same load options (`num_ctx`,
`num_thread`), because another set makes the server load the model anew; cancelling a call closes its connection, upon which the
server stops computing.

What it leaves to others: HTTP (`agents.models.server`); waiting for a slot, retries and the deadline of the whole call
(`agents.models.gate`); noticing a prompt that the server cut without a word (`agents.budget`): servers before 0.12.4 know neither
`truncate` nor `shift` and ignore them.

Behaviour of the server by its source, v0.11.4 and v0.33.0.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from agents.errors import ModelError, ModelMisbehaved, ModelMissing, ModelRefused, ModelUnreachable
from agents.models.protocol import CallLimits, ChatMessage, ModelIdentity, Purpose, Reply
from agents.models.retrying import retry_after
from agents.models.server import IDENTIFY_SECONDS, NOT_NOW, SHOWN, Response, Server, named

#: The template of a model whose chat format the server does not know: prompts would reach it bare, roles and all left out.
RAW_TEMPLATE = "{{ .Prompt }}"
#: Texts of status 500 that blame the request: its schema, its grammar, its length.
AT_FAULT = re.compile(r"json schema|grammar|invalid format|required for format|context (length|size)|exceed_context", re.IGNORECASE)
#: Where a server listens whose address names neither scheme nor port.
PORT = 11434

Answer = TypeVar("Answer", bound=BaseModel)


class _Wire(BaseModel):
    model_config = ConfigDict(protected_namespaces=())


class _Said(_Wire):
    content: str = ""


class _Chat(_Wire):
    """An answer of /api/chat; durations in nanoseconds."""

    error: Any = None
    message: _Said | None = None
    done: bool = False
    done_reason: str | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    #: Servers from about 0.34 on.
    prompt_eval_cached_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None


class _Show(_Wire):
    template: str | None = None
    #: Servers from 0.12 on: a renderer of the server's own, instead of the template.
    renderer: str | None = None
    capabilities: tuple[str, ...] | None = None


class _Tag(_Wire):
    name: str
    digest: str


class _Tags(_Wire):
    models: tuple[_Tag, ...] | None = None


class _Version(_Wire):
    version: str


class OllamaModel:
    """A model of an Ollama server.

    Parameters
    ----------
    name
        As the server lists it; without a tag, `:latest` is meant.
    host
        `http://host:port`, or `host` alone. The environment's proxies are asked for other machines only. OLLAMA_API_KEY of the environment
        goes with each request, for a server behind a gateway that asks for it.
    temperature, seed
        Of sampling. Equal prompts get equal answers only from an equal prefix cache (llama.cpp): record answers, do not ask again.
    threads
        For inference; None leaves it to the server.
    keep_alive
        How long the model stays loaded after a call: seconds, a duration as in Go (`10m`), or a negative number for ever.
    connect_timeout
        Within which the server must take a connection.
    connections
        Calls at once; a few more are allowed for questions about the model.

    Raises
    ------
    ModelRefused
        The host is no address.
    """

    def __init__(
        self,
        name: str,
        host: str,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        threads: int | None = None,
        keep_alive: str = "-1",
        connect_timeout: timedelta = timedelta(seconds=2),
        connections: int = 1,
    ) -> None:
        self._name = name
        self._host = host
        self._options: dict[str, Any] = {"temperature": temperature, "seed": seed}
        if threads is not None:
            self._options["num_thread"] = threads
        self._keep_alive = _keep_alive(keep_alive)
        self._identity: ModelIdentity | None = None
        key = os.environ.get("OLLAMA_API_KEY")
        self._server = Server(
            _address(host),
            f"{name} at {host}",
            connect_timeout=connect_timeout,
            connections=connections,
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )

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
        """Answer a chat; see `LanguageModel`. The purpose makes no difference to the server."""
        body: dict[str, Any] = {
            "model": self._name,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "stream": False,
            # Left out, a thinking model spends hundreds of hidden tokens.
            "think": False,
            # A prompt or an answer that outgrows the window should be an error, not a prompt without its beginning.
            "truncate": False,
            "shift": False,
            "keep_alive": self._keep_alive,
            # Left out, num_predict means ten times the window; 0 means no bound to some servers.
            "options": {**self._options, "num_ctx": limits.context_tokens, "num_predict": max(1, limits.answer_tokens)},
        }
        if schema is not None:
            body["format"] = dict(schema)
        started = time.monotonic()
        chat = await self._ask(_Chat, "POST", "/api/chat", limits.seconds, body)
        seconds = time.monotonic() - started
        if chat.error:
            raise self._failure(500, str(chat.error))
        if chat.message is None:
            raise ModelMisbehaved(f"{self._where} answered without a message")
        if not chat.done:
            # The server cuts more than 30 equal tokens in a row like this, with status 200 and without its closing record.
            said = chat.message.content[-SHOWN:]
            raise ModelMisbehaved(f"{self._where} broke its answer off; the model was repeating itself: {said!r}")
        if chat.done_reason not in ("stop", "length", None):
            raise ModelMisbehaved(f"{self._where} ended its answer by {chat.done_reason!r}")
        if not chat.message.content.strip():
            raise ModelMisbehaved(f"{self._where} answered with an empty text ({chat.eval_count or 0} tokens, {chat.done_reason})")
        return Reply(
            text=chat.message.content,
            finish="length" if chat.done_reason == "length" else "stop",
            # No prompt is empty; some servers say 0 when all of it was cached.
            prompt_tokens=chat.prompt_eval_count or None,
            cached_tokens=chat.prompt_eval_cached_count,
            output_tokens=chat.eval_count or 0,
            seconds=seconds,
            load_seconds=(chat.load_duration or 0) / 1e9,
            prompt_seconds=(chat.prompt_eval_duration or 0) / 1e9,
            generate_seconds=(chat.eval_duration or 0) / 1e9,
        )

    async def identify(self) -> ModelIdentity:
        """Ask the server, once, which model this is, and whether it can chat with it.

        Raises
        ------
        ModelMissing
            The server does not have it.
        ModelRefused
            It is no chat model, or the server does not know its chat template and would send it bare prompts.
        ModelError
            The server could not be asked.
        """
        if self._identity is None:
            show = await self._ask(_Show, "POST", "/api/show", IDENTIFY_SECONDS, {"model": self._name})
            if show.capabilities is not None and "completion" not in show.capabilities:
                raise ModelRefused(f"{self._where} cannot chat; it can: {', '.join(show.capabilities)}")
            if not show.renderer and (show.template or "").strip() in ("", RAW_TEMPLATE):
                raise ModelRefused(
                    f"{self._where} has no chat template, so the server would drop all roles without a word; create it with a "
                    f"TEMPLATE in its Modelfile, or get it by `palimpsest models pull {self._name}`"
                )
            tags = await self._ask(_Tags, "GET", "/api/tags", IDENTIFY_SECONDS)
            names = {self._name.lower(), f"{self._name}:latest".lower()}
            digests = [tag.digest for tag in tags.models or () if tag.name.lower() in names]
            version = await self._ask(_Version, "GET", "/api/version", IDENTIFY_SECONDS)
            self._identity = ModelIdentity(self._name, digests[0] if digests else "", f"ollama {version.version}")
        return self._identity

    def count_tokens(self, text: str) -> int | None:
        """Return None: the server has no call that counts tokens."""
        return None

    async def close(self) -> None:
        await self._server.close()

    @property
    def _where(self) -> str:
        return self._server.where

    async def _ask(self, kind: type[Answer], method: str, path: str, seconds: float, body: Mapping[str, Any] | None = None) -> Answer:
        """Make one request; whatever goes wrong becomes a `ModelError`."""
        response = await self._server.ask(method, path, seconds, body)
        if not response.is_success:
            raise self._failure(response.status, _reason(response), response.headers)
        try:
            return kind.model_validate_json(response.content)
        except ValidationError as error:
            raise ModelMisbehaved(f"{self._where} sent no answer that can be read: {named(error)}") from error

    def _failure(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> ModelError:
        """Return the error that a status other than success stands for."""
        said = f"{self._where} answered {status}: {text.strip()[:SHOWN]}"
        if status == 404 and "model" in text.lower():
            return ModelMissing(f"{said}; `palimpsest models pull {self._name}` gets it")
        if status not in NOT_NOW and (status < 500 or status == 501 or AT_FAULT.search(text)):
            return ModelRefused(said)
        return ModelUnreachable(said, retry_after=retry_after(headers or {}), alive=status in NOT_NOW)


def _keep_alive(text: str) -> float | str:
    """Return a number as a number: the server reads `"-1"` as a Go duration without a unit, and refuses the call."""
    try:
        seconds = float(text)
    except ValueError:
        return text
    return int(seconds) if seconds.is_integer() else seconds


def _reason(response: Response) -> str:
    """What a failure says about itself: the text of its `error`, or all of it where it has none."""
    try:
        found = from_json(response.content)
    except ValueError:
        return response.text
    said = found.get("error") if isinstance(found, dict) else None
    return response.text if said is None else str(said)


def _address(host: str) -> str:
    """Return an address with its scheme, and without one with the port at which Ollama listens.

    Examples
    --------
    >>> _address("gpu-1"), _address("gpu-1:8080"), _address("https://model.example")
    ('http://gpu-1:11434', 'http://gpu-1:8080', 'https://model.example')
    """
    if "://" in host:
        return host
    name, slash, path = host.partition("/")
    return f"http://{name if re.search(r':[0-9]+$', name) else f'{name}:{PORT}'}{slash}{path}"
