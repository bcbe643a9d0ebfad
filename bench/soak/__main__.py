"""`python -m bench.soak`: see `bench.soak`."""

from __future__ import annotations

import asyncio
import logging
import random
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.process import GaveUp
from bench.report import conditions, save, show
from bench.soak.picture import picture
from bench.soak.run import Result, soak
from bench.soak.schedule import Phase, plan
from bench.soak.verdict import Line, holds, verdict
from deploy.services import KafkaCluster
from streams.cli.console import note, step_progress


def main(
    minutes: Annotated[float, typer.Option(min=0.5, max=24 * 60, help="Of sending; what memory does shows from twenty on.")] = 30.0,
    outage: Annotated[float, typer.Option(min=0.0, help="Seconds for which every call hangs, from a third of the run on.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="Repeats load, schedule of faults and the emulator of an earlier run.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write every figure and sample to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw memory and queues over time to this SVG file.")] = None,
) -> None:
    """Run a worker at full load while its model fails in every way; end with 1 where something does not hold."""
    seed = random.randrange(10**6) if seed is None else seed
    try:
        phases = plan(60 * minutes, random.Random(f"schedule {seed}"), outage)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--outage") from None
    began = conditions()
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        root = Path(directory)
        # What the clients of this side say is for the curious, while it runs.
        logging.basicConfig(filename=root / "harness.log", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        note(f"seed {seed}; logs in {root} until the end")
        try:
            result = asyncio.run(_run(root, 60 * minutes, phases, seed))
        except GaveUp as error:
            note(f"given up: {error}")
            raise typer.Exit(1) from None
        lines = verdict(result)
    _tell(result, lines, began)
    if plot is not None:
        plot.write_text(picture(result), encoding="utf-8")
        note(f"memory and queues over time in {plot}")
    save(json, _figures(result, lines, began, seed))
    if not holds(lines):
        raise typer.Exit(1)


async def _run(root: Path, seconds: float, phases: Sequence[Phase], seed: int) -> Result:
    with step_progress() as progress:
        async with KafkaCluster(root=root / "kafka", progress=progress) as kafka:
            return await soak(kafka.bootstrap, root, seconds, phases, seed, note)


def _tell(result: Result, lines: Sequence[Line], began: dict[str, Any]) -> None:
    title = f"{result.seconds / 60:g} minutes, {len(result.sent)} observations, {len(result.truths)} truths, {len(result.phases)} faults"
    rows = [("holds" if line.holds else "FAILS", line.name, line.figures) for line in lines]
    show(title, ("", "what must hold", "figures"), rows, began)
    for line in lines:
        if not line.holds:
            for example in line.examples:
                note(f"{line.name}: {example}")


def _figures(result: Result, lines: Sequence[Line], began: dict[str, Any], seed: int) -> dict[str, Any]:
    return {
        "conditions": began,
        "seed": seed,
        "seconds": result.seconds,
        "observations": len(result.sent),
        "truths": len(result.truths),
        "predictions": dict(result.arrivals.sources),
        "phases": [asdict(phase) for phase in result.phases],
        "outage": result.outage,
        "lines": [asdict(line) for line in lines],
        "server": result.server,
        "samples": [asdict(sample) for sample in result.samples],
    }


if __name__ == "__main__":
    typer.run(main)
