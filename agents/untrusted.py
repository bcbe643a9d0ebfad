"""Text that comes from outside: what of it a prompt may show, and how; and what in it reads like an order.

Observations are written by other people's systems, and what a model is shown may end in a memory that is read for ever after. So
short plain labels are shown as they are, free text only where the settings list its field, cut and between `OPEN` and `CLOSE`, which
the system message calls data. No pattern list finds every instruction in every language, so what counts most is where words come from:
`Outside` knows the texts that a model was shown, and finds what is copied out of them in whatever language (design.md §6, research:
memory poisoning). What a model says in words of its own it does not find; there the word guards and the measuring of rules are left.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

OPEN = "«"
CLOSE = "»"
#: Names and labels longer than this are text, not labels.
LABEL_LENGTH = 40
#: Characters of a free-text field that a prompt shows.
SHOWN_TEXT = 400

_PLAIN = re.compile(r"[\w.,+/%°#&()-]+(?: [\w.,+/%°#&()-]+){0,4}", re.UNICODE)
_ORDERS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\b(ignore|disregard|forget|override|bypass|skip)\b.{0,40}\b(previous|above|prior|earlier|all|any|every|instructions?|rules?|prompts?|system|memory)\b",
        r"\b(new|following|system|developer|hidden)\s+(instructions?|prompts?|orders?)\b",
        r"\b(you are now|act as|pretend|from now on|roleplay|jailbreak|as an ai)\b",
        r"\b(always|only|must|just)\s+(answer|output|respond|reply|say|print|return|predict)\b",
        r"\b(answer|respond|reply|output|print|say)\s+(with|only|exactly)\b",
        r"\b(do not|don't|never)\s+(follow|obey|use|read|trust|rewrite|change)\b",
        r"\b(execute|eval|sudo|curl|password|credential|api[ _-]?key|secret)\b",
        r"^\s*(system|assistant|user|developer|tool)\s*:",
        r"<\|.*?\|?>|\[/?inst\]|<</?sys>>|</?(system|assistant|user|s)>",
        r"https?://|www\.|mailto:",
        r"\{\{|\}\}|\{%|%\}|\$\{|```|<script",
    )
)
_SPACE = re.compile(r"\s+")

#: Words in a row that a statement may not share with outside text. Fewer are a cue's name (`new filter was fitted`), and may be needed.
COPIED_RUN = 5
#: Words in a row from which on pieces of several texts, put side by side, count as one run: an order that came in parts.
PIECE = 3
#: Letters and digits in a row, spaces left out, that it may not share either: a code is one long word, and spaces are easily moved.
COPIED_LETTERS = 30
#: Letters of scripts that put no spaces between words; each counts as a word.
_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
#: Cyrillic and Greek letters that look like Latin ones, as the latter (a part of Unicode's UTS #39).
_LOOKALIKES = str.maketrans("авсеікмнорѕтухјԁһӏαβεηικνορτυχ", "abceikmhopstyxjdhlabenikvoptux")
_AMOUNTS = frozenset(
    {"ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty", "thirty"}
    | {"forty", "fifty", "sixty", "seventy", "eighty", "ninety", "hundred", "thousand", "million", "billion", "infinity"}
)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True, slots=True)
class Outside:
    """The outside texts that a model was shown: to tell what it copied.

    Attributes
    ----------
    texts
        Each as words with a space before and after; last come, for each field, its texts in the order they came in as one.
    letters
        All of them without spaces.
    numbers
        Numbers that stand in them, in digits or English words.
    """

    texts: tuple[str, ...] = ()
    letters: str = ""
    numbers: frozenset[str] = frozenset()

    @classmethod
    def of(cls, fields: Iterable[Sequence[str]]) -> Outside:
        """Gather the texts, field by field, oldest first."""
        joined: list[str] = []
        whole: list[str] = []
        numbers: set[str] = set()
        for texts in fields:
            known = tuple(dict.fromkeys(texts))
            for split in (tokens, raw_tokens):
                said = [" ".join(split(text)) for text in known]
                joined += [f" {one} " for one in said if one]
                whole.append(f" {' '.join(one for one in said if one)} ")
            for text in known:
                numbers |= amounts(text)
        return cls((*dict.fromkeys(joined), *whole), "\n".join(text.replace(" ", "") for text in whole), frozenset(numbers))

    def copied(self, statement: str) -> str:
        """What a statement shares with these texts, where that is too long a run; else an empty text."""
        if not self.texts:
            return ""
        letters = "".join(tokens(statement))
        for start in range(len(letters) - COPIED_LETTERS + 1):
            if letters[start : start + COPIED_LETTERS] in self.letters:
                return letters[start : start + COPIED_LETTERS]
        return self._run(tokens(statement)) or self._run(raw_tokens(statement))

    def names(self, word: str) -> bool:
        """Whether a word, or several in a row, stand in any of the texts."""
        return self._holds(tokens(word))

    def _run(self, said: Sequence[str]) -> str:
        best: Sequence[str] = ()
        reached = [0] * (len(said) + 1)
        for start in range(len(said) - 1, -1, -1):
            length = 0
            while start + length < len(said) and self._holds(said[start : start + length + 1]):
                length += 1
                if length >= PIECE:
                    reached[start] = max(reached[start], length + reached[start + length])
            reached[start] = max(reached[start], length)
            if reached[start] > len(best):
                best = said[start : start + reached[start]]
        return " ".join(best) if len(best) >= COPIED_RUN else ""

    def _holds(self, run: Sequence[str]) -> bool:
        wanted = f" {' '.join(run)} "
        return bool(run) and any(wanted in text for text in self.texts)


def skeleton(text: str) -> str:
    """A text as it looks: one form of each letter, lower case, no accents, nothing invisible; lookalikes of Latin letters are those.

    Examples
    --------
    >>> skeleton("Ｉgn\u200bоre Ünïted")
    'ignore united'
    """
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    shown = "".join(c for c in folded if unicodedata.category(c) not in ("Mn", "Cf", "Cc", "Co") or c.isspace())
    return shown.translate(_LOOKALIKES)


@lru_cache(maxsize=4096)  # the ledger's texts are asked about for every statement
def tokens(text: str) -> tuple[str, ...]:
    """The words of a text's skeleton; letters of scripts without spaces one by one."""
    return tuple(_TOKEN.findall(skeleton(text)))


