"""JSON values that a schema allows, at random; the part of JSON Schema that llama.cpp's grammars keep."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from tests.emulator.patterns import WORDS, Unmatched, text_for

Schema = Mapping[str, Any]

#: How deep values may lie within each other.
DEPTH = 30
#: Items beyond the fewest, where a schema sets no bound.
MORE_ITEMS = 2
#: Integers beyond the smallest, where a schema sets no bound.
MORE_NUMBERS = 10
#: Texts tried for a pattern that also has a length.
TRIES = 200
_TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")


class BadSchema(ValueError):
    """No value for this schema is known here; a server would refuse it or write something else."""


#: Puts something else in the place of a number or text that is as it should be; for faults.
Replacing = Callable[[Any], Any]


def value_for(schema: Schema, chance: random.Random, replacing: Replacing = lambda value: value) -> Any:
    """Return a value that a JSON Schema allows; every property that it names is there, in its order.

    Parameters
    ----------
    replacing
        Gets each number and text, and returns what stands in its place.

    Raises
    ------
    BadSchema
        The schema says something that is not understood here, or allows nothing.
    """
    return _Maker(schema, chance, replacing).make(schema, DEPTH)


class _Maker:
    def __init__(self, root: Schema, chance: random.Random, replacing: Replacing) -> None:
        self._root = root
        self._chance = chance
        self._replacing = replacing

    def make(self, schema: Any, depth: int) -> Any:
        if not isinstance(schema, Mapping) or not depth:
            raise BadSchema(f"no value for the schema {schema!r}")
        if "$ref" in schema:
            return self.make(self._referred(schema["$ref"]), depth - 1)
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return self.make(self._chance.choice(schema[key]), depth - 1)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._chance.choice(list(schema["enum"]))
        kind = schema.get("type", "object" if "properties" in schema else None)
        if isinstance(kind, list):
            kind = self._chance.choice(kind)
        match kind:
            case "object":
                return {name: self.make(part, depth - 1) for name, part in schema.get("properties", {}).items()}
            case "array":
                fewest = schema.get("minItems", 0)
                number = self._chance.randint(max(1, fewest), max(1, min(fewest + MORE_ITEMS, schema.get("maxItems", fewest + MORE_ITEMS))))
                return [self.make(schema.get("items", {"type": "string"}), depth - 1) for _ in range(number)]
            case "string":
                return self._replacing(self._text(schema))
            case "integer" | "number":
                return self._replacing(self._number(schema, kind))
            case "boolean":
                return self._chance.random() < 0.5
            case "null":
                return None
        raise BadSchema(f"no value for the schema {dict(schema)}; a type is one of {', '.join(_TYPES)}")

    def _referred(self, path: str) -> Any:
        found: Any = self._root
        for part in path.removeprefix("#/").split("/"):
            if not isinstance(found, Mapping) or part not in found:
                raise BadSchema(f"nothing is at {path}")
            found = found[part]
        return found

    def _number(self, schema: Schema, kind: str) -> float:
        least = schema.get("minimum", schema.get("exclusiveMinimum", min(0, schema.get("maximum", 0)) - 1) + 1)
        most = schema.get("maximum", schema.get("exclusiveMaximum", max(least, 0) + MORE_NUMBERS + 1) - 1)
        if least > most:
            raise BadSchema(f"no number for the schema {dict(schema)}")
        return self._chance.randint(int(least), int(most)) if kind == "integer" else round(self._chance.uniform(least, most), 2)

    def _text(self, schema: Schema) -> str:
        shortest, longest = schema.get("minLength", 0), schema.get("maxLength")
        if "pattern" in schema:
            return self._matching(schema["pattern"], shortest, longest)
        text = " ".join(self._chance.choice(WORDS) for _ in range(self._chance.randint(3, 8))).capitalize() + "."
        while len(text) < shortest:
            text += " " + self._chance.choice(WORDS)
        return text[:longest]

    def _matching(self, pattern: str, shortest: int, longest: int | None) -> str:
        try:
            for _ in range(TRIES):
                text = text_for(pattern, self._chance)
                if shortest <= len(text) <= (len(text) if longest is None else longest):
                    return text
        except Unmatched as error:
            raise BadSchema(str(error)) from error
        raise BadSchema(f"no text of {shortest} to {longest} characters was found for {pattern!r}")
