"""An entry of the audit log as people read it: what, by whom, when and why; what changed; what was refused."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from rich.markup import escape

from schemas.messages import MemoryRevision
from streams.cli.console import stdout
from streams.page import headline

_STYLES = {"+": "green", "-": "red"}


def print_revision(revision: MemoryRevision) -> None:
    """Print an entry; lines of the memory only where they changed anything."""
    verdict = "" if revision.accepted else f" REFUSED ({revision.reason})" if revision.reason else " REFUSED"
    about = f"revision {revision.revision}, {headline(revision)}{verdict}"
    _line(about, "bold" if revision.accepted else "bold yellow")
    if revision.why:
        _line(f"  why: {revision.why}")
    if revision.before != revision.after:
        for line in changes(revision.before, revision.after):
            _line(f"  {line}", _STYLES.get(line[:1], ""))
    for rejection in revision.rejected:
        detail = f" ({rejection.detail})" if rejection.detail else ""
        _line(f"  ! {rejection.guard}{detail}: {rejection.statement}", "yellow")
    for holder in revision.held_by:
        _line(f"  still held by {holder}", "yellow")


def changes(before: str, after: str) -> Iterator[str]:
    """The lines that differ, with what is left of them: `- ` gone, `+ ` new, two spaces kept.

    Examples
    --------
    >>> list(changes("a\\nb", "a\\nc"))
    ['  a', '- b', '+ c']
    """
    return (line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if not line.startswith("?"))


def _line(text: str, style: str = "") -> None:
    stdout.print(escape(text), style=style, soft_wrap=True, highlight=False)
