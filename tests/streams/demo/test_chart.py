"""Tests of `streams.demo.chart`."""

from __future__ import annotations

from datetime import date, timedelta

from schemas.messages import Interval
from streams.demo.chart import FORECAST, TRUTH, Canvas, Point, label_strip, line_chart

DAY = date(2014, 4, 12)


def points(values: list[tuple[float, float | None]]) -> list[Point]:
    return [Point(DAY + timedelta(days=i), forecast, truth) for i, (forecast, truth) in enumerate(values)]


def test_each_dot_of_a_character_has_its_bit() -> None:
    canvas = Canvas(1, 1)
    for x in range(2):
        for y in range(4):
            canvas.dot(x, y, "")
    assert canvas.lines()[0].plain == "⣿"
    corner = Canvas(2, 2)
    corner.dot(3, 7, "red")
    assert [line.plain for line in corner.lines()] == ["⠀⠀", "⠀⢀"]


def test_a_dot_outside_of_the_canvas_is_not_drawn() -> None:
    canvas = Canvas(2, 2)
    canvas.line((-3, -3), (-1, -1), "red")
    canvas.dot(4, 0, "red")
    assert {character for line in canvas.lines() for character in line.plain} == {"⠀"}


def test_a_line_has_no_gap() -> None:
    canvas = Canvas(4, 1)
    canvas.line((0, 0), (7, 3), "red")
    assert all(character != "⠀" for character in canvas.lines()[0].plain)


def test_a_chart_fills_the_room_it_is_given_and_names_its_range_and_days() -> None:
    lines = line_chart(points([(10.0, 12.0), (14.0, 20.0), (19.0, None)]), 60, 10)
    assert len(lines) == 10
    assert all(len(line) <= 60 for line in lines)
    assert lines[0].plain.startswith(" 20.0 │")
    assert lines[8].plain.startswith(" 10.0 │")
    assert "12 Apr" in lines[-1].plain
    assert "14 Apr" in lines[-1].plain


def test_truth_and_forecast_are_drawn_in_their_own_colours() -> None:
    lines = line_chart(points([(10.0, 20.0), (10.0, 20.0)]), 40, 8)
    styles = {str(span.style) for line in lines for span in line.spans}
    assert {TRUTH, FORECAST} <= styles


def test_one_point_a_flat_line_and_none_at_all_are_drawn_too() -> None:
    assert len(line_chart(points([(10.0, None)]), 40, 8)) == 8
    assert len(line_chart(points([(10.0, 10.0)] * 5), 40, 8)) == 8
    assert "waiting" in line_chart([], 40, 8)[0].plain
    assert "waiting" in label_strip([], ["sun", "rain"], 40)[0].plain


def test_only_the_newest_days_that_fit_are_drawn() -> None:
    lines = line_chart(points([(float(i), float(i)) for i in range(100)]), 27, 6)
    assert "99.0" in lines[0].plain
    assert "80.0" in lines[-2].plain


def test_the_newest_interval_is_within_the_range() -> None:
    newest = Point(DAY, 10.0, None, Interval(level=0.8, low=2.0, high=31.0))
    assert line_chart([newest], 40, 8)[0].plain.startswith(" 31.0 │")


def test_a_strip_shows_what_happened_and_what_was_said_instead() -> None:
    days = [Point(DAY, "sun", "sun"), Point(DAY, "sun", "fog"), Point(DAY, "fog", None)]
    lines = label_strip(days, ["fog", "sun"], 30)
    assert lines[0].plain == " fog│·█○"
    assert lines[1].plain == " sun│█○·"
    assert [str(span.style) for span in lines[1].spans if span.start >= 5][:2] == ["green", "red"]
