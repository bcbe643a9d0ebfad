"""States with a ledger in them, and the settings they belong to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agents import memory
from agents.answers import ProposedRewrite
from agents.asking import Asked
from agents.forecaster import Forecaster
from agents.judge import Judged
from agents.models.protocol import ChatMessage, Purpose
from agents.rewriting import Proposal, RewriteRequest
from schemas.messages import Answer, ModelCall, Observation, Scalar, Truth, Value
from schemas.settings import Settings
from schemas.state import EarlyTruth, EntityState, Feedback, Pending, Resolved

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)

#: What happened: values, truth, and for a number the reference.
Case = tuple[Mapping[str, Scalar], Value] | tuple[Mapping[str, Scalar], Value, float]


def _settings(target: Mapping[str, Any], sections: Mapping[str, Any]) -> Settings:
    return Settings(target=dict(target), **{name: dict(values) for name, values in sections.items()})


@pytest.fixture
def label_settings() -> Callable[..., Settings]:
    """Settings for smog of three levels; sections as keyword arguments."""
    target = {"field": "smog", "kind": "category", "description": "smog level of the next day", "labels": ("low", "medium", "high")}
    return lambda **sections: _settings(target, sections)


@pytest.fixture
def number_settings() -> Callable[..., Settings]:
    """Settings for tomorrow's temperature, as an adjustment to a reference."""
    target = {"field": "temp", "kind": "number", "description": "temperature of the next day", "unit": "C", "range": (-50.0, 60.0)}
    return lambda **sections: _settings(target, sections)


@pytest.fixture
def text_settings() -> Callable[..., Settings]:
    """Settings for a reply in words."""
    target = {"field": "reply", "kind": "text", "description": "reply to the ticket"}
    return lambda **sections: _settings(target, sections)


@pytest.fixture
def ledger_of() -> Callable[..., tuple[Resolved, ...]]:
    """Resolved predictions, a day apart, of `(values, truth)` or `(values, truth, reference)`; `forecast` is what was published."""

    def build(cases: Sequence[Case], *, forecast: Value | None = None) -> tuple[Resolved, ...]:
        rows = []
        for index, case in enumerate(cases):
            time = NOON + timedelta(days=index)
            reference = case[2] if len(case) > 2 else None
            published = forecast if forecast is not None else (reference if reference is not None else case[1])
            rows.append(
                Resolved(
                    seq=index + 1,
                    id=f"o{index}",
                    time=time,
                    target_time=time + timedelta(days=1),
                    made_at=time,
                    values=dict(case[0]),
                    truth=case[1],
                    reference=reference,
                    forecast=Answer(value=published),
                    miss=published != case[1],
                )
            )
        return tuple(rows)

    return build


@pytest.fixture
def state_of(ledger_of: Callable[..., tuple[Resolved, ...]]) -> Callable[..., EntityState]:
    """A state whose outcomes are all unconsumed feedback; `page` is the memory as a person would write it."""

    def build(settings: Settings, cases: Sequence[Case] = (), *, page: str = "", forecast: Value | None = None) -> EntityState:
        from agents.feedback import feedback_for

        rows = ledger_of(cases, forecast=forecast)
        state = EntityState(entity="north", memory=memory.parse_edit(page, settings), resolved=rows, outcomes=len(rows))
        feedback: tuple[Feedback, ...] = tuple(feedback_for(row, state, settings) for row in rows)
        return state.model_copy(update={"feedback": feedback})

    return build


# -- the forecaster: observations, truths, and a model that answers by a script

