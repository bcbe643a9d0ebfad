"""What one sees while services are brought up: a bar for each piece of work in a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from deploy.services.progress import Progress as Tell
from deploy.services.progress import lines


@contextmanager
def shown(console: Console) -> Iterator[Tell]:
    """Give a progress that is shown on the console until the context is left."""
    if not console.is_terminal or console.is_dumb_terminal:
        yield lines(cast(TextIO, console.file))
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[step]}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        tasks = {}

        def tell(step: str, text: str, fraction: float | None = None) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(text, step=step, total=None)
            # A bar without a total moves to and fro, which says "at work" without promising an end.
            bars.update(tasks[step], description=text, total=None if fraction is None else 1.0, completed=fraction or 0)

        yield tell
