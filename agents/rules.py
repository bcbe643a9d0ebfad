"""Rules: what the ledger says follows from a condition, and which rules may stand together.

A model (or a person) chooses the conditions; everything else about a rule is measured here, from the rows of the ledger, each time
anew: the conclusion, its record, whether it helps at all, whether the newest outcomes refute it. That is the form that held up on a
1.5B model, where free text froze into contradictions (`design.md` §6).

How it is measured
------------------
*Window.* The latest matches of the condition, at most `LABEL_WINDOW` or `NUMBER_WINDOW`. Where its newest end tells another story than
the rest (`_since_change`), only that end counts: a rule that was right until the regime changed is soon right again, or gone.

*Conclusion.* For labels the most frequent one of the window, later cases weighing more. For numbers the mean adjustment (truth minus
reference), drawn towards the mean of all cases by how little the cases can tell: `base + d * d² / (d² + s² / n)` with `d` the
distance from the base. A single case of a noisy target says little; six like ones say nearly all.

*Gain.* What predicting each case of the window from those before it would have won over the base rate (labels, in bits) or over the base
adjustment (numbers, in usual errors), summed. It decides admission, rank and refutation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import log2, sqrt
from typing import NamedTuple

from agents.conditions import describe_all, holds, implies
from agents.memory import RULES, revise
from agents.sentences import conclusion, rule_line
from schemas.messages import MemoryRevision, Rejection, Scalar, Value
from schemas.settings import Settings
from schemas.state import Condition, EntityState, Memory, Resolved, Rule, Statement

#: Latest matches that count. Short for labels, which change at once; longer for numbers, whose noise has to average out.
LABEL_WINDOW = 8
NUMBER_WINDOW = 16
#: Rows that the base rate and the usual size of an adjustment are taken from.
LABEL_BASE = 16
NUMBER_BASE = 32
#: What one condition of a new rule must win before it is let in, from the third case on; below its negative a held rule goes.
COST = 0.5
#: Weight of a case against that of the next newer one.
FADE = 0.85
#: A head of the window at least this pure, or a shift of so many standard errors, makes a change of regime of a different tail.
PURE = 0.75
SHIFT = 3.0
#: A rule for numbers whose conclusion lies nearer to the base than this share of the usual size says nothing of its own.
SAYS_NOTHING = 0.1
#: Adjustments beyond are as large as it gets: their squares and the sums of those stay finite whatever truths and references are.
LARGEST = 1e100
#: Share of the smaller rule's cases that two rules must have in common before a difference between them is a contradiction.
OVERLAP = 0.25


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the ledger says of a rule's conditions now.

    Attributes
    ----------
    then
        The conclusion that the window supports; None where no row matches.
    hits
        Labels: cases of the window with that conclusion. Numbers: 0.
    cases
        Size of the window.
    spread
        Numbers: mean absolute deviation of the cases around `then`, from the second case on.
    gain
        What it wins over the base, summed over the window (bits; usual errors).
    changed
        Whether older matches were left out because the newest contradict them.
    """

    then: Value | None
    hits: int = 0
    cases: int = 0
    spread: float | None = None
    gain: float = 0.0
    changed: bool = False


class _Case(NamedTuple):
    values: Mapping[str, Scalar]
    outcome: Value


@dataclass(frozen=True, slots=True)
class Cases:
    """The rows of a ledger that a rule can be measured on, with what is usual among them; made once for many rules."""

    cases: tuple[_Case, ...]
    shares: Mapping[str, float]
    base: float
    scale: float
    variance: float

    @classmethod
    def of(cls, rows: Sequence[Resolved]) -> Cases:
        cases = tuple(_Case(row.values, found) for row in rows if (found := outcome(row)) is not None)
        labels = Counter(case.outcome for case in cases[-LABEL_BASE:] if isinstance(case.outcome, str))
        total = sum(labels.values())
        numbers = [case.outcome for case in cases[-NUMBER_BASE:] if not isinstance(case.outcome, str)]
        base = sum(numbers) / len(numbers) if numbers else 0.0
        return cls(
            cases,
            # One imaginary case of something else, so that no share is 0 or 1.
            {str(label): (n + 0.5) / (total + 1) for label, n in labels.items()},
            base,
            max(sum(abs(n - base) for n in numbers) / len(numbers), 1e-9) if numbers else 1.0,
            sum((n - base) ** 2 for n in numbers) / len(numbers) if numbers else 1.0,
        )


