"""The report of an evaluation as JSON: what was run on what, what each arm scored and cost, and which arms differ.

Everything in it is made from the arms' results and audit logs, so it can be made again from the records of the model's answers. Scores are
`streams.evaluation.scores`', tests are `streams.evaluation.pairs`'; here is decided which arms there are and which are set against each
other. The same data for people: `streams.evaluation.page`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel

from agents.models.protocol import ModelIdentity
from schemas.messages import Answer
from schemas.settings import Settings, TargetSettings
from streams import exits
from streams.errors import StreamError
from streams.evaluation.dataset import Dataset
from streams.evaluation.derived import executed_results, naive_results
from streams.evaluation.losses import in_order, learning_curve
from streams.evaluation.pairs import Comparison, Pair, compare, pool
from streams.evaluation.results import CaseResult, MemoryEntry
from streams.evaluation.scores import score

#: What arms are called, in the order of a report; naive forecasters come after them, by their own names.
ARMS = (
    "zero_shot",
    "fhc",
    "memprompt_summary_concat",
    "memprompt_error_retrieval",
    "published_loop",
    "ledger_only",
    "llm_as_rnn",
    "llm_as_rnn_free_text",
    "llm_as_rnn_blank",
    "llm_as_rnn_enumerated",
    "llm_as_rnn_random",
    "llm_as_rnn_judged",
    "rules_executed",
)
#: The arm that a report is about, and the one without memory.
SUBJECT, BASE = "llm_as_rnn", "zero_shot"
EXECUTED = "rules_executed"

#: Sections of the settings that bear on a forecast. The others say how a worker runs.
SECTIONS = ("observations", "truths", "target", "judge", "memory", "rewrite", "model", "publish", "bounds")
#: Keys of `model` that say where it runs, and as whom: no business of a report's readers.
_WITHHELD = frozenset({"host", "hosts", "path", "api_key"})


class ReportError(StreamError):
    """A report cannot be made of these runs."""

    exit_code = exits.USAGE


@dataclass(frozen=True, slots=True)
class ArmRun:
    """What one arm did on one dataset.

    Attributes
    ----------
    memories
        Its audit log, in order.
    settings
        The arm's own: the run's, with what makes the arm over them.
    seconds
        That this run took; answers from a record take none.
    """

    results: tuple[CaseResult, ...]
    memories: tuple[MemoryEntry, ...]
    settings: Settings
    seconds: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The arms that ran on one dataset: for a synthetic stream, one seed. `settings` are the run's, before any arm's own."""

    dataset: Dataset
    settings: Settings
    arms: Mapping[str, ArmRun]

    def with_derived(self) -> Evaluation:
        """With the arms that cost nothing more: naive forecasters, the rules of `llm_as_rnn` executed by code. In a report's order."""
        arms = dict(self.arms)
        naive: dict[str, ArmRun] = {}
        if arms:
            source = arms[BASE if BASE in arms else next(iter(arms))]
            naive = {name: self._derived(results) for name, results in naive_results(source.results).items()}
        if SUBJECT in arms and (executed := executed_results(arms[SUBJECT].results)):
            arms[EXECUTED] = self._derived(executed)
        ordered = {name: arms[name] for name in sorted(arms, key=lambda name: ARMS.index(name) if name in ARMS else len(ARMS))}
        return Evaluation(self.dataset, self.settings, {**ordered, **{name: run for name, run in naive.items() if name not in arms}})

    def _derived(self, results: Sequence[CaseResult]) -> ArmRun:
        return ArmRun(tuple(results), (), self.settings, 0.0)


