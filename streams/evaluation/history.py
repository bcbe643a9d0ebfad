"""A memory's history for people: each revision with the lines that came and went, each refused proposal with who refused it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from schemas.messages import Rejection
from streams.evaluation.phrasing import title_of
from streams.evaluation.report import SUBJECT, Evaluation
from streams.evaluation.results import MemoryEntry

_CAUSES = {
    "feedback": "rewritten by the model",
    "command": "changed by a command",
    "rollback": "rolled back",
    "rule-dropped": "refuted, taken out by code",
    "forget": "forgotten",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of a memory's history.

    Attributes
    ----------
    lines
        What was taken out (`removed`) and put in (`added`), line by line.
    """

    step: int
    entity: str
    revision: int
    cause: str
    accepted: bool
    reason: str
    words: int
    outcomes: int
    lines: tuple[tuple[str, str], ...]
    rejected: tuple[Rejection, ...]


@dataclass(frozen=True, slots=True)
class History:
    """An arm's memory over a stream: its changes, and each entity's text at the end."""

    title: str
    accepted: int
    refused: int
    changes: tuple[Change, ...]
    last: Mapping[str, str] = field(default_factory=dict)
    first: bool = False


def histories(streams: Sequence[Evaluation]) -> Iterator[History]:
    """The history of each arm that has an audit log, stream by stream, the subject's first."""
    for stream in streams:
        of = f", seed {stream.dataset.seed}" if len(streams) > 1 else ""
        remembering = [name for name, run in stream.arms.items() if run.memories]
        for name in sorted(remembering, key=lambda name: name != SUBJECT):
            memories = stream.arms[name].memories
            several = len({entry.revision.entity for entry in memories}) > 1
            changes = tuple(_change(entry, several=several) for entry in memories)
            yield History(
                title_of(name) + of,
                sum(change.accepted for change in changes),
                sum(not change.accepted for change in changes),
                changes,
                {entry.revision.entity if several else "": entry.revision.after for entry in memories},
                first=name == SUBJECT and stream is streams[0],
            )


def _change(entry: MemoryEntry, *, several: bool) -> Change:
    revision = entry.revision
    return Change(
        step=entry.index + 1,
        entity=revision.entity if several else "",
        revision=revision.revision,
        cause=_CAUSES[revision.cause] if revision.accepted else "proposal refused",
        accepted=revision.accepted,
        reason=revision.reason,
        words=revision.words,
        outcomes=revision.outcomes,
        lines=changed_lines(revision.before, revision.after),
        rejected=revision.rejected,
    )


def changed_lines(before: str, after: str) -> tuple[tuple[str, str], ...]:
    """The lines of a text that were `removed` and `added`, in the text's order; equal ones are left out.

    Examples
    --------
    >>> changed_lines("Rules:\\n- a", "Rules:\\n- b\\n- c")
    (('removed', '- a'), ('added', '- b'), ('added', '- c'))
    """
    kinds = {"- ": "removed", "+ ": "added"}
    found = difflib.ndiff(before.splitlines(), after.splitlines(), linejunk=None, charjunk=None)
    return tuple((kinds[line[:2]], line[2:]) for line in found if line[:2] in kinds)
