"""The report for people: one HTML page that refers to nothing outside of it, from the JSON of `streams.evaluation.report`.

Figures are the JSON's; predictions, tokens by step and the memory's history come from the arms' runs and are left out where only the JSON
is at hand. All text of data (labels, notes, memories, what a guard refused) is other people's and is escaped.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import orjson
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from schemas.messages import Rejection, Value
from streams.evaluation import drawing
from streams.evaluation.drawing import Axis, Band, Dot, Look, Panel, Series, Strip
from streams.evaluation.losses import in_order, loss
from streams.evaluation.report import ARMS, BASE, EXECUTED, SUBJECT, Evaluation
from streams.evaluation.results import CaseResult, MemoryEntry

#: What an arm is called in text, and what it is.
TITLES: Mapping[str, tuple[str, str]] = {
    "zero_shot": ("zero-shot", "the model reads the observation and nothing of the past"),
    "fhc": ("full history", "every past outcome verbatim in the prompt, the oldest dropped where it would not fit (FHC)"),
    "memprompt_summary_concat": ("MemPrompt, summaries", "a summary of each outcome by the model, all of them in the prompt"),
    "memprompt_error_retrieval": ("MemPrompt, retrieval", "of the outcomes of wrong answers, the closest one is shown"),
    "ledger_only": ("ledger only", "statistics and the newest outcomes, kept by code, without a text"),
    "llm_as_rnn": ("LLM-as-RNN", "a memory that the model rewrites after outcomes and reads before each prediction, beside the ledger"),
    "llm_as_rnn_free_text": ("LLM-as-RNN, free text", "the same with the paper's form of memory: free sections"),
    "llm_as_rnn_blank": ("LLM-as-RNN, blanked", "the same prompts, the memory emptied before each prediction"),
    "llm_as_rnn_enumerated": ("LLM-as-RNN, enumerated", "what the memory is to hold is proposed by code that tries everything"),
    "llm_as_rnn_random": ("LLM-as-RNN, random", "what the memory is to hold is drawn at random"),
    "rules_executed": ("rules, by code", "the rules of LLM-as-RNN's memory followed by code, the model is not asked"),
}
LOOKS: Mapping[str, Look] = {
    "zero_shot": Look("grey", width=2.2),
    "fhc": Look("vermilion", width=2.2),
    "memprompt_summary_concat": Look("orange"),
    "memprompt_error_retrieval": Look("orange", dash="6 4"),
    "ledger_only": Look("green"),
    "llm_as_rnn": Look("blue", width=3.2),
    "llm_as_rnn_free_text": Look("purple"),
    "llm_as_rnn_blank": Look("sky", dash="7 4"),
    "llm_as_rnn_enumerated": Look("sky", dash="2 4"),
    "llm_as_rnn_random": Look("olive", dash="6 4"),
    "rules_executed": Look("purple", dash="2 4"),
}
#: The naive ones, in turn.
_NAIVE_DASHES = ("1 4", "8 3 1 3", "3 3", "12 4", "5 2 1 2 1 2")

#: Cases of a chart at most; the newest ones are drawn, or several to a cell.
_NEWEST, _CELLS = 300, 240
#: Entities and streams whose numbers are drawn.
_DRAWN = 4
#: Cases over which tokens by step are averaged.
_SMOOTHED = 10

_CAUSES = {
    "feedback": "rewritten by the model",
    "command": "changed by a command",
    "rollback": "rolled back",
    "rule-dropped": "refuted, taken out by code",
    "forget": "forgotten",
}


def page(report: Mapping[str, Any], evaluations: Sequence[Evaluation] = ()) -> str:
    """The page of a report.

    Parameters
    ----------
    report
        Of `report.report` or `report.pooled`.
    evaluations
        What it was made of, for what is not in the JSON.
    """
    streams = [evaluation.with_derived() for evaluation in evaluations]
    measure = Measure.of(report)
    view = {
        "report": report,
        "style": Markup(drawing.STYLE),
        "measure": measure,
        "title_of": title_of,
        "what": {name: TITLES[name][1] for name in report["arms"] if name in TITLES},
        "summary": _summary(report, measure),
        "warnings": _warnings(report),
        "rows": [_row(name, arm, measure) for name, arm in report["arms"].items()],
        "comparisons": [_verdict(entry, measure) for entry in report["comparisons"]],
        "curves": _curves(report, measure),
        "cost": _cost(report, measure),
        "tokens": _tokens(streams),
        "predictions": list(_predictions(streams, measure)),
        "histories": list(_histories(streams)),
        "rewrites": {name: arm["rewrites"] for name, arm in report["arms"].items() if arm["rewrites"]["proposed"]},
        "settings": {section: {key: _json(value) for key, value in keys.items()} for section, keys in report["settings"].items()},
        "turns": {name: _json(arm["settings"]) for name, arm in report["arms"].items() if arm["settings"]},
    }
    return _environment().get_template("page.html.j2").render(view)


def title_of(name: str) -> str:
    """What an arm is called in text: its own name where it is a naive forecaster."""
    return TITLES[name][0] if name in TITLES else name


def look_of(name: str, names: Sequence[str]) -> Look:
    """How an arm is drawn; naive forecasters by their turn in `names`."""
    if name in LOOKS:
        return LOOKS[name]
    naive = [other for other in names if other not in LOOKS]
    return Look("grey", dash=_NAIVE_DASHES[naive.index(name) % len(_NAIVE_DASHES)], width=1.2)


def tokens_by_step(results: Sequence[CaseResult], over: int = _SMOOTHED) -> list[float]:
    """Tokens of each case, prompts and answers of all purposes, as the mean of the last `over` cases."""
    spent = [float(sum(one.prompt_tokens + one.output_tokens for one in row.spent.values())) for row in in_order(results)]
    windows = (spent[max(0, at + 1 - over) : at + 1] for at in range(len(spent)))
    return [sum(window) / len(window) for window in windows]


@dataclass(frozen=True, slots=True)
class Measure:
    """What arms are scored by: accuracy, or the mean absolute error in the target's unit."""

    key: str
    unit: str = ""

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> Measure:
        """The measure of a report's target."""
        target = report["settings"].get("target", {})
        return cls("mae", target.get("unit", "")) if target.get("kind", "number") == "number" else cls("accuracy")

    @property
    def percent(self) -> bool:
        """Whether it is a share."""
        return self.key == "accuracy"

    @property
    def name(self) -> str:
        """For headings and axes."""
        unit = f" ({self.unit})" if self.unit else ""
        return "accuracy" if self.percent else f"mean absolute error{unit}"

    @property
    def direction(self) -> str:
        """Which way is good."""
        return "higher is better" if self.percent else "lower is better"

    def say(self, value: float | None, *, signed: bool = False) -> str:
        """A score in words; a difference of shares is in points."""
        if value is None:
            return "–"
        sign = "+" if signed and value > 0 else ""
        text = f"{sign}{value * 100:.1f}" if self.percent else f"{sign}{value:.3g}"
        return text.replace("-", "−") + ("" if signed or not self.percent else " %")


