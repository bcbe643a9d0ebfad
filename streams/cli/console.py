"""What commands print: results on standard output, everything else on standard error, so that a pipe carries results alone."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from deploy.services import progress as service_progress
from streams.findings import Finding

stdout = Console()
stderr = Console(stderr=True)

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def print_json(value: Any) -> None:
    """One JSON document, for programs."""
    _write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def print_json_line(value: Any) -> None:
    """One line of JSON lines; bytes are taken as encoded already."""
    _write((value if isinstance(value, bytes) else orjson.dumps(value)) + b"\n")


def print_text(text: str) -> None:
    """Text as it is, without markup or wrapping."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def _write(raw: bytes) -> None:
    sys.stdout.write(raw.decode())
    sys.stdout.flush()


def note(text: str) -> None:
    """A remark beside the result."""
    stderr.print(escape(text), soft_wrap=True, highlight=False)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on a terminal; tab-separated lines into a pipe, where cut cells would be of no use."""
    if not stdout.is_terminal:
        for row in rows:
            print_text("\t".join(row))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    stdout.print(table)


def print_finding(finding: Finding) -> None:
    """One finding: level, subject, what was found; what to do on a line of its own."""
    if not stdout.is_terminal:
        print_text(str(finding))
        return
    level = f"[{STYLES[finding.level]}]{finding.level:>4}[/]"
    stdout.print(f"{level}  [bold]{escape(finding.subject)}[/]  {escape(finding.text)}", soft_wrap=True, highlight=False)
    if finding.advice:
        stdout.print(f"      [dim]->[/] {escape(finding.advice)}", soft_wrap=True, highlight=False)


def finding_as_json(finding: Finding) -> dict[str, str]:
    return {
        "level": finding.level,
        "subject": finding.subject,
        "code": finding.code,
        "text": finding.text,
        "advice": finding.advice,
    }


@contextmanager
def step_progress() -> Iterator[service_progress.Progress]:
    """The progress of set-up steps: bars on a terminal, plain lines elsewhere."""
    if not stderr.is_terminal:
        yield service_progress.lines(sys.stderr)
        return
    columns = (SpinnerColumn(finished_text="[green]✓[/]"), TextColumn("[bold]{task.fields[step]}"), TextColumn("{task.description}"))
    with Progress(*columns, BarColumn(bar_width=20), TimeElapsedColumn(), console=stderr) as bars:
        tasks: dict[str, TaskID] = {}

        def tell(step: str, text: str, fraction: float | None = None) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task("", total=None, step=step)
            total, completed = (None, 0.0) if fraction is None else (1.0, fraction)
            bars.update(tasks[step], description=escape(text), total=total, completed=completed)

        yield tell


@contextmanager
def record_progress(total: int, what: str) -> Iterator[Progress | None]:
    """A bar that counts records on a terminal; None elsewhere."""
    if not stderr.is_terminal:
        yield None
        return
    text, counts, at = TextColumn("[bold]{task.description}"), MofNCompleteColumn(), TextColumn("{task.fields[at]}")
    with Progress(text, BarColumn(), counts, at, TimeElapsedColumn(), console=stderr) as bars:
        bars.add_task(what, total=total, at="")
        yield bars


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Say what is waited for: with a clock that runs on a terminal, as a remark elsewhere."""
    if not stderr.is_terminal:
        note(text)
        yield
        return
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=stderr, transient=True) as bars:
        bars.add_task(escape(text), total=None)
        yield
