"""Conditions on an observation: what they say, whether they hold, and which ones a ledger offers.

A condition tests one field: a label is compared, a number is cut at a threshold. Labels and flags are offered as they occurred;
numbers are cut near the terciles of the latest rows (research: raw thresholds chosen by a small model are worse than two fixed cuts).
A field whose name or label is not plain (`agents.untrusted`) is never offered: names and labels come from other people's payloads,
and what stands in a condition stands in the memory.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from agents.untrusted import is_plain
from schemas.messages import Scalar
from schemas.state import Condition, Resolved

#: Rows that terciles and labels are taken from; older ones no longer say what is usual.
TERM_ROWS = 64
#: A cut leaves at least this share of the rows on either side.
SMALLEST_SIDE = 0.15
#: Labels of one field that are offered, most frequent first; of many, those that came once are left out.
LABELS_PER_FIELD = 8
#: Ending of a field that holds what a text is about (`agents.themes`), and how many of its labels are offered: a theme comes seldom.
THEME = ".about"
THEMES = 24
#: Overlap of the rows they hold for, from which on two conditions of a field count as the same one.
SAME_ROWS = 0.8

_BARE = re.compile(r"[\w./%+°-]+", re.UNICODE)
_KEYWORDS = {"and", "below", "at", "least", "when"}
_TOKEN = re.compile(r"'([^']*)'|(\S+)")


def number_text(value: float) -> str:
    """Write a number of an observation: at most six significant digits, no exponent for common sizes.

    Examples
    --------
    >>> number_text(12.80), number_text(3), number_text(1013.25)
    ('12.8', '3', '1013.25')
    """
    return f"{value:.6g}"


def scalar_text(value: Scalar) -> str:
    """Write a scalar: flags as yes or no, numbers by `number_text`, texts as they are."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number_text(value)
    return value


def holds(condition: Condition, values: Mapping[str, Scalar]) -> bool:
    """Whether an observation satisfies a condition; a missing field and a value of another type do not."""
    found = values.get(condition.field)
    if found is None:
        return False
    wanted = condition.value
    if condition.op == "is":
        return scalar_text(found) == scalar_text(wanted)
    if isinstance(found, str | bool) or isinstance(wanted, str | bool):
        return False
    return found < wanted if condition.op == "below" else found >= wanted


def implies(one: Condition, other: Condition) -> bool:
    """Whether the second condition holds wherever the first does: it is the same, or its threshold asks for less."""
    if one.field != other.field or one.op != other.op or one.op == "is":
        return one == other
    if isinstance(one.value, str) or isinstance(other.value, str):
        return False
    return one.value <= other.value if one.op == "below" else one.value >= other.value


def describe(condition: Condition) -> str:
    """Say a condition.

    Examples
    --------
    >>> describe(Condition(field="sky", op="is", value="partly cloudy")), describe(Condition(field="rain", op="at-least", value=2.1))
    ("sky 'partly cloudy'", 'rain at least 2.1')
    """
    words = {"is": "", "below": "below ", "at-least": "at least "}[condition.op]
    return f"{_quoted(condition.field)} {words}{_quoted(scalar_text(condition.value))}"


def describe_all(conditions: Sequence[Condition]) -> str:
    return " and ".join(describe(condition) for condition in conditions)


def parse_conditions(text: str) -> tuple[Condition, ...]:
    """Read what `describe_all` writes.

    Raises
    ------
    ValueError
        Not of that form.
    """
    tokens = [(quoted, True) if bare == "" else (bare, False) for quoted, bare in _TOKEN.findall(text)]
    conditions: list[Condition] = []
    part: list[tuple[str, bool]] = []
    for token in [*tokens, ("and", False)]:
        if token == ("and", False):
            conditions.append(_parse_one(part))
            part = []
        else:
            part.append(token)
    return tuple(conditions)


def terms(rows: Sequence[Resolved], *, texts: Sequence[str] = (), known: Sequence[Condition] = ()) -> tuple[Condition, ...]:
    """The conditions that a ledger offers, by field name.

    Parameters
    ----------
    rows
        The ledger, oldest first; the latest `TERM_ROWS` count.
    texts
        Fields of free text, which are no labels.
    known
        Conditions of rules already held. A term that holds for nearly the same rows is offered in the known wording, so that a
        threshold which drifts with the data makes no second rule of the first.
    """
    latest = [row.values for row in rows[-TERM_ROWS:]]
    fields = sorted({name for values in latest for name in values if name not in texts and is_plain(name)})
    offered: list[Condition] = []
    for field in fields:
        found = [values[field] for values in latest if field in values]
        numbers = [value for value in found if isinstance(value, int | float) and not isinstance(value, bool)]
        fresh = _cuts(field, numbers) if len(numbers) == len(found) else _labels(field, found)
        offered += [_settle(condition, latest, known) for condition in fresh]
    return tuple(dict.fromkeys(offered))


def _quoted(text: str) -> str:
    return text if _BARE.fullmatch(text) and text not in _KEYWORDS else f"'{text}'"


def _is_name(text: str, quoted: bool) -> bool:
    return bool(text) and (quoted or (text not in _KEYWORDS and "'" not in text))


def _parse_one(part: Sequence[tuple[str, bool]]) -> Condition:
    match part:
        case [(field, _), ("below", False), (number, False)]:
            return Condition(field=field, op="below", value=float(number))
        case [(field, _), ("at", False), ("least", False), (number, False)]:
            return Condition(field=field, op="at-least", value=float(number))
        case [field_token, value_token] if _is_name(*field_token) and _is_name(*value_token):
            field, value = field_token[0], value_token[0]
            return Condition(field=field, op="is", value=value)
    said = " ".join(text for text, _ in part)
    raise ValueError(
        f"no condition: {said!r}; write `field label`, `field below 1.5` or `field at least 1.5`, quoted where a name has spaces"
    )


def _cuts(field: str, numbers: Sequence[float]) -> list[Condition]:
    # Cut where the text says, so that a condition read back from the memory is the same condition.
    ordered = sorted(float(number_text(number)) for number in numbers)
    size = len(ordered)
    if size < 4:
        return []
    cuts: list[float] = []
    for third in (size // 3, 2 * size // 3):
        cut = ordered[third]
        if cut == ordered[0]:
            cut = next((number for number in ordered if number > cut), cut)
        below = sum(number < cut for number in ordered) / size
        if SMALLEST_SIDE <= below <= 1 - SMALLEST_SIDE and cut not in cuts:
            cuts.append(cut)
    return [Condition(field=field, op=op, value=cut) for cut in cuts for op in ("below", "at-least")]


def _labels(field: str, found: Sequence[Scalar]) -> list[Condition]:
    counts = Counter(text for text in map(scalar_text, found) if is_plain(text))
    most = THEMES if field.endswith(THEME) else LABELS_PER_FIELD
    if len(counts) > most:
        counts = Counter({label: n for label, n in counts.items() if n > 1})
    chosen = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most]
    return [Condition(field=field, op="is", value=label) for label, _ in chosen]


def _settle(condition: Condition, latest: Sequence[Mapping[str, Scalar]], known: Sequence[Condition]) -> Condition:
    if condition.op == "is":
        return condition
    mine = {index for index, values in enumerate(latest) if holds(condition, values)}
    for other in known:
        if other.field == condition.field and other.op == condition.op:
            theirs = {index for index, values in enumerate(latest) if holds(other, values)}
            if len(mine & theirs) >= SAME_ROWS * len(mine | theirs):
                return other
    return condition
