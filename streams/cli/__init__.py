"""The command `palimpsest`."""

from streams.cli.entry import main

__all__ = ["main"]
