"""What the runs say: medians with their extremes, as a table on standard output and as a page in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bench.peers.cells import HEADLINE, LIVE, Cell, cells
from bench.peers.roster import OURS, PEERS
from bench.peers.track import SIGMA, WINDOW, WINDOW_OF_SLOT
from bench.report import show, spread

COLUMNS = ("condition", "program", "events/s", "of the model's capacity", "slots busy", "p50 s", "p99 s", "out of order", "calls")
CRASH_COLUMNS = ("program", "outputs lost", "outputs doubled", "effects lost", "effects doubled", "calls", "s to the next output")

TASK = (
    "One call of the model for each observation, one output for each, a state for each entity that is read before the call and stored "
    "after it. Made by `python -m bench.peers`, which writes this page."
)
PROGRAMS = (
    "Each is one process with the settings that its documentation gives. Ours runs without truths and rewrites and without its cache of "
    f"answers, with a window of {WINDOW_OF_SLOT} records a slot, at least {WINDOW}; it keeps its whole state (pending predictions, ledger, "
    "experts, intervals), the others a count and the latest readings. The others call the model by the `ollama` client as its users do. "
    "`aiokafka` is the loop that is quickly written, without order within a batch; keeping the order is possible, and is what a lane for "
    "each entity amounts to. Quix Streams is synchronous, and grows by more processes, up to one for each partition; so does plain Faust."
)
MEASURES = (
    f"The model is an emulator of Ollama over HTTP: calls vary around their mean (lognormal, σ {SIGMA}), entities come in random order. "
    "Events a second and busy slots are those between the first and the last tenth of the outputs. Times are from the broker's log, from "
    "observation to first output. **Under a backlog they are queueing time**: a program with more calls at once gets a longer backlog, so "
    "that all work for about as long; compare p50 and p99 under *live* only. *Out of order* counts outputs behind one for a later "
    "observation of their entity. *Calls* are those of the model for each observation that got an output."
)
LIVE_TIMES = "Here times are to the moment at which a reader of committed records has the output, the transaction's end included."
CRASHED = (
    "*Lost* and *doubled* outputs are told by observation, as a reader of committed records sees them in the end; *effects* by the count "
    "of observations in the stored states. Calls that died with the process are among the calls. The last column holds the wait for the "
    "group to notice the death (session timeout)."
)

#: A run as JSON has it.
_Run = dict[str, Any]


def tell(figures: dict[str, Any]) -> None:
    """Print the tables."""
    if steady := [row for cell in cells() for row in _steady(figures, cell)]:
        show(f"medians (lowest to highest), {figures['rounds']} rounds", COLUMNS, steady, figures["conditions"])
    if crashed := list(_crashed(figures)):
        show("killed by SIGKILL halfway, started again at once", CRASH_COLUMNS, crashed, figures["conditions"])


def page(figures: dict[str, Any]) -> str:
    """Return the report."""
    return "\n".join(_page(figures)) + "\n"


def _page(figures: dict[str, Any]) -> Iterator[str]:
    about, run = figures["conditions"], {one["cell"] for one in figures["runs"]}
    versions = ", ".join(f"{name} {about[name]}" for name in ("kafka", "palimpsest", "faust-streaming", "aiokafka"))
    yield "# The same job, by us and by others"
    yield ""
    yield TASK
    yield ""
    yield (
        f"A machine of {about['cores']} cores and {about['memory_gib']} GiB, load {about['load']} at the start; program, model and broker "
        f"on it side by side. Python {about['python']}, {versions}, quixstreams {about['quixstreams']}. Medians, "
        f"rounds: {figures['rounds']}; in brackets the lowest and the highest; the order of the programs turns around from round to round."
    )
    yield ""
    yield from _how()
    for cell in cells():
        if cell.name in run and not cell.crash:
            yield from ("", f"## {_heading(cell)}", "")
            yield from _table(COLUMNS[1:], [row[1:] for row in _steady(figures, cell)])
            if cell == LIVE:
                yield from ("", LIVE_TIMES)
    if crashed := list(_crashed(figures)):
        yield from ("", f"## Killed halfway: {_shape(HEADLINE)}", "", CRASHED, "")
        yield from _table(CRASH_COLUMNS, crashed)
    if figures["failures"]:
        yield from ("", "## Runs that came to nothing", "")
        yield from (f"- {one['peer']}, {one['cell']}, round {one['round']}: {one['why']}" for one in figures["failures"])


def _how() -> Iterator[str]:
    yield "## The programs"
    yield ""
    yield from _table(
        ("program", "calls at once", "delivery"), [(one.name, "slots" if one.parallel else "1", one.delivery) for one in PEERS]
    )
    yield ""
    yield PROGRAMS
    yield ""
    yield MEASURES


def _heading(cell: Cell) -> str:
    if cell.arrivals is not None:
        return f"Live, {cell.arrivals:g} observations a second: {_shape(cell)}"
    return f"Headline: {_shape(cell)}" if cell == HEADLINE else _shape(cell)


def _shape(cell: Cell) -> str:
    slots, entities = "slot" if cell.slots == 1 else "slots", "entity" if cell.entities == 1 else "entities"
    return f"{cell.latency * 1000:g} ms, {cell.slots} {slots}, {cell.entities} {entities}"


def _steady(figures: dict[str, Any], cell: Cell) -> Iterator[tuple[str, ...]]:
    for name, runs in _by_program(figures, cell):
        if not cell.crash:
            yield (
                cell.name,
                name,
                spread([one["rate"] for one in runs], ".1f"),
                spread([one["rate"] / cell.capacity for one in runs], ".2f"),
                spread([one["busy"] for one in runs], ".2f"),
                *(spread([one[key] for one in runs], ".3f") for key in ("p50", "p99")),
                spread([one["outputs"]["misordered"] for one in runs]),
                spread([one["calls"] for one in runs], ".2f"),
            )


def _crashed(figures: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for cell in cells():
        for name, runs in _by_program(figures, cell) if cell.crash else ():
            waited = [one["recovered"] for one in runs if one["recovered"] is not None]
            yield (
                name,
                *(spread([one[what][how] for one in runs]) for what in ("outputs", "effects") for how in ("lost", "doubled")),
                spread([one["calls"] for one in runs], ".2f"),
                spread(waited, ".1f") if waited else "none came",
            )


def _by_program(figures: dict[str, Any], cell: Cell) -> Iterator[tuple[str, list[_Run]]]:
    for one in PEERS:
        runs = [run for run in figures["runs"] if run["cell"] == cell.name and run["peer"] == one.name]
        if runs:
            yield one.name, runs


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows of a Markdown table; ours is marked."""
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join([f'**{row[0]}**' if row[0] == OURS else row[0], *row[1:]])} |"
