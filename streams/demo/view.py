"""What one sees while a run goes on: a dashboard in a terminal, plain lines elsewhere.

Both read the record when told that it has changed, and decide nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from schemas.messages import Answer, Interval, MemoryRevision, Prediction, Value
from schemas.settings import Settings
from streams.demo.chart import FORECAST, TRUTH, Point, label_strip, line_chart
from streams.demo.dataset import LABELS, UNIT
from streams.demo.record import Record, Step
from streams.demo.revision import EMPTY, changes, plain_changes
from streams.demo.score import LEADING, Score, error, percentile, scores
from streams.demo.summary import cached_tokens, refusals

#: Days that the chart shows; more of them would be hard to tell apart.
CHART_DAYS = 40
#: Seconds between two redrawings without news, for the clock.
TICK = 0.5
#: A smaller terminal gets plain lines: panels of a few characters say nothing.
SMALLEST = (80, 24)
#: From this width on, the memory stands beside the chart instead of below it.
SIDE_BY_SIDE = 110


class View(Protocol):
    """Shows a record while it grows."""

    def shown(self) -> AbstractAsyncContextManager[None]:
        """Show it until the context is left."""
        ...

    def changed(self) -> None:
        """There is news in the record."""
        ...


def choose(console: Console, record: Record, settings: Settings) -> View:
    """A dashboard where the console is a terminal that can draw one, else plain lines."""
    wide_enough = console.width >= SMALLEST[0] and console.height >= SMALLEST[1]
    if console.is_terminal and not console.is_dumb_terminal and console.encoding.startswith("utf") and wide_enough:
        return LiveView(console, record, settings)
    return PlainView(console, record)


class PlainView:
    """A line for each day, and a block for each memory revision."""

    def __init__(self, console: Console, record: Record) -> None:
        self._console = console
        self._record = record
        self._days = 0
        self._revisions = 0

    @asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self._print(everything=True)

    def changed(self) -> None:
        self._print()

    def _print(self, *, everything: bool = False) -> None:
        steps = self._record.steps
        while self._days < len(steps) and steps[self._days].prediction is not None and (everything or self._closed(self._days)):
            self._tell(day_line(self._record, steps[self._days]))
            self._days += 1
        for revision in self._record.revisions[self._revisions :]:
            for line in revision_lines(revision):
                self._tell(line)
        self._revisions = len(self._record.revisions)

    def _closed(self, index: int) -> bool:
        """Whether nothing more is awaited for a day."""
        later = self._record.steps[index + 1 : index + 2]
        return self._record.steps[index].outcome is not None or any(step.sent is not None for step in later)

    def _tell(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class LiveView:
    """A dashboard: chart, memory with its latest change, the last days, scores, cost."""

    def __init__(self, console: Console, record: Record, settings: Settings) -> None:
        self._console = console
        self._record = record
        self._settings = settings
        self._live = Live(console=console, screen=True, auto_refresh=False, get_renderable=self.render)

    @asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        with self._live:
            ticking = asyncio.create_task(self._tick())
            try:
                yield
            finally:
                ticking.cancel()
                await asyncio.gather(ticking, return_exceptions=True)

    def changed(self) -> None:
        self._live.refresh()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self._live.refresh()

    def render(self) -> RenderableType:
        """The whole screen, of the console's size."""
        width, height = self._console.size
        layout = Layout()
        layout.split_column(Layout(self._head(), size=3), Layout(name="body"), Layout(self._foot(), size=1))
        body = layout["body"]
        if width >= SIDE_BY_SIDE:
            body.split_row(Layout(name="left", ratio=3), Layout(name="right", ratio=2))
            left = (width * 3) // 5
            rows = height - 4
            chart = max(rows * 2 // 5, 8)
            body["left"].split_column(Layout(self._chart(left - 4, chart - 2), size=chart), Layout(self._days(rows - chart - 4)))
            body["right"].split_column(
                Layout(self._memory()), Layout(self._scores(), size=self._scores_height()), Layout(self._cost(), size=7)
            )
        else:
            rows = height - 4
            chart = max(rows // 3, 7)
            body.split_column(
                Layout(self._chart(width - 4, chart - 2), size=chart),
                Layout(self._days(4), size=8),
                Layout(self._memory()),
            )
        return layout

    def _head(self) -> RenderableType:
        record = self._record
        what = {"temperature": "maximum temperature of the next day", "class": "weather class of the next day"}[record.target]
        done, total = len(record.labelled), len(record.steps)
        bar = Table.grid(expand=True, padding=(0, 1))
        bar.add_column(ratio=1)
        bar.add_column(justify="right")
        bar.add_row(ProgressBar(total=total, completed=done), f"{done} of {total} days, {_clock(record.seconds)}")
        return Group(Text.assemble(("Palimpsest", "bold"), f"  Seattle: {what}"), bar, Text(self._doing(), "dim"))

    def _doing(self) -> str:
        asked = [step for step in self._record.steps if step.sent is not None]
        if not asked:
            return "the worker is ready"
        step = asked[-1]
        if step.prediction is None:
            return f"{step.question.day.date:%d %b %Y} observed; its prediction is awaited"
        if step.outcome is None:
            return f"{step.question.target_date:%d %b %Y} came true; its outcome, and the memory that is rewritten, are awaited"
        return f"{step.question.target_date:%d %b %Y} is scored"

    def _chart(self, columns: int, rows: int) -> RenderableType:
        points = chart_points(self._record)
        if self._record.target == "class":
            lines = label_strip(points, LABELS, columns)
            legend = Text.assemble(("█", "green"), " foretold  ", ("█", "red"), " not foretold  ", ("○", "red"), " said instead")
        else:
            lines = line_chart(points, columns, rows)
            legend = Text.assemble(("━ ", TRUTH), "truth  ", ("━ ", FORECAST), "published forecast")
        return Panel(Text("\n").join(lines), title=legend, title_align="left", border_style="dim")

    def _days(self, count: int) -> RenderableType:
        table = Table(expand=True, box=None, padding=(0, 1, 0, 0), header_style="dim")
        held = "set" if self._record.target == "class" else "interval"
        for name in ("day", "published", held, "model", "truth", "error", "source"):
            table.add_column(name, justify="left" if name in ("day", "source") else "right", no_wrap=True)
        for step in self._record.predicted[-max(count, 1) :]:
            table.add_row(*self._row(step))
        return Panel(table, title="last days", title_align="left", border_style="dim")

    def _row(self, step: Step) -> Iterator[RenderableType]:
        prediction = step.prediction
        assert prediction is not None
        yield f"{step.question.target_date:%d %b}"
        yield Text(value_text(prediction.forecast.value), FORECAST)
        yield Text(interval_text(prediction.interval), "dim")
        yield "" if prediction.model_answer is None else value_text(prediction.model_answer.value)
        if step.truth_sent:
            wrong = error(prediction.forecast.value, step.question.truth)
            yield Text(value_text(step.question.truth), TRUTH)
            yield Text(error_text(prediction.forecast, step.question.truth), "red" if wrong and abs(wrong) >= self._large else "green")
        else:
            yield Text("…", "dim")
            yield ""
        yield source_text(prediction)

    @property
    def _large(self) -> float:
        """An error of this size is shown as one: any wrong label; for numbers, what the worst quarter of errors reaches."""
        if self._record.target == "class":
            return 1.0
        sizes = [abs(error(step.prediction.forecast.value, step.question.truth)) for step in self._record.labelled if step.prediction]
        return percentile(sizes, 0.75) or 0.0

    def _memory(self) -> RenderableType:
        accepted, revisions = self._record.accepted, self._record.revisions
        if accepted:
            newest = accepted[-1]
            body = changes(newest.before, newest.after)
            title = f"memory, revision {newest.revision}: {newest.cause}, {newest.words} of {self._settings.memory.words} words"
        else:
            body, title = Text(EMPTY, "dim"), "memory"
        refused = revisions[-1] if revisions and not revisions[-1].accepted else None
        note = None if refused is None else Text(f"last proposal refused: {', '.join(refusals(refused))}", "yellow")
        return Panel(
            body, title=title, title_align="left", subtitle=note, subtitle_align="left", border_style="green" if accepted else "dim"
        )

    def _scores(self) -> RenderableType:
        found = scores(self._record.steps, self._settings.target.top_k)
        table = Table(expand=True, box=None, padding=(0, 1, 0, 0), header_style="dim")
        name = "MAE" + (f" ({unit})" if (unit := UNIT[self._record.target]) else "") if self._record.target == "temperature" else "accuracy"
        for title in ("arm", "n", name):
            table.add_column(title, justify="left" if title == "arm" else "right")
        for arm in LEADING:
            if arm in found:
                table.add_row(arm, str(found[arm].n), leading_figure(found[arm]))
        return Panel(table, title="running scores", title_align="left", border_style="dim")

    def _scores_height(self) -> int:
        return 3 + len(LEADING)

    def _cost(self) -> RenderableType:
        predictions, rewrites = self._record.prediction_calls(), self._record.rewriting_calls()
        calls = [*predictions, *rewrites]
        cached = cached_tokens(calls)
        accepted, refused = len(self._record.accepted), len(self._record.refused)
        lines = [
            f"{sum(call.calls for call in predictions)} calls to predict, {sum(call.calls for call in rewrites)} to rewrite",
            f"{sum(call.prompt_tokens for call in calls):,} prompt tokens" + ("" if cached is None else f", {cached:,} cached"),
            f"{sum(call.output_tokens for call in calls):,} answered; last call {predictions[-1].seconds:.1f} s" if predictions else "",
            f"{accepted} memory revisions, {refused} refused",
            f"{len(self._record.dead_letters)} dead letters, {len(self._record.notes)} notes",
        ]
        return Panel(Text("\n".join(lines)), title="cost", title_align="left", border_style="dim")

    def _foot(self) -> RenderableType:
        hint = "Ctrl-C ends the run and stops what it started"
        if self._console.width >= SIDE_BY_SIDE:
            return Text(hint, "dim")
        return Text.assemble(running_text(self._record), ("   Ctrl-C ends the run", "dim"))


def chart_points(record: Record) -> list[Point]:
    """The newest days of a record, as the chart takes them: at the day that was forecast, the truth once it was sent."""
    return [
        Point(
            step.question.target_date,
            step.prediction.forecast.value,
            step.question.truth if step.truth_sent else None,
            step.prediction.interval,
        )
        for step in record.predicted[-CHART_DAYS:]
        if step.prediction is not None
    ]


def day_line(record: Record, step: Step) -> str:
    """One day for a log.

    Parameters
    ----------
    record
        Gives the running scores up to this day.
    step
        A day with a prediction.
    """
    prediction = step.prediction
    assert prediction is not None
    parts = [f"{step.question.target_date}", f"forecast {value_text(prediction.forecast.value)}"]
    if prediction.interval is not None:
        parts.append(interval_text(prediction.interval))
    parts.append("model " + ("-" if prediction.model_answer is None else value_text(prediction.model_answer.value)))
    if step.truth_sent:
        parts += [f"truth {value_text(step.question.truth)}", f"error {error_text(prediction.forecast, step.question.truth)}"]
    if not step.labelled:
        parts.append("no outcome")
    parts += [f"source {source_text(prediction)}", f"memory {prediction.memory_revision}"]
    parts.append(running_text(record, until=step))
    return "  ".join(parts).rstrip()


def running_text(record: Record, until: Step | None = None) -> str:
    """The running scores of the arms that matter in a line, up to a day or all; empty before the first outcome."""
    steps = record.steps if until is None else record.steps[: record.steps.index(until) + 1]
    found = scores(steps, top_k=1)
    metric = "MAE" if record.target == "temperature" else "accuracy"
    return f"{metric} " + " / ".join(f"{arm} {leading_figure(found[arm])}" for arm in LEADING if arm in found) if found else ""


def revision_lines(revision: MemoryRevision) -> Iterator[str]:
    """A memory revision for a log: a block for an accepted one, a line for a refusal."""
    if not revision.accepted:
        yield f"  memory: proposal refused ({revision.cause}): {', '.join(refusals(revision))}"
        return
    yield f"  memory: revision {revision.revision} ({revision.cause}), {revision.words} words"
    for line in plain_changes(revision.before, revision.after):
        yield f"    {line}"


def leading_figure(score: Score) -> str:
    """The figure that an arm is judged by: mean absolute error, or accuracy."""
    if score.mae is not None:
        return f"{score.mae:.2f}"
    return "" if score.accuracy is None else f"{score.accuracy:.0%}"


def value_text(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:.1f}"


def interval_text(interval: Interval | None) -> str:
    if interval is None:
        return ""
    if interval.labels:
        return "{" + ", ".join(interval.labels) + "}"
    if interval.low is None or interval.high is None:
        return ""
    return f"[{interval.low:.1f}, {interval.high:.1f}]"


def error_text(answer: Answer, truth: Value) -> str:
    """Truth minus forecast with its sign; for labels, whether it was right."""
    found = error(answer.value, truth)
    if isinstance(truth, str):
        return "hit" if found == 0 else "miss"
    return f"{found:+.1f}"


def source_text(prediction: Prediction) -> str:
    """Who answered, and why it was not the model where it was not."""
    why = prediction.model.error if prediction.model is not None else ""
    return f"{prediction.source} ({why})" if prediction.source != "model" and why else prediction.source


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
