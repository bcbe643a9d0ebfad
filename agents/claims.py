"""What a free sentence claims that the ledger can test.

A note such as `After wind from the north it stays high` says more than it must: there is a condition in it (a label of a field, or a high
or low value of one) and an outcome (a label, or a direction). Where both can be read without doubt the ledger answers; everything
else is no claim. English words; a sentence in another language makes no claims and is held by the other guards alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from agents.conditions import holds, terms
from agents.ledger import Ledger
from agents.rules import outcome
from schemas.settings import Settings
from schemas.state import Condition, Resolved

#: Matching outcomes below which a claim is neither borne out nor refuted.
TESTED_FROM = 4
#: The latest of them that count: after a change of regime what was true before it is refuted, and may come to be true again.
TESTED_LATEST = 16
#: A label claimed for a condition must come true at least this often there.
SHARE = 0.25

_THEN = re.compile(
    r"\s*(?:->|=>|:|\bthen\b|\bleads? to\b|\bmeans?\b|\bindicates?\b|\bsuggests?\b|\bfollowed by\b|\bpredicts?\b|\bbrings?\b"
    r"|\bresults? in\b|\bcauses?\b|\bcomes? before\b|\bprecedes?\b|\bsignals?\b|\btends? to\b|\boften\b|\busually\b"
    r"|\bstays?\b|\bmakes?\b)\s*",
    re.IGNORECASE,
)
#: As the notes begin that a model is asked for (`agents.answers.words_schema`).
_BEGUN = re.compile(r"(?P<left>(?:High|Low) \w+|With \w+ [\w]+)(?P<right> .+)")
_WHEN = re.compile(r"(?:when|if|after|during|with|on|as)\b(?P<left>.+),(?P<right>[^,]+)", re.IGNORECASE)
#: Where what is claimed ends, and its reason or the other case begins.
_REASON = re.compile(r",?\s*\b(?:as|because|since|due to|while|whereas|but)\b|;", re.IGNORECASE)
#: Moves against the reference. `A higher temperature` alone may mean high: only what says than what, or moves, is a claim.
_UP = re.compile(
    r"\b(ris(?:e|es|ing)|rais(?:e|es|ing)|increas(?:e|es|ing)|grow(?:s|ing)?|climbs?|(?:higher|warmer|hotter|larger|more) than)\b",
    re.IGNORECASE,
)
_DOWN = re.compile(
    r"\b(falls?|falling|drop(?:s|ping)?|decreas(?:e|es|ing)|reduc(?:e|es|ing)|declin(?:e|es|ing)|sinks?"
    r"|(?:lower|cooler|colder|smaller|less) than)\b",
    re.IGNORECASE,
)
_NOT = re.compile(r"\b(not|no|never|rarely|unlikely|without|less likely|seldom|except|unless)\b", re.IGNORECASE)
_HIGH = r"(?:high|higher|strong|stronger|heavy|large|warm|hot|rising|increased)"
_LOW = r"(?:low|lower|weak|light|small|little|cold|cool|calm|falling|decreased)"


@dataclass(frozen=True, slots=True)
class Claim:
    """When all conditions hold: this label, or a move in this direction (+1, -1) from the reference."""

    when: tuple[Condition, ...]
    then: str | int


def claim_of(sentence: str, rows: Sequence[Resolved], settings: Settings) -> Claim | None:
    """Read the claim of a sentence, if it makes exactly one that can be tested."""
    if _NOT.search(sentence):
        return None
    clause = _BEGUN.fullmatch(sentence.strip()) or _WHEN.fullmatch(sentence.strip())
    if clause is not None:
        left, right = clause["left"], clause["right"]
    else:
        left = _THEN.split(sentence, maxsplit=1)[0]
        right = sentence[len(left) :]
    right = _REASON.split(right, maxsplit=1)[0]
    conditions = _conditions(left, rows, settings)
    if not conditions:
        return None
    if settings.target.kind == "category":
        said = [label for label in settings.target.labels if _says(right, label)]
        return Claim(conditions, said[0]) if len(said) == 1 else None
    if settings.target.kind == "number":
        up, down = bool(_UP.search(right)), bool(_DOWN.search(right))
        return Claim(conditions, 1 if up else -1) if up != down else None
    return None


def refuted(claim: Claim, ledger: Ledger) -> str:
    """Why the ledger contradicts a claim, or an empty text."""
    found = [
        seen
        for row in ledger.matched
        if all(holds(condition, row.values) for condition in claim.when) and (seen := outcome(row)) is not None
    ][-TESTED_LATEST:]
    if len(found) < TESTED_FROM:
        return ""
    if isinstance(claim.then, str):
        hits = sum(seen == claim.then for seen in found)
        return "" if hits >= SHARE * len(found) else f"{claim.then} came true in {hits} of {len(found)} such cases"
    numbers = [float(seen) for seen in found]
    mean = sum(numbers) / len(numbers)
    error = sqrt(sum((n - mean) ** 2 for n in numbers) / (len(numbers) - 1) / len(numbers))
    return f"the mean adjustment of {len(numbers)} such cases is {mean:+.2f}" if -mean * claim.then > error else ""


def contradict(one: Claim, other: Claim) -> bool:
    """Whether two claims say different things of the same condition."""
    return set(one.when) == set(other.when) and one.then != other.then


def _conditions(text: str, rows: Sequence[Resolved], settings: Settings) -> tuple[Condition, ...]:
    found: dict[str, Condition] = {}
    for condition in terms(rows, texts=settings.observations.text_fields):
        name = re.escape(condition.field).replace("_", "[ _]")
        if condition.op == "is":
            value = str(condition.value)
            said = _says(text, value) if value not in ("yes", "no") else False
        else:
            size = _HIGH if condition.op == "at-least" else _LOW
            said = bool(re.search(rf"\b{size}\s+(?:\w+\s+)?{name}\b|\b{name}\s+(?:is|was|values?)?\s*{size}\b", text, re.IGNORECASE))
        if said and (condition.field not in found or condition.op == "at-least"):
            found[condition.field] = condition
    return tuple(found.values())


def _says(text: str, label: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(label)}(?!\w)", text, re.IGNORECASE) is not None