START = datetime(2024, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def at(hours: float) -> datetime:
    """So many hours after `START`."""
    return START + hours * HOUR


class CharacterCounter:
    """A double for `agents.budget.TokenCounter`: so many tokens a character."""

    ratio = 0.3

    def count(self, messages: Sequence[ChatMessage], purpose: Purpose) -> int:
        return int(self.ratio * sum(len(message.content) for message in messages))


class ScriptedAsker:
    """A double for `agents.asking.Asker`: answers by functions, records what it was asked.

    Attributes
    ----------
    answer
        An observation's answer; None for a model that fails.
    score
        The judge's verdict.
    propose
        What a rewrite proposes; None for a model that fails, with the slug `failure`.
    """

    def __init__(self) -> None:
        self.answer: Callable[[Observation], Value | None] = lambda observation: float(observation.values.get("value", 0.0)) + 1.0
        self.score: float | None = 0.9
        self.propose: ProposedRewrite | None = ProposedRewrite(notes=("Wind turns before rain.",))
        self.failure = "unreachable"
        self.counter = CharacterCounter()
        self.states: list[EntityState] = []
        self.judged: list[Answer] = []
        self.rewrites: list[RewriteRequest] = []

    async def predict(self, state: EntityState, observation: Observation, *, reference: float | None, now: datetime) -> Asked:
        self.states.append(state)
        value = self.answer(observation)
        call = ModelCall(name="scripted", error="" if value is not None else "timeout")
        return Asked(None if value is None else Answer(value=value), call, "0123456789abcdef")

    async def judge(self, values: Mapping[str, Scalar], answer: Answer, *, criteria: Sequence[str]) -> Judged:
        self.judged.append(answer)
        return Judged(self.score, ModelCall(name="scripted", error="" if self.score is not None else "invalid"))

    async def rewrite(self, request: RewriteRequest) -> Proposal:
        self.rewrites.append(request)
        error = "" if self.propose is not None else self.failure
        return Proposal(request, None if error else "{}", self.propose, ModelCall(name="scripted", error=error))


class Given:
    """Makes what a forecaster's test begins with; one reading an hour, of the field `value`, unless it says otherwise."""

    at = staticmethod(at)
    hour = HOUR

    def settings(self, **sections: Any) -> Settings:
        """A number an hour ahead, the model's own answer published, no rewriting; sections and fields as keyword arguments."""
        target = {"field": "value", "kind": "number", "horizon": HOUR, "decimals": 1}
        base: dict[str, Any] = {"target": target, "time": "replay", "rewrite": {"policy": "never"}, "publish": {"publish": "model"}}
        for name, given in sections.items():
            base[name] = {**base.get(name, {}), **given} if isinstance(given, dict) else given
        return Settings(**base)

    def asker(self) -> ScriptedAsker:
        return ScriptedAsker()

    def forecaster(self, asker: ScriptedAsker | None = None, **sections: Any) -> Forecaster:
        return Forecaster(self.settings(**sections), asker or ScriptedAsker())  # type: ignore[arg-type]

    def state(self, **fields: Any) -> EntityState:
        return EntityState(entity="north", **fields)

    def observation(self, hours: float = 0, value: Scalar | None = 10.0, *, identity: str | None = None, **values: Scalar) -> Observation:
        """The reading of that hour; its id is `o<hour>`."""
        fields = dict(values) if value is None else {"value": value, **values}
        return Observation(entity="north", id=identity or f"o{hours:g}", time=at(hours), values=fields)

    def truth(self, hours: float | None = None, value: Value = 12.0, *, of: str | None = None, note: str = "") -> Truth:
        """The truth of an observation's id, or of a target time."""
        return Truth(entity="north", observation_id=of, target_time=None if hours is None else at(hours), value=value, note=note)

    def pending(self, hours: float = 0, *, identity: str | None = None, forecast: Value = 11.0, **fields: Any) -> Pending:
        """A prediction of that hour for the next one."""
        known: dict[str, Any] = {"target_time": at(hours + 1), **fields}
        return Pending(id=identity or f"o{hours:g}", time=at(hours), made_at=at(hours), forecast=Answer(value=forecast), **known)

    def resolved(self, hours: float = 0, truth: Value | None = 12.0, *, seq: int = 1, forecast: Value = 11.0, **fields: Any) -> Resolved:
        """An outcome of that hour's prediction."""
        known: dict[str, Any] = {"id": f"o{hours:g}", "target_time": at(hours + 1), **fields}
        return Resolved(seq=seq, time=at(hours), made_at=at(hours), truth=truth, forecast=Answer(value=forecast), **known)

    def early(self, value: Value = 12.0, *, of: str | None = None, hours: float | None = None, **fields: Any) -> EarlyTruth:
        """A truth that waits, for a week unless it says otherwise."""
        target_time = None if hours is None else at(hours)
        known: dict[str, Any] = {"arrived": START, "due": START + timedelta(days=7), **fields}
        return EarlyTruth(observation_id=of, target_time=target_time, value=value, **known)


@pytest.fixture(scope="session")
def given() -> Given:
    return Given()
