"""Skeleton: names and types as the contract has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agents.budget import TokenCounter
from agents.models.protocol import ChatMessage
from schemas.messages import MemoryRevision, ModelCall
from schemas.settings import Settings
from schemas.state import EntityState


@dataclass(frozen=True, slots=True)
class RewriteRequest:
    entity: str
    revision: int
    messages: tuple[ChatMessage, ...]
    schema: Mapping[str, Any]
    shown: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    request: RewriteRequest
    text: str | None
    parsed: Any
    call: ModelCall


def wants_rewrite(state: EntityState, settings: Settings) -> bool:
    return False


def request_rewrite(state: EntityState, settings: Settings, counter: TokenCounter) -> RewriteRequest | None:
    return None


def apply_proposal(state: EntityState, proposal: Proposal, settings: Settings, *, now: datetime) -> tuple[EntityState, MemoryRevision]:
    return state, MemoryRevision(entity=state.entity, revision=state.memory.revision, cause="feedback", accepted=False, made_at=now)
