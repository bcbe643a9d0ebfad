"""What must hold after a soak, each as a line with its figures. Pure functions of what the run left behind.

From `tests.chaos.verdict` comes what was lost, doubled or reordered, by topic and state. Two of its checks assume that no bound is reached;
here bounds are reached on purpose, and what they ask is asked within the bounds.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import orjson

from bench.soak import load
from bench.soak.run import Result
from bench.soak.samples import peaks, typical_memory
from bench.soak.worker import promised
from schemas.messages import Outcome
from schemas.state import EntityState, decode_state
from tests.chaos.verdict import Check, judge

#: Memory may grow by so much from a third of the run to its end. Each end is a median over a tenth of the run.
GROWTH, FROM, OVER = 0.10, 1 / 3, 0.1
#: Share of the slots' time that must be in use where no fault is on: else the load was not full.
BUSY = 0.9
#: Share of the looks at the worker that it may leave unanswered.
MISSED = 0.01
#: After an outage the model answers at least so much of the share that it answered before it; other faults fall on both.
COME_BACK = 0.5
#: The longest that the breaker leaves a host alone, in first pauses.
LONGEST_PAUSE = 12
#: Seconds after a fault that do not count as quiet: queues fill again.
SETTLE = 5.0
EXAMPLES = 5

INTEGRITY = (
    "sent records that are not in the inputs",
    "records that were not worked off",
    "observations without a prediction",
    "observations predicted more than once",
    "truths without an outcome",
    "truths with more than one outcome",
    "outputs that nothing called for",
    "predictions out of their inputs' order",
    "outcomes whose count does not rise by one",
    "outcomes of another forecast than published",
    "memory revisions that do not follow",
    "entities without a state, states of nobody",
    "feedback with gaps",
    "state records that go back",
    "disks that differ from the changelog",
    "positions short of the end",
    "transactions left open",
    "unexpected ends of workers",
)


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that must hold; `examples` are the first cases in which it did not."""

    name: str
    holds: bool
    figures: str
    examples: tuple[str, ...] = ()


def verdict(result: Result) -> list[Line]:
    """Every line, in the order of the table."""
    states = {entity: decode_state(raw) for entity, raw in result.evidence.states.items()}
    lines = [_memory(result), *_bounds(result), _deadlines(result), _marks(result), _full_load(result), *_outage(result)]
    lines += [_ledgers(result, states), _feedback(result, states), _restarts(result), _looks(result)]
    checks = {check.name: check for check in judge(result.evidence)}
    return lines + [_integrity(checks[name]) for name in INTEGRITY]


def holds(lines: Sequence[Line]) -> bool:
    return all(line.holds for line in lines)


def _memory(result: Result) -> Line:
    seconds, samples = result.seconds, result.samples
    before = typical_memory(samples, FROM * seconds, (FROM + OVER) * seconds)
    after = typical_memory(samples, (1 - OVER) * seconds, seconds)
    figures = f"{before / 2**20:.1f} MB at minute {FROM * seconds / 60:.0f}, {after / 2**20:.1f} MB at the end: {after / before - 1:+.1%}"
    return Line(f"resident memory grows by at most {GROWTH:.0%}", after <= (1 + GROWTH) * before, figures)


def _bounds(result: Result) -> Iterator[Line]:
    highest = peaks(result.samples)
    for what, kind, bound, setting in (
        ("records in flight", "in flight", result.settings.worker.window, "worker.window"),
        ("calls that wait for the model", "waiting", result.settings.model.queue, "model.queue"),
    ):
        figures = f"{highest[kind]} of {bound} at most"
        yield Line(f"{what} stay within {setting}", highest[kind] <= bound, figures)


