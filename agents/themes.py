"""What a text is about, as the model reads it: a theme, which a rule can test as it tests a label.

Notes in varied wording are no labels: `filter replaced` and `new cartridge fitted` have no word in common, so code cannot count them
together. A model can: with each forecast it says which of the memory's themes the text is about, and when the memory is rewritten it
names a text whose forecast was wrong, in one to three words. Both are kept with the outcome as one more field (`note.about`), so that
conditions, evidence and refutation work on it as on any other. The themes of a memory are those that its rules speak of; people read and
edit them there. There is no theme for everything else: offered one beside few others, a small model took always or never that. A text
that is given a theme it has nothing to do with is soon forecast badly, and gets its own.

Only the first of `observations.text_fields` is read so. A theme is few plain words and never an order, a label of the target or a number:
it is the one thing that a text from outside can get written into a memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from rapidfuzz import fuzz

from agents.observing import THEME
from agents.rules import held
from agents.untrusted import amounts, is_order
from schemas.messages import Scalar
from schemas.settings import Settings
from schemas.state import Condition, Memory, Resolved

#: A theme as it may be written: one to three words in lower case.
PATTERN = r"^[a-z]{2,14}(-[a-z]{2,14}){0,2}$"
#: With fewer themes there is nothing to choose from.
FEWEST = 2
#: Rows in which themes are remembered that no rule speaks of any more.
REMEMBERED = 64
#: Likeness (0 to 100) from which on two themes are taken for one.
ALIKE = 85.0
#: Words that make an order, or say nothing of what a text is about.
_BANNED = frozenset(  # noqa: SIM905 - a list of sixty would fill a page
    """
    answer always must never only predict forecast say output respond reply return print ignore disregard forget override rule rules
    instruction instructions system assistant user prompt memory note notes text theme about other none unknown nothing case outcome
    json value number increase decrease add subtract set make
    """.split()
)


def field_of(settings: Settings) -> str | None:
    """The text field that is read for themes, None where none is listed."""
    return settings.observations.text_fields[0] if settings.observations.text_fields else None


def name_of(field: str) -> str:
    """The field that holds the theme of a text field."""
    return f"{field}{THEME}"


def choices(memory: Memory, settings: Settings) -> tuple[str, ...]:
    """The themes that a forecast chooses from; nothing where the memory has fewer than `FEWEST`."""
    field = field_of(settings)
    found = () if field is None else _of_rules(memory, name_of(field))
    return found if len(found) >= FEWEST else ()


def themes_of(memory: Memory, values: Mapping[str, Scalar], settings: Settings) -> tuple[str, ...]:
    """`choices`, or nothing where the observation has no text."""
    field = field_of(settings)
    return choices(memory, settings) if field is not None and isinstance(values.get(field), str) else ()


def with_theme(values: Mapping[str, Scalar], theme: str, settings: Settings) -> dict[str, Scalar]:
    """An observation's values with the theme of its text, as the model read it."""
    field = field_of(settings)
    plain = {name: value for name, value in values.items() if field is None or name != name_of(field)}
    return plain if field is None or not theme else {**plain, name_of(field): theme}


def to_name(rows: Sequence[Resolved], seqs: Iterable[int], settings: Settings) -> Resolved | None:
    """The row among `seqs` whose text is to be named: of those that were forecast badly one without a theme, the newest; or none."""
    field = field_of(settings)
    if field is None:
        return None
    wanted = set(seqs)
    found = [row for row in rows if row.seq in wanted and row.miss and isinstance(row.values.get(field), str)]
    return max(found, key=lambda row: (name_of(field) not in row.values, row.seq), default=None)


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
        return "", "it is not one to three plain words"
    words = theme.split("-")
    labels = {word for label in settings.target.labels for word in re.findall(r"[a-z]+", label.lower())}
    if banned := [word for word in words if word in _BANNED or word in labels]:
        return "", f"it says {banned[0]!r}"
    if numbers := amounts(theme):
        return "", f"it says {min(numbers)!r}, a number"
    if is_order(theme.replace("-", " ")):
        return "", "it reads like an instruction"
    alike = [(fuzz.token_sort_ratio(theme.replace("-", " "), other.replace("-", " ")), other) for other in others]
    best = max(alike, default=(0.0, ""))
    return (best[1], "") if best[0] >= ALIKE else (theme, "")


def condition(theme: str, settings: Settings) -> Condition:
    """The condition that a text is about a theme."""
    field = field_of(settings)
    assert field is not None, "themes are only named where a text field is listed"
    return Condition(field=name_of(field), op="is", value=theme)


def _of_rules(memory: Memory, name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(c.value) for rule in held(memory) for c in rule.when if c.field == name and c.op == "is"))