def outcome(row: Resolved) -> Value | None:
    """What a row teaches a rule: its label, or truth minus reference (within `LARGEST`); None where there is no truth or no reference."""
    if row.truth is None or row.result != "matched":
        return None
    if isinstance(row.truth, str):
        return row.truth
    return None if row.reference is None else _adjustment(row.truth - row.reference)


def _adjustment(number: float) -> float:
    return min(max(number, -LARGEST), LARGEST)


def measure(rule: Rule, rows: Sequence[Resolved] | Cases) -> Evidence:
    """Measure what follows from a rule's conditions, by the rows alone; the rule's own conclusion plays no part.

    Parameters
    ----------
    rows
        The ledger, oldest first, or `Cases.of` it where many rules are measured on the same rows.
    """
    known = rows if isinstance(rows, Cases) else Cases.of(rows)
    return _measure(rule.when, known)


def matching(memory: Memory, values: Mapping[str, Scalar]) -> tuple[Rule, ...]:
    """The memory's rules whose conditions an observation satisfies, an exception instead of the wider rule it is one from."""
    found = [rule for rule in held(memory) if all(holds(condition, values) for condition in rule.when)]
    return tuple(rule for rule in found if not any(_narrower(other.when, rule.when) for other in found))


def applicable(memory: Memory, values: Mapping[str, Scalar], rows: Sequence[Resolved] | Cases) -> tuple[tuple[Rule, Evidence], ...]:
    """`matching`, with the live record, best first, and without whatever contradicts the best one: what a reader may be handed.

    A rule that no row of the ledger bears out any more keeps the record of its revision.
    """
    known = rows if isinstance(rows, Cases) else Cases.of(rows)
    measured = []
    for rule in matching(memory, values):
        live = _measure(rule.when, known)
        measured.append((rule, live if live.then is not None else Evidence(rule.then, rule.hits, rule.cases, rule.spread)))
    measured.sort(key=lambda item: (-_trust(item[1]), describe_all(item[0].when)))
    return tuple(item for item in measured if not isinstance(item[1].then, str) or item[1].then == measured[0][1].then)


def execute(memory: Memory, values: Mapping[str, Scalar], reference: float | None, rows: Sequence[Resolved] | Cases) -> Value | None:
    """Let code follow the memory's rules: the label of the best one that matches, or the reference plus their adjustments.

    Several adjustments are averaged by their cases over their spread. None where no rule matches, or where a number has no reference.
    """
    known = rows if isinstance(rows, Cases) else Cases.of(rows)
    found = applicable(memory, values, known)
    if not found:
        return None
    best = found[0][1].then
    if isinstance(best, str):
        return best
    if reference is None:
        return None
    weights = [evidence.cases / ((evidence.spread or known.scale) + 0.1 * known.scale) for _, evidence in found]
    if not sum(weights):
        weights = [1.0] * len(found)
    # A person may have written a number of any length.
    adjustments = [_adjustment(float(evidence.then or 0.0)) for _, evidence in found]
    return reference + sum(w * a for w, a in zip(weights, adjustments, strict=True)) / sum(weights)


def held(memory: Memory) -> tuple[Rule, ...]:
    """All rules of a memory."""
    return tuple(statement.rule for statement in memory.sections.get(RULES, ()) if statement.rule is not None)


class Selection(NamedTuple):
    """Rules that may stand together, and what was refused, with the reason as a guard's name."""

    rules: tuple[Rule, ...]
    rejected: tuple[Rejection, ...]


