"""Predictions against truths as a picture of text: a line of braille dots for numbers, a strip of days for labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from rich.text import Text

from schemas.messages import Interval, Value

TRUTH = "bright_cyan"
FORECAST = "bright_yellow"
BAND = "yellow dim"
HIT = "green"
MISS = "red"
AXIS = "dim"

#: A braille character is two dots wide and four high; the bit of each dot, by row and column.
_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_BLANK = 0x2800

#: Rows of a label's strip: what happened, and below it what was said wrongly.
TRUE_MARK, WRONG_MARK = "█", "○"


@dataclass(frozen=True, slots=True)
class Point:
    """One day of the chart, at the day that the forecast was for; the truth is None while it has not come."""

    day: date
    forecast: Value
    truth: Value | None = None
    interval: Interval | None = None


class Canvas:
    """A field of braille dots; the style of a character is that of the dot drawn last in it. Dot (0, 0) is top left.

    Parameters
    ----------
    columns, rows
        Size in characters.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self._bits = [[0] * columns for _ in range(rows)]
        self._styles = [[""] * columns for _ in range(rows)]

    @property
    def width(self) -> int:
        """Dots across."""
        return 2 * self.columns

    @property
    def height(self) -> int:
        """Dots down."""
        return 4 * self.rows

    def dot(self, x: int, y: int, style: str) -> None:
        """Set a dot; one outside of the field is not drawn."""
        if 0 <= x < self.width and 0 <= y < self.height:
            self._bits[y // 4][x // 2] |= _BITS[y % 4][x % 2]
            self._styles[y // 4][x // 2] = style

    def line(self, start: tuple[int, int], end: tuple[int, int], style: str) -> None:
        """Set the dots between two dots, both included."""
        (x0, y0), (x1, y1) = start, end
        length = max(abs(x1 - x0), abs(y1 - y0), 1)
        for i in range(length + 1):
            self.dot(round(x0 + (x1 - x0) * i / length), round(y0 + (y1 - y0) * i / length), style)

    def lines(self) -> list[Text]:
        """The rows as text."""
        rows = []
        for bits, styles in zip(self._bits, self._styles, strict=True):
            row = Text()
            for mask, style in zip(bits, styles, strict=True):
                row.append(chr(_BLANK + mask), style)
            rows.append(row)
        return rows


def line_chart(points: Sequence[Point], columns: int, rows: int) -> list[Text]:
    """Draw numbers: truth and published forecast as lines, the newest forecast's interval as a bar.

    Parameters
    ----------
    points
        Days in order; the newest that fit are drawn, each at least one character wide.
    columns, rows
        The room there is, labels of both axes included.
    """
    margin = 7
    canvas = Canvas(max(columns - margin, 4), max(rows - 1, 2))
    points = list(points)[-canvas.columns :]
    if not points:
        return [Text("waiting for the first prediction", AXIS)]
    values = [value for point in points for value in _numbers(point)]
    low, high = min(values), max(values)
    if high - low < 1:  # a flat line stands in the middle
        low, high = low - 0.5, high + 0.5

    def x(at: int) -> int:
        return round(at * (canvas.width - 1) / max(len(points) - 1, 1))

    def y(value: float) -> int:
        return round((high - value) / (high - low) * (canvas.height - 1))

    newest = points[-1].interval
    if newest is not None and newest.low is not None and newest.high is not None:
        canvas.line((x(len(points) - 1), y(newest.high)), (x(len(points) - 1), y(newest.low)), BAND)
    forecasts = [(x(i), y(point.forecast)) for i, point in enumerate(points) if not isinstance(point.forecast, str)]
    truths = [(x(i), y(point.truth)) for i, point in enumerate(points) if isinstance(point.truth, float | int)]
    for series, style in ((forecasts, FORECAST), (truths, TRUTH)):
        for start, end in zip(series, series[1:] or series, strict=False):
            canvas.line(start, end, style)
    drawn = canvas.lines()
    labels = {0: high, len(drawn) // 2: (low + high) / 2, len(drawn) - 1: low}
    lines = [
        Text(f"{labels[i]:>{margin - 2}.1f} " if i in labels else " " * (margin - 1), AXIS) + Text("│", AXIS) + row
        for i, row in enumerate(drawn)
    ]
    return [*lines, _dates(points, margin, canvas.columns)]


def label_strip(points: Sequence[Point], labels: Sequence[str], columns: int) -> list[Text]:
    """Draw labels: a row each, a column a day; `█` what happened (green if foretold), `○` what was said instead.

    Parameters
    ----------
    points
        Days in order; the newest that fit are drawn.
    labels
        All labels, a row each.
    columns
        The room there is, the labels' names included.
    """
    margin = max(map(len, labels)) + 2
    width = max(columns - margin, 4)
    points = list(points)[-width:]
    lines = []
    for label in labels:
        row = Text(f"{label:>{margin - 1}}│", AXIS)
        for point in points:
            if point.truth == label:
                row.append(TRUE_MARK, HIT if point.forecast == label else MISS)
            elif point.forecast == label:
                row.append(WRONG_MARK, FORECAST if point.truth is None else MISS)
            else:
                row.append("·", AXIS)
        lines.append(row)
    return [*lines, _dates(points, margin, width)] if points else [Text("waiting for the first prediction", AXIS)]


def _numbers(point: Point) -> list[float]:
    candidates: list[Value | None] = [point.forecast, point.truth]
    if point.interval is not None:
        candidates += [point.interval.low, point.interval.high]
    return [float(value) for value in candidates if value is not None and not isinstance(value, str)]


def _dates(points: Sequence[Point], margin: int, width: int) -> Text:
    first, last = f"{points[0].day:%d %b}", f"{points[-1].day:%d %b}"
    gap = width - len(first) - len(last)
    return Text(" " * margin + (first + " " * gap + last if gap > 0 else last), AXIS)
