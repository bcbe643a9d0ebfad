"""Options that several commands share, and how they find their settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from schemas.settings import Settings, load_settings

#: Read where `--config` is not given, if it exists.
DEFAULT_FILE = Path("palimpsest.toml")

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="Settings in TOML; default: ./palimpsest.toml if it exists. PALIMPSEST__SECTION__KEY variables go over it.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="At most so many.", show_default=False)]


def settings_of(config: Path | None) -> Settings:
    """The settings that a command runs with.

    Raises
    ------
    SettingsError
        They cannot be used.
    """
    if config is None and DEFAULT_FILE.is_file():
        config = DEFAULT_FILE
    return load_settings(config)
