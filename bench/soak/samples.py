"""What is looked at again and again while the worker runs: its memory, its queues, and the breaker of its model."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from streams.metrics import BREAKER_STATES


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the worker.

    Attributes
    ----------
    at
        Seconds since the load began.
    memory
        Resident bytes.
    in_flight
        Records being worked on.
    waiting_predictions, waiting_rewrites
        Calls that wait for a slot.
    lag
        Records of all inputs that are not done, those in flight included.
    breaker
        Its state, as a number: the place in `streams.metrics.BREAKER_STATES`.
    busy_seconds
        Slot-seconds that the server has computed since the load began, by its own account.
    restarts, folded
        Of the worker's supervisor; and outcomes that were folded into a summary since the start.
    """

    at: float
    memory: int
    in_flight: int
    waiting_predictions: int
    waiting_rewrites: int
    lag: int
    breaker: int
    busy_seconds: float
    restarts: int
    folded: int

    @property
    def waiting(self) -> int:
        return self.waiting_predictions + self.waiting_rewrites

    @property
    def breaker_state(self) -> str:
        return BREAKER_STATES[self.breaker]


def read(at: float, memory: int, busy_seconds: float, metrics: str) -> Sample:
    """A sample; what is not given comes from the text of the worker's `/metrics`."""
    sums: defaultdict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(metrics):
        for series in family.samples:
            # What is not known yet is no number.
            if series.value == series.value:
                kind = series.labels.get("kind") or series.labels.get("list") or ""
                sums[f"{series.name.removeprefix('palimpsest_')}/{kind}"] += series.value
    return Sample(
        at=round(at, 2),
        memory=memory,
        in_flight=int(sums["in_flight/"]),
        waiting_predictions=int(sums["model_waiting/prediction"]),
        waiting_rewrites=int(sums["model_waiting/rewrite"]),
        lag=int(sums["lag_records/"]),
        breaker=int(sums["model_breaker_state/"]),
        busy_seconds=round(busy_seconds, 3),
        restarts=int(sums["restarts_total/"]),
        folded=int(sums["dropped_total/feedback"]),
    )


def typical_memory(samples: Sequence[Sample], begin: float, end: float) -> float:
    """Median resident bytes between two times; the samples of that time must not be none."""
    return statistics.median(sample.memory for sample in samples if begin <= sample.at <= end)


def peaks(samples: Sequence[Sample]) -> Mapping[str, int]:
    """The highest that was seen of everything that has a bound."""
    return {
        "in flight": max(sample.in_flight for sample in samples),
        "waiting": max(sample.waiting for sample in samples),
        "lag": max(sample.lag for sample in samples),
    }
