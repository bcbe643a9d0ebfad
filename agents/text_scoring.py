"""Whether a text answers like the truth: to the letter, in its words, or by a function of the user's.

`target.scorer` says which. What `judge` means, a model in place of a truth, is `agents.judge`'s and refused here.
"""

from __future__ import annotations

import importlib
import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from agents.errors import AgentError

CHECKER = "checker:"

#: One spelling of what keyboards and typesetters write differently.
_ALIKE = str.maketrans({"’": "'", "‘": "'", "−": "-"})
#: Punctuation in Unicode's book, but part of what a word says: `5%`, `c#`, `r&`, `@home`.
_MEANT = "%#&@"
_NUMBER = re.compile(r"-?\.?\d")


class Verdict(NamedTuple):
    """Whether an answer is right, and what a checker said about it (empty: nothing)."""

    hit: bool
    message: str = ""


class CheckerMissing(AgentError):
    """A user's checker cannot be loaded. Load it once at start: then no outcome ever meets this."""


Checker = Callable[[str, str], Verdict]


def matches(answer: str, truth: str, scorer: str) -> Verdict:
    """Compare an answer with the truth.

    Parameters
    ----------
    scorer
        `exact`: equal characters. `normalised`: equal words, whatever their case, spacing, punctuation and compatibility forms.
        `checker:package.module:function`: that function's verdict, a bool or a pair of bool and message. One that raises, or returns
        something else, on an answer has not passed it, and the message says what happened: a stream does not stop over it.

    Raises
    ------
    CheckerMissing
        The checker cannot be loaded.
    ValueError
        Another scorer.

    Examples
    --------
    >>> matches("  The CAT, sat. ", "the cat sat", "normalised").hit, matches("Cat", "cat", "exact").hit
    (True, False)
    """
    if scorer == "exact":
        return Verdict(answer == truth)
    if scorer == "normalised":
        return Verdict(normalised(answer) == normalised(truth))
    if scorer.startswith(CHECKER):
        return load_checker(scorer)(answer, truth)
    raise ValueError(f"scorer {scorer!r} compares no texts; known: exact, normalised, {CHECKER}package.module:function")


def normalised(text: str) -> str:
    """The text's words, case folded, one space between.

    Only punctuation at a word's edge goes: `3.5` and `35` differ, and so do `-3` and `3`, `5%` and `5`. Text without any word is kept.

    Examples
    --------
    >>> normalised("“Straße” -- 3.5, -3!")
    'strasse 3.5 -3'
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).translate(_ALIKE)
    words = [_bare(word) for word in folded.split()]
    return " ".join(word for word in words if word) or " ".join(folded.split())


@lru_cache(maxsize=64)
def load_checker(spec: str) -> Checker:
    """The function behind `checker:package.module:function` (the prefix may be left out); called with answer and truth.

    Raises
    ------
    CheckerMissing
        No such module or function, or the module fails to import.
    """
    module_name, _, name = spec.removeprefix(CHECKER).partition(":")
    try:
        function = getattr(importlib.import_module(module_name), name)
    except Exception as error:
        raise CheckerMissing(f"{spec}: cannot be loaded: {type(error).__name__}: {error}") from error
    if not callable(function):
        raise CheckerMissing(f"{spec}: {name} is a {type(function).__name__}, not a function")

    def check(answer: str, truth: str) -> Verdict:
        try:
            said = function(answer, truth)
        except Exception as error:
            return Verdict(False, f"{spec} raised {type(error).__name__}: {error}")
        match said:
            case bool():
                return Verdict(said)
            case (bool() as hit, str() as message):
                return Verdict(hit, message)
        return Verdict(False, f"{spec} returned a {type(said).__name__}; a checker returns a bool, or a bool and a message")

    return check


def _bare(word: str) -> str:
    """The word without punctuation around it, but with a number's sign and decimal point."""
    start, end = 0, len(word)
    while start < end and _is_punctuation(word[start]) and not _NUMBER.match(word, start):
        start += 1
    while end > start and _is_punctuation(word[end - 1]):
        end -= 1
    return word[start:end]


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character).startswith("P") and character not in _MEANT
