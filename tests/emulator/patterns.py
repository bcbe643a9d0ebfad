"""A text that a regular expression matches, at random; words where letters may repeat, so that people can read it."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

# The parse tree that `re` itself compiles; of no public module, the same in Python 3.11 to 3.13.
from re import _constants as kind  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

#: How often something repeats beyond its least, where it may without end.
MORE = 3
#: How often something repeats beyond its least, where it may up to a bound: short answers are what models are asked for.
MORE_WITHIN = 8
WORDS = ("then", "more", "follows", "often", "with", "high", "wind", "and", "clear", "sky", "less", "after", "rain", "as", "before", "calm")
_CATEGORIES = {
    kind.CATEGORY_DIGIT: "0123456789",
    kind.CATEGORY_WORD: "abcdefghijklmnopqrstuvwxyz0123456789_",
    kind.CATEGORY_SPACE: " ",
}
_PRINTABLE = "".join(chr(code) for code in range(32, 127))


class Unmatched(ValueError):
    """No text for this expression is known here."""


def text_for(pattern: str, chance: random.Random) -> str:
    """Return a text that `re.search` finds the pattern in.

    Raises
    ------
    Unmatched
        It uses what is not understood here (looking around, anchors in the middle), or is no regular expression.
    """
    try:
        text = _Writer(chance).sequence(parser.parse(pattern))
    except re.error as error:
        raise Unmatched(f"{pattern!r} is no regular expression: {error}") from error
    if not re.search(pattern, text):
        raise Unmatched(f"{pattern!r} is not matched by {text!r}")
    return text


class _Writer:
    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._groups: dict[int, str] = {}

    def sequence(self, items: Sequence[tuple[Any, Any]]) -> str:
        return "".join(self._one(operation, argument) for operation, argument in items)

    def _one(self, operation: Any, argument: Any) -> str:
        match operation:
            case kind.LITERAL:
                return chr(argument)
            case kind.NOT_LITERAL:
                return self._chance.choice(_PRINTABLE.replace(chr(argument), ""))
            case kind.ANY:
                return self._chance.choice(WORDS)[0]
            case kind.IN:
                return self._character(argument)
            case kind.BRANCH:
                return self.sequence(self._chance.choice(argument[1]))
            case kind.SUBPATTERN:
                text = self.sequence(argument[3])
                if argument[0] is not None:
                    self._groups[argument[0]] = text
                return text
            case kind.GROUPREF:
                return self._groups.get(argument, "")
            case kind.MAX_REPEAT | kind.MIN_REPEAT:
                return self._repeated(*argument)
            case kind.AT:
                return ""
        raise Unmatched(f"nothing is written for {operation} here")

    def _repeated(self, least: int, most: int, item: Sequence[tuple[Any, Any]]) -> str:
        endless = most == kind.MAXREPEAT
        if endless and len(item) == 1 and item[0][0] is kind.IN:
            word = self._chance.choice(WORDS)
            if len(word) >= least and all(self._allows(item[0][1], letter) for letter in word):
                return word
        end = least + MORE if endless else min(most, least + MORE_WITHIN)
        return "".join(self.sequence(item) for _ in range(self._chance.randint(least, end)))

    def _character(self, members: Sequence[tuple[Any, Any]]) -> str:
        if members[0][0] is kind.NEGATE:
            return self._chance.choice([letter for letter in _PRINTABLE if self._allows(members, letter)])
        operation, argument = self._chance.choice(members)
        match operation:
            case kind.LITERAL:
                return chr(argument)
            case kind.RANGE:
                return chr(self._chance.randint(*argument))
            case kind.CATEGORY if argument in _CATEGORIES:
                return self._chance.choice(_CATEGORIES[argument])
        raise Unmatched(f"nothing is written for {operation} {argument} in a class here")

    def _allows(self, members: Sequence[tuple[Any, Any]], letter: str) -> bool:
        negated = members[0][0] is kind.NEGATE
        found = False
        for operation, argument in members[negated:]:
            match operation:
                case kind.LITERAL:
                    found |= letter == chr(argument)
                case kind.RANGE:
                    found |= argument[0] <= ord(letter) <= argument[1]
                case kind.CATEGORY:
                    found |= letter in _CATEGORIES.get(argument, "")
        return found != negated
