"""States with a ledger in them, and the settings they belong to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agents import memory
from schemas.messages import Answer, Scalar, Value
from schemas.settings import Settings
from schemas.state import EntityState, Feedback, Resolved

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
    """Resolved predictions, a day apart, of `(values, truth)` or `(values, truth, reference)`; `forecast` is what was published each time."""

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