def report(
    dataset: Dataset,
    settings: Settings,
    arms: Mapping[str, ArmRun],
    *,
    model: ModelIdentity,
    made_at: datetime | None = None,
    direction_of: Literal["change", "value"] = "change",
) -> dict[str, Any]:
    """The report of one dataset.

    Parameters
    ----------
    settings
        The run's, before any arm's own.
    arms
        By name, without the derived ones. Some may be missing: they are not compared.
    made_at
        Default: now.
    direction_of
        What has a direction, see `scores.score`.

    Returns
    -------
    dict
        Ready for JSON: `dataset`, `title`, `learnable`, `seed`, `held_out`, `n`, `model`, `settings` (what differs from the defaults),
        `data` (`entities` is their number), `notes`, `rules`, `made_at`, `arms`, `comparisons`.

        Of an arm: all of `scores.score`; for numbers `mae_low` and `mae_high`, the 95 % interval of the MAE as Newey and West have it;
        `learning_curve`; `settings` (what makes the arm); `wall_seconds` (of this run); `rewrites`: `proposed` by a model, `accepted` of
        them, `rejected_by` the guards (statements, for an accepted proposal may have lost some; a proposal that no guard had to refuse
        counts by its reason), `dropped_by_code` (revisions by which code took out what outcomes refuted).

        A comparison: `arm`, `against`, and all of `pairs.Comparison`. `llm_as_rnn` is set against every other arm, and every arm against
        `zero_shot`.

    Raises
    ------
    ReportError
        There is no arm.
    ResultsUnfit
        Arms have not run over the same cases.
    """
    return _report([Evaluation(dataset, settings, arms)], model=model, made_at=made_at, direction_of=direction_of)


def pooled(
    evaluations: Sequence[Evaluation],
    *,
    model: ModelIdentity,
    made_at: datetime | None = None,
    direction_of: Literal["change", "value"] = "change",
) -> dict[str, Any]:
    """One report of several seeds of the same stream, all cases weighing the same.

    Its shape is that of `report`, and besides: `seeds`, in order; `seed` is None; `data.sha256` is that of the seeds' digests joined by
    line feeds, `data.by_seed` holds these. An arm that ran on some seeds only says so in its own `seeds`, and is compared on those.
    Learning curves are means over seeds.

    Raises
    ------
    ReportError
        There are none, or they are not of one stream and one target.
    """
    if len({(evaluation.dataset.name, evaluation.settings.target) for evaluation in evaluations}) != 1:
        raise ReportError("to pool, runs of one stream with one target are needed")
    return _report(evaluations, model=model, made_at=made_at, direction_of=direction_of)


def _report(
    evaluations: Sequence[Evaluation], *, model: ModelIdentity, made_at: datetime | None, direction_of: Literal["change", "value"]
) -> dict[str, Any]:
    streams = [evaluation.with_derived() for evaluation in evaluations]
    if not any(stream.arms for stream in streams):
        raise ReportError("no arm has run, so there is nothing to report")
    one = streams[0]
    datasets = [stream.dataset for stream in streams]
    several = len(streams) > 1
    names = list(dict.fromkeys(name for stream in streams for name in stream.arms))
    found: dict[str, Any] = {
        "dataset": one.dataset.name,
        "title": one.dataset.title,
        "learnable": one.dataset.learnable,
        "seed": None if several else one.dataset.seed,
    }
    if several:
        found["seeds"] = [dataset.seed for dataset in datasets]
    return found | {
        "held_out": all(dataset.held_out for dataset in datasets),
        "n": sum(len(dataset.cases) for dataset in datasets),
        "model": {"name": model.name, "digest": model.digest, "backend": model.backend},
        "settings": changed(one.settings),
        "data": _data(datasets),
        "notes": _once(note for dataset in datasets for note in dataset.notes),
        "rules": _once(rule for dataset in datasets for rule in dataset.rules),
        "made_at": (made_at or datetime.now(UTC)).isoformat(timespec="seconds"),
        "arms": {name: _arm(name, streams, direction_of) for name in sorted(names, key=_place(names))},
        "comparisons": _comparisons(streams, sorted(names, key=_place(names))),
    }