def select(
    memory: Memory,
    proposed: Sequence[tuple[Condition, ...]],
    rows: Sequence[Resolved],
    settings: Settings,
    *,
    wider: Sequence[tuple[Condition, ...]] = (),
) -> Selection:
    """Weigh proposed conditions against the ledger and against the rules that are held.

    Parameters
    ----------
    proposed
        Sets of conditions, in the order they were proposed.
    wider
        Sets that were not proposed themselves but follow from those that were; tried after them, and refused without a record.

    Returns
    -------
    Selection
        Held and new rules with their records of now, at most `memory.max_rules`; no two of them contradict each other. Guards:
        `no-case` (never seen), `mixed` (two cases that differ), `no-gain`, `contradiction`, `redundant`, `refuted`, `capacity`.
    """
    known = Cases.of(rows)
    decimals = settings.target.decimals
    kept: list[_Candidate] = []
    rejected: list[Rejection] = []

    derived = {frozenset(when) for when in wider}

    def refuse(guard: str, candidate: _Candidate, detail: str) -> None:
        if candidate.before is None and frozenset(candidate.when) in derived:
            return
        said = f"when {describe_all(candidate.when)}" if candidate.evidence.then is None else rule_line(candidate.rule(decimals), decimals)
        rejected.append(Rejection(guard=guard, statement=said, detail=detail))

    for rule in held(memory):
        evidence = _measure(rule.when, known)
        candidate = _Candidate(rule.when, evidence, rule)
        reason = _refutation(rule, evidence, known)
        if reason:
            refuse("refuted", candidate, reason)
        else:
            kept.append(candidate)
    for when in dict.fromkeys(_ordered(conditions) for conditions in (*proposed, *wider)):
        if any(set(other.when) == set(when) for other in kept):
            continue
        candidate = _Candidate(when, _measure(when, known))
        fault = _admission(candidate, known)
        if fault:
            refuse(fault[0], candidate, fault[1])
            continue
        rivals = [(other, verdict) for other in kept if (verdict := _rivalry(candidate, other, known, decimals)) is not None]
        lost = next(((other, guard) for other, (guard, challenger_stays) in rivals if not challenger_stays), None)
        if lost is not None:
            refuse(lost[1], candidate, f"beside: {rule_line(lost[0].rule(decimals), decimals)}")
            continue
        for other, (guard, _) in rivals:
            kept.remove(other)
            refuse(guard, other, f"beside: {rule_line(candidate.rule(decimals), decimals)}")
        kept.append(candidate)
    while len(kept) > settings.memory.max_rules:
        # On a tie the newest proposal goes: what is held has been borne out for longer.
        weakest = min(reversed(kept), key=lambda candidate: _trust(candidate.evidence))
        kept.remove(weakest)
        refuse("capacity", weakest, f"weaker than the other {settings.memory.max_rules}")
    return Selection(tuple(candidate.rule(decimals) for candidate in kept), tuple(rejected))


def promising(condition: Condition, known: Cases) -> bool:
    """Whether a rule of this one condition would be let in as things stand."""
    return _admission(_Candidate((condition,), _measure((condition,), known)), known) is None


def same_conclusion(one: Rule, other: Rule, decimals: int) -> bool:
    """Whether two rules conclude the same for a reader: the same label, or adjustments that differ by less than half their spread."""
    if isinstance(one.then, str) or isinstance(other.then, str):
        return one.then == other.then
    return abs(one.then - other.then) <= max(10.0**-decimals, 0.5 * max(one.spread or 0.0, other.spread or 0.0))


def drop_refuted(state: EntityState, settings: Settings, *, now: datetime) -> tuple[EntityState, MemoryRevision | None]:
    """Take out the rules that the newest outcomes refute; a new revision with cause `rule-dropped`, or no change and None.

    A frozen entity keeps its memory. A rule that goes may be proposed again and come back with another conclusion.
    """
    rules = held(state.memory)
    if state.frozen or not rules:
        return state, None
    known = Cases.of(state.resolved)
    gone: dict[Rule, str] = {}
    for rule in rules:
        reason = _refutation(rule, _measure(rule.when, known), known)
        if reason:
            gone[rule] = reason
    if not gone:
        return state, None
    sections = dict(state.memory.sections)
    sections[RULES] = tuple(s for s in sections[RULES] if s.rule not in gone)
    rejected = tuple(
        Rejection(guard="refuted", statement=rule_line(rule, settings.target.decimals), detail=reason) for rule, reason in gone.items()
    )
    return revise(state, sections, cause="rule-dropped", reason="; ".join(gone.values()), rejected=rejected, now=now)


def statement_of(rule: Rule, decimals: int) -> Statement:
    return Statement(text=rule_line(rule, decimals), rule=rule)


