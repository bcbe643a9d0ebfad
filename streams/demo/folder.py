"""The directory of a run: its settings, the worker's log and state, what the worker published, and the summary.

`runs/<time>/`, beside it `runs/latest`, which points to the newest. Lines are written as they come, so that an interrupted run leaves what
it had.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TextIO

import orjson

from schemas.codec import encode
from schemas.messages import DeadLetter, MemoryRevision, Outcome, Prediction
from streams.demo.transport import Received

RUNS = Path("runs")
LATEST = "latest"

#: Where what a worker publishes is kept, one JSON object a line.
FILES: dict[type[Received], str] = {
    Prediction: "predictions.jsonl",
    Outcome: "outcomes.jsonl",
    MemoryRevision: "memories.jsonl",
    DeadLetter: "dead-letters.jsonl",
}


class RunFolder:
    """One run's directory. A context: leaving it closes the files.

    Parameters
    ----------
    path
        The directory, which exists; `RunFolder.make` makes one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: dict[type[Received], TextIO] = {}

    @classmethod
    def make(cls, now: datetime, runs: Path = RUNS) -> Self:
        """Make the directory of a run that begins now, and point `latest` to it.

        Parameters
        ----------
        now
            Names the run; a second run in the same second gets a number.
        runs
            Where the runs are.
        """
        runs.mkdir(parents=True, exist_ok=True)
        stamp = now.strftime("%Y%m%d-%H%M%S")
        for name in itertools.chain([stamp], (f"{stamp}-{number}" for number in itertools.count(2))):
            with contextlib.suppress(FileExistsError):
                (runs / name).mkdir()
                break
        scratch = runs / f".{name}"
        scratch.symlink_to(name)
        os.replace(scratch, runs / LATEST)  # noqa: PTH105  Path.replace follows no link here either; the call is atomic
        return cls(runs / name)

    @property
    def name(self) -> str:
        """The run's name, unique below `runs`."""
        return self.path.name

    @property
    def settings(self) -> Path:
        return self.path / "palimpsest.toml"

    @property
    def worker_log(self) -> Path:
        return self.path / "worker.log"

    @property
    def state(self) -> Path:
        """The worker's tables."""
        return self.path / "state"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    def __enter__(self) -> Self:
        for kind, file in FILES.items():
            self._open[kind] = (self.path / file).open("a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._open.values():
            file.close()
        self._open.clear()

    def keep(self, received: Received) -> None:
        """Write down what the worker published."""
        file = self._open[type(received)]
        file.write(encode(received).decode() + "\n")
        file.flush()

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json`."""
        self.summary.write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
