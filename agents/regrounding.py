"""Holding sentences of the memory against the newest outcomes, as rules are: what the ledger refutes goes, whoever wrote it.

Distortion adds up over rewrites, and what was true once stays in a text that nobody has cause to rewrite (research: drift). Sentences that
make no claim that can be tested (`agents.claims`) are left alone; rules are `agents.rules`'s.
"""

from __future__ import annotations

from datetime import datetime

from agents.claims import claim_of, refuted
from agents.ledger import Ledger
from agents.memory import kept_rejections, revise
from schemas.messages import MemoryRevision, Rejection
from schemas.settings import Settings
from schemas.state import EntityState


def drop_refuted(state: EntityState, settings: Settings, *, now: datetime) -> tuple[EntityState, MemoryRevision | None]:
    """Make a revision without the sentences that outcomes refute; the state as it is, and None, where there are none."""
    sentences = [one for statements in state.memory.sections.values() for one in statements if one.rule is None]
    if not sentences:
        return state, None
    ledger = Ledger(state, settings)
    gone: dict[str, str] = {}
    for sentence in sentences:
        claim = claim_of(sentence.text, ledger.rows, settings)
        if claim is not None and (fault := refuted(claim, ledger)):
            gone[sentence.text] = fault
    if not gone:
        return state, None
    sections = {
        name: tuple(one for one in statements if one.rule is not None or one.text not in gone)
        for name, statements in state.memory.sections.items()
    }
    rejected = tuple(Rejection(guard="contradiction", statement=text, detail=fault) for text, fault in gone.items())
    reason = f"{len(gone)} statement{'s' * (len(gone) != 1)} refuted by outcomes"
    return revise(state, sections, cause="rule-dropped", now=now, reason=reason, rejected=kept_rejections(rejected))
