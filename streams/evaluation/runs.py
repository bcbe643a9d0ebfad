"""A run of the evaluation: cells of datasets and arms, a few at a time, and the reports of what is done.

A folder holds `<stream>.json` and `<stream>.html` for each stream (a dataset with its seed, as far as it has one), and the model's answers
in `records/<stream>/<arm>.jsonl.gz`. Whatever is recorded there is part of a stream's report, whichever run made it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from agents.models.protocol import LanguageModel, ModelIdentity
from schemas.settings import Settings
from streams.evaluation import cells
from streams.evaluation.arms import ARMS, settings_for
from streams.evaluation.dataset import Dataset
from streams.evaluation.page import page
from streams.evaluation.report import ArmRun, Evaluation, pooled, report

#: Told of every step: stream, arm, cases done, answers recorded.
Progress = Callable[[str, str, int, int], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run, and how.

    Attributes
    ----------
    sections
        Settings over the dataset's own, section by section: above all `model`.
    jobs
        Cells at once; more than the model's servers have slots bring nothing.
    label
        Stands behind the stream's name in file names, so that runs with other settings lie beside each other; empty for none.
    """

    folder: Path
    sections: Mapping[str, Mapping[str, Any]]
    jobs: int = 1
    label: str = ""

    def stream(self, dataset: Dataset) -> str:
        """A stream's name in files."""
        parts = (dataset.name, "" if dataset.seed is None else str(dataset.seed), self.label)
        return "-".join(part for part in parts if part).replace("/", "-").replace(":", "-")

    def record(self, dataset: Dataset, arm: str) -> Path:
        """Where a cell's answers are, without the ending."""
        return self.folder / "records" / self.stream(dataset) / arm


async def run(
    plan: Plan, datasets: Sequence[Dataset], arms: Sequence[str], model: LanguageModel | None, progress: Progress
) -> list[dict[str, Any]]:
    """Run cells, and write a report for each stream once its cells are done.

    Parameters
    ----------
    arms
        Names of `ARMS`; those whose answers are all recorded already are in the reports besides.
    model
        None: everything comes from the records.

    Returns
    -------
    list of dict
        The reports.

    Raises
    ------
    DatasetError, ModelError, AnswerMissing
        As `cells.run`; what the other cells have recorded until then is kept.
    """
    free = asyncio.Semaphore(plan.jobs)

    async def cell(dataset: Dataset, arm: str) -> tuple[str, cells.Cell]:
        stream = plan.stream(dataset)
        async with free:
            settings = settings_for(arm, dataset.configured, plan.sections)
            done = await cells.run(
                arm, dataset, settings, model, plan.record(dataset, arm), lambda index, recorded: progress(stream, arm, index + 1, recorded)
            )
        return arm, done

    async def stream(dataset: Dataset) -> dict[str, Any]:
        done = dict(await asyncio.gather(*(cell(dataset, arm) for arm in chosen(plan, dataset, arms))))
        return write(plan, dataset, done)

    return list(await asyncio.gather(*(stream(dataset) for dataset in datasets)))


def chosen(plan: Plan, dataset: Dataset, arms: Iterable[str]) -> tuple[str, ...]:
    """The arms that were asked for and those that are recorded, in the order of a report."""
    wanted = set(arms)
    return tuple(arm for arm in ARMS if arm in wanted or plan.record(dataset, arm).with_suffix(".jsonl.gz").exists())


def write(plan: Plan, dataset: Dataset, done: Mapping[str, cells.Cell]) -> dict[str, Any]:
    """Write a stream's report, as JSON and as a page."""
    evaluation = _evaluation(plan, dataset, done)
    made = report(
        dataset, evaluation.settings, evaluation.arms, model=_identity(done), direction_of=_direction(dataset, evaluation.settings)
    )
    _write(plan.folder / plan.stream(dataset), made, [evaluation])
    return made


def _evaluation(plan: Plan, dataset: Dataset, done: Mapping[str, cells.Cell]) -> Evaluation:
    arms = {arm: ArmRun(cell.results, cell.memories, cell.settings, cell.seconds) for arm, cell in done.items()}
    return Evaluation(dataset, dataset.configured(**plan.sections), arms)


def _identity(done: Mapping[str, cells.Cell]) -> ModelIdentity:
    return next(iter(done.values())).model


def _direction(dataset: Dataset, settings: Settings) -> Any:
    """A target that is itself a move has its own sign for a direction."""
    return "value" if settings.target.reference == "expected" else "change"


def _write(path: Path, made: Mapping[str, Any], evaluations: Sequence[Evaluation]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(f"{path.name}.json").write_bytes(orjson.dumps(made, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    path.with_name(f"{path.name}.html").write_text(page(made, evaluations), encoding="utf-8")


async def pool(plan: Plan, datasets: Sequence[Dataset], arms: Sequence[str]) -> dict[str, Any]:
    """One report of several seeds of a stream, from the records alone."""
    evaluations, identity = [], None
    for dataset in datasets:
        done = {}
        for arm in chosen(plan, dataset, arms):
            settings = settings_for(arm, dataset.configured, plan.sections)
            done[arm] = await cells.run(arm, dataset, settings, None, plan.record(dataset, arm), lambda index, recorded: None)
        evaluations.append(_evaluation(plan, dataset, done))
        identity = _identity(done)
    assert identity is not None, "there is at least one seed"
    made = pooled(evaluations, model=identity, direction_of=_direction(datasets[0], evaluations[0].settings))
    _write(plan.folder / "-".join(part for part in (datasets[0].name, "pooled", plan.label) if part), made, evaluations)
    return made
