"""A person's command to one entity: done, or refused with the reason, and answered either way.

The answer is one entry of the audit log, told from others by `command`, the id that the command was given. A command that names the
revision it was made for is refused where the memory has moved on. `freeze` and `thaw` of what is so already are done once more, to no
effect: whoever sends one again after an answer that got lost finds what was asked for.
"""

from __future__ import annotations

from agents import memory
from agents.forgetting import forget
from agents.revising import Reviser
from agents.step import Work
from schemas.messages import Command, MemoryRevision
from schemas.settings import Settings

#: Why a command to an entity is refused that there is no record of, or one of such a refusal alone.
NO_ENTITY = "no such entity"


class Commands:
    """Does what people ask for; holds no state of its own."""

    def __init__(self, settings: Settings, reviser: Reviser) -> None:
        self._settings = settings
        self._reviser = reviser

    async def obey(self, work: Work, command: Command) -> None:
        """Do it or refuse it; the answer is the last event of the step."""
        reason = _stale(work, command)
        answer = memory.refusal(work.state, cause="command", reason=reason, now=work.now, **memory.asked(command)) if reason else None
        answer = answer or await self._do(work, command)
        work.events.append(answer)
        work.counts["command.applied" if answer.accepted else "command.refused"] += 1

    async def _do(self, work: Work, command: Command) -> MemoryRevision:
        before = work.state
        match command.op:
            case "edit":
                work.state, answer = memory.edit(before, command, self._settings, now=work.now)
                return answer
            case "rollback":
                work.state, answer = memory.rollback(before, command, self._settings, now=work.now)
                return answer
            case "forget":
                work.state, answer = forget(before, now=work.now, **memory.asked(command))
                return answer
            case "rewrite":
                reason = await self._reviser.at_once(work)
                if reason:
                    return memory.refusal(before, cause="command", reason=reason, now=work.now, **memory.asked(command))
            case "freeze":
                work.set(frozen=True, rewrite_wanted=None)
            case "thaw":
                work.set(frozen=False)
        return memory.acceptance(before, work.state, cause="command", now=work.now, **memory.asked(command))


def _stale(work: Work, command: Command) -> str:
    """Why the command was made for something else than what is there; empty if it was not."""
    revision = work.state.memory.revision
    if work.state.forgotten:
        return "the entity was forgotten" if revision else NO_ENTITY
    if command.revision is not None and command.revision != revision:
        return f"the memory has moved on: it is at revision {revision}, the command was made for {command.revision}"
    return ""