@dataclass(frozen=True, slots=True)
class _Candidate:
    when: tuple[Condition, ...]
    evidence: Evidence
    before: Rule | None = None

    def rule(self, decimals: int) -> Rule:
        """The rule as it would be written now; one that the ledger has lost sight of stays as it was."""
        evidence = self.evidence
        if evidence.then is None:
            assert self.before is not None, "a new rule without any case is refused before it is written"
            return self.before
        then = evidence.then if isinstance(evidence.then, str) else round(evidence.then, decimals) + 0.0
        spread = None if evidence.spread is None else round(evidence.spread, decimals)
        return Rule(when=self.when, then=then, hits=evidence.hits, cases=evidence.cases, spread=spread, tentative=evidence.cases < 3)


def _ordered(conditions: Sequence[Condition]) -> tuple[Condition, ...]:
    return tuple(sorted(dict.fromkeys(conditions), key=lambda c: (c.field, c.op, str(c.value))))


def _narrower(one: Sequence[Condition], other: Sequence[Condition]) -> bool:
    """Whether the first set of conditions holds only where the second does, and not the other way round."""
    return set(one) != set(other) and all(any(implies(condition, wide) for condition in one) for wide in other)


def _measure(when: Sequence[Condition], known: Cases) -> Evidence:
    limit = LABEL_WINDOW if known.shares else NUMBER_WINDOW
    window: list[Value] = []
    for case in reversed(known.cases):
        if all(holds(condition, case.values) for condition in when):
            window.append(case.outcome)
            if len(window) == limit:
                break
    if not window:
        return Evidence(None)
    window.reverse()
    if known.shares:
        return _measure_labels([str(label) for label in window], known)
    return _measure_numbers([float(number) for number in window], known)


def _measure_labels(window: list[str], known: Cases) -> Evidence:
    full = len(window)
    tail = next((n for n in range(full - 3, 1, -1) if _is_new_regime(window, n)), 0)
    window = window[-tail:] if tail else window
    weights: dict[str, float] = {}
    for age, label in enumerate(reversed(window)):
        weights[label] = weights.get(label, 0.0) + FADE**age
    then = max(sorted(weights), key=lambda label: weights[label])
    gain = 0.0
    seen: Counter[str] = Counter()
    for n, label in enumerate(window):
        share = known.shares.get(label, 0.5 / (len(known.cases) + 1))
        gain += log2((seen[label] + share) / (n + 1) / share)
        seen[label] += 1
    return Evidence(then, seen[then], len(window), None, gain, tail > 0)


def _is_new_regime(window: Sequence[str], tail: int) -> bool:
    head = window[:-tail]
    newest = set(window[-tail:])
    usual, times = Counter(head).most_common(1)[0]
    return len(newest) == 1 and usual not in newest and times >= PURE * len(head)