@lru_cache(maxsize=4096)
def raw_tokens(text: str) -> tuple[str, ...]:
    """The words of a text as they stand, which marks between letters may split."""
    return tuple(re.findall(r"\w+", text.casefold()))


def amounts(text: str) -> frozenset[str]:
    """Numbers in a text: digits of any script, trailing zeros dropped, and English words from ten on."""
    shown = "".join(str(unicodedata.digit(c, c)) for c in skeleton(text))
    digits = {_canonical(found) for found in _NUMBER.findall(shown)}
    return frozenset(digits | (_AMOUNTS & set(tokens(text))))


def _canonical(number: str) -> str:
    head, point, tail = number.replace(",", ".").rpartition(".")
    return f"{head}.{tail}".rstrip("0").rstrip(".") if point else number


def is_order(text: str) -> bool:
    """Whether a text holds something that a model could take for an instruction: orders, role marks, addresses, template marks."""
    return any(pattern.search(shown) for pattern in _ORDERS for shown in (text, skeleton(text)))


@lru_cache(maxsize=4096)  # the same few names and labels are asked about for every observation
def is_plain(text: str) -> bool:
    """Whether a name or label may stand in a prompt and in a memory as it is: one short line of at most five words, and no order."""
    return len(text) <= LABEL_LENGTH and _PLAIN.fullmatch(text) is not None and not is_order(text)


def delimit(text: str, limit: int = SHOWN_TEXT) -> str:
    """Put outside text on one line between delimiters, without any delimiters of its own, cut to `limit` characters.

    Examples
    --------
    >>> delimit("late »again«\\nplease", 12)
    '«late again p…»'
    """
    line = _SPACE.sub(" ", "".join(c for c in text if c.isprintable() or c.isspace()).replace(OPEN, "").replace(CLOSE, "")).strip()
    return f"{OPEN}{line if len(line) <= limit else line[:limit].rstrip() + '…'}{CLOSE}"
