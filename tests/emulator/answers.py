"""What the emulated model says: a text that the request's schema allows, and the texts of faults that are in the answer itself."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from tests.emulator.faults import Fault
from tests.emulator.patterns import WORDS
from tests.emulator.requests import ChatRequest
from tests.emulator.values import value_for

#: Makes the answer to a request. It may raise `tests.emulator.values.BadSchema`.
Answering = Callable[[ChatRequest], str]

#: A number that JSON grammars allow and that no float holds.
OVERFLOW = "1e999"
#: What a model that has lost its way says over and over.
PHRASE = "and then more and "


class Answers:
    """Answers by chance that obey the schema.

    Parameters
    ----------
    seed
        Repeats the answers of another run.
    each_anew
        Draw anew for each call. Otherwise equal requests get equal answers, as from a model at temperature 0.
    """

    def __init__(self, seed: int = 0, *, each_anew: bool = False) -> None:
        self._seed = seed
        self._sequence = random.Random(seed) if each_anew else None

    def __call__(self, request: ChatRequest) -> str:
        if request.format is None:
            chance = self._chance(request)
            return " ".join(chance.choice(WORDS) for _ in range(chance.randint(4, 9))).capitalize() + "."
        return compact(value_for(_schema(request), self._chance(request)))

    def _chance(self, request: ChatRequest) -> random.Random:
        if self._sequence is not None:
            return self._sequence
        said = [(message.role, message.content) for message in request.messages]
        return random.Random(f"{self._seed} {request.options.get('seed', 0)} {said} {request.format}")


def damaged(text: str, fault: Fault | None, request: ChatRequest) -> str:
    """Return an answer with the fault, where it is one of the answer's text; else as it is."""
    match fault:
        case Fault.WRONG_SCHEMA:
            return compact({"reply": {"thoughts": "I would rather not say.", "confidence": 0.5}})
        case Fault.OVERFLOW:
            return _overflowing(request)
        case Fault.LOOP:
            return text[: max(1, text.rfind('"'))] + " "
        case Fault.REPEAT:
            return text[: max(1, text.rfind('"'))]
    return text


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _schema(request: ChatRequest) -> Any:
    return {"type": "object", "properties": {"answer": {"type": "string"}}} if request.format == "json" else request.format


def _overflowing(request: ChatRequest) -> str:
    """The answer with `1e999` for each number, and for each text where the schema has its numbers as texts."""
    if request.format is None:
        return OVERFLOW
    mark = "\N{REPLACEMENT CHARACTER}number"
    made = value_for(_schema(request), random.Random(0), lambda value: OVERFLOW if isinstance(value, str) else mark)
    return compact(made).replace(f'"{mark}"', OVERFLOW)
