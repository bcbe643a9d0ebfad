"""The report for people: one HTML page that refers to nothing outside of it, from the JSON of `streams.evaluation.report`.

Figures are the JSON's; predictions, tokens by step and the memory's history come from the arms' runs and are left out where only the JSON
is at hand. All text of data (labels, notes, memories, what a guard refused) is other people's and is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import orjson
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from schemas.settings import TargetSettings
from streams.evaluation import drawing, figures, history
from streams.evaluation.phrasing import TITLES, Measure, listed, title_of
from streams.evaluation.report import ARMS, BASE, EXECUTED, SUBJECT, Evaluation


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
        "ranks": report["settings"].get("target", {}).get("top_k", TargetSettings().top_k),
        "title_of": title_of,
        "what": {name: TITLES[name][1] for name in report["arms"] if name in TITLES},
        "summary": _summary(report, measure),
        "warnings": _warnings(report),
        "rows": [_row(name, arm, measure) for name, arm in report["arms"].items()],
        "comparisons": [_verdict(entry, measure) for entry in report["comparisons"]],
        "curves": figures.curves(report, measure),
        "cost": figures.cost(report, measure),
        "tokens": figures.tokens(streams),
        "predictions": list(figures.predictions(streams, measure)),
        "histories": list(history.histories(streams)),
        "rewrites": {name: arm["rewrites"] for name, arm in report["arms"].items() if arm["rewrites"]["proposed"]},
        "settings": {section: {key: _json(value) for key, value in keys.items()} for section, keys in report["settings"].items()},
        "turns": {name: _json(arm["settings"]) for name, arm in report["arms"].items() if arm["settings"]},
    }
    return _environment().get_template("page.html.j2").render(view)


def _summary(report: Mapping[str, Any], measure: Measure) -> list[str]:
    """What came out, in plain sentences, the subject's score first."""
    arm = report["arms"].get(SUBJECT)
    if arm is None or measure.key not in arm:
        return [f"{title_of(SUBJECT)} did not run here, so nothing is said of it."]
    score, unit = measure.say(arm[measure.key]), f" {measure.unit}" if measure.unit else ""
    low, high = arm.get(f"{measure.key}_low"), arm.get(f"{measure.key}_high")
    between = "" if low is None or high is None else f" (95 % interval {measure.span(low, high)})"
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
            sentences.append(sentence.format(listed(chosen)))
    return sentences


def _outcome(entry: Mapping[str, Any]) -> str:
    if entry["better"]:
        return "better"
    if entry["worse"]:
        return "slightly worse" if entry["non_inferior"] else "worse"
    return "non-inferior" if entry["non_inferior"] else "open"


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
        "interval": measure.span(low, high),
        "second": _percent(arm.get("top_k")) if measure.percent else _percent(arm.get("skill"), signed=True),
        "tokens": f"{arm['tokens_per_step']:,.0f}" if asked else "–",
        "uncached": f"{arm['uncached_tokens_per_step']:,.0f}" if asked and "uncached_tokens_per_step" in arm else "–",
        "calls": f"{arm['calls_per_step']:.2f}" if asked else "–",
        "seconds": f"{arm['seconds_per_step']:.1f}" if asked else "–",
        "lift": "–" if lift is None or name == BASE else f"{lift * 100:+.1f}".replace("-", "−"),
        "words": f"{memory['mean_words']:.0f} / {memory['max_words']}" if remembers else "–",
        "failed": f"{sum(arm.get('failed', {}).values())}" if asked else "–",
    }


def _percent(share: float | None, *, signed: bool = False) -> str:
    if share is None:
        return "–"
    return f"{'+' if signed and share > 0 else ''}{share * 100:.1f} %".replace("-", "−")


def _verdict(entry: Mapping[str, Any], measure: Measure) -> dict[str, Any]:
    outcome = _outcome(entry)
    signs = {
        "better": "▲ better",
        "slightly worse": "▽ slightly worse",
        "worse": "▼ worse",
        "non-inferior": "≈ non-inferior",
        "open": "? open",
    }
    return {
        "arm": title_of(entry["arm"]),
        "against": title_of(entry["against"]),
        "kind": outcome.rpartition(" ")[2],
        "word": signs[outcome],
        "difference": measure.say(entry["difference"], signed=True),
        "interval": measure.span(entry["low"], entry["high"], signed=True),
        "p": "< 0.001" if entry["p_value"] < 0.001 else f"{entry['p_value']:.3f}",
        "n": entry["n"],
        "verdict": entry["verdict"],
        "own": entry["arm"] == SUBJECT,
    }


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _source(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    return Environment(
        loader=FunctionLoader(_source), undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True, auto_reload=False
    )