def _deadlines(result: Result) -> Line:
    allowed, of = promised(result.settings), result.arrivals.of
    took = {identity: of[identity][0].at - result.began - at for identity, at in result.sent.items() if identity in of}
    late = sorted((identity for identity, seconds in took.items() if seconds > allowed), key=lambda identity: -took[identity])
    in_order = sorted(took.values()) or [0.0]
    median, nearly_all = statistics.median(in_order), in_order[int(0.99 * (len(in_order) - 1))]
    figures = f"{len(took) - len(late)} of {len(result.sent)}; p50 {median:.2f} s, p99 {nearly_all:.2f} s, most {in_order[-1]:.2f} s"
    examples = tuple(f"{i}: {took[i]:.2f} s, sent at {result.sent[i]:.0f} s" for i in late[:EXAMPLES])
    return Line(f"predictions can be read within {allowed:g} s", len(took) == len(result.sent) and not late, figures, examples)


def _marks(result: Result) -> Line:
    """A prediction is of the model exactly where the model answered, and says why not where it did not."""
    every = [(identity, one) for identity, some in result.arrivals.of.items() for one in some]
    wrong = [
        f"{identity}: {one.source}, {'with' if one.answered else 'without'} an answer, error {one.error!r}"
        for identity, one in every
        if (one.source == "model", one.answered, not one.error) not in ((True, True, True), (False, False, False))
    ]
    figures = f"{result.arrivals.sources['model']} by the model, {result.arrivals.sources['fallback']} marked as fallback"
    return Line("predictions without the model's answer are marked", bool(every) and not wrong, figures, tuple(wrong[:EXAMPLES]))


def _full_load(result: Result) -> Line:
    """Slot time in use between two looks with no fault near them, and the breaker closed."""
    used, there = 0.0, 0.0
    for before, after in pairwise(result.samples):
        begin, end = before.at - SETTLE, after.at
        near = any(phase.begin < end and begin < phase.end for phase in result.phases)
        if near or before.breaker or after.breaker or begin < 0 or end > result.seconds:
            continue
        used += after.busy_seconds - before.busy_seconds
        there += (after.at - before.at) * result.settings.model.slots
    share = used / there if there else 0.0
    name = f"the load is full: slots busy at least {BUSY:.0%} where no fault is"
    return Line(name, share >= BUSY, f"{share:.1%} of {there:.0f} slot-seconds")


def _outage(result: Result) -> Iterator[Line]:
    if result.outage is None:
        return
    began, ended = result.outage
    sent = [identity for identity, at in result.sent.items() if began <= at < ended]
    within = {i: some[0] for i in sent if (some := result.arrivals.of.get(i)) and some[0].at - result.began < ended}
    not_due = [i for i in sent if i not in within and result.sent[i] + promised(result.settings) > ended]
    missing = [i for i in sent if i not in within and i not in not_due]
    unmarked = [i for i, one in within.items() if one.source != "fallback"]
    figures = f"{len(within)} of {len(sent)} predicted in it, {len(not_due)} not due before its end; {len(unmarked)} not marked"
    name = f"while every call hangs, {ended - began:.0f} s long, predictions come and are marked"
    yield Line(name, bool(within) and not missing and not unmarked, figures, tuple([*missing, *unmarked][:EXAMPLES]))
    pause = LONGEST_PAUSE * result.settings.model.breaker_pause.total_seconds()
    again = min(ended + pause + result.settings.model.deadline.total_seconds(), (ended + result.seconds) / 2)
    first = min((result.sent[i] for i in result.sent if result.sent[i] >= ended and _by_model(result, i)), default=None)
    before, after = _model_share(result, 0.0, began), _model_share(result, again, result.seconds)
    said = "never" if first is None else f"after {first - ended:.1f} s"
    figures = f"first {said}; it answers {after:.0%} of the observations, {before:.0%} before it"
    yield Line("after the outage the model is used again", first is not None and after >= COME_BACK * before, figures)


