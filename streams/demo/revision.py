"""What changed in a memory, word by word, ready to be shown: the old struck out, the new set off."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from rich.text import Text

REMOVED = "red strike"
ADDED = "bold green"
EMPTY = "(empty)"

#: Lines that share at least so much are one changed statement; others are one gone and one come.
SIMILAR = 0.5


def changes(before: str, after: str) -> Text:
    """The newer memory with its changes against the older: kept text plain, removed text struck, added text green."""
    if not before and not after:
        return Text(EMPTY, "dim")
    old, new = before.splitlines(), after.splitlines()
    lines: list[Text] = []
    for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            lines += [Text(line) for line in new[c:d]]
        else:
            lines += _replaced(old[a:b], new[c:d])
    return Text("\n").join(lines)


def plain_changes(before: str, after: str) -> list[str]:
    """The same for a log: one line a change, `-` gone and `+` come; unchanged lines are left out."""
    old, new = before.splitlines(), after.splitlines()
    lines: list[str] = []
    for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            lines += [f"- {line}" for line in old[a:b] if line.strip()]
            lines += [f"+ {line}" for line in new[c:d] if line.strip()]
    return lines


def _replaced(old: list[str], new: list[str]) -> list[Text]:
    """Pair each new line with the old one that it continues, in order."""
    lines: list[Text] = []
    for line in new:
        match = next((i for i, was in enumerate(old) if SequenceMatcher(None, was, line, autojunk=False).ratio() >= SIMILAR), None)
        if match is None:
            lines.append(Text(line, ADDED))
            continue
        lines += [Text(gone, REMOVED) for gone in old[:match]]
        lines.append(_words(old[match], line))
        old = old[match + 1 :]
    return lines + [Text(gone, REMOVED) for gone in old]


def _words(before: str, after: str) -> Text:
    old, new = (re.findall(r"\s+|\S+", line) for line in (before, after))
    text = Text()
    for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            text.append("".join(new[c:d]))
            continue
        gone, come = "".join(old[a:b]), "".join(new[c:d])
        text.append(gone, REMOVED)
        if gone and come:
            text.append(" ")
        text.append(come, ADDED)
    return text
