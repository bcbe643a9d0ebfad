"""`palimpsest memory`: what an entity's memory says, how it came to say that, and a person's changes to it.

Reading is from the audit log. A change is a command: it goes through the entity's lane like everything else, and its answer is waited for.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import typer

from schemas.codec import encode
from schemas.settings import Settings
from streams import exits
from streams.cli.console import note, print_json_line, print_text, stderr
from streams.cli.editing import STDIN, Draft, read_text
from streams.cli.options import Config, Json, settings_of
from streams.cli.revision import print_revision
from streams.cli.sending import Sender
from streams.memories import newest, revisions
from streams.page import read_page, write_page

program = typer.Typer(help="Read the memories of entities and how they changed, and change them.", no_args_is_help=True)

Entity = Annotated[str, typer.Argument(metavar="ENTITY", help="The entity's id, as in the observations.")]
Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, for the audit log.", show_default=False)]
By = Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who you are; default: your user name.", show_default=False)]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        min=1,
        metavar="SECONDS",
        help="How long to wait for the answer; default: as long as a prediction and two rewrites may take.",
        show_default=False,
    ),
]
MadeFor = Annotated[
    int | None,
    typer.Option(
        "--revision",
        min=0,
        metavar="N",
        help="The revision that this is meant for: refused if the memory has moved on. Default: the newest in the audit log.",
        show_default=False,
    ),
]


@program.command("show")
def show_memory(entity: Entity, config: Config = None, json: Json = False) -> int:
    """Print an entity's memory as it stands, under a line that says which revision it is; `memory edit` knows that line.

    Ends with 1 if there is none yet.

    Example: palimpsest memory show seattle > memory.txt
    """
    latest = asyncio.run(newest(settings_of(config), entity, accepted=True))
    if latest is None:
        note(f"{entity} has no memory yet")
        return exits.FAILED
    if json:
        print_json_line(encode(latest))
    else:
        print_text(write_page(entity, latest))
    return exits.OK


@program.command("history")
def show_history(entity: Entity, config: Config = None, json: Json = False) -> int:
    """Print every change of an entity's memory, oldest first: why, by whom, what changed, and what was refused.

    With --json one revision a line, as in the topic.

    Example: palimpsest memory history seattle --json | jq .cause
    """
    count = asyncio.run(_history(settings_of(config), entity, json))
    if not count:
        note(f"{entity} has no memory yet")
        return exits.FAILED
    return exits.OK


@program.command("edit")
def edit_memory(
    entity: Entity,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="The new text, as `memory show` prints it; - is standard input. Without it your editor is opened on the memory.",
            show_default=False,
        ),
    ] = None,
    why: Why = "",
    by: By = None,
    revision: MadeFor = None,
    timeout: Timeout = None,
    config: Config = None,
    json: Json = False,
) -> int:
    """Replace an entity's memory by a text of your own.

    The text is refused where the memory has moved on since the revision that stands in its first line (`memory show` writes it), where a
    line is no statement of the memory's form, and where it is longer than the settings allow. Ends with 1 if it was refused.

    Example: palimpsest memory edit seattle memory.txt --why "the sensor was moved"
    """
    sender = Sender(settings_of(config), entity, by, why, timeout, json)
    if file is None and sys.stdin.isatty():
        return _edit_in_editor(sender, revision)
    return _send_page(sender, read_text(file or STDIN), revision)


@program.command("rollback")
def roll_back(
    entity: Entity,
    to: Annotated[int, typer.Argument(metavar="REVISION", min=0, help="The revision whose text comes back; 0 is the blank memory.")],
    why: Why = "",
    by: By = None,
    revision: MadeFor = None,
    timeout: Timeout = None,
    config: Config = None,
    json: Json = False,
) -> int:
    """Bring an earlier revision's text back, as a new revision. The last few are kept (`bounds.revisions`). Ends with 1 if refused.

    Example: palimpsest memory rollback seattle 7 --why "8 learned from a broken sensor"
    """
    sender = Sender(settings_of(config), entity, by, why, timeout, json)
    return sender.send("rollback", revision=sender.made_for(revision), to_revision=to)


@program.command("freeze")
def freeze_memory(entity: Entity, why: Why = "", by: By = None, timeout: Timeout = None, config: Config = None, json: Json = False) -> int:
    """Let an entity's memory stand: it is predicted and scored as before, and nothing is rewritten. Freezing it twice is no error.

    Example: palimpsest memory freeze seattle --why "maintenance until Friday"
    """
    return Sender(settings_of(config), entity, by, why, timeout, json).send("freeze")


@program.command("thaw")
def thaw_memory(entity: Entity, why: Why = "", by: By = None, timeout: Timeout = None, config: Config = None, json: Json = False) -> int:
    """Let a frozen memory be rewritten again. Thawing what is not frozen is no error.

    Example: palimpsest memory thaw seattle
    """
    return Sender(settings_of(config), entity, by, why, timeout, json).send("thaw")


@program.command("forget")
def forget_entity(
    entity: Entity,
    why: Why = "",
    by: By = None,
    revision: MadeFor = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed where nobody can be asked.")] = False,
    timeout: Timeout = None,
    config: Config = None,
    json: Json = False,
) -> int:
    """Forget all that is kept of an entity: memory, ledger, waiting predictions, scores. It cannot be taken back.

    The answer says which topics still hold text of it, and how long. Its next observation begins anew.

    Example: palimpsest memory forget seattle --why "asked for by the customer"
    """
    sender = Sender(settings_of(config), entity, by, why, timeout, json)
    made_for = sender.made_for(revision)
    if not yes:
        if not stderr.is_terminal:
            raise typer.BadParameter("this cannot be taken back; say --yes if it is meant")
        typer.confirm(f"Forget all that is kept of {entity} (its memory is at revision {made_for})?", abort=True, err=True)
    return sender.send("forget", revision=made_for)


@program.command("rewrite")
def rewrite_memory(entity: Entity, why: Why = "", by: By = None, timeout: Timeout = None, config: Config = None, json: Json = False) -> int:
    """Have the model rewrite an entity's memory now, from the feedback that waits, whatever `rewrite.policy` says.

    Refused where the entity is frozen, or where there is nothing to learn from. With `rewrite.mode = "background"` the answer says that it
    is taken on; the rewrite comes as an entry of its own.

    Example: palimpsest memory rewrite seattle
    """
    return Sender(settings_of(config), entity, by, why, timeout, json).send("rewrite")


def _send_page(sender: Sender, written: str, revision: int | None) -> int:
    page = read_page(written)
    if page.entity is not None and page.entity != sender.entity:
        raise typer.BadParameter(f"this is the memory of {page.entity!r}; take its first line out to give it to {sender.entity!r}")
    named = page.revision if revision is None else revision
    return sender.send("edit", revision=sender.made_for(named), text=page.text)


def _edit_in_editor(sender: Sender, revision: int | None) -> int:
    draft = Draft(write_page(sender.entity, asyncio.run(newest(sender.settings, sender.entity))))
    written = draft.edit()
    if written is None:
        draft.discard()
        note("nothing was changed, and nothing sent")
        return exits.OK
    code = exits.FAILED
    try:
        code = _send_page(sender, written, revision)
    finally:
        if code == exits.OK:
            draft.discard()
        else:
            draft.keep()
    return code


async def _history(settings: Settings, entity: str, json: bool) -> int:
    count = 0
    async with aclosing(revisions(settings, entity)) as found:
        async for revision in found:
            count += 1
            if json:
                print_json_line(encode(revision))
            else:
                print_revision(revision)
    return count
