"""A fake worker behind the driver's transport: it predicts the last value, learns each truth, and rewrites its memory at times."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from schemas.messages import (
    Answer,
    ArmScore,
    DeadLetter,
    Interval,
    MemoryRevision,
    ModelCall,
    Observation,
    Outcome,
    Prediction,
    Rejection,
    Truth,
    Value,
)
from schemas.settings import Settings
from streams.demo.configuration import Backend, configuration, load
from streams.demo.dataset import FIELD, START, Question, Target, questions, read_days
from streams.demo.record import Record
from streams.demo.transport import Input, Received

NOW = datetime(2014, 4, 12, tzinfo=UTC)
OLLAMA = Backend("qwen2.5-coder:1.5b", "http://127.0.0.1:11434")
CALL = ModelCall(
    name="m",
    digest="sha256:abc",
    backend="ollama 1",
    prompt_tokens=300,
    cached_tokens=200,
    output_tokens=10,
    seconds=1.5,
    budgeted_tokens=700,
)


@dataclass
class FakeWorker:
    """Answers like a worker. `silent`, `refused`, `unlearned` and `modelless` name days (from 0) that go wrong in that way."""

    target: Target = "temperature"
    rewrite_every: int = 3
    silent: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    unlearned: set[int] = field(default_factory=set)
    modelless: set[int] = field(default_factory=set)
    topic: str = "observations"
    #: Set when the first of the silent days has come.
    silenced: asyncio.Event = field(default_factory=asyncio.Event)
    sent: list[Observation | Truth] = field(default_factory=list)
    _out: asyncio.Queue[Received] = field(default_factory=asyncio.Queue)
    _pending: dict[str, Prediction] = field(default_factory=dict)
    _errors: list[float] = field(default_factory=list)
    _memory: str = ""
    _revision: int = 0

    async def send(self, role: Input, message: Observation | Truth) -> None:
        self.sent.append(message)
        day = sum(isinstance(sent, Observation) for sent in self.sent) - 1
        if isinstance(message, Observation):
            self._observe(message, day)
        else:
            self._learn(message, day)

    async def receive(self) -> list[Received]:
        return [await self._out.get()]

    def _observe(self, observation: Observation, day: int) -> None:
        if day in self.silent:
            self.silenced.set()
            return
        if day in self.refused:
            self._out.put_nowait(DeadLetter(reason="wrong-type", detail="no number", topic=self.topic, partition=0, offset=day, size=9))
            return
        last = observation.values[FIELD[self.target]]
        assert not isinstance(last, bool)
        value: Value = last if isinstance(last, str) else float(last)
        top = (value, "snow") if isinstance(value, str) else ()
        interval = Interval(level=0.8, labels=top) if isinstance(value, str) else Interval(level=0.8, low=value - 2, high=value + 2)
        gone = day in self.modelless
        prediction = Prediction(
            entity=observation.entity,
            id=observation.id,
            kind="category" if isinstance(value, str) else "number",
            time=observation.time,
            target_time=observation.time + timedelta(days=1),
            made_at=observation.time,
            forecast=Answer(value=value, top=top),
            model_answer=None if gone else Answer(value=value, top=top),
            experts={"last": value},
            interval=interval,
            source="fallback" if gone else "model",
            memory_revision=self._revision,
            model=CALL.model_copy(update={"error": "unreachable", "digest": ""}) if gone else CALL,
        )
        self._pending[observation.id] = prediction
        self._out.put_nowait(prediction)

    def _learn(self, truth: Truth, day: int) -> None:
        if day in self.unlearned:
            return
        assert truth.observation_id is not None
        prediction = self._pending.pop(truth.observation_id)
        value = prediction.forecast.value
        number = not isinstance(value, str) and not isinstance(truth.value, str)
        error = float(truth.value) - float(value) if number else float(truth.value != value)  # type: ignore[arg-type]
        self._errors.append(error)
        n = len(self._errors)
        mean = sum(map(abs, self._errors)) / n
        score = ArmScore(n=n, mae=mean) if number else ArmScore(n=n, accuracy=1 - mean)
        arms = {"published": score, "persistence": score}
        if not self.modelless:
            arms["model"] = score
        self._out.put_nowait(
            Outcome(
                entity=truth.entity,
                prediction_id=prediction.id,
                kind=prediction.kind,
                time=prediction.time,
                truth=truth.value,
                forecast=prediction.forecast,
                model_answer=prediction.model_answer,
                source=prediction.source,
                result="matched",
                errors={"published": error},
                memory_revision=prediction.memory_revision,
                scores=arms,
                resolved_at=NOW,
            )
        )
        if n % self.rewrite_every == 0:
            self._rewrite(refused=n % (2 * self.rewrite_every) == 0)

    def _rewrite(self, *, refused: bool) -> None:
        before, self._revision = self._memory, self._revision + (not refused)
        if not refused:
            self._memory = f"# Rules\n- when wind below {self._revision + 2}: add +1.0\n- a note that stays"
        self._out.put_nowait(
            MemoryRevision(
                entity="seattle",
                revision=self._revision,
                cause="feedback",
                accepted=not refused,
                before=before,
                after=self._memory,
                words=len(self._memory.split()),
                rejected=(Rejection(guard="duplicate", statement="- a note that stays"),) if refused else (),
                model=CALL.model_copy(update={"calls": 2, "budgeted_tokens": 900}),
                made_at=NOW,
            )
        )


@pytest.fixture
def make_questions() -> Callable[..., list[Question]]:
    def make(target: Target = "temperature", steps: int = 7) -> list[Question]:
        return questions(read_days(), target, START[target], steps)

    return make


@pytest.fixture
def make_record(make_questions: Callable[..., list[Question]]) -> Callable[..., Record]:
    def make(target: Target = "temperature", steps: int = 7) -> Record:
        return Record(target, make_questions(target, steps))

    return make


@pytest.fixture
def make_worker() -> type[FakeWorker]:
    return FakeWorker


@pytest.fixture
def make_settings(tmp_path: Path) -> Callable[..., Settings]:
    def make(target: Target = "temperature", backend: Backend = OLLAMA) -> Settings:
        path = tmp_path / "palimpsest.toml"
        text = configuration(
            path=path, name="20140412-120000", target=target, kafka="127.0.0.1:9092", backend=backend, port=9464, state=tmp_path / "state"
        )
        path.write_text(text, encoding="utf-8")
        return load(path)

    return make
