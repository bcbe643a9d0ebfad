"""The memory: a page of short statements in fixed sections, how it reads, and how a person or a rollback changes it.

A memory is text that people read, so a statement's text is written once, when its revision is made, and what is rendered is that text
and nothing computed later. Every change goes through `revise`, which numbers it, keeps it for rollback and makes its entry in the audit
log. The live record of rules stands elsewhere (`agents.ledger`, `agents.prompt`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from agents.sentences import parse_rule, rule_line
from schemas.messages import Cause, Command, MemoryRevision, Rejection
from schemas.settings import Settings
from schemas.state import EntityState, Memory, Revision, Statement

#: Sections of the evidence form: which fields matter where there are many, what code tests, and what it cannot.
FOCUS = "focus"
RULES = "rules"
NOTES = "notes"
#: Sections of the free-text form (the paper, Appendix C).
HISTORY = "history"
MISTAKES = "mistakes"
WATCH = "watch"

HEADINGS: Mapping[str, str] = {
    FOCUS: "Fields that matter",
    RULES: "Rules",
    NOTES: "Notes",
    HISTORY: "History",
    MISTAKES: "Mistakes and their causes",
    WATCH: "What to watch",
}
FORMS: Mapping[str, tuple[str, ...]] = {"evidence": (FOCUS, RULES, NOTES), "free-text": (HISTORY, MISTAKES, WATCH)}

#: Characters of one statement; longer ones are no statements.
STATEMENT_LENGTH = 300

_SECTION_OF = {heading.lower(): name for name, heading in HEADINGS.items()}
_BULLET = re.compile(r"^[-*•]\s+")


def empty(settings: Settings) -> Memory:
    """The memory of an entity of which nothing is known yet: the form's sections, blank."""
    return Memory(sections=dict.fromkeys(FORMS[settings.memory.form], ()))


def render(memory: Memory) -> str:
    """The memory as a model and a person read it: a heading for each section that has statements; empty text for an empty memory.

    Examples
    --------
    >>> print(render(Memory(sections={"notes": (Statement(text="Wind turns before rain."),)})))
    Notes:
    - Wind turns before rain.
    """
    lines: list[str] = []
    for name, statements in memory.sections.items():
        if statements:
            lines.append(f"{HEADINGS.get(name, name)}:")
            lines += [f"- {statement.text}" for statement in statements]
    return "\n".join(lines)


def words(memory: Memory) -> int:
    """Words of the rendered memory, headings and bullets included: what `memory.words` bounds."""
    return len(render(memory).split())


def parse_edit(text: str, settings: Settings) -> Memory:
    """Read a memory as a person wrote it, in the form that `render` prints.

    Raises
    ------
    ValueError
        With the line's number: an unknown section, a statement outside any section, a rule that is none, too long; or without
        one: more rules, notes or words than the settings allow.
    """
    sections: dict[str, list[Statement]] = {name: [] for name in FORMS[settings.memory.form]}
    current: str | None = None
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line:
            continue
        heading = line.lstrip("# ").rstrip(": ").lower()
        if not _BULLET.match(line) and heading in _SECTION_OF:
            current = _SECTION_OF[heading]
            if current not in sections:
                allowed = ", ".join(HEADINGS[name] for name in sections)
                raise ValueError(f"line {number}: section {line!r} does not belong to this memory's form; it has {allowed}")
            continue
        if current is None:
            raise ValueError(f"line {number}: {line[:60]!r} stands outside any section; begin with `{HEADINGS[next(iter(sections))]}:`")
        said = _BULLET.sub("", line)
        if len(said) > STATEMENT_LENGTH:
            raise ValueError(f"line {number}: {len(said)} characters, a statement has at most {STATEMENT_LENGTH}")
        if current == RULES:
            try:
                rule = parse_rule(said, settings.target)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
            sections[RULES].append(Statement(text=rule_line(rule, settings.target.decimals), rule=rule))
        else:
            sections[current].append(Statement(text=said))
    memory = Memory(sections={name: tuple(statements) for name, statements in sections.items()})
    _check_limits(memory, settings)
    return memory


