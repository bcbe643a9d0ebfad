"""The ledger: an entity's outcomes as code keeps them, and what of them a prompt shows.

Exact where prose is not: a model interprets, it does not remember numbers. The ledger is a view on the state's resolved predictions;
it holds nothing of its own.

What it renders goes into the system message, after the memory, and is made to change seldom, so that a server's prefix cache
survives: statistics are taken up to the last block boundary (`STATISTICS_BLOCK` outcomes, or `memory.ledger_rows`), rows are
appended one by one and cut in one block at such a boundary. The record of the present moment stands in the user message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from math import sqrt

from agents import focus
from agents.conditions import describe, holds, terms
from agents.observing import facts, truth_text
from agents.rules import Cases, outcome
from agents.scoring import difference
from agents.sentences import signed
from schemas.settings import Settings
from schemas.state import Condition, EntityState, Resolved

#: Statistics are renewed every so many outcomes. Smaller: fresher numbers, and a cold prefix more often.
STATISTICS_BLOCK = 8
#: Where many rows are shown, they do not wait for as many.
LARGEST_BLOCK = 16
#: Rows that a statistic looks back on.
STATISTICS_ROWS = 32
#: Conditions whose adjustments are listed, those that tell most.
LISTED_CONDITIONS = 6
#: Cases a condition needs before its mean is listed.
LISTED_FROM = 3
#: Rows of labels and texts in the prompt, unless `memory.ledger_rows` says otherwise.
DEFAULT_ROWS = 8


@dataclass(frozen=True, slots=True)
class Adjustment:
    """How far truths lay from the reference when a condition held, on average (target's unit)."""

    condition: Condition
    mean: float
    cases: int


class Ledger:
    """A view on one entity's outcomes.

    Parameters
    ----------
    until
        Only outcomes with target times up to then are seen: a forecast must not read of what came after its observation.
        None: all of them.
    """

    def __init__(self, state: EntityState, settings: Settings, *, until: datetime | None = None) -> None:
        self._settings = settings
        self._memory = state.memory
        self.rows: tuple[Resolved, ...] = tuple(row for row in state.resolved if until is None or (row.target_time or row.time) <= until)

    @property
    def block(self) -> int:
        return min(self.rows_setting or STATISTICS_BLOCK, LARGEST_BLOCK)

    @property
    def rows_setting(self) -> int:
        """`memory.ledger_rows`, resolved: raw rows of numbers beside exact statistics do harm, of labels and texts they help."""
        configured = self._settings.memory.ledger_rows
        if configured is not None:
            return configured
        return 0 if self._settings.target.kind == "number" else DEFAULT_ROWS

    @cached_property
    def matched(self) -> tuple[Resolved, ...]:
        """Rows with a truth."""
        return tuple(row for row in self.rows if row.truth is not None and row.result == "matched")

    @cached_property
    def cases(self) -> Cases:
        """The rows prepared for measuring rules."""
        return Cases.of(self.rows)

    @cached_property
    def _boundary(self) -> int:
        """The last outcome that statistics count: a multiple of the block, or of half of it before the first whole one."""
        newest = self.matched[-1].seq if self.matched else 0
        step = self.block if newest >= self.block else max(self.block // 2, 1)
        return newest - newest % step

    @cached_property
    def settled(self) -> tuple[Resolved, ...]:
        """Matched rows up to the boundary: what statistics are made of."""
        return tuple(row for row in self.matched if row.seq <= self._boundary)

    def rows_for_prompt(self) -> tuple[Resolved, ...]:
        """The newest rows: appended one by one from `ledger_rows` to just under twice as many, then cut in one block."""
        if not self.rows_setting:
            return ()
        first = self._boundary - self.rows_setting if self._boundary >= self.rows_setting else 0
        return tuple(row for row in self.matched if row.seq > first)[-2 * self.rows_setting :]

    def bias(self, rows: Sequence[Resolved] | None = None) -> float | None:
        """Mean of truth minus published forecast; None without numbers."""
        errors = _errors(self.matched if rows is None else rows)
        return sum(errors) / len(errors) if errors else None

    def mae(self, rows: Sequence[Resolved] | None = None) -> float | None:
        """Mean absolute error of the published forecast; None without numbers."""
        errors = _errors(self.matched if rows is None else rows)
        return sum(abs(error) for error in errors) / len(errors) if errors else None

    def hits_by_label(self, rows: Sequence[Resolved] | None = None) -> dict[str, tuple[int, int]]:
        """Per true label: how often the published forecast was right, and how often the label occurred; most frequent first."""
        known = [row for row in (self.matched if rows is None else rows) if isinstance(row.truth, str)]
        total = Counter(str(row.truth) for row in known)
        right = Counter(str(row.truth) for row in known if row.forecast.value == row.truth)
        return {label: (right[label], n) for label, n in sorted(total.items(), key=lambda item: (-item[1], item[0]))}

    def adjustments(self, rows: Sequence[Resolved] | None = None) -> tuple[Adjustment, ...]:
        """Mean adjustment by single condition, those first that stand out most from the rest; numbers only."""
        known = [(row, found) for row in (self.matched if rows is None else rows) if isinstance(found := outcome(row), float)]
        if len(known) < LISTED_FROM:
            return ()
        base = sum(found for _, found in known) / len(known)
        ranked: list[tuple[float, Adjustment]] = []
        for condition in terms([row for row, _ in known], texts=self._settings.observations.text_fields):
            under = [adjustment for row, adjustment in known if holds(condition, row.values)]
            if len(under) >= LISTED_FROM:
                mean = sum(under) / len(under)
                ranked.append((abs(mean - base) * sqrt(len(under)), Adjustment(condition, mean, len(under))))
        ranked.sort(key=lambda item: (-item[0], describe(item[1].condition)))
        return tuple(adjustment for _, adjustment in ranked)

    def render(self, *, rows: int | None = None, statistics: bool = True) -> str:
        """The ledger as the system message shows it; empty text before the first outcome.

        Parameters
        ----------
        rows
            At most so many of the newest rows, where the context budget does not allow all; None: all of `rows_for_prompt`.
        statistics
            Whether statistics are shown.
        """
        lines: list[str] = []
        if statistics and self.settled:
            lines += self._statistics()
        shown = self.rows_for_prompt()
        if rows is not None and len(shown) > rows:
            # Half of them at once, so that the prompt grows at its end until the next cut.
            block = max(rows // 2, 1)
            shown = shown[-(-(len(shown) - rows) // block) * block :] if rows else ()
        if shown:
            lines.append("Recent outcomes (oldest first):")
            lines += [f"- {self._facts(row)} -> {self._truth(row)}" for row in shown]
        return "\n".join(lines)

    def _facts(self, row: Resolved) -> str:
        return facts(row.values, self._settings, only=focus.shown(self._memory, row.values, self._settings))

    def _truth(self, row: Resolved) -> str:
        return truth_text(row.truth, self._settings) if row.truth is not None else ""

    def _statistics(self) -> list[str]:
        latest = self.settled[-STATISTICS_ROWS:]
        decimals = self._settings.target.decimals
        unit = f" {self._settings.target.unit}".rstrip()
        if self._settings.target.kind == "number":
            known = [found for row in latest if isinstance(found := outcome(row), float)]
            bias, mae = self.bias(latest), self.mae(latest)
            if bias is None or mae is None:
                return []
            lines = [
                f"Forecasts of the latest {len(latest)} cases: mean error {signed(bias, decimals)}{unit}, "
                f"mean absolute error {mae:.{decimals}f}{unit}."
            ]
            if known:
                lines.append("Mean adjustment (truth minus reference):")
                lines.append(f"- all cases: {signed(sum(known) / len(known), decimals)} ({len(known)} cases)")
                lines += [
                    f"- when {describe(a.condition)}: {signed(a.mean, decimals)} ({a.cases} cases)"
                    for a in self.adjustments(latest)[:LISTED_CONDITIONS]
                ]
            return lines
        if self._settings.target.kind == "category":
            by_label = self.hits_by_label(latest)
            right = sum(hits for hits, _ in by_label.values())
            parts = ", ".join(f"{label} {hits} of {n}" for label, (hits, n) in by_label.items())
            return [f"Right forecasts of the latest {len(latest)} cases: {right}. By true label: {parts}."]
        right = sum(not row.miss for row in latest)
        return [f"Right forecasts of the latest {len(latest)} cases: {right}."]


def _errors(rows: Sequence[Resolved]) -> list[float]:
    return [
        difference(row.truth, row.forecast.value)
        for row in rows
        if not isinstance(row.truth, str | None) and not isinstance(row.forecast.value, str)
    ]