def _summary(report: Mapping[str, Any], measure: Measure) -> list[str]:
    """What came out, in plain sentences, the subject's score first."""
    arm = report["arms"].get(SUBJECT)
    if arm is None or measure.key not in arm:
        return [f"{title_of(SUBJECT)} did not run here, so nothing is said of it."]
    score, unit = measure.say(arm[measure.key]), f" {measure.unit}" if measure.unit else ""
    low, high = arm.get(f"{measure.key}_low"), arm.get(f"{measure.key}_high")
    between = f" (95 % interval {measure.say(low)} to {measure.say(high)})" if low is not None and high is not None else ""
    did = f"was right in {score} of its {arm['n']} cases{between}" if measure.percent else f"missed by {score}{unit} on average{between}"
    sentences = [f"{title_of(SUBJECT)} {did}."]
    mine = [entry for entry in report["comparisons"] if entry["arm"] == SUBJECT]
    margin = "5 points of accuracy" if measure.percent else "5 % of its error"
    sentences_of = {
        "better": "It is better than {} (p < 0.05 in each paired test).",
        "slightly worse": f"It is worse than {{}}, by less than {margin}.",
        "worse": "It is worse than {} (p < 0.05 in each paired test).",
        "non-inferior": f"It is non-inferior to {{}}: not worse by {margin} or more, and not shown to be better.",
        "open": "With so few cases it cannot be told apart from {}.",
    }
    for outcome, sentence in sentences_of.items():
        chosen = [title_of(entry["against"]) for entry in mine if _outcome(entry) == outcome]
        if chosen:
            sentences.append(sentence.format(_listed(chosen)))
    return sentences


def _outcome(entry: Mapping[str, Any]) -> str:
    if entry["better"]:
        return "better"
    if entry["worse"]:
        return "slightly worse" if entry["non_inferior"] else "worse"
    return "non-inferior" if entry["non_inferior"] else "open"