def edit(state: EntityState, command: Command, settings: Settings, *, now: datetime) -> tuple[EntityState, MemoryRevision]:
    """Apply a person's edit. Refused, with the reason, where the text cannot be read."""
    try:
        wanted = parse_edit(command.text or "", settings)
    except ValueError as error:
        return state, refusal(state, cause="command", reason=str(error), now=now, **asked(command))
    return revise(state, wanted.sections, cause="command", now=now, **asked(command))


def rollback(state: EntityState, command: Command, settings: Settings, *, now: datetime) -> tuple[EntityState, MemoryRevision]:
    """Bring the content of an earlier revision back, as a new revision. Revision 0 is the blank memory and is always there.

    Refused, with the reason, where the revision is no longer kept, or the settings of today do not allow it.
    """
    try:
        sections = _content_of(state, command.to_revision or 0, settings)
        _check_limits(Memory(sections=dict(sections)), settings)
    except ValueError as error:
        return state, refusal(state, cause="rollback", reason=str(error), now=now, **asked(command))
    return revise(state, sections, cause="rollback", now=now, **asked(command))


def revise(
    state: EntityState, sections: Mapping[str, tuple[Statement, ...]], *, cause: Cause, now: datetime, **log: Any
) -> tuple[EntityState, MemoryRevision]:
    """Put new content in place as the next revision.

    The new memory is also appended to `state.revisions`, where the published forecasts' loss under it is kept while it stands;
    `agents.bounds` keeps that list short. `log` fills further fields of the audit entry.
    """
    memory = Memory(revision=state.memory.revision + 1, sections=dict(sections))
    kept = Revision(memory=memory, cause=cause, made_at=now)
    revised = state.model_copy(update={"memory": memory, "revisions": (*state.revisions, kept)})
    return revised, acceptance(state, revised, cause=cause, now=now, **log)


def acceptance(before: EntityState, after: EntityState, *, cause: Cause, now: datetime, **log: Any) -> MemoryRevision:
    """The audit entry of what was done; the memory may be the same."""
    return MemoryRevision(
        entity=after.entity,
        revision=after.memory.revision,
        cause=cause,
        accepted=True,
        before=render(before.memory),
        after=render(after.memory),
        words=words(after.memory),
        made_at=now,
        **log,
    )


def refusal(state: EntityState, *, cause: Cause, reason: str, now: datetime, **log: Any) -> MemoryRevision:
    """The audit entry of a change that was not made: the memory before is the memory after."""
    same = render(state.memory)
    return MemoryRevision(
        entity=state.entity,
        revision=state.memory.revision,
        cause=cause,
        accepted=False,
        reason=reason,
        before=same,
        after=same,
        words=words(state.memory),
        made_at=now,
        **log,
    )


def asked(command: Command) -> dict[str, str]:
    """What the audit log keeps of a command in the entry that answers it: what was asked for, under which id, by whom and why."""
    return {"op": command.op, "command": command.id, "by": command.by, "why": command.why}


def kept_rejections(rejected: tuple[Rejection, ...], most: int = 12) -> tuple[Rejection, ...]:
    """Rejections as the audit log keeps them: the first `most`, texts cut."""
    return tuple(r.model_copy(update={"statement": r.statement[:STATEMENT_LENGTH], "detail": r.detail[:200]}) for r in rejected[:most])


def _check_limits(memory: Memory, settings: Settings) -> None:
    form = FORMS[settings.memory.form]
    foreign = [HEADINGS.get(name, name) for name, statements in memory.sections.items() if statements and name not in form]
    if foreign:
        raise ValueError(f"{', '.join(foreign)}: no section of this memory's form; it has {', '.join(HEADINGS[name] for name in form)}")
    for name, most in ((RULES, settings.memory.max_rules), (NOTES, settings.memory.max_notes)):
        held = len(memory.sections.get(name, ()))
        if held > most:
            raise ValueError(f"{held} {name}, at most {most}")
    if words(memory) > settings.memory.words:
        raise ValueError(f"{words(memory)} words, at most {settings.memory.words}")


def _content_of(state: EntityState, revision: int, settings: Settings) -> Mapping[str, tuple[Statement, ...]]:
    if revision == 0:
        return empty(settings).sections
    for past in state.revisions:
        if past.memory.revision == revision:
            return past.memory.sections
    there = ", ".join(str(past.memory.revision) for past in state.revisions) or "none"
    raise ValueError(f"revision {revision} is no longer kept; there are 0 and {there}")
