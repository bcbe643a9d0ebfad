"""Skeleton: names and types as the contract has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from agents.budget import ChatSize, TokenCounter
from agents.errors import ModelError
from agents.models.protocol import LanguageModel, Purpose, Reply
from agents.rewriting import Proposal, RewriteRequest
from schemas.messages import Answer, ModelCall, Observation, Scalar
from schemas.settings import Settings
from schemas.state import EntityState


@dataclass(frozen=True, slots=True)
class Asked:
    answer: Answer | None
    call: ModelCall
    prompt_hash: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    score: float | None
    call: ModelCall


Observer = Callable[[Purpose, Reply | ModelError, ChatSize], None]


class Asker:
    def __init__(self, settings: Settings, model: LanguageModel, counter: TokenCounter, observer: Observer | None = None) -> None:
        self.counter = counter
        self._settings = settings
        self._model = model

    async def predict(self, state: EntityState, observation: Observation, *, reference: float | None, now: datetime) -> Asked:
        return Asked(None, ModelCall(name=self._settings.model.name, error="unreachable"))

    async def judge(self, values: Mapping[str, Scalar], answer: Answer, *, criteria: Sequence[str]) -> Judged:
        return Judged(None, ModelCall(name=self._settings.model.name, error="unreachable"))

    async def rewrite(self, request: RewriteRequest) -> Proposal:
        return Proposal(request, None, None, ModelCall(name=self._settings.model.name, error="unreachable"))
