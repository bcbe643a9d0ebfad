"""Memory and queues of a soak over time, with the times in which a fault was on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.soak.run import Result
from bench.soak.samples import Sample
from streams.evaluation.axes import Axis
from streams.evaluation.drawing import Band, Look, Panel, Series, alone, lines

FAULT, OUTAGE = "a fault is on", "every call hangs"


def picture(result: Result) -> str:
    """An SVG file's text."""
    samples = result.samples
    memory = [_over(samples, "resident memory", lambda one: one.memory / 2**20, Look("blue", width=2.0))]
    queues = [
        _over(samples, "records in flight", lambda one: one.in_flight, Look("ink")),
        _over(samples, "predictions that wait for the model", lambda one: one.waiting_predictions, Look("green", dash="6 3")),
        _over(samples, "rewrites that wait for the model", lambda one: one.waiting_rewrites, Look("purple", dash="2 3")),
        _over(samples, "records that are not done", lambda one: one.lag, Look("grey")),
    ]
    breaker = [_over(samples, "breaker: 0 closed, 1 half-open, 2 open", lambda one: one.breaker, Look("vermilion"))]
    panels = [
        Panel(Axis("MB", low=0.0), memory, _bands(result, 1.05 * _most(memory)), heading="memory"),
        Panel(Axis("records or calls", low=0.0), queues, _bands(result, 1.05 * _most(queues)), heading="queues"),
        Panel(
            Axis("state", low=0.0, high=2.2, at=(0.0, 1.0, 2.0)), breaker, _bands(result, 2.2), heading="the model's breaker", height=110
        ),
    ]
    title = f"A soak of {result.seconds / 60:.0f} minutes"
    described = "Resident memory of the worker, its queues, and the breaker of its model over time; shaded where a fault was on."
    return alone(lines("soak", panels, Axis("minutes", low=0.0), title=title, description=described))


def _over(samples: Sequence[Sample], name: str, of: Callable[[Sample], float], look: Look) -> Series:
    return Series(name, [(sample.at / 60, of(sample)) for sample in samples], look)


def _most(series: Sequence[Series]) -> float:
    return max((value for one in series for _, value in one.points if value is not None), default=0.0) or 1.0


def _bands(result: Result, high: float) -> list[Band]:
    return [
        Band(
            OUTAGE if phase.outage else FAULT,
            [(phase.begin / 60, 0.0, high), (phase.end / 60, 0.0, high)],
            "vermilion" if phase.outage else "orange",
        )
        for phase in result.phases
    ]