def _listed(names: Sequence[str]) -> str:
    """Names in a sentence; semicolons, for some have commas in them."""
    return names[0] if len(names) == 1 else f"{'; '.join(names[:-1])}; and {names[-1]}"


def _warnings(report: Mapping[str, Any]) -> list[str]:
    """The dataset's own, and what the figures themselves give reason to warn of."""
    found = list(report["notes"])
    for name, arm in report["arms"].items():
        failed = sum(arm.get("failed", {}).values())
        if arm.get("calls") and failed > 0.05 * arm["n"]:
            found.append(f"{title_of(name)}: {failed} of {arm['n']} answers could not be used; the fallback's count in their place.")
        if arm["n"] < report["n"] and "seeds" not in arm:
            found.append(f"{title_of(name)} ran over {arm['n']} of the {report['n']} cases.")
        if len(arm.get("seeds", ())) < len(report.get("seeds", ())):
            found.append(f"{title_of(name)} ran on {len(arm['seeds'])} of the {len(report['seeds'])} seeds, n = {arm['n']}.")
    return found


def _row(name: str, arm: Mapping[str, Any], measure: Measure) -> dict[str, Any]:
    low, high = arm.get(f"{measure.key}_low"), arm.get(f"{measure.key}_high")
    lift, memory = arm.get("self_correction_lift"), arm.get("memory", {})
    asked = bool(arm.get("calls"))
    remembers = bool(memory.get("max_words"))
    return {
        "name": name,
        "title": title_of(name),
        "kind": "derived" if name == EXECUTED else "model" if name in ARMS else "naive",
        "score": measure.say(arm.get(measure.key)),
        "interval": f"{measure.say(low)} to {measure.say(high)}" if low is not None and high is not None else "–",
        "second": (f"{arm['top_k'] * 100:.1f} %" if "top_k" in arm else "–")
        if measure.percent
        else f"{arm['skill']:+.1%}".replace("-", "−").replace("%", " %")
        if "skill" in arm
        else "–",
        "tokens": f"{arm['tokens_per_step']:,.0f}" if asked else "–",
        "uncached": f"{arm['uncached_tokens_per_step']:,.0f}" if asked and "uncached_tokens_per_step" in arm else "–",
        "calls": f"{arm['calls_per_step']:.2f}" if asked else "–",
        "seconds": f"{arm['seconds_per_step']:.1f}" if asked else "–",
        "lift": "–" if lift is None or name == BASE else f"{lift * 100:+.1f}".replace("-", "−"),
        "words": f"{memory['mean_words']:.0f} / {memory['max_words']}" if remembers else "–",
        "failed": f"{sum(arm.get('failed', {}).values())}" if asked else "–",
    }


def _verdict(entry: Mapping[str, Any], measure: Measure) -> dict[str, Any]:
    outcome = _outcome(entry)
    signs = {
        "better": "▲ better",
        "slightly worse": "▽ slightly worse",
        "worse": "▼ worse",
        "non-inferior": "≈ non-inferior",
        "open": "? open",
    }
    low, high = entry["low"], entry["high"]
    return {
        "arm": title_of(entry["arm"]),
        "against": title_of(entry["against"]),
        "kind": outcome.rpartition(" ")[2],
        "word": signs[outcome],
        "difference": measure.say(entry["difference"], signed=True),
        "interval": "–" if low is None or high is None else f"{measure.say(low, signed=True)} to {measure.say(high, signed=True)}",
        "p": "< 0.001" if entry["p_value"] < 0.001 else f"{entry['p_value']:.3f}",
        "n": entry["n"],
        "verdict": entry["verdict"],
        "own": entry["arm"] == SUBJECT,
    }


