"""A person's command on its way: sent, waited for where one can see it, and its answer printed."""

from __future__ import annotations

import asyncio
import getpass
import shlex
import uuid
from dataclasses import dataclass
from typing import Any

import typer
from pydantic import ValidationError

from schemas.codec import encode
from schemas.messages import Command, MemoryRevision, Op
from schemas.settings import Settings
from streams import exits
from streams.cli.console import note, print_json_line, waiting
from streams.cli.revision import print_revision
from streams.commanding import correspondence
from streams.errors import Unanswered
from streams.memories import newest


@dataclass(frozen=True, slots=True)
class Sender:
    """Somebody who changes an entity at the command line.

    Attributes
    ----------
    by
        Who it is; None for the user that runs this program.
    timeout
        Seconds to wait for the answer; None for as long as a prediction, a rewrite before it and its own may take the model.
    json
        Whether the answer is printed for programs.
    """

    settings: Settings
    entity: str
    by: str | None
    why: str
    timeout: float | None
    json: bool

    def send(self, op: Op, **details: Any) -> int:
        """Send a command, await its answer and print it; the exit code says whether it was done.

        Raises
        ------
        typer.BadParameter
            Something in it is too long, or no text; or nobody can say who sends it.
        KafkaUnavailable, TopicsUnfit, CommandUnfit, Unanswered
            As `streams.commanding`.
        """
        command = self._command(op, details)
        answer = asyncio.run(self._exchange(command))
        if self.json:
            print_json_line(encode(answer))
        else:
            print_revision(answer)
        if not answer.accepted:
            if self.json:
                note(f"refused: {answer.reason}")
            return exits.FAILED
        if op == "rewrite" and answer.before == answer.after:
            note(
                "the memory is as it was. A rewrite in the background, and one that the model failed or the guards refused, has an entry "
                f"of its own: `{self._history}`"
            )
        return exits.OK

    def made_for(self, revision: int | None) -> int:
        """The revision that a command is meant for: the one that was named, or where the memory stood by the newest entry of its log."""
        if revision is not None:
            return revision
        latest = asyncio.run(newest(self.settings, self.entity))
        # An entity has no entry until its memory is first rewritten.
        return 0 if latest is None else latest.revision

    def _command(self, op: Op, details: dict[str, Any]) -> Command:
        by = self.by or _user_name()
        try:
            return Command(op=op, entity=self.entity, id=str(uuid.uuid4()), by=by, why=self.why, **details)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise typer.BadParameter(f"{'.'.join(str(part) for part in first['loc']) or op}: {first['msg']}") from None

    async def _exchange(self, command: Command) -> MemoryRevision:
        model = self.settings.model
        patience = self.timeout or (model.deadline + 2 * model.rewrite_deadline).total_seconds()
        begun, where = False, None
        try:
            async with correspondence(self.settings, self.entity) as letters:
                begun = True
                where = await letters.send(command)
                with waiting(f"{command.op} sent ({where}); waiting for the answer in {self.settings.topics.memories}"):
                    return await letters.answer(command.id, timeout=patience)
        except Unanswered as error:
            raise Unanswered(
                f"{error}. The command stands in {where}, and is done or refused when a worker comes to it. `palimpsest workers` tells "
                f"whether one runs and how far it is, `{self._history}` shows the answer, `palimpsest dead-letters list` whether it could "
                "not be used."
            ) from None
        except asyncio.CancelledError:
            if begun:
                sent = "may have been sent" if where is None else f"was sent all the same ({where})"
                note(f"the command {sent}; `{self._history}` shows its answer")
            raise

    @property
    def _history(self) -> str:
        return f"palimpsest memory history {shlex.quote(self.entity)}"


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        raise typer.BadParameter("this user has no name here, as in some containers; say who you are with --by") from None
