"""The prompts, one file per role, filled strictly: a name that is missing is an error, and nothing is filled twice."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

ROLES = ("system", "predict", "rewrite", "rewrite-free-text", "theme", "repair", "judge", "judge-case")


def source(role: str) -> str:
    """A role's prompt file as it stands."""
    return resources.files(__name__).joinpath(f"{role}.md").read_text(encoding="utf-8")


def fill(role: str, **values: Any) -> str:
    """Fill a role's prompt.

    Raises
    ------
    jinja2.UndefinedError
        A name of the prompt is missing in `values`.
    """
    return _environment().get_template(role).render(**values).strip()


@cache
def _environment() -> Environment:
    # Plain text for a model, not HTML: quotes and angle brackets must stay what they are.
    return Environment(
        loader=FunctionLoader(source), undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True, auto_reload=False
    )
