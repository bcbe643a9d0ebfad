"""How an answer in free text is compared with the truth: `exact`, `normalised`, `checker:<import path>`, `judge`.

`exact` and `normalised` are functions of two texts and live here, as does calling a checker. `judge` asks a model, which is the
forecaster's business; this module only says that it must be asked.

A checker is a function of somebody else's: `check(values, answer, truth) -> (passed, message)`, with the observation's values, the
answer's text and the truth (None where the settings name no source of truths: a format check, a test run). Its verdict is what
counts as the truth, and its message becomes the outcome's note and so the feedback. A checker is called with the event loop waiting:
what runs longer than some milliseconds must be quick to look up, not to compute.
"""

from __future__ import annotations

import importlib
import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from schemas.messages import Scalar

Checker = Callable[[Mapping[str, Scalar], str, str | None], tuple[bool, str]]

_EDGES = " \t.,;:!?\"'`()[]{}"


def normalised(text: str) -> str:
    """Case, width, runs of white space and punctuation at either end do not matter.

    Examples
    --------
    >>> normalised('  "Heart   Failure." ')
    'heart failure'
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.split()).strip(_EDGES)


def same_text(answer: str, truth: str, scorer: str) -> bool:
    """Compare by `exact`; by `normalised` for every other scorer, which for `judge` is the way out where it gives no verdict."""
    return answer == truth if scorer == "exact" else normalised(answer) == normalised(truth)


def needs_verdict(scorer: str) -> bool:
    """Whether a scorer's verdict has to be fetched before an outcome can be scored."""
    return scorer == "judge" or scorer.startswith("checker:")


@lru_cache(maxsize=16)
def load_checker(scorer: str) -> Checker | None:
    """The function that `checker:package.module:function` names; None for the other scorers.

    Raises
    ------
    ValueError
        The module cannot be imported, or has no such function.
    """
    if not scorer.startswith("checker:"):
        return None
    _, module, name = scorer.split(":")
    try:
        found: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"target.scorer: {scorer!r} cannot be loaded: {error}") from error
    if not callable(found):
        raise ValueError(f"target.scorer: {scorer!r} is no function")
    checker: Checker = found
    return checker


def check(checker: Checker, values: Mapping[str, Scalar], answer: str, truth: str | None) -> tuple[bool, str]:
    """Ask a checker. One that fails on an answer has not passed it, and the message says what happened."""
    try:
        passed, message = checker(values, answer, truth)
    except Exception as error:
        return False, f"the checker failed on this answer: {type(error).__name__}: {error}"
    return bool(passed), str(message)
