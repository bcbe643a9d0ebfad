"""A judge where there is no truth: the same model, asked with stated criteria, in place of an outcome that never comes.

Its verdict is a score from 0 to 1 in tenths. It says how an answer reads, not whether it came true, so it is marked wherever it goes
(`result = "judged"`) and never enters scores against truth, the ledger's cases, or a rule's record. Off unless the settings ask for it
(`truths.source = "judge"` or `truths.on_expiry = "judge"`): self-judging without a signal from outside made models worse (research:
method §5).
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.messages import ModelCall


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict. `score` is None where the judge gave none that can be used; `call.error` says why."""

    score: float | None
    call: ModelCall
