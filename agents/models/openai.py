"""A model behind a server that speaks OpenAI's chat completions: vLLM, llama-server, SGLang.

Sends whole, non-streaming chats by plain HTTP. What it promises: every failure leaves as a `ModelError`; answers are constrained by the
schema (`response_format` of type `json_schema`); tokens that came from the server's prefix cache are counted where it tells them (vLLM with
`--enable-prompt-tokens-details`, SGLang with `--enable-cache-report`, llama-server always); cancelling a call closes its connection, upon
which the server stops computing.

The window is the server's own and cannot be asked for: a prompt beyond it is refused, not cut. Models that think are told not to, by
`chat_template_kwargs`; a server that takes no such field (vLLM with Mistral's tokenisers) is asked without it from then on. The protocol
tells no digest of a model, so its identity has none: of several hosts it is not seen whether they serve the same weights.

Behaviour of llama-server by test (xllamacpp 2026.10), of the others by their documentation.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from agents.errors import ModelError, ModelMisbehaved, ModelMissing, ModelRefused, ModelUnreachable
from agents.models.protocol import CallLimits, ChatMessage, ModelIdentity, Purpose, Reply
from agents.models.retrying import retry_after
from agents.models.server import IDENTIFY_SECONDS, NOT_NOW, SHOWN, Server, named

#: What a model that thinks is told; templates of others pass over it.
NO_THINKING = {"chat_template_kwargs": {"enable_thinking": False}}

Answer = TypeVar("Answer", bound=BaseModel)


class _Wire(BaseModel):
    model_config = ConfigDict(protected_namespaces=())


class _Said(_Wire):
    content: str | None = None


class _Choice(_Wire):
    message: _Said | None = None
    finish_reason: str | None = None


class _Details(_Wire):
    cached_tokens: int | None = None


class _Usage(_Wire):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Timings(_Wire):
    """Of llama-server, in milliseconds."""

    prompt_ms: float = 0.0
    predicted_ms: float = 0.0


class _Chat(_Wire):
    error: Any = None
    choices: tuple[_Choice, ...] = ()
    usage: _Usage | None = None
    timings: _Timings | None = None


class _Served(_Wire):
    id: str
    owned_by: str = ""


class _Models(_Wire):
    data: tuple[_Served, ...] = ()


class OpenAIModel:
    """A model of an OpenAI-compatible server.

    Parameters
    ----------
    name
        As the server lists it under /v1/models.
    host
        `http://host:port`, what comes before `/v1`. The environment's proxies are asked for other machines only.
    api_key
        Sent as a bearer token; never part of an error.
    temperature, seed
        Of sampling.
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
        api_key: str | None = None,
        temperature: float = 0.0,
        seed: int = 0,
        connect_timeout: timedelta = timedelta(seconds=2),
        connections: int = 1,
    ) -> None:
        self._name = name
        self._sampling = {"temperature": temperature, "seed": seed}
        self._optional: Mapping[str, Any] = NO_THINKING
        self._identity: ModelIdentity | None = None
        self._server = Server(
            host,
            f"{name} at {host}",
            connect_timeout=connect_timeout,
            connections=connections,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
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
        """Answer a chat; see `LanguageModel`. The purpose makes no difference to the server, and `context_tokens` is not for asking."""
        body: dict[str, Any] = {
            "model": self._name,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "stream": False,
            "max_tokens": max(1, limits.answer_tokens),
            **self._sampling,
        }
        if schema is not None:
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": dict(schema)}}
        started = time.monotonic()
        try:
            chat = await self._ask(_Chat, "POST", "/v1/chat/completions", limits.seconds, {**body, **self._optional})
        except ModelRefused as error:
            if not self._optional or not any(field in str(error) for field in ("chat_template_kwargs", "chat_template is not supported")):
                raise
            self._optional = {}
            left = max(0.0, limits.seconds - (time.monotonic() - started))
            chat = await self._ask(_Chat, "POST", "/v1/chat/completions", left, body)
        return self._reply(chat, time.monotonic() - started)

    async def identify(self) -> ModelIdentity:
        """Ask the server, once, whether it has the model. The identity's backend names the kind of server, where that tells.

        Raises
        ------
        ModelMissing
            It does not; the text lists what it has.
        ModelError
            The server could not be asked.
        """
        if self._identity is None:
            models = await self._ask(_Models, "GET", "/v1/models", IDENTIFY_SECONDS)
            found = next((served for served in models.data if served.id == self._name), None)
            if found is None:
                there = ", ".join(served.id for served in models.data) or "none"
                raise ModelMissing(f"{self._where} is not served; model.name must be one of those that are: {there}"[:SHOWN])
            self._identity = ModelIdentity(self._name, "", f"openai {found.owned_by}".rstrip())
        return self._identity

    def count_tokens(self, text: str) -> int | None:
        """Return None: the protocol has no call that counts tokens."""
        return None

    async def close(self) -> None:
        await self._server.close()

    @property
    def _where(self) -> str:
        return self._server.where

    def _reply(self, chat: _Chat, seconds: float) -> Reply:
        if chat.error:
            raise self._failure(500, str(chat.error), {})
        if not chat.choices or chat.choices[0].message is None:
            raise ModelMisbehaved(f"{self._where} answered without a message")
        said, finish = chat.choices[0].message.content or "", chat.choices[0].finish_reason
        usage, timings = chat.usage or _Usage(), chat.timings or _Timings()
        if finish not in ("stop", "length", None):
            raise ModelMisbehaved(f"{self._where} ended its answer by {finish!r}")
        if not said.strip():
            raise ModelMisbehaved(f"{self._where} answered with an empty text ({usage.completion_tokens or 0} tokens, {finish})")
        return Reply(
            text=said,
            finish="length" if finish == "length" else "stop",
            prompt_tokens=usage.prompt_tokens or None,
            cached_tokens=usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else None,
            output_tokens=usage.completion_tokens or 0,
            seconds=seconds,
            prompt_seconds=timings.prompt_ms / 1e3,
            generate_seconds=timings.predicted_ms / 1e3,
        )

    async def _ask(self, kind: type[Answer], method: str, path: str, seconds: float, body: Mapping[str, Any] | None = None) -> Answer:
        """Make one request; whatever goes wrong becomes a `ModelError`."""
        response = await self._server.ask(method, path, seconds, body)
        if not response.is_success:
            raise self._failure(response.status, response.text, response.headers)
        try:
            return kind.model_validate_json(response.content)
        except ValidationError as error:
            raise ModelMisbehaved(f"{self._where} sent no answer that can be read: {named(error)}") from error

    def _failure(self, status: int, text: str, headers: Mapping[str, str]) -> ModelError:
        """Return the error that a status other than success stands for."""
        said = f"{self._where} answered {status}: {text.strip()[:SHOWN]}"
        if status == 404 and "model" in text.lower():
            return ModelMissing(said)
        if status in (401, 403):
            return ModelRefused(f"{said}; is model.api_key right?")
        if status in NOT_NOW:
            return ModelUnreachable(said, retry_after=retry_after(headers), alive=True)
        if status < 500 or status == 501:
            return ModelRefused(said)
        return ModelUnreachable(said, retry_after=retry_after(headers))
