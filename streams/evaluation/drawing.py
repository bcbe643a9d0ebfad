"""Charts as inline SVG: lines in one or several panels, points with their names, strips of hits.

A chart is one `<svg>` that refers to nothing outside of it. It has a title and a description for screen readers; lines differ in dashes
and not in colour alone, so that print and colour-blind readers can tell them apart. Colours are variables of `STYLE`, which follows the
reader's light or dark scheme: a page that holds charts brings it once, a chart on its own takes it along (`alone`). Whatever text is
drawn is escaped. What is worth drawing is the caller's to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from streams.evaluation.axes import Axis, Scale

#: Across, in the drawing's own units; pages scale it down to 600 and scroll below that, so that its text stays readable on a phone.
WIDTH = 760
#: What a character takes at the size of labels in the widest of the usual fonts.
CHARACTER = 7.2
_LINE = 18
_TOP, _RIGHT, _LEFT, _BOTTOM = 26, 26, 64, 40

#: Colour names: light and dark, each at least 3:1 against its ground, from Okabe and Ito's set for colour-blind people.
COLOURS = {
    "ink": ("#1b1f24", "#e6e8eb"),
    "grey": ("#6b7280", "#98a2ae"),
    "blue": ("#0060a8", "#5aa9e6"),
    "sky": ("#2a86bd", "#93d2fb"),
    "green": ("#00785a", "#35c49a"),
    "orange": ("#b26a00", "#f0ab4b"),
    "vermilion": ("#c23b0a", "#ff8557"),
    "purple": ("#98407f", "#e293cb"),
    "olive": ("#6f6500", "#d2c64c"),
}
_LIGHT = "".join(f"--{name}:{light};" for name, (light, _) in COLOURS.items())
_DARK = "".join(f"--{name}:{dark};" for name, (_, dark) in COLOURS.items())
STYLE = (
    f"svg.chart{{{_LIGHT}--ground:#ffffff;--rule:#d8dce1;font:12px system-ui,-apple-system,'Segoe UI',sans-serif}}"
    f"@media (prefers-color-scheme:dark){{svg.chart{{{_DARK}--ground:#14181d;--rule:#343b44}}}}"
    f"@media print{{svg.chart{{{_LIGHT}--ground:#ffffff;--rule:#d8dce1}}}}"
    "svg.chart text{fill:var(--ink)}svg.chart .tick{fill:var(--grey)}svg.chart .named{font-weight:600}"
    "svg.chart .grid{stroke:var(--rule);stroke-width:1}svg.chart .base{stroke:var(--grey);stroke-width:1}"
    "svg.chart .line{fill:none;stroke-linejoin:round;stroke-linecap:round}"
    "svg.chart .halo{paint-order:stroke;stroke:var(--ground);stroke-width:3px;stroke-linejoin:round}"
)


@dataclass(frozen=True, slots=True)
class Look:
    """How a series is drawn: a colour of `COLOURS`, dashes (SVG's `stroke-dasharray`), width in units, dots at its points."""

    colour: str = "ink"
    dash: str = ""
    width: float = 1.6
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """A line with its name; y is None where it has a gap."""

    name: str
    points: Sequence[tuple[float, float | None]]
    look: Look = Look()


@dataclass(frozen=True, slots=True)
class Band:
    """An area between two lines, such as a prediction interval: (x, low, high)."""

    name: str
    points: Sequence[tuple[float, float, float]]
    colour: str = "blue"


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot of a chart; several stand below each other over the same x axis. Groups with other units need a panel each."""

    y: Axis
    series: Sequence[Series]
    bands: Sequence[Band] = ()
    heading: str = ""
    height: int = 240


@dataclass(frozen=True, slots=True)
class Dot:
    """A named point; `low`..`high` is its interval on the y axis, x is None where it has none and stands left of the axis."""

    name: str
    x: float | None
    y: float
    look: Look = Look()
    low: float | None = None
    high: float | None = None
    said: str = ""


@dataclass(frozen=True, slots=True)
class Strip:
    """A row of cells: for each, how much of it was right, 0 to 1; None where there is nothing."""

    name: str
    shares: Sequence[float | None]
    look: Look = Look()
    said: str = ""


def lines(name: str, panels: Sequence[Panel], x: Axis, *, title: str, description: str) -> Markup:
    """Draw lines.

    Parameters
    ----------
    name
        Unique on its page: letters, digits and hyphens.
    panels
        From top to bottom; the legend below them names each series and band once.
    x
        Of all panels.
    description
        What can be seen, for people who cannot.

    Raises
    ------
    ValueError
        There is no point to draw.
    """
    xs = [at for panel in panels for series in panel.series for at, _ in series.points]
    xs += [at for panel in panels for band in panel.bands for at, _, _ in band.points]
    across = Scale.over(xs, x, _LEFT, WIDTH - _RIGHT)
    parts: list[Markup] = []
    top = 0
    for number, panel in enumerate(panels):
        values = [value for series in panel.series for _, value in series.points if value is not None]
        values += [end for band in panel.bands for _, low, high in band.points for end in (low, high)]
        up = Scale.over(values, panel.y, top + panel.height, top + _TOP, pad=0.04)
        last = number == len(panels) - 1
        parts.append(_frame(across, up, x if last else Axis("", log=x.log, at=x.at, whole=x.whole), panel.y, heading=panel.heading))
        clip = f"{name}-clip-{number}"
        parts.append(_clip(clip, across, up))
        drawn = [_area(band, across, up) for band in panel.bands] + [
            _line(series, across, up) for series in sorted(panel.series, key=_weight)
        ]
        parts.append(_markup('<g clip-path="url(#{})">{}</g>', clip, Markup("").join(drawn)))
        top += panel.height + (_BOTTOM if last else 8)
    entries = {series.name: _key_line(series.look) for panel in panels for series in panel.series}
    entries |= {band.name: _key_band(band.colour) for panel in panels for band in panel.bands}
    legend, height = _legend(entries, top + 4)
    return _svg(name, title, description, Markup("").join((*parts, legend)), height)


def scatter(
    name: str, dots: Sequence[Dot], x: Axis, y: Axis, *, title: str, description: str, without: str = "", height: int = 360
) -> Markup:
    """Draw named points, each with its interval.

    Parameters
    ----------
    without
        What the column left of the axis holds, where points have no x.

    Raises
    ------
    ValueError
        There is no point with an x.
    """
    left_names = [without, *(dot.name for dot in dots if dot.x is None)]
    gutter = min(36 + CHARACTER * max(map(len, left_names)), WIDTH / 3) if len(left_names) > 1 else 0.0
    across = Scale.over([dot.x for dot in dots if dot.x is not None], x, _LEFT + gutter, WIDTH - _RIGHT, pad=0.1)
    ends = [end for dot in dots for end in (dot.y, dot.low, dot.high) if end is not None]
    up = Scale.over(ends, y, height, _TOP, pad=0.06)
    parts = [_frame(across, up, x, y, left=_LEFT)]
    if gutter:
        parts.append(_markup('<line class="base" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>', _n(across.start), _TOP, height))
        parts.append(_text(_LEFT + gutter / 2, height + 16, without, anchor="middle", kind="tick"))
    places = [(across(dot.x) if dot.x is not None else _LEFT + 16, up(dot.y)) for dot in dots]
    taken = [(cx - 6, cy - 6, cx + 6, cy + 6) for cx, cy in places]
    bounds = (_LEFT + 2.0, float(_TOP), WIDTH - 2.0, float(height))
    for dot, (cx, cy) in zip(dots, places, strict=True):
        whisker = Markup("")
        if dot.low is not None and dot.high is not None:
            whisker = _markup(
                '<line x1="{0}" x2="{0}" y1="{1}" y2="{2}" stroke="var(--{3})" stroke-width="1.2" opacity=".55"/>',
                _n(cx), _n(up(dot.low)), _n(up(dot.high)), dot.look.colour,
            )  # fmt: skip
        fill = "ground" if dot.look.dash else dot.look.colour
        mark = _markup(
            '<circle cx="{}" cy="{}" r="4.5" fill="var(--{})" stroke="var(--{})" stroke-width="2"/>', _n(cx), _n(cy), fill, dot.look.colour
        )
        label = _label(dot.name, cx, cy, taken, bounds)
        parts.append(_markup("<g><title>{}</title>{}{}{}</g>", f"{dot.name}: {dot.said}" if dot.said else dot.name, whisker, mark, label))
    return _svg(name, title, description, Markup("").join(parts), height + _BOTTOM)


def strips(name: str, rows: Sequence[Strip], x: Axis, *, title: str, description: str) -> Markup:
    """Draw rows of cells from the first to the last: a bar as high as the share that was right, a low tick where nothing was.

    Raises
    ------
    ValueError
        No row has a cell.
    """
    margin = min(12 + CHARACTER * max((len(row.name) for row in rows), default=0), WIDTH / 3)
    count = max((len(row.shares) for row in rows), default=0)
    if not count:
        raise ValueError("there is nothing to draw")
    row_height, cell_height = 24, 17
    height = 8 + row_height * len(rows)
    across = Scale.over([], Axis(x.label, low=x.low or 0.0, high=x.high if x.high is not None else count), margin, WIDTH - _RIGHT)
    wide = (across.end - across.start) / count
    gap = 0.5 if wide > 3 else 0.0
    parts: list[Markup] = []
    for number, row in enumerate(rows):
        foot = 8 + row_height * number + cell_height
        full: list[str] = []
        low: list[str] = []
        for at, share in enumerate(row.shares):
            if share is None:
                continue
            left = across.start + at * wide
            tall = share * cell_height
            (full if tall > 2 else low).append(f"M{_n(left)} {_n(foot)}v-{_n(max(tall, 2.0))}h{_n(wide - gap)}v{_n(max(tall, 2.0))}z")
        parts.append(
            _markup(
                '<g><title>{}</title>{}<path d="{}" fill="var(--{})"/><path d="{}" fill="var(--grey)" opacity=".6"/></g>',
                f"{row.name}: {row.said}" if row.said else row.name,
                _text(margin - 8, foot - 4, row.name, anchor="end", kind="named" if row.look.width > 2 else ""),
                " ".join(full), row.look.colour, " ".join(low),
            )
        )  # fmt: skip
    parts.append(_x_axis(across, height, x))
    return _svg(name, title, description, Markup("").join(parts), height + _BOTTOM)


def alone(chart: Markup) -> Markup:
    """A chart with its style in it, as a file of its own."""
    head, end, rest = chart.partition("</desc>")
    return head + end + Markup(f"<style>{STYLE}svg.chart{{background:var(--ground)}}</style>") + rest


def _markup(text: str, *values: object) -> Markup:
    return Markup(text).format(*values)


def _weight(series: Series) -> float:
    """Heavier lines are drawn over lighter ones."""
    return series.look.width


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _text(x: float, y: float, said: str, *, anchor: str = "start", kind: str = "") -> Markup:
    return _markup('<text x="{}" y="{}" text-anchor="{}" class="{}">{}</text>', _n(x), _n(y), anchor, kind, said)


def _svg(name: str, title: str, description: str, content: Markup, height: float) -> Markup:
    return _markup(
        '<svg xmlns="http://www.w3.org/2000/svg" class="chart" id="{0}" viewBox="0 0 {1} {2}" role="img" '
        'aria-labelledby="{0}-title {0}-desc"><title id="{0}-title">{3}</title><desc id="{0}-desc">{4}</desc>{5}</svg>',
        name, WIDTH, _n(height), title, description, content,
    )  # fmt: skip


def _frame(across: Scale, up: Scale, x: Axis, y: Axis, *, heading: str = "", left: float | None = None) -> Markup:
    """Grid, ticks and names of both axes; an x axis without a label has its grid alone."""
    left = across.start if left is None else left
    parts = []
    for at, said in up.ticks(y):
        row = up(at)
        parts.append(_markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>', _n(left), _n(across.end), _n(row), _n(row)))
        parts.append(_text(left - 8, row + 4, said, anchor="end", kind="tick"))
    named = f"{heading} · {y.label}" if heading else y.label
    parts.append(_text(4, up.end - 11, named))
    parts.append(_x_axis(across, up.start, x, left=left))
    return Markup("").join(parts)


def _x_axis(across: Scale, foot: float, x: Axis, *, left: float | None = None) -> Markup:
    parts = [
        _markup(
            '<line class="base" x1="{}" x2="{}" y1="{}" y2="{}"/>',
            _n(across.start if left is None else left),
            _n(across.end),
            _n(foot),
            _n(foot),
        )
    ]
    for at, said in across.ticks(x):
        column = across(at)
        parts.append(_markup('<line class="base" x1="{}" x2="{}" y1="{}" y2="{}"/>', _n(column), _n(column), _n(foot), _n(foot + 4)))
        if x.label:
            parts.append(_text(column, foot + 16, said, anchor="middle", kind="tick"))
    if x.label:
        parts.append(_text((across.start + across.end) / 2, foot + 33, x.label, anchor="middle"))
    return Markup("").join(parts)


def _clip(name: str, across: Scale, up: Scale) -> Markup:
    return _markup(
        '<clipPath id="{}"><rect x="{}" y="{}" width="{}" height="{}"/></clipPath>',
        name, _n(across.start - 3), _n(up.end), _n(across.end - across.start + 6), _n(up.start - up.end),
    )  # fmt: skip


def _line(series: Series, across: Scale, up: Scale) -> Markup:
    path, pen_down = [], False
    points = []
    for at, value in series.points:
        if value is None:
            pen_down = False
            continue
        x, y = _n(across(at)), _n(up(value))
        path.append(f"{'L' if pen_down else 'M'}{x} {y}")
        points.append((x, y))
        pen_down = True
    look = series.look
    dots = [_markup('<circle cx="{}" cy="{}" r="3.5" fill="var(--{})"/>', x, y, look.colour) for x, y in points] if look.dots else []
    return _markup(
        '<g><title>{}</title><path class="line" d="{}" stroke="var(--{})" stroke-width="{}"{}/>{}</g>',
        series.name, " ".join(path), look.colour, look.width, _dashed(look), Markup("").join(dots),
    )  # fmt: skip


def _area(band: Band, across: Scale, up: Scale) -> Markup:
    there = [f"{_n(across(at))} {_n(up(high))}" for at, _, high in band.points]
    back = [f"{_n(across(at))} {_n(up(low))}" for at, low, _ in reversed(band.points)]
    return _markup(
        '<path d="M{}z" fill="var(--{})" opacity=".16"><title>{}</title></path>', "L".join((*there, *back)), band.colour, band.name
    )


def _dashed(look: Look) -> Markup:
    return _markup(' stroke-dasharray="{}"', look.dash) if look.dash else Markup("")


#: Draws the sign of a series in the legend, at a place.
_Key = Callable[[float, float], Markup]


def _key_line(look: Look) -> _Key:
    def draw(x: float, y: float) -> Markup:
        dot = _markup('<circle cx="{}" cy="{}" r="3.5" fill="var(--{})"/>', _n(x + 14), _n(y), look.colour) if look.dots else Markup("")
        return dot + _markup(
            '<line x1="{}" x2="{}" y1="{}" y2="{}" stroke="var(--{})" stroke-width="{}"{}/>',
            _n(x), _n(x + 28), _n(y), _n(y), look.colour, look.width, _dashed(look),
        )  # fmt: skip

    return draw


def _key_band(colour: str) -> _Key:
    def draw(x: float, y: float) -> Markup:
        return _markup('<rect x="{}" y="{}" width="28" height="10" fill="var(--{})" opacity=".16"/>', _n(x), _n(y - 5), colour)

    return draw


def _legend(entries: dict[str, _Key], top: float) -> tuple[Markup, float]:
    """The names in columns below a chart, and where it ends."""
    if not entries:
        return Markup(""), top
    column = 44 + CHARACTER * max(map(len, entries))
    columns = max(1, int((WIDTH - 8) // column))
    parts = []
    for number, (name, draw) in enumerate(entries.items()):
        x, y = 8 + (number % columns) * column, top + _LINE * (number // columns) + 8
        parts += [draw(x, y), _text(x + 34, y + 4, name)]
    return Markup("").join(parts), top + _LINE * math.ceil(len(entries) / columns) + 4


_Box = tuple[float, float, float, float]


def _label(name: str, x: float, y: float, taken: list[_Box], bounds: _Box) -> Markup:
    """A point's name where it covers least; its place is added to `taken`."""
    wide = CHARACTER * len(name)
    # The name's left end, its baseline, and which of its points is held fast: fonts differ in width.
    places = [
        (left, y + dy, anchor)
        for dy in (4.0, -9.0, 17.0, -22.0, 30.0, -35.0, 43.0, -48.0, 56.0, -61.0)
        for left, anchor in ((x + 10, "start"), (x - 10 - wide, "end"), (x - wide / 2, "middle"))
        if not (dy == 4.0 and anchor == "middle")
    ]

    def box(place: tuple[float, float, str]) -> _Box:
        return place[0], place[1] - 10, place[0] + wide, place[1] + 3

    def covered(place: tuple[float, float, str]) -> float:
        left, top, right, foot = box(place)
        outside = max(0.0, bounds[0] - left) + max(0.0, right - bounds[2]) + max(0.0, bounds[1] - top) + max(0.0, foot - bounds[3])
        hidden = sum(max(0.0, min(right, r) - max(left, x0)) * max(0.0, min(foot, b) - max(top, t)) for x0, t, r, b in taken)
        return outside * 100 + hidden

    best = min(places, key=lambda place: (covered(place), abs(place[1] - y)))
    left, baseline, anchor = best
    taken.append(box(best))
    leader = Markup("")
    if abs(baseline - 4 - y) > 20:
        near = min(max(x, left), left + wide)
        edge = baseline - 10 if baseline > y else baseline + 3
        leader = _markup('<line class="grid" x1="{}" y1="{}" x2="{}" y2="{}"/>', _n(x), _n(y), _n(near), _n(edge))
    at = left + {"start": 0.0, "middle": wide / 2, "end": wide}[anchor]
    return leader + _text(at, baseline, name, anchor=anchor, kind="halo")
