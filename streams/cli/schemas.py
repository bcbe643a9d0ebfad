"""`palimpsest schemas`: messages and settings, described for those who are not Python."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from schemas import export
from streams import exits
from streams.cli.console import note, print_text

program = typer.Typer(help="JSON Schemas of messages, state and settings.", no_args_is_help=True)


@program.command("export")
def export_schemas(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where they are, or are to be.")],
    check: Annotated[bool, typer.Option("--check", help="Write nothing; end with 1 if a file in DIR is not up to date.")] = False,
) -> int:
    """Write a JSON Schema of each message, of the entity state, and of the settings.

    Example: palimpsest schemas export ./schemas
    """
    if check:
        stale = export.differing(directory)
        for name in stale:
            print_text(str(directory / name))
        if stale:
            note(f"not up to date: `palimpsest schemas export {directory}`")
        return exits.FAILED if stale else exits.OK
    for path in export.write_schemas(directory):
        print_text(str(path))
    return exits.OK
