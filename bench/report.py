"""What a benchmark says: its figures with the conditions under which they were measured, as a table and as JSON."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
import psutil

from deploy.services import KafkaCluster
from streams.cli.console import note, print_table


def conditions() -> dict[str, Any]:
    """The machine, as far as it matters, its load now, and what runs on it."""
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "kafka": KafkaCluster.version,
        **{name: version(name) for name in ("palimpsest", "faust-streaming", "aiokafka", "rocksdict", "pydantic")},
    }


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], began: dict[str, Any]) -> None:
    """Print a table under the conditions when its measuring `began`, and the load now that it is over."""
    load = os.getloadavg()[0]
    note(f"{title}: {began['cores']} cores, {began['memory_gib']} GiB, load {began['load']} before and {load:.2f} after")
    print_table(columns, [columns, *rows] if not _is_terminal() else rows)


def _is_terminal() -> bool:
    return os.isatty(1)


def save(path: Path | None, figures: dict[str, Any]) -> None:
    """Write every figure to a file, if one is wanted."""
    if path is not None:
        path.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        note(f"figures in {path}")


def spread(values: Sequence[float], form: str = ".0f") -> str:
    """Median and extremes.

    Examples
    --------
    >>> spread([3.0, 1.0, 2.0])
    '2 (1 to 3)'
    """
    if len(values) == 1:
        return f"{values[0]:{form}}"
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"
