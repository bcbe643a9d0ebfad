import json
import random

import pytest

from agents import answers
from agents.models.protocol import Reply
from schemas.settings import TargetSettings
from tests.emulator.values import BadSchema, value_for

NUMBER = TargetSettings(field="t", decimals=2)
LABELS = TargetSettings(field="smog", kind="category", labels=("low", "medium", "high"))
TEXT = TargetSettings(field="reply", kind="text")


def said(schema, seed: int) -> Reply:
    return Reply(json.dumps(value_for(schema, random.Random(seed))), "stop")


@pytest.mark.parametrize("seed", range(20))
def test_the_programs_own_schemas_are_obeyed(seed) -> None:
    for target, reference in ((NUMBER, None), (NUMBER, 12.5), (LABELS, None), (TEXT, None)):
        answers.read_forecast(said(answers.forecast_schema(target, reference), seed), target, reference)
    answers.read_score(said(answers.JUDGE_SCHEMA, seed))
    answers.read_free_text(said(answers.free_text_schema(), seed))
    for note in (answers.words_schema(["High wind", "Low wind"]), answers.words_schema([]), answers.ANY_NOTE, None):
        schema = answers.evidence_schema(["wind at least 10.0"], ["sky is clear"], note=note)
        answers.read_evidence(said(schema, seed), schema)


@pytest.mark.parametrize(
    ("schema", "holds"),
    [
        ({"type": "integer", "minimum": 3, "maximum": 5}, lambda value: value in (3, 4, 5)),
        ({"type": "integer", "maximum": -4}, lambda value: value <= -4),
        ({"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5}, lambda value: value == 4),
        ({"type": "number", "minimum": 0.5, "maximum": 0.75}, lambda value: 0.5 <= value <= 0.75),
        ({"type": ["null", "boolean"]}, lambda value: value in (None, True, False)),
        ({"const": [1]}, lambda value: value == [1]),
        ({"anyOf": [{"const": 1}, {"const": 2}]}, lambda value: value in (1, 2)),
        ({"type": "array", "items": {"const": 0}, "minItems": 4, "maxItems": 5}, lambda value: 4 <= len(value) <= 5),
        ({"type": "array", "maxItems": 1}, lambda value: len(value) == 1),
        ({"type": "string", "minLength": 200, "maxLength": 210}, lambda value: 200 <= len(value) <= 210),
        ({"type": "string", "pattern": "^a+$", "minLength": 3}, lambda value: len(value) >= 3),
        ({"$ref": "#/$defs/one", "$defs": {"one": {"const": 1}}}, lambda value: value == 1),
    ],
)
def test_a_value_keeps_the_bounds_of_its_schema(schema, holds) -> None:
    for seed in range(30):
        assert holds(value_for(schema, random.Random(seed)))


def test_properties_come_in_the_order_of_the_schema() -> None:
    schema = {"properties": {"z": {"type": "null"}, "a": {"type": "boolean"}}}
    assert list(value_for(schema, random.Random(0))) == ["z", "a"]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {},
        {"type": "array", "items": 3},
        {"$ref": "#/$defs/none"},
        {"$ref": "#"},
        {"type": "integer", "minimum": 2, "maximum": 1},
        {"type": "string", "pattern": "("},
        {"type": "string", "pattern": "^ab$", "minLength": 3},
    ],
)
def test_a_schema_that_allows_nothing_known_is_refused(schema) -> None:
    with pytest.raises(BadSchema):
        value_for(schema, random.Random(0))
