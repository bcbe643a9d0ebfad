"""A language model that is slow, fails, and never says the same twice: a second call for one observation shows in what was published.

    [model]
    backend = "import"
    factory = "tests.chaos.stub_model:from_settings"

Its chance is the operating system's, not the campaign's seed: an answer that could be repeated would hide a repeated call. It is away
as long as the file named by `OUTAGE_VARIABLE` exists, for calls that are under way too.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.errors import ModelError, ModelMisbehaved, ModelTimeout, ModelUnreachable
from agents.models.protocol import CallLimits, ChatMessage, ModelIdentity, Purpose, Reply
from schemas.settings import ModelSettings

Schema = Mapping[str, Any]

#: Environment variable with the path of the file whose presence is the outage.
OUTAGE_VARIABLE = "CHAOS_MODEL_OUTAGE"
#: Shares of calls that fail, and whose answer is no JSON.
FAILING, RAMBLING = 0.03, 0.02
#: Upper ends of a call's seconds, with their shares: most are quick, some take as long as a busy model.
LATENCIES = ((0.90, 0.02), (0.09, 0.2), (0.01, 2.0))
#: Notes on the fields that `tests.chaos.load` sends; the empty one is always allowed.
NOTES = ("High wind then more follows.", "Low wind then less follows.", "With sky clear more follows.", "With sky cloudy less follows.", "")


class StubModel:
    """Answers any of this program's schemas validly and at random.

    Parameters
    ----------
    outage
        The model is away while this file exists; None: never.
    chance
        Randomness of answers, latency and failures.
    sleep
        Awaited with the seconds that a call takes.
    """

    def __init__(
        self,
        outage: Path | None = None,
        *,
        chance: random.Random | None = None,
        sleep: Callable[[float], Any] = asyncio.sleep,
    ) -> None:
        self._outage = outage
        self._chance = chance or random.SystemRandom()
        self._sleep = sleep

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
        self._refuse_while_away()
        seconds = self._latency()
        await self._sleep(seconds)
        self._refuse_while_away()
        roll = self._chance.random()
        if roll < FAILING:
            raise self._chance.choice(_FAILURES)
        text = "I would rather not say." if roll < FAILING + RAMBLING else json.dumps(answer(schema or {"type": "string"}, self._chance))
        return Reply(text, "stop", output_tokens=len(text) // 3, seconds=seconds)

    async def identify(self) -> ModelIdentity:
        # Without a digest, so that no answer is remembered for an equal question.
        return ModelIdentity("stub", "", "chaos")

    def count_tokens(self, text: str) -> int | None:
        return len(text) // 3

    async def close(self) -> None:
        """Nothing is open."""

    def _latency(self) -> float:
        (longest,) = self._chance.choices([end for _, end in LATENCIES], [share for share, _ in LATENCIES])
        return self._chance.uniform(0.0, longest)

    def _refuse_while_away(self) -> None:
        if self._outage is not None and self._outage.exists():
            raise ModelUnreachable("the stub model is away")


_FAILURES: tuple[ModelError, ...] = (
    ModelUnreachable("connection reset"),
    ModelTimeout("no answer in time"),
    ModelMisbehaved("an empty answer"),
)


def from_settings(settings: ModelSettings) -> StubModel:
    """The model of a worker; the outage's file is named by the environment."""
    path = os.environ.get(OUTAGE_VARIABLE)
    return StubModel(Path(path) if path else None)


def answer(schema: Schema, chance: random.Random) -> Any:
    """A random value that a JSON Schema of this program allows.

    Raises
    ------
    ModelMisbehaved
        The schema asks for something that this model has no words for.
    """
    if "enum" in schema:
        return chance.choice(list(schema["enum"]))
    match schema.get("type"):
        case "object":
            return {name: answer(part, chance) for name, part in schema["properties"].items()}
        case "array":
            length = chance.randint(max(1, schema.get("minItems", 0)), min(3, schema.get("maxItems", 3)))
            return [answer(schema["items"], chance) for _ in range(length)]
        case "string":
            return _text(schema, chance)
        case "integer":
            return chance.randint(schema.get("minimum", 0), schema.get("maximum", 10))
    raise ModelMisbehaved(f"no answer for the schema {dict(schema)}")


def _text(schema: Schema, chance: random.Random) -> str:
    pattern = schema.get("pattern")
    if pattern is None:
        return chance.choice(NOTES[:-1])
    number = f"{chance.uniform(0.0, 99.0):.{_decimals(pattern)}f}"
    for text in (chance.choice("+-") + number, number, *chance.sample(NOTES, len(NOTES))):
        if re.search(pattern, text):
            return text
    raise ModelMisbehaved(f"no text for the pattern {pattern}")


def _decimals(pattern: str) -> int:
    """How many digits a number's pattern wants after the point: it ends in `[0-9]{n}$`, or in `[0-9]$` for one."""
    found = re.search(r"\\\.\[0-9\](?:\{(\d+)\})?\$$", pattern)
    return 0 if found is None else int(found[1] or 1)
