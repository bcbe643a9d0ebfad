"""Feedback: one outcome in words, made by code from what was forecast and what came.

Worded as facts (`wind north, sky clear -> high`): told "you said X, it was Y", a small model learned its own mistakes. Whether it was a
miss stands in the record's `miss`, outside the text that may be copied. Feedback of a judge says so and is never mixed with truths.
"""

from __future__ import annotations

from agents import focus
from agents.observing import facts, truth_text
from agents.scoring import difference
from agents.sentences import signed
from agents.untrusted import delimit
from schemas.settings import Settings
from schemas.state import EntityState, Feedback, Resolved

#: Characters of a truth's or judge's note in a feedback.
NOTE_LENGTH = 200


def feedback_for(row: Resolved, state: EntityState, settings: Settings) -> Feedback:
    """Put a resolved prediction into words.

    Parameters
    ----------
    state
        Where the usual size of an error is taken from (`surprise.usual`).

    Examples
    --------
    A number's feedback reads `rain 0, sky clear -> 12.1 (reference +1.6; forecast error -0.4, 0.2 of the usual)`.
    """
    note = f"; note {delimit(row.note, NOTE_LENGTH)}" if row.note else ""
    judged = row.result == "judged"
    if judged:
        answer = truth_text(row.forecast.value, settings)
        came = f" -> answered {answer}, judged {10 * (row.verdict or 0.0):.0f} of 10 without a truth{note}"
    elif row.truth is None:
        came = f" -> no truth came{note}"
    else:
        came = f" -> {truth_text(row.truth, settings)}{_error(row, state, settings)}{note}"
    said = facts(row.values, settings, only=focus.shown(state.memory, row.values, settings))
    room = settings.bounds.text - len(came)
    if len(said) > room:
        # Whole facts go, never half a number.
        said = said[: max(room - 5, 0)].rpartition(", ")[0] + ", ..."
    return Feedback(seq=row.seq, text=f"{said}{came}"[: settings.bounds.text], miss=row.miss, judged=judged)


def _error(row: Resolved, state: EntityState, settings: Settings) -> str:
    if isinstance(row.truth, str) or row.truth is None or isinstance(row.forecast.value, str):
        return ""
    decimals = settings.target.decimals
    parts = []
    if row.reference is not None:
        parts.append(f"reference {signed(difference(row.truth, row.reference), decimals)}")
    error = difference(row.truth, row.forecast.value)
    size = f", {abs(error) / state.surprise.usual:.1f} of the usual" if state.surprise.usual > 0 else ""
    parts.append(f"forecast error {signed(error, decimals)}{size}")
    return f" ({'; '.join(parts)})"
