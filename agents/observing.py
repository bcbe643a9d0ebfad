"""How an observation, a truth and an outcome read in a prompt: one wording for predictions, feedback and the ledger.

Facts are comma-separated `name value`, in the settings' order or else by name. Shown are numbers, flags and short plain labels, and
free text of the fields in `observations.text_fields`, delimited; everything else stays in the record only (`agents.untrusted`).
"""

from __future__ import annotations

from collections.abc import Mapping

from agents.conditions import THEME, scalar_text
from agents.untrusted import SHOWN_TEXT, delimit, is_plain
from schemas.messages import Scalar, Value
from schemas.settings import Settings

#: Fields of one observation that a prompt shows.
SHOWN_FIELDS = 40


def shown_fields(values: Mapping[str, Scalar], settings: Settings) -> list[str]:
    """Names of the fields that a prompt shows, in their order."""
    mapped = settings.observations.values
    texts = settings.observations.text_fields
    themes = [name for name in (f"{text}{THEME}" for text in texts) if name in values and name not in mapped]
    ordered = [*(name for name in mapped if name in values), *themes] if mapped else sorted(values)
    return [
        name for name in ordered if is_plain(name) and (name in texts or not isinstance(values[name], str) or is_plain(str(values[name])))
    ][:SHOWN_FIELDS]


def facts(
    values: Mapping[str, Scalar],
    settings: Settings,
    *,
    text_limit: int = SHOWN_TEXT,
    fields: int = SHOWN_FIELDS,
    only: frozenset[str] | None = None,
) -> str:
    """Say an observation's values on one line.

    Parameters
    ----------
    text_limit
        Characters of a free-text field.
    fields
        At most so many fields, the first ones.
    only
        These fields; None: all.
    """
    texts = settings.observations.text_fields
    parts = []
    for name in [name for name in shown_fields(values, settings) if only is None or name in only][:fields]:
        value = values[name]
        said = delimit(value, text_limit) if name in texts and isinstance(value, str) else scalar_text(value)
        parts.append(f"{name} {said}")
    return ", ".join(parts) or "nothing measured"


def truth_text(truth: Value, settings: Settings, *, text_limit: int = SHOWN_TEXT) -> str:
    """Say a truth or an answer: a number with the target's decimals, a label as it is, a text delimited."""
    if not isinstance(truth, str):
        return f"{truth:.{settings.target.decimals}f}"
    return truth if settings.target.kind == "category" else delimit(truth, text_limit)


def with_unit(value: float, settings: Settings) -> str:
    """Say a number with the target's decimals and unit."""
    return f"{value:.{settings.target.decimals}f} {settings.target.unit}".rstrip()
