"""A memory as a file: its text under one line that says whose it is and which revision, so that an edit knows what it was made of.

The line is for people and for `palimpsest memory edit`; the memory itself, in commands and in the audit log, is the text alone.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import orjson

from schemas.messages import MemoryRevision

#: The entity is a JSON string: an id may hold anything, a line break included.
_HEAD = re.compile(r'# revision (\d+) of ("(?:[^"\\]|\\.)*")(?:: .*)?')


class Page(NamedTuple):
    """A memory's text, and what stood above it: None where the line was taken out."""

    text: str
    entity: str | None = None
    revision: int | None = None


def headline(revision: MemoryRevision) -> str:
    """What made a revision, by whom and when, and how long it is: one line.

    Examples
    --------
    >>> headline(MemoryRevision(entity="a", revision=2, cause="command", op="edit", by="ann", accepted=True, words=6, made_at=0))
    'edit, by ann, 1970-01-01 00:00:00Z, 6 words'
    """
    who = f", by {revision.by}" if revision.by else ""
    return f"{revision.op or revision.cause}{who}, {revision.made_at:%Y-%m-%d %H:%M:%S}Z, {revision.words} words"


def write_page(entity: str, revision: MemoryRevision | None) -> str:
    """The page of an entity's memory; of one without any revision yet, a blank one.

    Examples
    --------
    >>> write_page("a", None)
    '# revision 0 of "a": blank\\n'
    """
    number, about, text = (0, "blank", "") if revision is None else (revision.revision, headline(revision), revision.after)
    about = " ".join(about.split())
    return f"# revision {number} of {orjson.dumps(entity).decode()}: {about}\n" + (text and text + "\n")


def read_page(written: str) -> Page:
    """Read a page, with its first line or without.

    Examples
    --------
    >>> read_page('# revision 2 of "a": edit, by ann\\nNotes:\\n- Calm.\\n')
    Page(text='Notes:\\n- Calm.\\n', entity='a', revision=2)
    >>> read_page("Notes:\\n- Calm.\\n")
    Page(text='Notes:\\n- Calm.\\n', entity=None, revision=None)
    """
    first, _, rest = written.partition("\n")
    found = _HEAD.fullmatch(first.strip())
    if found is None:
        return Page(written)
    try:
        entity = orjson.loads(found[2])
    except orjson.JSONDecodeError:
        return Page(written)
    return Page(rest, entity, int(found[1]))
