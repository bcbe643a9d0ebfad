"""How long-running set-up tells what it is doing.

The command line draws these calls with rich in a terminal; :func:`lines` is the form without one.
"""

import sys
from typing import Protocol, TextIO


class Progress(Protocol):
    """Called from the event loop's thread whenever there is something new to tell."""

    def __call__(self, step: str, text: str, fraction: float | None = None) -> None:
        """Take the news.

        Parameters
        ----------
        step
            Which piece of work (``kafka``, ``ollama``, a model's name); it stays the same while that work lasts.
        text
            What is happening now, for a person.
        fraction
            How much of the current text's work is done, 0 to 1; None where that is not known.
        """


def silent(step: str, text: str, fraction: float | None = None) -> None:
    """Tell nobody."""


def lines(stream: TextIO | None = None) -> Progress:
    """Return a progress that prints plain lines, one for each new text and each further quarter of its work.

    Parameters
    ----------
    stream
        Where to print; standard error by default, so that standard output stays free for results.
    """
    printed: dict[str, tuple[str, int]] = {}

    def tell(step: str, text: str, fraction: float | None = None) -> None:
        quarter = -1 if fraction is None else int(fraction * 4)
        if printed.get(step) == (text, quarter):
            return
        printed[step] = (text, quarter)
        share = "" if fraction is None else f" {fraction:.0%}"
        output = stream or sys.stderr
        output.write(f"{step}: {text}{share}\n")
        output.flush()

    return tell
