"""What a text is about, as the model reads it: a theme, which a rule can test as it tests a label.

Notes in varied wording are no labels: `filter replaced` and `new cartridge fitted` have no word in common, so code cannot count them
together. A model can: before each forecast it is asked what the text is about, in one or two words. That is kept with the outcome as one
more field (`note.about`), so that conditions, evidence and refutation work on it as on any other, and the rule that applies can be handed
to the forecast. The question is asked apart and shows nothing but the text: shown the themes there are, a small model put everything
under the newest one. Themes that share a word, or its beginning, are taken for one.

Only the first of `observations.text_fields` is read so. A theme is few plain words and never an order, a label of the target or a number:
it is the one thing that a text from outside can get written into a memory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from agents.conditions import THEME
from agents.rules import held
from agents.untrusted import amounts, is_order
from schemas.messages import Scalar
from schemas.settings import Settings
from schemas.state import Condition, Memory, Resolved

#: A theme as it may be written: one or two words in lower case.
PATTERN = r"^[a-z]{2,14}(-[a-z]{2,14})?$"
#: Rows in which themes are remembered that no rule speaks of any more.
REMEMBERED = 64
#: Letters at the beginning of a word that make it the same as another (`oily`, `oil`); shorter words have to be equal.
SAME_BEGINNING = 6
SHORTEST = 3
#: Words that make an order, or say nothing of what a text is about.
_BANNED = frozenset(
    re.findall(
        r"[a-z]+",
        """
    answer always must never only predict forecast say output respond reply return print ignore disregard forget override rule rules
    instruction instructions system assistant user prompt memory note notes text theme about other none unknown nothing case outcome
    json value number increase decrease add subtract set make
    """,
    )
)


def field_of(settings: Settings) -> str | None:
    """The text field that is read for themes, None where none is listed."""
    return settings.observations.text_fields[0] if settings.observations.text_fields else None


def name_of(field: str) -> str:
    """The field that holds the theme of a text field."""
    return f"{field}{THEME}"


def names(settings: Settings) -> tuple[str, ...]:
    """The fields that hold themes."""
    field = field_of(settings)
    return () if field is None else (name_of(field),)


def with_theme(values: Mapping[str, Scalar], theme: str, settings: Settings) -> dict[str, Scalar]:
    """An observation's values with the theme of its text, as the model read it."""
    field = field_of(settings)
    plain = {name: value for name, value in values.items() if field is None or name != name_of(field)}
    return plain if field is None or not theme else {**plain, name_of(field): theme}


def remembered(memory: Memory, rows: Sequence[Resolved], settings: Settings) -> tuple[str, ...]:
    """Themes of the memory, then those of the latest rows, newest first."""
    field = field_of(settings)
    if field is None:
        return ()
    name = name_of(field)
    seen = [str(row.values[name]) for row in reversed(rows[-REMEMBERED:]) if name in row.values]
    return tuple(dict.fromkeys((*_of_rules(memory, name), *seen)))


def settle(theme: str, others: Sequence[str], settings: Settings) -> tuple[str, str]:
    """The theme as it is kept: one that is known already where it is nearly that.

    Returns
    -------
    tuple
        The theme and an empty text, or an empty text and why it cannot be one.
    """
    if not re.fullmatch(PATTERN, theme):
        return "", "it is not one or two plain words"
    words = theme.split("-")
    labels = {word for label in settings.target.labels for word in re.findall(r"[a-z]+", label.lower())}
    if banned := [word for word in words if word in _BANNED or word in labels]:
        return "", f"it says {banned[0]!r}"
    if numbers := amounts(theme):
        return "", f"it says {min(numbers)!r}, a number"
    if is_order(theme.replace("-", " ")):
        return "", "it reads like an instruction"
    return next((other for other in others if _are_alike(theme, other)), theme), ""


def condition(theme: str, settings: Settings) -> Condition:
    """The condition that a text is about a theme."""
    field = field_of(settings)
    assert field is not None, "themes are only named where a text field is listed"
    return Condition(field=name_of(field), op="is", value=theme)


def _are_alike(one: str, other: str) -> bool:
    """Whether two themes share a word."""
    return any(_are_same(a, b) for a in one.split("-") for b in other.split("-"))


def _are_same(one: str, other: str) -> bool:
    length = min(len(one), len(other), SAME_BEGINNING)
    return one == other or (length >= SHORTEST and one[:length] == other[:length])


def _of_rules(memory: Memory, name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(c.value) for rule in held(memory) for c in rule.when if c.field == name and c.op == "is"))
