"""Axes of charts: from values to places, with ticks at round numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis shows.

    Attributes
    ----------
    label
        With its unit in words or brackets: `absolute error (°C)`.
    low, high
        Ends; by default those of the data. What lies beyond is cut off.
    log
        Powers of ten have equal distances; values are positive.
    at
        Where the ticks are, in place of round numbers; on an axis of λ, its values.
    whole
        Ticks are whole numbers.
    percent
        Values are shares, shown in per cent.
    """

    label: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    at: tuple[float, ...] = ()
    whole: bool = False
    percent: bool = False


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to units of the drawing."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def over(cls, values: Iterable[float], axis: Axis, start: float, end: float, *, pad: float = 0.0) -> Scale:
        """A scale over the values, or between the axis's own ends; `pad` is left free at ends that are the data's, as a share."""
        known = [value for value in values if math.isfinite(value) and not (axis.log and value <= 0)]
        known += [end for end in (axis.low, axis.high) if end is not None]
        if not known:
            raise ValueError(f"there is nothing to draw over {axis.label!r}")
        low = axis.low if axis.low is not None else min(known)
        high = axis.high if axis.high is not None else max(known)
        if axis.log:
            room = math.log10(max(high / low, 1.0)) * pad or (0.15 if high <= low else 0.0)
            low, high = low if axis.low is not None else low / 10**room, high if axis.high is not None else high * 10**room
        else:
            room = (high - low) * pad if high > low else max(abs(high) * 0.1, 0.5)
            low, high = low if axis.low is not None else low - room, high if axis.high is not None else high + room
        return cls(low, high if high > low else low + 1.0, start, end, axis.log)

    def __call__(self, value: float) -> float:
        if self.log:
            share = math.log10(max(value, 1e-12) / self.low) / math.log10(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, axis: Axis) -> list[tuple[float, str]]:
        if axis.at:
            return [(at, figure(at, axis)) for at in axis.at if self.low <= at <= self.high]
        if self.log:
            return [(at, figure(at, axis)) for at in log_ticks(self.low, self.high)]
        found = ticks(
            self.low, self.high, max(2, round(abs(self.end - self.start) / (46 if self.start > self.end else 90))), whole=axis.whole
        )
        step = found[1] - found[0] if len(found) > 1 else None
        return [(at, figure(at, axis, step=step)) for at in found]


def ticks(low: float, high: float, count: int = 5, *, whole: bool = False) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from `low` to `high`, about `count` of them.

    Examples
    --------
    >>> ticks(0.31, 0.88)
    [0.4, 0.5, 0.6, 0.7, 0.8]
    >>> ticks(0, 3, whole=True)
    [0.0, 1.0, 2.0, 3.0]
    """
    if not high > low:
        return [low]
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next((times for times, below in ((1, 1.5), (2, 3.5), (5, 7.5)) if raw < below * power), 10)
    step = max(step, 1.0) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    # Divided where the step is a fraction: 3 * 0.1 is not 0.3, 3 / 10 is.
    return [at * step if step >= 1 else at / round(1 / step) for at in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten between two positive numbers; within two decades 2 and 5 times them as well.

    Examples
    --------
    >>> log_ticks(80, 2_500)
    [100.0, 200.0, 500.0, 1000.0, 2000.0]
    """
    times = (1, 2, 5) if math.log10(high / low) < 2.2 else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [by * 10.0**decade for decade in decades for by in times]
    return [tick for tick in found if low * 0.999 <= tick <= high * 1.001] or [low, high]


def figure(value: float, axis: Axis | None = None, *, step: float | None = None) -> str:
    """A number as an axis or a table says it.

    Examples
    --------
    >>> figure(0.45, Axis("accuracy", percent=True)), figure(1234567.0), figure(0.5, step=0.25), figure(-2.0)
    ('45 %', '1,234,567', '0.50', '−2')
    """
    suffix = ""
    if axis is not None and axis.percent:
        value, suffix, step = value * 100, " %", None if step is None else step * 100
    if step is not None:
        decimals = min(max(0, -math.floor(math.log10(step) + 1e-9) + (0 if _is_round(step) else 1)), 8) if step < 1 or step % 1 else 0
        text = f"{value:,.{decimals}f}"
    elif abs(value) >= 100 or float(value).is_integer():
        text = f"{value:,.0f}"
    else:
        text = f"{value:.3g}"
    return text.replace("-", "−") + suffix


def _is_round(step: float) -> bool:
    """Whether a step below 1 is 1, 2 or 5 times a power of ten: one decimal tells its multiples apart."""
    first = step / 10 ** math.floor(math.log10(step) + 1e-9)
    return abs(first - round(first)) < 1e-6
