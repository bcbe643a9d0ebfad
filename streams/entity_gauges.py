"""Value, interval, truth and error of the few entities that are exported by name (`metrics.entities`).

They are what a person watches on the wall; every other series leaves entities out of its labels. Of labels and texts only the
errors are exported, because a gauge holds numbers.
"""

from __future__ import annotations

import math
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from schemas.messages import Interval, Outcome, Prediction, Value
from schemas.settings import Settings

NOT_KNOWN: Final = math.nan


class EntityGauges:
    """The gauges of the named entities; other entities' predictions and outcomes pass by.

    Notes
    -----
    A forecast stands a horizon before its truth on the time axis. To be drawn against truths there are the `matched_*` gauges: the
    forecast, and its interval, that the newest truth belongs to, set at the same moment as that truth.
    """

    def __init__(self, registry: CollectorRegistry, settings: Settings) -> None:
        self._named = frozenset(settings.metrics.entities)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"palimpsest_entity_{name}", text, ("entity",), registry=registry)

        self._forecast = gauge("forecast", "Newest forecast of a named entity.")
        self._low = gauge("forecast_low", "Lower end of the newest forecast's interval.")
        self._high = gauge("forecast_high", "Upper end of the newest forecast's interval.")
        self._truth = gauge("truth", "Newest truth of a named entity.")
        self._matched = gauge("matched_forecast", "The forecast that the newest truth belongs to.")
        self._matched_low = gauge("matched_forecast_low", "Lower end of that forecast's interval.")
        self._matched_high = gauge("matched_forecast_high", "Upper end of that forecast's interval.")
        self._error = gauge("error", "Truth less published forecast; for labels and texts 1 for a miss, else 0.")
        self._model_error = gauge("model_error", "Truth less the model's own answer; for labels and texts 1 for a miss, else 0.")
        numbers = (self._forecast, self._low, self._high, self._truth, self._matched, self._matched_low, self._matched_high)
        self._exported = (*(numbers if settings.target.kind == "number" else ()), self._error, self._model_error)
        self.forget()

    def forget(self) -> None:
        """Show nothing until something new is known, as after a rebalance, when another worker may own any of the entities."""
        for series in self._exported:
            for entity in self._named:
                series.labels(entity).set(NOT_KNOWN)

    def predicted(self, prediction: Prediction) -> None:
        if prediction.entity in self._named and prediction.kind == "number":
            _set(self._forecast, prediction.entity, prediction.forecast.value)
            _set_interval(self._low, self._high, prediction.entity, prediction.interval)

    def resolved(self, outcome: Outcome) -> None:
        """Show a truth and the forecast it belongs to; a correction replaces what it corrects."""
        if outcome.entity not in self._named or outcome.truth is None:
            return
        self._error.labels(outcome.entity).set(outcome.errors.get("published", NOT_KNOWN))
        self._model_error.labels(outcome.entity).set(outcome.errors.get("model", NOT_KNOWN))
        if outcome.kind == "number":
            _set(self._truth, outcome.entity, outcome.truth)
            _set(self._matched, outcome.entity, outcome.forecast.value)
            _set_interval(self._matched_low, self._matched_high, outcome.entity, outcome.interval)


def _set(gauge: Gauge, entity: str, value: Value | None) -> None:
    gauge.labels(entity).set(value if isinstance(value, int | float) else NOT_KNOWN)


def _set_interval(low: Gauge, high: Gauge, entity: str, interval: Interval | None) -> None:
    _set(low, entity, None if interval is None else interval.low)
    _set(high, entity, None if interval is None else interval.high)
