"""What the loop needs of a language model: one coroutine.

Deadlines, retries and slots are not a backend's business; they stand in front of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Role = Literal["system", "user", "assistant"]
Finish = Literal["stop", "length"]
#: What a call is for; a metric label and the key of the token ratio.
Purpose = Literal["predict", "rewrite", "judge", "repair"]


@dataclass(frozen=True, slots=True)
class ChatMessage:
    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Bounds of one call.

    Attributes
    ----------
    answer_tokens
        The answer is cut here (`finish == "length"`); at least 1.
    context_tokens
        The context window asked of the server; the same on every call, since another one reloads the model.
    seconds
        Until the answer must be there.
    """

    answer_tokens: int
    context_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which model answers: name, content digest, backend with its version."""

    name: str
    digest: str
    backend: str


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer.

    Attributes
    ----------
    prompt_tokens
        All tokens of the prompt, cached ones included; None where the server does not say.
    cached_tokens
        How many of them came from the prefix cache; None where the server does not say.
    output_tokens
        Tokens generated.
    seconds
        Wall time of the call, measured on this side.
    load_seconds, prompt_seconds, generate_seconds
        The server's own account; 0 where it gives none. What is missing to `seconds` is its queue.
    """

    text: str
    finish: Finish
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int = 0
    seconds: float = 0.0
    load_seconds: float = 0.0
    prompt_seconds: float = 0.0
    generate_seconds: float = 0.0


class LanguageModel(Protocol):
    """A frozen language model."""

    async def complete(
        self, messages: Sequence[ChatMessage], *, schema: Mapping[str, Any] | None, limits: CallLimits, purpose: Purpose
    ) -> Reply:
        """Answer a chat; with `schema` the text is constrained to that JSON Schema.

        Raises
        ------
        agents.errors.ModelError
            Every failure, as one of its subclasses. Cancelling the task closes the connection.
        """
        ...

    async def identify(self) -> ModelIdentity:
        """Which model this is; asks the server once. Raises `ModelError`."""
        ...

    def count_tokens(self, text: str) -> int | None:
        """Exact tokens of a text, or None where the backend offers no tokeniser."""
        ...

    async def close(self) -> None:
        """Let go of connections; pending calls end."""
        ...
