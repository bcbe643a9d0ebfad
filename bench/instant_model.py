"""A language model that answers at once, so that nothing but the program itself is measured."""

from __future__ import annotations

from agents.models.scripted import ScriptedModel, answer_from_schema
from schemas.settings import ModelSettings


class _Forgetful(list[object]):
    """A record of calls that keeps none: a million prompts would be measured as the worker's memory."""

    def append(self, call: object) -> None:
        pass


def from_settings(settings: ModelSettings) -> ScriptedModel:
    """`agents.models.scripted.from_settings`, with no record of what it was asked."""
    model = ScriptedModel(answer_from_schema, name=settings.name)
    model.calls = _Forgetful()  # type: ignore[assignment]
    return model