def _ledgers(result: Result, states: dict[str, EntityState]) -> Line:
    """Each entity counts the outcomes that were published; its ledger ends with them, and its waiting predictions are the rest."""
    outcomes, bound = _published(result), result.settings.bounds.resolved
    truths = _told(result)
    unanswered: defaultdict[str, set[str]] = defaultdict(set)
    for identity in result.sent.keys() - truths.keys():
        unanswered[load.entity_of(identity)].add(identity)
    wrong = []
    for entity, state in states.items():
        own = outcomes[entity]
        count, rows = len(own), min(len(own), bound)
        kept = [(row.seq, row.id, row.truth) for row in state.resolved]
        expected = [(count - rows + n + 1, one.prediction_id, truths[one.prediction_id]) for n, one in enumerate(own[count - rows :])]
        scored = sum("hindsight" not in one.flags for one in own)
        totals = state.scores.get("published")
        waiting = unanswered[entity]
        if state.outcomes != count or kept != expected:
            wrong.append(f"{entity}: {state.outcomes} outcomes and {len(kept)} rows, {count} were published")
        if (0 if totals is None else totals.n) != scored:
            wrong.append(f"{entity}: {0 if totals is None else totals.n} scored, {scored} published outcomes count")
        if {pending.id for pending in state.pending} != waiting:
            wrong.append(f"{entity}: {len(state.pending)} predictions wait, {len(waiting)} have no truth")
    total = sum(state.outcomes for state in states.values())
    holding = bool(states) and total == len(result.truths) and not wrong
    figures = f"{total} outcomes of {len(result.truths)} truths, {len(states)} entities"
    return Line("every outcome is in ledger and scores", holding, figures, tuple(wrong[:EXAMPLES]))


def _feedback(result: Result, states: dict[str, EntityState]) -> Line:
    """Consumed, waiting, or folded; and what was folded is counted, in the states and by the worker."""
    waiting = sum(len(state.feedback) for state in states.values())
    folded = sum(state.folded.count for state in states.values())
    consumed = sum(state.outcomes for state in states.values()) - waiting - folded
    ever = sum(state.dropped.get("feedback", 0) for state in states.values())
    bound, counted = result.settings.bounds.feedback, result.samples[-1].folded
    over = [f"{entity}: {len(state.feedback)} wait" for entity, state in states.items() if len(state.feedback) > bound]
    figures = f"{consumed} consumed, {waiting} wait, {folded} in summaries; {ever} were ever folded, {counted} by the metrics"
    holding = consumed >= 0 and not over and folded <= ever == counted
    return Line("feedback is consumed, waits, or is folded and counted", holding, figures, tuple(over[:EXAMPLES]))


def _restarts(result: Result) -> Line:
    restarts = max(sample.restarts for sample in result.samples)
    # A process that had ended by itself would have ended the run.
    return Line("one worker process all along", restarts == 0, f"{restarts} restarts")


def _looks(result: Result) -> Line:
    looks = len(result.samples) + result.missed
    return Line("the worker answers when it is looked at", result.missed <= MISSED * looks, f"{looks - result.missed} of {looks} looks")


def _integrity(check: Check) -> Line:
    return Line(f"no {check.name}", not check.found and bool(check.looked_at), f"{check.found} of {check.looked_at}", check.examples)


def _published(result: Result) -> defaultdict[str, list[Outcome]]:
    found: defaultdict[str, list[Outcome]] = defaultdict(list)
    for record in sorted(result.evidence.outcomes, key=lambda one: (one.partition, one.offset)):
        outcome = Outcome.model_validate_json(record.value or b"")
        found[outcome.entity].append(outcome)
    return found


def _told(result: Result) -> dict[str, Any]:
    """The truths in the inputs, by the observation's id."""
    payloads = (orjson.loads(record.value or b"{}") for record in result.evidence.inputs if record.mark == "truth")
    return {payload["observation_id"]: payload["value"] for payload in payloads}


def _by_model(result: Result, identity: str) -> bool:
    return identity in result.arrivals.of and result.arrivals.of[identity][0].source == "model"


def _model_share(result: Result, begin: float, end: float) -> float:
    """Of the observations sent between two times, how many the model answered."""
    sent = [identity for identity, at in result.sent.items() if begin <= at < end]
    return sum(_by_model(result, identity) for identity in sent) / len(sent) if sent else 0.0
