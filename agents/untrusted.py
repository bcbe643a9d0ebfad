"""Text that comes from outside: what of it a prompt may show, and how; and what in it reads like an order.

Observations are written by other people's systems, and what a model is shown may end in a memory that is read for ever after. So
short plain labels are shown as they are, free text only where the settings list its field, cut and between `OPEN` and `CLOSE`, which
the system message calls data. No pattern list finds every instruction in every language; the word guards, the delimiters and the
measuring of rules each stop some (design.md §6, research: memory poisoning).
"""

from __future__ import annotations

import re
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


def is_order(text: str) -> bool:
    """Whether a text holds something that a model could take for an instruction: orders, role marks, addresses, template marks."""
    return any(pattern.search(text) for pattern in _ORDERS)


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