def _curves(report: Mapping[str, Any], measure: Measure) -> Markup | None:
    names = [name for name, arm in report["arms"].items() if arm["learning_curve"]]
    if not names:
        return None
    curves = {name: report["arms"][name]["learning_curve"] for name in names}
    # The first cases alone are means over next to nothing: they would set the scale, so they may be cut off.
    settled = [value for curve in curves.values() for value in curve[min(10, len(curve) // 2) :]]
    room = (max(settled) - min(settled)) * 0.08 or 0.02
    if measure.percent:
        low, high = max(0.0, min(settled) - room), min(1.0, max(settled) + room)
    else:
        low, high = 0.0, max(settled) + room
    behind_first = sorted(names, key=lambda name: look_of(name, names).width)
    series = {name: Series(title_of(name), _thinned(curves[name]), look_of(name, names)) for name in behind_first}
    ends = ", ".join(f"{title_of(name)} {measure.say(curves[name][-1])}" for name in names)
    return drawing.lines(
        "learning-curves",
        [Panel(Axis(f"faded {measure.name}, {measure.direction}", low, high, percent=measure.percent), list(series.values()), height=330)],
        Axis("labelled step", low=1, whole=True),
        title=f"Learning curves: {measure.name} by step",
        description=f"Each arm's {measure.name} with older cases weighing less. At the end: {ends}.",
    )


def _thinned(values: Sequence[float], most: int = 600) -> list[tuple[float, float | None]]:
    """Points at steps from 1; of long series every so many and the last."""
    every = max(1, -(-len(values) // most))
    return [(at + 1.0, value) for at, value in enumerate(values) if at % every == 0 or at == len(values) - 1]


def _cost(report: Mapping[str, Any], measure: Measure) -> Markup | None:
    names = list(report["arms"])
    dots = [
        Dot(
            title_of(name),
            arm["tokens_per_step"] if arm.get("calls") else None,
            arm[measure.key],
            look_of(name, names),
            arm.get(f"{measure.key}_low"),
            arm.get(f"{measure.key}_high"),
            f"{measure.say(arm[measure.key])}, {arm['tokens_per_step']:,.0f} tokens per step",
        )
        for name, arm in report["arms"].items()
        if measure.key in arm
    ]
    if not any(dot.x for dot in dots):
        return None
    return drawing.scatter(
        "cost",
        dots,
        Axis("tokens per labelled step (logarithmic)", log=True),
        Axis(f"{measure.name}, {measure.direction}", percent=measure.percent),
        title=f"Cost against {measure.name}",
        description="; ".join(f"{dot.name}: {dot.said}" for dot in dots),
        without="no model call",
    )


def _tokens(streams: Sequence[Evaluation]) -> Markup | None:
    """Tokens by step, of the first stream: all are made alike."""
    asked = {
        name: run
        for name, run in (streams[0].arms.items() if streams else ())
        if any(spent.calls for row in run.results for spent in row.spent.values())
    }
    if not asked:
        return None
    curves = {name: tokens_by_step(run.results) for name, run in asked.items()}
    series = [
        Series(title_of(name), _thinned(curves[name]), LOOKS.get(name, Look()))
        for name in sorted(asked, key=lambda name: LOOKS.get(name, Look()).width)
    ]
    return drawing.lines(
        "tokens",
        [Panel(Axis(f"tokens per step, mean of {_SMOOTHED}", low=0), series, height=250)],
        Axis("labelled step", low=1, whole=True),
        title="Tokens per step",
        description="At the end: " + ", ".join(f"{title_of(name)} {curve[-1]:,.0f}" for name, curve in curves.items()) + ".",
    )


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with what stands below it."""

    chart: Markup
    caption: str


def _predictions(streams: Sequence[Evaluation], measure: Measure) -> Iterator[Figure]:
    for number, stream in enumerate(streams[:_DRAWN]):
        if not any(run.results for run in stream.arms.values()):
            continue
        of = f" (seed {stream.dataset.seed})" if len(streams) > 1 else ""
        if measure.percent:
            yield _hits(f"hits-{number}", stream, of)
        else:
            counts = Counter(row.entity for row in next(iter(stream.arms.values())).results)
            for place, (entity, _) in enumerate(counts.most_common(max(1, _DRAWN // len(streams)))):
                yield _lines(f"numbers-{number}-{place}", stream, entity, measure, of, entities=len(counts))


def _hits(name: str, stream: Evaluation, of: str) -> Figure:
    target, names = stream.settings.target, list(stream.arms)
    longest = max(len(run.results) for run in stream.arms.values())
    every = -(-longest // _CELLS)
    rows = []
    for arm, run in stream.arms.items():
        right = [1.0 - loss(row, target) for row in in_order(run.results)]
        cells = [right[at : at + every] for at in range(0, len(right), every)]
        shares = [sum(cell) / len(cell) for cell in cells]
        rows.append(Strip(title_of(arm), shares, look_of(arm, names), f"{sum(right):.0f} of {len(right)} right"))
    cell = "a case" if every == 1 else f"{every} cases"
    chart = drawing.strips(
        name,
        rows,
        Axis("labelled step", low=0, high=-(-longest // every) * every, whole=True),
        title=f"Right and wrong by step{of}",
        description="; ".join(f"{row.name}: {row.said}" for row in rows),
    )
    return Figure(chart, f"Each column is {cell}{of}: a full bar was right, a low grey tick was wrong.")


def _lines(name: str, stream: Evaluation, entity: str, measure: Measure, of: str, *, entities: int) -> Figure:
    shown = [arm for arm in (SUBJECT, "fhc", BASE) if arm in stream.arms] or list(stream.arms)[:1]
    panels, longest = [], 0
    for arm in shown:
        rows = [row for row in in_order(stream.arms[arm].results) if row.entity == entity]
        longest = max(longest, len(rows))
        numbered = list(enumerate(rows, start=1))[-_NEWEST:]
        spans = [
            (float(at), row.interval.low, row.interval.high)
            for at, row in numbered
            if row.interval is not None and row.interval.low is not None and row.interval.high is not None
        ]
        band = [Band("prediction interval", spans, "blue")] if arm == SUBJECT and len(spans) > 1 else []
        truths = Series("what came true", [(at, _number(row.truth)) for at, row in numbered], Look("ink", width=1.3))
        answers = Series(
            title_of(arm),
            [(at, _number(row.answer.value)) for at, row in numbered],
            Look(LOOKS[arm].colour if arm in LOOKS else "grey", width=2),
        )
        panels.append(Panel(Axis(measure.unit or "value"), [truths, answers], band, heading=title_of(arm), height=190))
    whose = f"{entity}{of}" + (f", one of {entities} entities" if entities > 1 else "")
    cut = f", the newest {_NEWEST} of {longest} cases" if longest > _NEWEST else ""
    chart = drawing.lines(
        name,
        panels,
        Axis("labelled step", whole=True),
        title=f"Predictions and truths of {whose}",
        description=f"For {_listed([title_of(arm) for arm in shown])}: the arm's answers and what came true, by step{cut}.",
    )
    return Figure(chart, f"{whose}{cut}: what each arm said, and what came true.")


def _number(value: Value) -> float | None:
    return None if isinstance(value, str) else float(value)


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of a memory's history.

    Attributes
    ----------
    lines
        What was taken out (`removed`) and put in (`added`), line by line.
    """

    step: int
    entity: str
    revision: int
    cause: str
    accepted: bool
    reason: str
    words: int
    outcomes: int
    lines: tuple[tuple[str, str], ...]
    rejected: tuple[Rejection, ...]


@dataclass(frozen=True, slots=True)
class History:
    """An arm's memory over a stream: its changes, and each entity's text at the end."""

    title: str
    accepted: int
    refused: int
    changes: tuple[Change, ...]
    last: Mapping[str, str] = field(default_factory=dict)
    first: bool = False


def _histories(streams: Sequence[Evaluation]) -> Iterator[History]:
    for stream in streams:
        of = f", seed {stream.dataset.seed}" if len(streams) > 1 else ""
        remembering = [name for name, run in stream.arms.items() if run.memories]
        for name in sorted(remembering, key=lambda name: name != SUBJECT):
            memories = stream.arms[name].memories
            several = len({entry.revision.entity for entry in memories}) > 1
            changes = tuple(_change(entry, several=several) for entry in memories)
            yield History(
                title_of(name) + of,
                sum(change.accepted for change in changes),
                sum(not change.accepted for change in changes),
                changes,
                {entry.revision.entity if several else "": entry.revision.after for entry in memories},
                first=name == SUBJECT and stream is streams[0],
            )


def _change(entry: MemoryEntry, *, several: bool) -> Change:
    revision = entry.revision
    return Change(
        step=entry.index + 1,
        entity=revision.entity if several else "",
        revision=revision.revision,
        cause=_CAUSES[revision.cause] if revision.accepted else "proposal refused",
        accepted=revision.accepted,
        reason=revision.reason,
        words=revision.words,
        outcomes=revision.outcomes,
        lines=changed_lines(revision.before, revision.after),
        rejected=revision.rejected,
    )


def changed_lines(before: str, after: str) -> tuple[tuple[str, str], ...]:
    """The lines of a text that were `removed` and `added`, in the text's order; equal ones are left out.

    Examples
    --------
    >>> changed_lines("Rules:\\n- a", "Rules:\\n- b\\n- c")
    (('removed', '- a'), ('added', '- b'), ('added', '- c'))
    """
    kinds = {"- ": "removed", "+ ": "added"}
    found = difflib.ndiff(before.splitlines(), after.splitlines(), linejunk=None, charjunk=None)
    return tuple((kinds[line[:2]], line[2:]) for line in found if line[:2] in kinds)


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _source(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    return Environment(
        loader=FunctionLoader(_source), undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True, auto_reload=False
    )
