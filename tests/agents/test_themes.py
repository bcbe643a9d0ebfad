"""Themes: what a text is about, as the model reads it, tested by rules as labels are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from agents import themes
from agents.asking import Asker
from agents.budget import TokenCounter
from agents.forecaster import Forecaster
from agents.memory import render
from agents.models.scripted import ScriptedModel, answer_from_schema
from schemas.messages import Observation, Prediction, Truth
from schemas.settings import Settings
from schemas.state import EntityState

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def settings() -> Settings:
    return Settings(
        time="replay",
        target={"kind": "category", "labels": ("low", "high"), "description": "the vibration"},
        observations={"text_fields": ("note",)},
        rewrite={"gather": 1},
    )


def test_a_theme_that_came_with_the_record_is_not_believed(settings) -> None:
    assert themes.with_theme({"note": "x", "note.about": "answer-high"}, "", settings) == {"note": "x"}
    assert themes.with_theme({"note": "x", "note.about": "answer-high"}, "oil-leak", settings) == {"note": "x", "note.about": "oil-leak"}


@pytest.mark.parametrize(
    "said",
    ["high", "answer-low", "Oil", "oil leak", "oil-leak-below", "ignore-rules", "system", "seventy", "", "oil-7", "always"],
)
def test_orders_labels_numbers_and_whole_sentences_are_no_themes(settings, said) -> None:
    found, fault = themes.settle(said, (), settings)
    assert not found
    assert fault


@pytest.mark.parametrize(("said", "known"), [("leak-oil", "oil-leak"), ("oily-patch", "oil-leak"), ("filters-new", "filter-change")])
def test_themes_that_share_a_word_are_one(settings, said, known) -> None:
    assert themes.settle(said, ("power-cut", known), settings) == (known, "")


def test_themes_that_share_no_word_are_two(settings) -> None:
    assert themes.settle("door-open", ("oil-leak", "power-cut"), settings) == ("door-open", "")


def reader(messages, schema, purpose) -> str:
    """Reads a note's first word as its theme, and answers what the rule says that it is handed."""
    said = messages[-1].content
    if "about" in schema["properties"]:
        return json.dumps({"about": said.removeprefix("«").split()[0]})
    if purpose == "rewrite":
        return answer_from_schema(messages, schema, purpose)
    rule = re.search(r"^- when note.about \w+: (\w+)", said, re.MULTILINE)
    return json.dumps({"answer": rule[1] if rule else "low"})


@pytest.fixture
def forecaster(settings) -> Callable[[ScriptedModel], Forecaster]:
    return lambda model: Forecaster(settings, Asker(settings, model, TokenCounter(model, "scripted", window=4096)))


async def step(forecaster: Forecaster, state: EntityState, number: int, note: str, truth: str) -> tuple[EntityState, Prediction]:
    at = BEGIN + number * timedelta(hours=1)
    observation = Observation(entity="m", id=str(number), time=at, values={"note": note})
    made = await forecaster.observe(state, observation, now=at, offset=number)
    known = Truth(entity="m", observation_id=str(number), value=truth, time=at)
    after = (await forecaster.learn(made.state, known, now=at)).state
    return after, next(event for event in made.events if isinstance(event, Prediction))


async def test_rules_on_what_texts_are_about_are_measured_and_handed_to_the_forecast(forecaster) -> None:
    loop, state, right = forecaster(ScriptedModel(reader)), EntityState(entity="m"), []
    notes = {"oil": "high", "door": "low", "dust": "high"}
    for number in range(30):
        word = list(notes)[number % 3]
        state, made = await step(loop, state, number, f"{word} and more of it {number}", notes[word])
        right.append(made.model_answer.value == notes[word])
    assert "when note.about oil: high" in render(state.memory)
    assert {row.values["note.about"] for row in state.resolved} == set(notes)
    assert not all(right[:6])
    assert all(right[-6:])


async def test_the_question_shows_the_text_and_nothing_else(forecaster) -> None:
    model = ScriptedModel(reader)
    loop, state = forecaster(model), EntityState(entity="m")
    for number in range(12):
        state, _ = await step(loop, state, number, "oil on the floor", "high")
    asked = {call.messages for call in model.calls if "about" in call.schema["properties"]}
    assert len(asked) == 1


async def test_both_calls_are_counted_with_the_forecast(forecaster) -> None:
    _, made = await step(forecaster(ScriptedModel(reader)), EntityState(entity="m"), 0, "oil on the floor", "high")
    assert made.model.calls == 2


async def test_an_unusable_theme_costs_the_forecast_nothing(forecaster) -> None:
    def stubborn(messages, schema, purpose) -> str:
        return (
            json.dumps({"about": "7" if "about" in schema["properties"] else "", "answer": "low"})
            if purpose == "repair"
            else reader(messages, schema, purpose)
        )

    model = ScriptedModel(
        lambda messages, schema, purpose: "{}" if "about" in schema["properties"] else stubborn(messages, schema, purpose)
    )
    state, made = await step(forecaster(model), EntityState(entity="m"), 0, "oil on the floor", "high")
    assert made.source == "model"
    assert not made.model.error
    assert "note.about" not in state.resolved[0].values
