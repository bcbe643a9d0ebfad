"""What the loop needs of a language model: one coroutine.

Deadlines, retries, slots, routing and remembering are not a backend's business; they stand in front of it (`agents.models.gate`). A backend
speaks to one server.
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
    waited_seconds
        On this side, from the call's arrival until it was sent for the last time: for a slot, for earlier tries, for another call that is
        shared. Not in `seconds`.
    remembered
        No call was made for it: it is the answer to an equal question, now or before. Tokens are those of that call, seconds are 0.
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
    waited_seconds: float = 0.0
    remembered: bool = False


class LanguageModel(Protocol):
    """A frozen language model."""

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
        """Answer a chat; with `schema` the text is constrained to that JSON Schema.

        Parameters
        ----------
        entity
            Whose prompt it is: calls of one entity go where its prompt's prefix is warm. Empty: anywhere. Means nothing to one server.
        fresh
            A remembered answer will not do, because that was refused. Means nothing to what remembers none.

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
