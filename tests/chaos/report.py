"""What a run of campaigns found, as tables for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.chaos.campaign import Result
from tests.chaos.schedule import KINDS, NAMES
from tests.chaos.verdict import EXAMPLES, Check, is_clean

#: Columns of a console that is no terminal: nothing in these tables is worth breaking.
WIDTH = 120
ALL_ZERO = "all zero"


def total(verdicts: Sequence[Sequence[Check]]) -> list[Check]:
    """The verdicts of several campaigns as one, check by check."""
    summed = []
    for same in zip(*verdicts, strict=True):
        examples = [example for check in same for example in check.examples]
        found, looked_at = sum(check.found for check in same), sum(check.looked_at for check in same)
        summed.append(Check(same[0].name, looked_at, found, tuple(examples[:EXAMPLES])))
    return summed


def last_line(checks: Sequence[Check]) -> str:
    """`all zero`, or what is not.

    Examples
    --------
    >>> last_line([Check("observations without a prediction", 9, 0), Check("truths without an outcome", 9, 2)])
    'not zero: truths without an outcome (2)'
    """
    return ALL_ZERO if is_clean(checks) else "not zero: " + ", ".join(f"{check.name} ({check.found})" for check in checks if check.found)


def show(results: Sequence[Result], verdicts: Sequence[Sequence[Check]], console: Console) -> None:
    """Print faults, checks, examples of what was found, and the last line."""
    console.print(_faults(results))
    console.print(_checks(results, verdicts))
    for result, verdict in zip(results, verdicts, strict=True):
        for check in verdict:
            for example in check.examples:
                console.print(f"[red]{result.campaign.name}: {check.name}:[/] {escape(example)}", soft_wrap=True, highlight=False)
    console.print(last_line(total(verdicts)), highlight=False, soft_wrap=True)


def _faults(results: Sequence[Result]) -> Table:
    table = Table("fault", *(result.campaign.name for result in results), "times done", header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    for kind in KINDS:
        counts = [result.faults[kind] for result in results]
        table.add_row(NAMES[kind], *map(str, counts), str(sum(counts)))
    restarts = [result.restarts for result in results]
    table.add_row("workers that asked for a restart", *map(str, restarts), str(sum(restarts)))
    records = [result.records for result in results]
    table.add_row("records sent", *map(str, records), str(sum(records)), end_section=True)
    table.add_row("seconds", *(f"{result.seconds:.0f}" for result in results), f"{sum(result.seconds for result in results):.0f}")
    return table


def _checks(results: Sequence[Result], verdicts: Sequence[Sequence[Check]]) -> Table:
    table = Table("check", "looked at", *(result.campaign.name for result in results), "found", header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    for number, check in enumerate(total(verdicts)):
        found = [str(verdict[number].found) for verdict in verdicts]
        style = "bold red" if check.found else ""
        table.add_row(check.name, str(check.looked_at), *found, str(check.found), style=style)
    return table


def to_json(results: Sequence[Result], verdicts: Sequence[Sequence[Check]]) -> dict[str, Any]:
    """The same for programs."""
    checks = total(verdicts)
    return {
        "clean": is_clean(checks),
        "seed": results[0].seed,
        "faults": {kind: sum(result.faults[kind] for result in results) for kind in KINDS},
        "checks": [asdict(check) for check in checks],
        "campaigns": [
            {
                **asdict(result.campaign),
                "faults": {kind: result.faults[kind] for kind in KINDS},
                "seconds": round(result.seconds, 1),
                "records": result.records,
                "restarts": result.restarts,
                "slowest_sigterm_seconds": round(slowest_sigterm(result), 2),
                "endings": [asdict(ending) for ending in result.evidence.endings],
                "checks": [asdict(check) for check in verdict],
            }
            for result, verdict in zip(results, verdicts, strict=True)
        ],
    }


def slowest_sigterm(result: Result) -> float:
    """Seconds from SIGTERM to the end of the process, at the longest; 0 where none was sent."""
    return max((ending.seconds for ending in result.evidence.endings if ending.asked == "SIGTERM"), default=0.0)
