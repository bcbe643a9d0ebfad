"""The runs behind `docs/evaluation.md`, in the order of their worth, into `docs/reports`.

    python -m bench.evaluation -c model.toml            # hours on a CPU; cut short, it goes on where it was
    python -m bench.evaluation --recorded               # what is recorded, again, without a model

The model is that of the settings; `SMALL` is asked of the same server under its own name. Charts over several runs, and the comparison of a
small model with memory against a larger one with full history, are made of what is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from agents.models.factory import build_model
from schemas.settings import Settings, load_settings
from streams.cli.console import note
from streams.evaluation import cells, datasets, runs
from streams.evaluation.arms import settings_for
from streams.evaluation.axes import Axis
from streams.evaluation.dataset import Dataset
from streams.evaluation.drawing import Panel, Series, alone, lines
from streams.evaluation.figures import look_of
from streams.evaluation.pairs import compare
from streams.evaluation.runs import Plan

FOLDER = Path("docs/reports")
SMALL = "qwen2.5-coder:0.5b"
#: On two held-out seeds; the others on one.
CORE = (
    "llm_as_rnn",
    "zero_shot",
    "memprompt_error_retrieval",
    "ledger_only",
    "llm_as_rnn_random",
    "fhc",
    "memprompt_summary_concat",
)
FURTHER = ("llm_as_rnn_blank", "llm_as_rnn_enumerated", "llm_as_rnn_free_text", "llm_as_rnn_judged")
RECORDED = ("seattle-class", "seattle-temperature", "sp500-index")
BUDGETS = (1024, 2048, 4096, 8192)
STEPS, LONG, COSTS = 100, 300, 200


@dataclass(frozen=True, slots=True)
class Run:
    """Some cells with the same settings."""

    names: Sequence[str]
    arms: Sequence[str]
    seeds: Sequence[int] = (1000,)
    steps: int = STEPS
    label: str = ""
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


RUNS = (
    Run(datasets.LEARNABLE, CORE),
    Run(RECORDED, ("llm_as_rnn", "zero_shot", "ledger_only", "fhc")),
    Run(datasets.LEARNABLE, CORE, seeds=(1001,)),
    Run(datasets.LEARNABLE, FURTHER),
    Run(datasets.LEARNABLE, ("llm_as_rnn",), label="small", sections={"model": {"name": SMALL}}),
    Run(
        ("learnable-mapping", "seattle-class"), ("llm_as_rnn", "fhc"), steps=LONG, label="every", sections={"rewrite": {"policy": "every"}}
    ),
    *(
        Run(
            ("learnable-mapping",),
            ("fhc", "llm_as_rnn"),
            label=f"lambda-{budget}",
            sections={"model": {"context_budget": budget}, "memory": {"ledger_rows": 200}},
        )
        for budget in BUDGETS
    ),
    Run(("poisoned", "poisoned-neutral"), ("llm_as_rnn",)),
    # What the loop costs beside the loop as published.
    Run(("seattle-class",), ("published_loop", "llm_as_rnn", "zero_shot"), steps=COSTS, label="costs"),
)


def main(
    config: Annotated[Path | None, typer.Option("-c", "--config", help="Settings; what is read of them is [model].")] = None,
    out: Annotated[Path, typer.Option(help="Where reports and answers are.")] = FOLDER,
    jobs: Annotated[int, typer.Option(min=1, help="Cells at once.")] = 1,
    recorded: Annotated[bool, typer.Option("--recorded", help="Ask no model: make again what is recorded.")] = False,
) -> None:
    """Run what is not recorded yet, and write reports, pooled reports and charts."""
    settings = load_settings(config)
    for one in RUNS:
        plan = plan_of(one, settings, out, jobs)
        found = [dataset for dataset in streams_of(one) if not recorded or runs.chosen(plan, dataset, ())]
        if found:
            note(f"{', '.join(plan.stream(dataset) for dataset in found)}: {', '.join(one.arms)}")
            asyncio.run(_run(plan, found, one.arms, recorded))
    _pool(settings, out)
    _chart_budgets(out)
    asyncio.run(_small_against_large(settings, out))


def streams_of(one: Run) -> list[Dataset]:
    """The streams of a run; a recorded one has no seed."""
    return [
        datasets.load(name, datasets.Choice(seed, one.steps))
        for name in one.names
        for seed in (one.seeds if name in datasets.SEEDED else one.seeds[:1])
    ]


def plan_of(one: Run, settings: Settings, folder: Path, jobs: int) -> Plan:
    """The run's own settings over the model's."""
    model = {**settings.model.model_dump(exclude_defaults=True), **one.sections.get("model", {})}
    return Plan(folder, {**one.sections, "model": model}, jobs, one.label)


async def _run(plan: Plan, found: Sequence[Dataset], arms: Sequence[str], recorded: bool) -> None:
    model = None if recorded else build_model(load_settings(None, model=dict(plan.sections["model"])).model)
    # An arm that cannot be on a stream is left out there.
    numbers = [dataset for dataset in found if dataset.configured().target.kind == "number"]
    groups = ((numbers, [arm for arm in arms if arm != "llm_as_rnn_judged"]), ([one for one in found if one not in numbers], list(arms)))

    def told(stream: str, arm: str, case: int, answers: int) -> None:
        if case % 25 == 0:
            note(f"  {stream} {arm}: case {case}, {answers} answers")

    try:
        await asyncio.gather(*(runs.run(plan, streams, () if recorded else wanted, model, told) for streams, wanted in groups if streams))
    finally:
        if model is not None:
            await model.close()


def _pool(settings: Settings, folder: Path) -> None:
    """Both seeds of each family, as far as they are there."""
    plan = plan_of(RUNS[0], settings, folder, 1)
    for name in datasets.LEARNABLE:
        found = [datasets.load(name, datasets.Choice(seed, STEPS)) for seed in (1000, 1001)]
        if all(runs.chosen(plan, dataset, ()) for dataset in found):
            asyncio.run(runs.pool(plan, found, ()))


def _chart_budgets(folder: Path) -> None:
    """Score and tokens per step over λ, for both arms."""
    reports = {budget: _read(folder / f"learnable-mapping-1000-lambda-{budget}.json") for budget in BUDGETS}
    arms = ("fhc", "llm_as_rnn")

    def series(key: str) -> list[Series]:
        return [
            Series(arm, [(float(budget), report["arms"][arm][key]) for budget, report in reports.items() if report], look_of(arm, arms))
            for arm in arms
        ]

    if any(reports.values()):
        over = Axis("λ (tokens)", log=True, at=BUDGETS)
        panels = [
            Panel(Axis("accuracy", percent=True), series("accuracy")),
            Panel(Axis("tokens per step", low=0), series("tokens_per_step")),
        ]
        title = "Accuracy and tokens per step over the context budget"
        chart = lines("lambda", panels, over, title=title, description="learnable-mapping, 100 steps, one seed")
        (folder / "lambda.svg").write_text(str(alone(chart)), encoding="utf-8")


async def _small_against_large(settings: Settings, folder: Path) -> None:
    """The small model with memory against the larger one with its full history, on the same cases."""
    large, small = plan_of(RUNS[0], settings, folder, 1), plan_of(next(one for one in RUNS if one.label == "small"), settings, folder, 1)
    found = []
    for name in datasets.LEARNABLE:
        dataset = datasets.load(name, datasets.Choice(1000, STEPS))
        sides = [(small, "llm_as_rnn"), (large, "fhc")]
        if all(plan.record(dataset, arm).with_suffix(".jsonl.gz").exists() for plan, arm in sides):
            done = [
                await cells.run(arm, dataset, settings_for(arm, dataset.configured, plan.sections), None, plan.record(dataset, arm), _quiet)
                for plan, arm in sides
            ]
            told = compare(done[0].results, done[1].results, done[0].settings.target).model_dump(mode="json")
            found.append({"dataset": name, "arm": f"llm_as_rnn, {done[0].model.name}", "against": f"fhc, {done[1].model.name}", **told})
    if found:
        (folder / "small-against-large.json").write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def _quiet(index: int, recorded: int) -> None:
    """Answers from a record take no time worth telling of."""


def _read(path: Path) -> Any:
    return orjson.loads(path.read_bytes()) if path.exists() else None


if __name__ == "__main__":
    typer.run(main)
