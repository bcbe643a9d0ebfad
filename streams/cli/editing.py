"""Where the text of an edit comes from: a file, standard input, or the person's editor on the memory as it stands."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import typer

from streams.cli.console import note

STDIN = Path("-")


def read_text(file: Path) -> str:
    """The text of a file; `-` is standard input.

    Raises
    ------
    typer.BadParameter
        It cannot be read, or is not UTF-8.
    """
    try:
        raw = sys.stdin.buffer.read() if file == STDIN else file.read_bytes()
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{'standard input' if file == STDIN else file} is not UTF-8 (byte {error.start})") from None


class Draft:
    """A text in the person's editor, kept in a file until it is of no use any more: what somebody has written is not lost to a refusal."""

    def __init__(self, text: str) -> None:
        self._before = text
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", prefix="palimpsest-", suffix=".txt", delete=False) as file:
            file.write(text)
        self.path = Path(file.name)

    def edit(self) -> str | None:
        """Open `$VISUAL`, `$EDITOR` or vi, and return what was saved; None where nothing was changed.

        Raises
        ------
        typer.BadParameter
            There is no such editor, or it ended with an error.
        """
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        try:
            subprocess.run([*shlex.split(editor), str(self.path)], check=True)
        except subprocess.CalledProcessError as error:
            self.keep()
            raise typer.BadParameter(f"the editor ended with {error.returncode}; nothing was sent") from None
        except (OSError, ValueError) as error:
            self.discard()
            raise typer.BadParameter(f"the editor cannot be started ({error}): name one in EDITOR, or give a FILE") from None
        text = read_text(self.path)
        return None if text == self._before else text

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)

    def keep(self) -> None:
        """Say where the text is."""
        note(f"your text is kept in {self.path}")
