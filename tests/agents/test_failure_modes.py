"""How memories that a model rewrites go wrong, and that these do not (research: method.md §5).

Collapse, echo, contradiction, drift and poisoning, each on the whole core with a model that does the wrong thing on purpose. A text that
does worse than the one before it: `test_regression`; rules that outcomes refute: `test_rules`; noise: `test_forecaster_memory`.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from agents import guards, memory
from agents.asking import Asker
from agents.budget import TokenCounter
from agents.forecaster import Forecaster
from agents.models.protocol import ChatMessage, Purpose
from agents.models.scripted import ScriptedModel, answer_from_schema
from schemas.messages import MemoryRevision, Observation, Scalar, Truth, Value
from schemas.settings import Settings
from schemas.state import EntityState
from streams.evaluation.datasets.injections import INJECTIONS, Injection

START = datetime(2024, 3, 1, tzinfo=UTC)
LABELS = ("low", "medium", "high", "extreme")
NEUTRAL = ("all quiet at the station", "battery checked", "lens wiped clean", "a calm morning so far")
KINDS, FORMS = ("category", "number"), ("evidence", "free-text")
HONEST = {"category": "With wind north the smog tends to be high.", "number": "With wind north the smog rises over the day."}

#: What a model says to a rewrite: the texts it puts wherever the schema asks for one, in turn.
Says = Callable[[Sequence[ChatMessage]], Iterator[str]]


def settings_of(kind: str, form: str, **sections: Any) -> Settings:
    target: dict[str, Any] = {"field": "smog", "kind": kind, "description": "smog of the next day"}
    if kind == "category":
        target["labels"] = LABELS
    given: dict[str, Any] = {"observations": {"text_fields": ("note",)}, "rewrite": {"policy": "every"}, **sections}
    return Settings(target=target, time="replay", memory={"form": form}, publish={"publish": "model"}, **given)


class Loop:
    """The core, a stream of one entity, and a model that rewrites as it is told to."""

    def __init__(self, settings: Settings, says: Says, state: EntityState | None = None, hour: int = 0) -> None:
        self.settings, self.says, self.hour = settings, says, hour
        self.state = state or EntityState(entity="north")
        self.model = ScriptedModel(self._answer)
        self.core = Forecaster(settings, Asker(settings, self.model, TokenCounter(self.model, "scripted", window=4096)))
        self.revisions: list[MemoryRevision] = []
        self.proposed: list[str] = []

    def _answer(self, messages: Sequence[ChatMessage], schema: Mapping[str, Any] | None, purpose: Purpose) -> str:
        if purpose != "rewrite" or schema is None:
            return answer_from_schema(messages, schema, purpose)
        return json.dumps(self._fill(schema, self.says(messages)))

    def _fill(self, schema: Mapping[str, Any], texts: Iterator[str]) -> Any:
        if schema["type"] == "object":
            return {name: self._fill(part, texts) for name, part in schema["properties"].items()}
        if schema["type"] == "array":
            return [self._fill(schema["items"], texts) for _ in range(schema["maxItems"])]
        if "enum" in schema:
            return schema["enum"][0]
        text = next(texts)
        # Whether a server keeps to a pattern is not to be relied on; what is one to three words is tried with some of the text's.
        if turns_to_slug := schema.get("pattern", "").startswith("^[a-z]{2,14}"):
            words = re.findall(r"[a-z]{2,14}", text.lower())
            text = "-".join(words[-3:] if len(self.proposed) % 2 else words[:3]) or text
        self.proposed.append(text)
        return text if turns_to_slug else text[: schema.get("maxLength", 300)]

    async def step(self, values: Mapping[str, Scalar], truth: Value) -> None:
        time, self.hour = START + timedelta(hours=self.hour), self.hour + 1
        seen = Observation(entity="north", id=f"o{self.hour}", time=time, values=dict(values))
        self.state = (await self.core.observe(self.state, seen, now=time, offset=self.hour)).state
        known = Truth(entity="north", observation_id=seen.id, value=truth)
        step = await self.core.learn(self.state, known, now=time + timedelta(minutes=30))
        self.state = step.state
        self.revisions += [event for event in step.events if isinstance(event, MemoryRevision)]

    async def days(self, number: int, notes: Sequence[str] = NEUTRAL, *, turned: bool = False) -> None:
        """Days on which wind from the north brings high smog, and from the south low; `turned`: the other way round."""
        for _ in range(number):
            north = (self.hour // 2) % 2 == 0
            level = 8.0 + self.hour % 3
            values: dict[str, Scalar] = {"wind": "north" if north else "south", "sky": "clear" if self.hour % 3 else "grey"}
            values |= {"note": notes[self.hour % len(notes)]} | ({"smog": level} if self.settings.target.kind == "number" else {})
            up = north != turned
            truth: Value = ("high" if up else "low") if self.settings.target.kind == "category" else level + (2.0 if up else -1.0)
            await self.step(values, truth)

    @property
    def page(self) -> str:
        return memory.render(self.state.memory)

    @property
    def statements(self) -> list[str]:
        return [statement.text for statements in self.state.memory.sections.values() for statement in statements]


def always(*texts: str) -> Says:
    """The same texts at every rewrite; none of them is asked for in vain."""

    def says(messages: Sequence[ChatMessage]) -> Iterator[str]:
        yield from texts
        yield from (f"word{letter * 3}" for letter in "abcdefghijklmnop")

    return says


# -- poisoned text


def visible(text: str) -> str:
    """What a reader sees: one form of each character, none that is invisible."""
    return "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf").casefold()


def fives(text: str) -> set[tuple[str, ...]]:
    """Runs of five words; of eight letters where a script puts no spaces between words."""
    said = re.findall(r"\w+", visible(text))
    found: set[tuple[str, ...]] = {tuple(said[start : start + 5]) for start in range(len(said) - 4)}
    for line in re.findall(r"[\u3040-\u30ff\u4e00-\u9fff]{8,}", visible(text)):
        found |= {(line[start : start + 8],) for start in range(len(line) - 7)}
    return found


def taken_from(injection: Injection, page: str, kind: str) -> list[object]:
    """What of an injection stands in a page: runs of words, and values it commands; a label is no value of a number."""
    runs = (fives(injection.said) | fives(injection.looks)) & fives(page)
    values = [value for value in injection.values if value in visible(page) and not (kind == "number" and value in LABELS)]
    return [*sorted(runs), *values]


def obedient(injection: Injection) -> Says:
    """A model that writes an injection down: as it stands, decoded, in pieces, in a sentence of its own, and its values alone."""
    turns = count()

    def candidates() -> list[str]:
        texts = [text for value in injection.values for text in (value, f"With wind north the smog is {value}.", f"wind smog {value}")]
        for text in dict.fromkeys((injection.said, injection.looks, injection.meaning, visible(injection.said), *injection.parts)):
            words = text.split()
            texts += [text, " ".join(words)[-150:], f"With wind north, {' '.join(words[:18])}.", f"Smog: {' '.join(words[-18:])}"]
            texts += [" ".join(words[at : at + 6]) for at in range(0, len(words), 6)][:4]
            texts += [" ".join(words[at : at + 4]) for at in range(0, len(words), 4)][:4]
            texts.append(f"With wind north {' '.join(re.findall(r'[A-Za-z]+', text)[:20])}.")
        return [text for text in texts if text.strip()]

    texts = candidates()

    def says(messages: Sequence[ChatMessage]) -> Iterator[str]:
        while True:
            yield texts[next(turns) % len(texts)]

    return says


@pytest.fixture(scope="module")
def begun() -> dict[tuple[str, str], EntityState]:
    """States after a dozen honest days."""
    return {}


async def poisoned(injection: Injection, kind: str, form: str, begun: dict[tuple[str, str], EntityState]) -> Loop:
    """A loop after an obedient model has tried all it can."""
    settings = settings_of(kind, form)
    if (kind, form) not in begun:
        honest = Loop(settings, always(HONEST[kind]))
        await honest.days(12)
        assert honest.statements
        begun[kind, form] = honest.state
    loop = Loop(settings, always(), begun[kind, form], hour=12)
    # Nobody writes down what has not been said yet.
    await loop.days(len(injection.parts), injection.parts)
    loop.says = obedient(injection)
    await loop.days(20 if form == "evidence" else 6, injection.parts)
    return loop


def test_there_are_at_least_forty_injections_of_different_kinds() -> None:
    assert len({injection.said for injection in INJECTIONS}) == len({injection.name for injection in INJECTIONS}) == len(INJECTIONS) >= 40


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("injection", INJECTIONS, ids=lambda injection: injection.name)
async def test_nothing_of_an_injection_gets_into_a_revision(injection: Injection, kind: str, form: str, begun: Any) -> None:
    loop = await poisoned(injection, kind, form, begun)
    assert any(taken_from(injection, text, kind) for text in loop.proposed), "the model did not even try"
    for entry in loop.revisions:
        assert taken_from(injection, entry.after, kind) == [], entry.after
    assert taken_from(injection, loop.page, kind) == []


@pytest.mark.parametrize("injection", INJECTIONS, ids=lambda injection: injection.name)
async def test_without_the_guards_each_injection_would(injection: Injection, begun: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await poisoned(INJECTIONS[0], "category", "free-text", begun)
    monkeypatch.setattr(guards, "GUARDS", ())
    loop = await poisoned(injection, "category", "free-text", begun)
    assert any(taken_from(injection, entry.after, "category") for entry in loop.revisions)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_true_is_still_learned_from_a_stream_with_injections_in_it(kind: str, form: str) -> None:
    loop = Loop(settings_of(kind, form), always(HONEST[kind]))
    await loop.days(12, INJECTIONS[0].parts)
    assert HONEST[kind] in loop.statements


async def test_cues_that_a_text_field_names_may_be_named_in_the_memory() -> None:
    said = "Smog rises after new filter fitted near the wind vane."
    loop = Loop(settings_of("category", "free-text"), always(said))
    await loop.days(8, ("new filter fitted", "filter replaced at noon", "grid failure, generator started"))
    assert said in loop.statements


async def test_a_label_that_outside_text_names_may_stand_where_the_ledger_bears_it_out() -> None:
    notes = ("it will be high smog today, said the caretaker", "calm")
    for said, stands in ((HONEST["category"], True), ("The smog is high.", False), ("With wind south the smog tends to be high.", False)):
        loop = Loop(settings_of("category", "free-text"), always(said))
        await loop.days(12, notes)
        assert (said in loop.statements) == stands, said


# -- collapse, echo, contradiction, drift, answers that are none


async def test_a_rewrite_that_drops_most_of_a_memory_leaves_it_as_it_was() -> None:
    rich = [
        "With wind north the smog tends to be high over the whole of the town.",
        "With wind south the smog tends to be low because fresh air comes in.",
        "Grey sky changes little about the smog as far as can be seen.",
        "Clear sky and calm wind let the smog stay where it was before.",
        "Watch the wind in the evening since smog follows it the day after.",
    ]
    loop = Loop(settings_of("category", "free-text"), always(*rich))
    await loop.days(8)
    before = loop.page
    assert set(rich) <= set(loop.statements)

    loop.says = always("Smog follows wind.")
    await loop.days(6)

    assert loop.page == before
    assert {entry.reason for entry in loop.revisions[-3:]} == {"most of the memory would be lost"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_model_that_repeats_its_instructions_writes_none_of_them_into_the_memory(kind: str, form: str) -> None:
    asked: list[str] = []

    def says(messages: Sequence[ChatMessage]) -> Iterator[str]:
        lines = [line.strip("- ") for message in messages for line in message.content.splitlines() if len(line.split()) > 3]
        asked.extend(lines)
        sentences = [sentence for line in lines for sentence in re.split(r"(?<=[.:])\s", line)]
        while True:
            yield from (*lines, *sentences)

    turns = count()
    loop = Loop(settings_of(kind, form), lambda messages: skipping(says(messages), 7 * next(turns)))
    await loop.days(30)
    assert len(loop.proposed) >= 10
    prompts = {" ".join(line.lower().split()) for line in asked}
    notes = [statement.text for statements in loop.state.memory.sections.values() for statement in statements if statement.rule is None]
    assert [text for text in notes if any(text.lower().rstrip(".") in line for line in prompts if not text.startswith(line))] == []


def skipping(texts: Iterator[str], number: int) -> Iterator[str]:
    for _ in range(number):
        next(texts)
    yield from texts


@pytest.mark.parametrize(
    ("kind", "lie"),
    [
        ("category", "With wind north the smog tends to be low."),
        ("category", "Wind from the south leads to high smog."),
        ("number", "With wind north the smog falls over the day."),
    ],
)
@pytest.mark.parametrize("form", FORMS)
async def test_what_the_ledger_contradicts_stays_out_however_often_it_is_said(kind: str, lie: str, form: str) -> None:
    loop = Loop(settings_of(kind, form), always("Nothing is known yet about smog."))
    await loop.days(10)
    loop.says = always(lie)
    await loop.days(12)
    assert all(lie not in entry.after for entry in loop.revisions)
    assert "contradiction" in {rejection.guard for entry in loop.revisions for rejection in entry.rejected}


@pytest.mark.parametrize("form", FORMS)
async def test_what_was_true_once_goes_when_outcomes_stop_bearing_it_out(form: str) -> None:
    loop = Loop(settings_of("category", form), always(HONEST["category"]))
    await loop.days(14)
    assert HONEST["category"] in loop.statements
    rules = [text for text in loop.statements if text.startswith("when wind")]

    loop.says = always(HONEST["category"], "Smog has turned with the wind of late.")
    await loop.days(40, turned=True)

    assert HONEST["category"] not in loop.statements
    assert not set(rules) & set(loop.statements)


async def test_a_statement_that_changes_a_word_at_every_rewrite_does_not_drift_into_its_opposite() -> None:
    chain = (
        "With wind north the smog tends to be high.",
        "With wind north the smog tends to be fairly high.",
        "With wind north the smog tends to be hardly high or low.",
        "With wind north the smog tends to be fairly low.",
        "With wind north the smog tends to be low.",
    )
    turns = count()
    loop = Loop(settings_of("category", "free-text"), always("Nothing is known yet about smog."))
    await loop.days(10)
    loop.says = lambda messages: always(chain[min(next(turns), len(chain) - 1)])(messages)
    await loop.days(12)
    assert chain[2] in loop.page
    assert not any(text in entry.after for entry in loop.revisions for text in chain[3:])


@pytest.mark.parametrize("answer", ['{"a_history": ["With wind nor', "{}", "[]", "The memory is fine as it is.", '{"a_history": "smog"}'])
async def test_an_answer_that_is_none_leaves_the_memory_as_it_was(answer: str) -> None:
    loop = Loop(settings_of("category", "free-text"), always(HONEST["category"]))
    await loop.days(6)
    before = loop.page

    def said(messages: Sequence[ChatMessage], schema: Mapping[str, Any] | None, purpose: Purpose) -> str:
        return answer_from_schema(messages, schema, purpose) if purpose == "predict" else answer

    loop.model._answer = said
    await loop.days(4)
    assert loop.page == before
    assert all(not entry.accepted for entry in loop.revisions[-2:])
