"""`python -m bench.peers`: every program under every condition, the rounds one after the other.

All of it takes between two and three hours: some 25 s a run, and over a minute where a program that was killed waits for its session to
end.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.peers.cells import Cell, cells
from bench.peers.roster import PEERS, Peer
from bench.peers.summary import page, tell
from bench.peers.track import Run, Track
from bench.process import GaveUp
from bench.report import conditions, save
from deploy.services import KafkaCluster
from streams.cli.console import note, step_progress

#: As `quix.py` has it.
QUIXSTREAMS = "3.28.1"


async def measure(rounds: int, wanted: Sequence[Cell], peers: Sequence[Peer], seconds: float) -> dict[str, Any]:
    """Run everything; a run that comes to nothing is noted, and the others go on."""
    began = {**conditions(), "quixstreams": QUIXSTREAMS}
    runs: list[Run] = []
    failures: list[dict[str, Any]] = []
    total = rounds * len(wanted) * len(peers)
    with tempfile.TemporaryDirectory() as directory, step_progress() as progress:
        root = Path(directory)
        async with KafkaCluster(root=root / "kafka", progress=progress) as cluster:
            track = Track(root, cluster.bootstrap, seconds)
            # Round by round, so that a disturbance of the machine meets all alike.
            for number in range(rounds):
                for cell in wanted:
                    for peer in peers if number % 2 == 0 else reversed(peers):
                        where = f"{len(runs) + len(failures) + 1}/{total} round {number + 1}, {cell.name}, {peer.name}"
                        try:
                            run = await track.run(peer, cell, seed=number)
                        except GaveUp as error:
                            failures.append({"peer": peer.name, "cell": cell.name, "round": number + 1, "why": str(error).splitlines()[0]})
                            note(f"{where}: {error}")
                        else:
                            runs.append(run)
                            note(f"{where}: {_said(run)}")
    return {
        "conditions": began,
        "rounds": rounds,
        "seconds": seconds,
        "cells": [asdict(cell) for cell in wanted],
        "runs": [asdict(run) for run in runs],
        "failures": failures,
    }


def _said(run: Run) -> str:
    faults = {
        "outputs lost": run.outputs.lost,
        "doubled": run.outputs.doubled,
        "out of order": run.outputs.misordered,
        "effects lost": run.effects.lost,
        "effects doubled": run.effects.doubled,
    }
    found = ", ".join(f"{count} {name}" for name, count in faults.items() if count) or "no fault"
    return f"{run.rate:.1f} events/s, slots busy {run.busy:.2f}, {found}, load {run.load}"


def chosen(names: str, known: Sequence[Any], what: str) -> list[Any]:
    """Return those of what is known by `name` that a list with commas names, in their own order; all for an empty one.

    Raises
    ------
    BadParameter
        A name is not known.
    """
    wanted = {name.strip() for name in names.split(",") if name.strip()}
    if unknown := wanted - {one.name for one in known}:
        raise typer.BadParameter(f"no {what} {', '.join(sorted(unknown))}; there are {', '.join(one.name for one in known)}")
    return [one for one in known if not wanted or one.name in wanted]


def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often each program runs under each condition.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.1, help="About how long it works each time.")] = 12.0,
    only: Annotated[str, typer.Option(help="Conditions, with commas between them: headline, 5ms, ..., live, crash.")] = "",
    peers: Annotated[str, typer.Option(help="Programs, with commas between them.")] = "",
    json: Annotated[Path | None, typer.Option(help="Write every figure to this file.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the report in Markdown to this file.")] = None,
) -> None:
    """Compare our worker with what a team would write without it."""
    wanted, programs = chosen(only, list(cells()), "condition"), chosen(peers, PEERS, "program")
    figures = asyncio.run(measure(rounds, wanted, programs, seconds))
    tell(figures)
    save(json, figures)
    if report is not None:
        report.write_text(page(figures))
        note(f"report in {report}")


if __name__ == "__main__":
    typer.run(main)