def _measure_numbers(window: list[float], known: Cases) -> Evidence:
    full = len(window)
    tail = next((n for n in range(min(full - 3, full // 2), 1, -1) if _is_shift(window, n, known.scale)), 0)
    window = window[-tail:] if tail else window
    gain, total, squares = 0.0, 0.0, 0.0
    for n, number in enumerate(window):
        if n:
            gain += (abs(number - known.base) - abs(number - _drawn(n, total, squares, known))) / known.scale
        total += number
        squares += number * number
    then = _drawn(len(window), total, squares, known)
    spread = sum(abs(number - then) for number in window) / len(window) if len(window) > 1 else None
    return Evidence(then, 0, len(window), spread, gain, tail > 0)


def _drawn(n: int, total: float, squares: float, known: Cases) -> float:
    mean = total / n
    distance = mean - known.base
    # One imaginary case of the usual variance keeps two cases that happen to agree from looking certain.
    variance = (max(squares - n * mean * mean, 0.0) + known.variance) / n
    squared = distance**2
    # The square of a tiny distance is 0, and so may be all else.
    return known.base + (squared / (squared + variance / n) if squared else 0.0) * distance


def _is_shift(window: Sequence[float], tail: int, scale: float) -> bool:
    head, newest = window[:-tail], window[-tail:]
    mean = sum(head) / len(head)
    deviation = max(sqrt(sum((number - mean) ** 2 for number in head) / (len(head) - 1)), 0.05 * scale)
    one_side = all(n > mean + deviation for n in newest) or all(n < mean - deviation for n in newest)
    # A deviation from few cases is itself uncertain: the fewer, the clearer the shift must be.
    needed = SHIFT * (1 + 3 / len(head))
    return one_side and abs(sum(newest) / tail - mean) > needed * deviation * sqrt(1 / tail + 1 / len(head))


def _trust(evidence: Evidence) -> float:
    """Rank: gain per case, drawn towards nothing while the cases are few."""
    return evidence.gain / (evidence.cases + 2)


def _admission(candidate: _Candidate, known: Cases) -> tuple[str, str] | None:
    evidence = candidate.evidence
    if evidence.then is None:
        return "no-case", "no outcome of the ledger satisfies it"
    if evidence.cases == 1:
        return None
    if evidence.cases == 2 and isinstance(evidence.then, str) and evidence.hits < 2:
        return "mixed", "its two cases differ"
    needed = 0.0 if evidence.cases == 2 else COST * len(candidate.when)
    if isinstance(evidence.then, str):
        return None if evidence.gain > needed else ("no-gain", f"wins {evidence.gain:.1f} bits over the base rate, needs {needed:.1f}")
    if abs(evidence.then - known.base) < SAYS_NOTHING * known.scale:
        return "no-gain", "concludes what all cases do"
    needed *= 0.2
    return None if evidence.gain > needed else ("no-gain", f"wins {evidence.gain:.1f} usual errors over the base, needs {needed:.1f}")


def _refutation(rule: Rule, evidence: Evidence, known: Cases) -> str:
    """Why the ledger refutes a rule, or an empty text. Rules without any case left are not refuted: nothing speaks against them."""
    if evidence.then is None or evidence.cases < 2:
        return ""
    said = describe_all(rule.when)
    if isinstance(rule.then, str):
        if evidence.then != rule.then:
            return f"when {said}: {evidence.then} lately ({evidence.hits} of {evidence.cases}), not {rule.then}"
        bound = COST * len(rule.when)
    else:
        now = float(evidence.then)
        # What two cases showed of their spread is hardly anything.
        allowed = max(2 * (rule.spread or 0.0), (1.5 if rule.tentative else 0.75) * known.scale)
        if evidence.cases > 2 and abs(now - rule.then) > allowed:
            return f"when {said}: {conclusion(now, 1)} lately, not {conclusion(rule.then, 1)}"
        bound = COST * len(rule.when)
    if evidence.cases >= 4 and evidence.gain < -bound:
        return f"when {said}: no better than the base over its last {evidence.cases} cases"
    return ""


def _rivalry(challenger: _Candidate, other: _Candidate, known: Cases, decimals: int) -> tuple[str, bool] | None:
    """How a challenger and a held rule get on: None if both may stand, else the guard's name and whether the challenger stays."""
    new, old = challenger.rule(decimals), other.rule(decimals)
    same = same_conclusion(new, old, decimals)
    if _narrower(new.when, old.when):
        return ("redundant", not _is_clean(other, challenger)) if same else None
    if _narrower(old.when, new.when):
        return ("redundant", _is_clean(challenger, other)) if same else None
    both = [
        case for case in known.cases[-64:] if all(holds(c, case.values) for c in new.when) and all(holds(c, case.values) for c in old.when)
    ]
    fewest = min(challenger.evidence.cases, other.evidence.cases)
    if not both or len(both) < OVERLAP * fewest:
        return None
    if isinstance(new.then, str) or isinstance(old.then, str):
        if same:
            return None
        wins = sum((case.outcome == new.then) - (case.outcome == old.then) for case in both)
    else:
        if abs(new.then - old.then) <= max(new.spread or 0.0, old.spread or 0.0, known.scale):
            return None
        wins = sum(
            (abs(float(case.outcome) - old.then) > abs(float(case.outcome) - new.then))
            - (abs(float(case.outcome) - old.then) < abs(float(case.outcome) - new.then))
            for case in both
        )
    # A newcomer that only happens to fit the few common cases must not push out a rule that has proved itself.
    return "contradiction", wins > 0 and _trust(challenger.evidence) > _trust(other.evidence)


def _is_clean(wide: _Candidate, narrow: _Candidate) -> bool:
    """Whether the wider of two rules that say the same is good enough to make the narrower one superfluous."""
    one, two = wide.evidence, narrow.evidence
    if isinstance(one.then, str):
        return one.hits >= PURE * one.cases or two.cases < 3 or one.hits * two.cases >= (two.hits - 0.2 * two.cases) * one.cases
    return (one.spread or 0.0) <= 1.25 * (two.spread or 0.0) or two.cases < 3