def changed(settings: Settings, base: Settings | None = None) -> dict[str, dict[str, Any]]:
    """What a run's settings say that others do not, by section: those of `base`, or the defaults.

    Secrets, and where the model runs, are left out.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in SECTIONS:
        section: BaseModel = getattr(settings, name)
        other: BaseModel = type(section)() if base is None else getattr(base, name)
        withheld = _WITHHELD if name == "model" else frozenset()
        values, defaults = section.model_dump(mode="json"), other.model_dump(mode="json")
        differing = {key: value for key, value in values.items() if key not in withheld and value != defaults[key]}
        if differing:
            found[name] = differing
    return found


def _place(names: Sequence[str]) -> Any:
    """A sort key: arms as `ARMS` has them, then the others as they came."""
    order = {name: place for place, name in enumerate((*ARMS, *(name for name in names if name not in ARMS)))}
    return order.__getitem__


def _once(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _data(datasets: Sequence[Dataset]) -> dict[str, Any]:
    times = [case.observation.time for dataset in datasets for case in dataset.cases]
    digests = [dataset.digest for dataset in datasets]
    found: dict[str, Any] = {
        "sha256": digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest(),
        "first": min(times).isoformat() if times else None,
        "last": max(times).isoformat() if times else None,
        "entities": sum(len({case.observation.entity for case in dataset.cases}) for dataset in datasets),
    }
    if len(datasets) > 1:
        found["by_seed"] = {str(dataset.seed): digest for dataset, digest in zip(datasets, digests, strict=True)}
    return found


def _arm(name: str, streams: Sequence[Evaluation], direction_of: Literal["change", "value"]) -> dict[str, Any]:
    ran = [stream for stream in streams if name in stream.arms]
    settings = ran[0].settings
    target = settings.target
    runs = [stream.arms[name] for stream in ran]
    results = _joined(ran, name)
    base = _joined(ran, BASE) if all(BASE in stream.arms for stream in ran) else None
    found = score(results, target, zero_shot=base, direction_of=direction_of, passes_at=settings.judge.passes_at)
    if target.kind == "number" and results:
        found |= _mae_interval(ran, name, target)
    if len(streams) > 1:
        found["seeds"] = [stream.dataset.seed for stream in ran]
    return found | {
        "learning_curve": [round(value, 6) for value in _mean_curve([learning_curve(run.results, target) for run in runs])],
        "rewrites": _rewrites(entry for run in runs for entry in run.memories),
        "settings": changed(runs[0].settings, settings),
        "wall_seconds": round(sum(run.seconds for run in runs), 1),
    }


def _joined(streams: Sequence[Evaluation], name: str) -> list[CaseResult]:
    """An arm's results over several streams, one after the other; entities of equal name are no longer the same."""
    if len(streams) == 1:
        return list(streams[0].arms[name].results)
    joined: list[CaseResult] = []
    for number, stream in enumerate(streams):
        joined += [
            row.model_copy(update={"index": index, "entity": f"{row.entity} of stream {number}"})
            for index, row in enumerate(in_order(stream.arms[name].results), start=len(joined))
        ]
    return joined


def _mae_interval(streams: Sequence[Evaluation], name: str, target: TargetSettings) -> dict[str, float]:
    """The MAE's interval: that of the difference to an arm which is never wrong."""
    pairs: list[Pair] = []
    for stream in streams:
        rows = stream.arms[name].results
        pairs.append((rows, [row.model_copy(update={"answer": Answer(value=row.truth)}) for row in rows]))
    found = pool(pairs, target)
    return {} if found.low is None or found.high is None else {"mae_low": max(0.0, -found.high), "mae_high": -found.low}


def _mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    """The mean of those that reach so far, at each case."""
    longest = max(map(len, curves), default=0)
    reaching = ([curve[at] for curve in curves if at < len(curve)] for at in range(longest))
    return [sum(values) / len(values) for values in reaching]


def _rewrites(entries: Iterable[MemoryEntry]) -> dict[str, Any]:
    revisions = [entry.revision for entry in entries]
    proposals = [revision for revision in revisions if revision.cause == "feedback"]
    refused: Counter[str] = Counter()
    for proposal in proposals:
        refused.update(rejection.guard for rejection in proposal.rejected)
        if not proposal.accepted and not proposal.rejected:
            refused[proposal.reason] += 1
    return {
        "proposed": len(proposals),
        "accepted": sum(proposal.accepted for proposal in proposals),
        "rejected_by": dict(refused.most_common()),
        "dropped_by_code": sum(revision.cause == "rule-dropped" for revision in revisions),
    }


def _comparisons(streams: Sequence[Evaluation], names: Sequence[str]) -> list[dict[str, Any]]:
    wanted = [(SUBJECT, name) for name in names if name != SUBJECT] + [(name, BASE) for name in names if name not in (BASE, SUBJECT)]
    found = []
    for arm, against in wanted:
        both = [stream for stream in streams if arm in stream.arms and against in stream.arms]
        pairs: list[Pair] = [(stream.arms[arm].results, stream.arms[against].results) for stream in both]
        if not pairs or not any(ours for ours, _ in pairs):
            continue
        target = both[0].settings.target
        outcome: Comparison = compare(*pairs[0], target) if len(pairs) == 1 else pool(pairs, target)
        found.append({"arm": arm, "against": against, **outcome.model_dump(mode="json")})
    return found
