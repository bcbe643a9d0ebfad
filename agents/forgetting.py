"""Forgetting an entity: all that is left is that it existed and how far its inputs were read.

What stays in other topics (the audit log among them) is not this package's to erase; the shell tells which hold text still.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from schemas.messages import MemoryRevision
from schemas.state import EntityState, Memory


def forget(state: EntityState, *, now: datetime, **log: Any) -> tuple[EntityState, MemoryRevision]:
    """Blank an entity's state: no text, no number, no id stays in it.

    The memory's revision goes on by one, so that a rewrite that is under way finds the memory moved on. The entry of the audit log
    repeats nothing of what is forgotten; `log` fills further fields of it.
    """
    blank = Memory(revision=state.memory.revision + 1)
    entry = MemoryRevision(entity=state.entity, revision=blank.revision, cause="forget", accepted=True, made_at=now, **log)
    return EntityState(entity=state.entity, applied=state.applied, memory=blank, forgotten=True), entry


def begun_anew(state: EntityState) -> EntityState:
    """The state to go on from: that of an entity which was forgotten begins anew with its next observation or truth."""
    return EntityState(entity=state.entity, applied=state.applied, memory=state.memory) if state.forgotten else state
