"""What came of a run: `summarise` computes it, as it stands in `summary.json`; `render` shows it to people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from schemas.messages import MemoryRevision, ModelCall
from schemas.settings import Settings
from streams.demo.dataset import ENTITY, UNIT
from streams.demo.folder import RunFolder
from streams.demo.record import Record
from streams.demo.revision import EMPTY
from streams.demo.score import LEADING, coverage, differences, percentile, running_scores, scores

#: What each metric is called for people; the first that an arm has is the one that the table is about.
METRIC_TITLES = {"mae": "MAE", "mse": "MSE", "accuracy": "accuracy", "top_k": "in the top {k}"}


@dataclass(frozen=True, slots=True)
class Broker:
    """The Kafka that was used."""

    address: str
    version: str


def summarise(record: Record, settings: Settings, broker: Broker, folder: RunFolder, *, completed: bool) -> dict[str, Any]:
    """Compute the summary of a run, finished or not.

    Parameters
    ----------
    record
        What was seen.
    settings
        The run's settings.
    broker
        The Kafka that was used.
    folder
        Where the run's files are.
    completed
        Whether every step was replayed.

    Returns
    -------
    dict
        What `summary.json` holds. Times are in seconds; scores in the target's unit, or shares of 1.
    """
    predictions, rewrites = record.prediction_calls(), record.rewriting_calls()
    calls = [*predictions, *rewrites]
    ours = scores(record.steps, settings.target.top_k)
    inside = coverage(record.steps)
    return {
        "completed": completed,
        "target": record.target,
        "unit": UNIT[record.target],
        "entity": ENTITY,
        "first_day": record.questions[0].day.date.isoformat(),
        "last_day": record.questions[-1].day.date.isoformat(),
        "steps": len(record.steps),
        "predictions": len(record.predicted),
        "labelled": len(record.labelled),
        "scores": {arm: {"n": score.n, **score.figures()} for arm, score in ours.items()},
        "score_differences": differences(ours, running_scores(record)),
        "interval": None if inside is None else {"level": settings.publish.level, "coverage": inside},
        "sources": dict(Counter(step.prediction.source for step in record.steps if step.prediction is not None)),
        "model": _model(calls, settings),
        "broker": {"address": broker.address, "version": broker.version},
        "calls": sum(call.calls for call in calls),
        "calls_by_purpose": {"prediction": sum(call.calls for call in predictions), "rewriting": sum(call.calls for call in rewrites)},
        "failed_calls": dict(Counter(call.error for call in calls if call.error)),
        "tokens": {
            "prompt": sum(call.prompt_tokens for call in calls),
            "cached": cached_tokens(calls),
            "output": sum(call.output_tokens for call in calls),
        },
        "latency": {
            "prediction_call": _latency(call.seconds for call in predictions),
            "rewriting_call": _latency(call.seconds for call in rewrites),
            "observation_to_prediction": _latency(
                step.answered - step.sent for step in record.steps if step.answered is not None and step.sent is not None
            ),
        },
        "memory": {
            "revisions": dict(Counter(revision.cause for revision in record.accepted)),
            "refused": dict(Counter(revision.cause for revision in record.refused)),
            "refused_by": dict(Counter(why for revision in record.refused for why in refusals(revision))),
            "max_words": max(words(record.accepted)),
            "limit_words": settings.memory.words,
            "first": record.accepted[0].before if record.accepted else "",
            "last": record.memory,
        },
        "max_prompt_tokens": max(map(whole_prompt, calls), default=0),
        "context_budget": settings.model.context_budget,
        "dead_letters": len(record.dead_letters),
        "notes": list(record.notes),
        "seconds": round(record.seconds, 1),
        "app": settings.app,
        "topics": {
            role: getattr(settings.topics, role)
            for role in ("observations", "truths", "predictions", "outcomes", "memories", "dead_letters")
        },
        "folder": str(folder.path),
    }


def words(revisions: Iterable[MemoryRevision]) -> Iterator[int]:
    """Words of each memory there was, the empty one at the beginning included; counted by the worker and again here."""
    yield 0
    for revision in revisions:
        yield max(revision.words, len(revision.after.split()))


def whole_prompt(call: ModelCall) -> int:
    """Tokens of the longest whole prompt of some calls with its answer: as counted before, and as the server counted one call after."""
    served = call.prompt_tokens + call.output_tokens if call.calls == 1 else 0
    return max(call.budgeted_tokens, served)


def refusals(revision: MemoryRevision) -> list[str]:
    """Why a proposal was refused, as slugs: the guards', else the revision's own reason."""
    return sorted({rejection.guard for rejection in revision.rejected}) or [revision.reason or "unknown"]


def render(summary: dict[str, Any]) -> RenderableType:
    """The summary as tables, for a terminal and for a log alike."""
    notes = [*summary["notes"], *(f"scores differ: {text}" for text in summary["score_differences"])]
    warnings = [Text(f"! {note}", "yellow") for note in notes]
    return Group(_headline(summary), _scores(summary), _figures(summary), *_memories(summary), _more(summary), *warnings)


def _headline(summary: dict[str, Any]) -> Text:
    what = {"temperature": "next-day maximum temperature", "class": "next-day weather class"}[summary["target"]]
    done = "" if summary["completed"] else f" (ended after {summary['predictions']} of {summary['steps']} days)"
    return Text(f"\nSeattle, {what}, {summary['first_day']} to {summary['last_day']}{done}", "bold")


def _scores(summary: dict[str, Any]) -> RenderableType:
    table = Table(title=f"Scores over {summary['labelled']} labelled predictions", title_justify="left")
    table.add_column("arm")
    table.add_column("n", justify="right")
    found = [name for name in METRIC_TITLES if any(name in score for score in summary["scores"].values())]
    for name in found:
        unit = f" ({summary['unit']})" if name == "mae" and summary["unit"] else ""
        table.add_column(METRIC_TITLES[name].format(k=2) + unit, justify="right")
    explained = {"published": "published (guarded)", "model": "model's own answers", "persistence": "persistence (same as today)"}
    for arm, score in summary["scores"].items():
        cells = [f"{score[name]:.3f}" if name in score else "" for name in found]
        table.add_row(explained.get(arm, arm), str(score["n"]), *cells, style="bold" if arm in LEADING else "dim")
    return table


def cached_tokens(calls: Sequence[ModelCall]) -> int | None:
    """Prompt tokens that came from the server's prefix cache; None where it never said."""
    told = [call.cached_tokens for call in calls if call.cached_tokens is not None]
    return sum(told) if told else None


