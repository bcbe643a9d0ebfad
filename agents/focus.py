"""Which of many fields matter: where a record is wide, the model names a few, by what it knows of the world and from their names alone.

Code that tries every condition on twenty fields finds chance agreements long before it finds the rule, and a small model loses itself in
rows of twenty facts. So the fields that the memory names are the ones that rows show, and the ones whose conditions are tried first. Of
other fields a condition is offered only where the ledger speaks strongly for it. Where no rule stands on these fields, others are asked
for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agents.conditions import scalar_text
from agents.memory import FOCUS
from agents.rules import Cases, held, measure
from agents.untrusted import is_plain
from schemas.messages import Scalar
from schemas.settings import Settings
from schemas.state import Memory, Resolved, Rule, Statement

#: A record of so many fields is wide.
WIDE = 9
#: Fields that a model may name.
NAMED = 4
#: Outcomes after which fields that were named have to have shown something, and how much (bits, or usual errors).
TRIAL = 12
BORNE_OUT = 1.0
#: Rows by which it is seen which fields there are.
_ROWS = 16


def fields_of(memory: Memory) -> tuple[str, ...]:
    """The fields that a memory names, best first."""
    return tuple(
        name
        for statement in memory.sections.get(FOCUS, ())
        for part in statement.text.split(",")
        if (name := part.strip()) and is_plain(name)
    )


def statement_of(fields: Sequence[str]) -> Statement:
    """The statement that names fields."""
    return Statement(text=", ".join(fields))


def choices(memory: Memory, cases: Cases, rows: Sequence[Resolved], settings: Settings) -> tuple[str, ...]:
    """The fields to choose from, by name, where the model is to name some; nothing where it is not.

    It is where records are wide and none is named yet; or when, after `TRIAL` outcomes, the ledger bears out no rule on one that is. Those
    are not offered again.
    """
    texts = settings.observations.text_fields
    found = sorted(
        {name for row in rows[-_ROWS:] for name, value in row.values.items() if name not in texts and is_plain(name) and _is_short(value)}
    )
    if len(found) < WIDE:
        return ()
    named = set(fields_of(memory))
    if named and (len(rows) < TRIAL or any(_is_borne_out(rule, cases) for rule in held(memory) if {c.field for c in rule.when} & named)):
        return ()
    return tuple(name for name in found if name not in named)


def shown(memory: Memory, values: Mapping[str, Scalar], settings: Settings) -> frozenset[str] | None:
    """The fields of an observation that a row shows: those named, those of rules, texts; None: all of them."""
    named = fields_of(memory)
    if not named:
        return None
    ruled = {condition.field for rule in held(memory) for condition in rule.when}
    return frozenset({*named, *ruled, *settings.observations.text_fields} & values.keys()) or None


def _is_borne_out(rule: Rule, cases: Cases) -> bool:
    evidence = measure(rule, cases)
    return evidence.cases >= 3 and evidence.gain >= BORNE_OUT


def _is_short(value: Scalar) -> bool:
    return not isinstance(value, str) or is_plain(scalar_text(value))
