"""`palimpsest evaluate`: what a memory is worth on a stream, without Kafka."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from agents.models.factory import build_model
from schemas.settings import Settings
from streams.cli.console import note, print_json, print_table, print_text, stderr
from streams.cli.options import Config, Json, settings_of
from streams.evaluation import datasets, runs
from streams.evaluation.arms import ARMS
from streams.evaluation.dataset import Dataset
from streams.evaluation.runs import Plan

#: Sections that say how answers are made; the rest is about Kafka and the worker, and a built-in dataset has its own target.
SECTIONS = ("judge", "memory", "rewrite", "model", "publish", "bounds")
#: Of a file's own settings besides.
OWN_SECTIONS = ("target", "observations", "truths")
#: Seconds between two plain lines of progress.
LINE_EVERY = 30.0


def evaluate(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="DATASET...",
            help=f"{', '.join((*datasets.SEEDED, *datasets.RECORDED))}, mimic:FOLDER, or a CSV file with -c for its target and columns.",
        ),
    ],
    config: Config = None,
    arms: Annotated[
        str, typer.Option("--arms", metavar="A,B", help=f"What is compared: {', '.join(ARMS)}. Naive forecasters come along.")
    ] = "zero_shot,ledger_only,llm_as_rnn",
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=2, metavar="N", help="Labelled steps; default: all, of learnable streams 100.", show_default=False),
    ] = None,
    seeds: Annotated[
        str,
        typer.Option(
            "--seeds", metavar="N,M", help="Of learnable streams; from 1000 on nothing was ever tuned on them. Several are also pooled."
        ),
    ] = "1000",
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Reports, and the model's answers; a run that was cut short goes on there.")
    ] = Path("evaluations"),
    label: Annotated[
        str, typer.Option("--label", metavar="TEXT", help="Behind the file names: for runs with other settings.", show_default=False)
    ] = "",
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, metavar="N", help="Cells at once; default: the slots of all hosts.", show_default=False)
    ] = None,
    recorded: Annotated[bool, typer.Option("--recorded", help="Ask no model: make the reports again from the recorded answers.")] = False,
    as_json: Json = False,
) -> None:
    """Let several forecasters predict the same stream, one case after the other, each learning from the truths as they arrive; then
    compare them, and write a report as a page and as JSON.

    Every answer of the model is kept: a run that was cut short goes on where it was, and reports can be made again without a model.
    The model is that of the settings, as for a worker; no Kafka is needed.

    Example: palimpsest evaluate learnable-mapping --arms zero_shot,fhc,llm_as_rnn --seeds 1000,1001
    """
    settings = settings_of(config)
    wanted = _arms(arms)
    found = _load(names, _seeds(seeds), steps, settings if config is not None else None)
    plan = Plan(out, _sections(settings, names), jobs or settings.model.slots * len(settings.model.places), label)
    reports = asyncio.run(_run(plan, found, wanted, None if recorded else settings))
    groups = [[dataset for dataset in found if dataset.name == name] for name in dict.fromkeys(dataset.name for dataset in found)]
    reports += [asyncio.run(runs.pool(plan, group, wanted)) for group in groups if len(group) > 1]
    if as_json:
        print_json(reports)
        return
    for report in reports:
        _print(report)
    note(f"reports: {out}/*.html, *.json")


async def _run(plan: Plan, found: Sequence[Dataset], arms: Sequence[str], settings: Settings | None) -> list[dict[str, Any]]:
    model = None if settings is None else build_model(settings.model)
    cases = sum(len(dataset.cases) * len(runs.chosen(plan, dataset, arms)) for dataset in found)
    try:
        with _Told(cases) as told:
            return await runs.run(plan, found, arms, model, told)
    finally:
        if model is not None:
            await model.close()


class _Told:
    """Progress: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, cases: int) -> None:
        self._cases, self._done, self._lined = cases, 0, time.monotonic()
        columns = (TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._bars = Progress(*columns, console=stderr) if stderr.is_terminal else None
        self._task = self._bars.add_task("cases", total=cases) if self._bars is not None else None

    def __enter__(self) -> _Told:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, stream: str, arm: str, case: int, recorded: int) -> None:
        self._done += 1
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=self._done, description=f"{stream} {arm}")
        elif time.monotonic() - self._lined > LINE_EVERY:
            self._lined = time.monotonic()
            note(f"{self._done} of {self._cases} cases; {stream} {arm}: case {case}, {recorded} answers recorded")


def _print(report: Mapping[str, Any]) -> None:
    seed = "" if report["seed"] is None else f", seed {report['seed']}"
    print_text(f"{report['dataset']}{seed}: n = {report['n']}, {report['model']['name']}")
    metric = "mae" if any("mae" in arm for arm in report["arms"].values()) else "accuracy"
    print_table(
        ("arm", metric, "tokens/step", "calls/step", "words"),
        [
            (
                name,
                f"{arm[metric]:.3f}" if metric in arm else "",
                f"{arm['tokens_per_step']:.0f}" if arm.get("calls") else "",
                f"{arm['calls'] / arm['n']:.2f}" if arm.get("calls") else "",
                f"{arm['memory']['mean_words']:.0f}" if arm.get("memory", {}).get("mean_words") else "",
            )
            for name, arm in report["arms"].items()
        ],
    )
    for entry in report["comparisons"]:
        if entry["arm"] == "llm_as_rnn":
            print_text(f"  against {entry['against']}: {entry['verdict']}")


def _load(names: Sequence[str], seeds: Sequence[int], steps: int | None, settings: Settings | None) -> list[Dataset]:
    return [
        datasets.load(name, datasets.Choice(seed, steps, settings))
        for name in dict.fromkeys(names)
        for seed in (seeds if name in datasets.SEEDED else seeds[:1])
    ]


def _sections(settings: Settings, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What of a configuration holds for the runs: what differs from the defaults, so that a dataset's own stays."""
    own = OWN_SECTIONS if all(Path(name).suffix in (".csv", ".tsv") for name in names) else ()
    return {
        section: given
        for section in (*own, *SECTIONS)
        if (given := getattr(settings, section).model_dump(exclude_defaults=True, exclude_unset=False))
    }


def _arms(text: str) -> tuple[str, ...]:
    wanted = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if text.strip() == "all":
        return tuple(ARMS)
    if unknown := [name for name in wanted if name not in ARMS]:
        raise typer.BadParameter(f"no such arm: {', '.join(unknown)}; there are {', '.join(ARMS)}, and all", param_hint="--arms")
    if not wanted:
        raise typer.BadParameter("at least one arm", param_hint="--arms")
    return wanted


def _seeds(text: str) -> tuple[int, ...]:
    try:
        seeds = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no list of whole numbers such as 1000,1001", param_hint="--seeds") from None
    if min(seeds) < 0:
        raise typer.BadParameter("a seed is not negative", param_hint="--seeds")
    return seeds
