"""How a rule reads, and how what was read becomes a rule again.

`when sky clear and wind calm: medium (6 of 6)` for a label, `when rain at least 2.1: add +0.8 (7 cases, spread 0.9)` for a number;
a first sighting ends in `tentative`. What `rule_line` writes, `parse_rule` reads back equal, numbers rounded to the target's decimals.
"""

from __future__ import annotations

import re

from agents.conditions import describe_all, parse_conditions
from schemas.messages import Value
from schemas.settings import TargetSettings
from schemas.state import Rule

_LINE = re.compile(r"when (?P<when>.+?): (?P<then>.+?)(?: \((?P<record>[^()]*)\))?")
# Counts of more digits are none: an integer that no record can hold.
_HITS = re.compile(r"(?P<hits>\d{1,9}) of (?P<cases>\d{1,9})(?P<tentative>, tentative)?")
_CASES = re.compile(r"(?P<cases>\d{1,9}) cases?(?:, spread (?P<spread>\d+(?:\.\d+)?))?(?P<tentative>, tentative)?")


def conclusion(then: Value, decimals: int) -> str:
    """Say what follows: a label as it is, a number as a signed adjustment.

    Examples
    --------
    >>> conclusion("rain", 1), conclusion(-0.04, 1), conclusion(2.0, 0)
    ('rain', 'add +0.0', 'add +2')
    """
    return then if isinstance(then, str) else f"add {signed(then, decimals)}"


def signed(value: float, decimals: int) -> str:
    """Write a number with its sign; what rounds to zero is `+0`."""
    return f"{round(value, decimals) + 0.0:+.{decimals}f}"


def rule_line(rule: Rule, decimals: int) -> str:
    """Say a rule with its record; one without any case yet, as a person writes it, has none."""
    said = f"when {describe_all(rule.when)}: {conclusion(rule.then, decimals)}"
    if not rule.cases:
        return said
    if isinstance(rule.then, str):
        record = f"{rule.hits} of {rule.cases}"
    else:
        record = f"{rule.cases} case{'s' * (rule.cases != 1)}"
        if rule.spread is not None:
            record += f", spread {rule.spread:.{decimals}f}"
    tail = ", tentative" if rule.tentative else ""
    return f"{said} ({record}{tail})"


def parse_rule(line: str, target: TargetSettings) -> Rule:
    """Read a rule back.

    Raises
    ------
    ValueError
        Not of the form, a label that the target does not have, or no number where one is due.
    """
    whole = _LINE.fullmatch(line.strip())
    if whole is None:
        raise ValueError(f"no rule: {line!r}; write `when field label and field below 1.5: conclusion`")
    then_text, record = whole["then"], whole["record"]
    pattern = _CASES if target.kind == "number" else _HITS
    found = pattern.fullmatch(record) if record is not None else None
    if record is not None and found is None:
        then_text = f"{then_text} ({record})"
    parts = found.groupdict() if found is not None else {}
    return Rule(
        when=parse_conditions(whole["when"]),
        then=_parse_conclusion(then_text, target),
        hits=int(parts.get("hits") or 0),
        cases=int(parts.get("cases") or 0),
        spread=float(parts["spread"]) if parts.get("spread") else None,
        tentative=bool(parts.get("tentative")),
    )


def _parse_conclusion(text: str, target: TargetSettings) -> Value:
    if target.kind != "number":
        if target.labels and text not in target.labels:
            raise ValueError(f"unknown label {text!r}; one of {', '.join(target.labels)}")
        return text
    number = re.fullmatch(r"add ([+-]?\d+(?:\.\d+)?)", text)
    if number is None:
        raise ValueError(f"{text!r} is no adjustment; write `add +1.5`")
    return float(number[1])