def _cached(tokens: int | None) -> str:
    return "how many came from the cache the server does not say" if tokens is None else f"{tokens:,} of them cached"


def _figures(summary: dict[str, Any]) -> RenderableType:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    tokens, calls, model = summary["tokens"], summary["calls_by_purpose"], summary["model"]
    sources = ", ".join(f"{count} {name}" for name, count in summary["sources"].items()) or "none"
    rows = [
        ("predictions by source", sources),
        ("model", f"{model['name']} {model['digest'].removeprefix('sha256:')[:12]} on {model['backend']}"),
        ("calls", f"{calls['prediction']} for predictions, {calls['rewriting']} for rewriting" + _failures(summary["failed_calls"])),
        ("tokens", f"{tokens['prompt']:,} prompt ({_cached(tokens['cached'])}), {tokens['output']:,} answered"),
        ("longest prompt", f"{summary['max_prompt_tokens']:,} of {summary['context_budget']:,} tokens, answer included"),
        ("prediction call", _spans(summary["latency"]["prediction_call"])),
        ("rewriting call", _spans(summary["latency"]["rewriting_call"])),
        ("observation to prediction", _spans(summary["latency"]["observation_to_prediction"])),
    ]
    if summary["interval"] is not None:
        interval = summary["interval"]
        rows.append(("interval", f"held the truth in {interval['coverage']:.0%}, meant to in {interval['level']:.0%}"))
    rows += [
        ("dead letters", str(summary["dead_letters"])),
        ("Kafka", f"{summary['broker']['version']} at {summary['broker']['address']}"),
        ("time", f"{summary['seconds']:.0f} s for {summary['predictions']} days"),
    ]
    for name, value in rows:
        table.add_row(name, value)
    return table


def _memories(summary: dict[str, Any]) -> list[RenderableType]:
    memory = summary["memory"]
    accepted = ", ".join(f"{count} by {cause}" for cause, count in memory["revisions"].items()) or "none"
    refused = sum(memory["refused"].values())
    why = ", ".join(f"{guard} {count}" for guard, count in memory["refused_by"].items())
    line = (
        f"revisions: {accepted}; refused: {refused}"
        + (f" ({why})" if why else "")
        + f"; at most {memory['max_words']} of {memory['limit_words']} words"
    )
    first, last = (text or EMPTY for text in (memory["first"], memory["last"]))
    return [
        Panel(Text(first), title="memory at the beginning", title_align="left", border_style="dim"),
        Panel(Text(last), title="memory at the end", title_align="left", border_style="green", subtitle=Text(line), subtitle_align="left"),
    ]


def _more(summary: dict[str, Any]) -> RenderableType:
    folder, topics = summary["folder"], summary["topics"]
    settings = f"{folder}/palimpsest.toml"
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    rows = [
        ("settings", settings),
        ("worker's log", f"{folder}/worker.log"),
        ("what it published", f"{folder}/predictions.jsonl, outcomes.jsonl, memories.jsonl"),
        ("these figures", f"{folder}/summary.json"),
        ("topics", _together(summary["app"], topics.values())),
        ("to look at more", "palimpsest services up   (the topics are kept), then"),
        ("", f"palimpsest memory show {ENTITY} -c {settings}"),
        ("", f"palimpsest memory history {ENTITY} -c {settings}"),
    ]
    for name, value in rows:
        table.add_row(name, value)
    return table


def _together(app: str, names: Iterable[str]) -> str:
    """Topics of an application with their common beginning said once, as a shell would read them."""
    return f"{app}-{{{','.join(name.removeprefix(f'{app}-') for name in names)}}}"


def _model(calls: list[ModelCall], settings: Settings) -> dict[str, str]:
    """Which model answered: as the newest call that knows it says."""
    named = next((call for call in reversed(calls) if call.digest), None)
    if named is None:
        return {"name": settings.model.name, "digest": "", "backend": settings.model.backend}
    return {"name": named.name, "digest": named.digest, "backend": named.backend}


def _latency(seconds: Iterable[float]) -> dict[str, float | None]:
    values = list(seconds)
    return {
        name: None if (found := percentile(values, share)) is None else round(found, 3) for name, share in (("p50", 0.5), ("p95", 0.95))
    }


def _spans(latency: dict[str, float | None]) -> str:
    if latency["p50"] is None or latency["p95"] is None:
        return "none"
    return f"p50 {latency['p50']:.2f} s, p95 {latency['p95']:.2f} s"


def _failures(failed: dict[str, int]) -> str:
    return "; failed: " + ", ".join(f"{count} {error}" for error, count in failed.items()) if failed else ""
