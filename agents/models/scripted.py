"""A language model that follows a script: the double of every test that needs no real one.

`ScriptedModel` answers from a function or from a list and records what it was asked. `from_settings` makes one that answers any
schema validly from the schema alone, so that a whole worker runs without a model:

    [model]
    backend = "import"
    factory = "agents.models.scripted:from_settings"

It promises nothing about sense: the same schema gets the same answer whatever was asked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.errors import ModelError, ModelRefused
from agents.models.protocol import CallLimits, ChatMessage, ModelIdentity, Purpose, Reply
from schemas.settings import ModelSettings

Schema = Mapping[str, Any]
#: What a script may say: a text, a whole reply, or an error to be raised.
Line = str | Reply | ModelError
Script = Callable[[Sequence[ChatMessage], Schema | None, Purpose], Line] | Iterable[Line]

#: Strings tried in turn where a schema asks for a pattern: a signed number, a number, words.
SAMPLES = ("+0.0", "0.0", "+0", "0", "steady", "Steady.", "steady as before", "+0.00", "0.00", "2024-01-01", "")


@dataclass(frozen=True, slots=True)
class Call:
    """One recorded call."""

    messages: tuple[ChatMessage, ...]
    schema: Schema | None
    limits: CallLimits
    purpose: Purpose
    entity: str = ""
    fresh: bool = False


class ScriptedModel:
    """Answers from a script.

    Parameters
    ----------
    answer
        A function of messages, schema and purpose, or answers in order; a script that has run out raises `LookupError`, which no
        caller takes for a failing model.
    latency
        Awaited before each answer, after the call was recorded: `asyncio.Event().wait`, for one.
    tokens
        The tokeniser. None: `count_tokens` knows nothing, and replies report three characters to a token.
    name
        For `identify`.
    """

    def __init__(
        self,
        answer: Script,
        *,
        latency: Callable[[], Awaitable[object]] | None = None,
        tokens: Callable[[str], int] | None = None,
        name: str = "scripted",
    ) -> None:
        self.calls: list[Call] = []
        self.closed = False
        self._answer = answer if callable(answer) else _in_order(answer)
        self._latency = latency
        self._tokens = tokens
        self._name = name

    async def complete(
        self,
        messages: Sequence[ChatMessage],
        *,
        schema: Schema | None,
        limits: CallLimits,
        purpose: Purpose,
        entity: str = "",
        fresh: bool = False,
    ) -> Reply:
        self.calls.append(Call(tuple(messages), schema, limits, purpose, entity, fresh))
        if self._latency is not None:
            await self._latency()
        line = self._answer(messages, schema, purpose)
        if isinstance(line, ModelError):
            raise line
        if isinstance(line, Reply):
            return line
        tokens = self._tokens or (lambda text: -(-len(text) // 3))
        return Reply(line, "stop", prompt_tokens=sum(tokens(message.content) for message in messages), output_tokens=tokens(line))

    async def identify(self) -> ModelIdentity:
        return ModelIdentity(self._name, "", "scripted")

    def count_tokens(self, text: str) -> int | None:
        return self._tokens(text) if self._tokens else None

    async def close(self) -> None:
        self.closed = True


def from_settings(settings: ModelSettings) -> ScriptedModel:
    """Make the model that answers from the schema alone; the name is the settings' own."""
    return ScriptedModel(answer_from_schema, name=settings.name)


def answer_from_schema(messages: Sequence[ChatMessage], schema: Schema | None, purpose: Purpose) -> str:
    """Return the JSON text of a value that the schema allows, always the same; without a schema a short sentence."""
    return "Steady as before." if schema is None else json.dumps(sample(schema, schema))


def sample(schema: Schema, root: Schema) -> Any:
    """Return one value that a JSON Schema allows: the first enum value, the smallest number, one item of a list.

    Parameters
    ----------
    schema
        What to fill.
    root
        The whole schema, in which `$ref` is looked up.

    Raises
    ------
    ModelRefused
        No sample fits a pattern, or the schema says nothing that is understood here.
    """
    if "$ref" in schema:
        found: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        return sample(found, root)
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return sample(schema[key][0], root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object" if "properties" in schema else None)
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            return {name: sample(part, root) for name, part in schema.get("properties", {}).items()}
        case "array":
            length = min(max(1, schema.get("minItems", 0)), schema.get("maxItems", 1))
            return [sample(schema["items"], root) for _ in range(length)] if "items" in schema else []
        case "integer" | "number":
            return schema.get("minimum", min(0, schema.get("maximum", 0)))
        case "string":
            return _string(schema)
        case "boolean":
            return False
        case "null":
            return None
    raise ModelRefused(f"the scripted model has no value for the schema {dict(schema)}")


def _string(schema: Schema) -> str:
    pattern, shortest, longest = schema.get("pattern", ""), schema.get("minLength", 0), schema.get("maxLength", 1_000_000)
    for text in SAMPLES if pattern else ("Steady as before.", *SAMPLES, "x" * shortest):
        if shortest <= len(text) <= longest and re.search(pattern, text):
            return text
    raise ModelRefused(f"the scripted model has no string for the schema {dict(schema)}")


def _in_order(lines: Iterable[Line]) -> Callable[[Sequence[ChatMessage], Schema | None, Purpose], Line]:
    rest = iter(lines)

    def following(messages: Sequence[ChatMessage], schema: Schema | None, purpose: Purpose) -> Line:
        for line in rest:
            return line
        raise LookupError(f"the script has run out; asked for {purpose}: {messages[-1].content!r}")

    return following
