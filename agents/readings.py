"""What an observation says about the target: its value now, the reference that a forecast adjusts, and the moment that is forecast.

Values of a kind that the target cannot have are none: settings may name a field that means something else in some records.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from schemas.messages import Observation, Scalar, Value
from schemas.settings import TargetSettings
from schemas.state import EntityState


def target_time(observation: Observation, target: TargetSettings) -> datetime | None:
    """The moment that is forecast; None with `horizon = "next"`."""
    return observation.time + target.horizon if isinstance(target.horizon, timedelta) else None


def current(observation: Observation, target: TargetSettings) -> Value | None:
    """The target's own value in the observation, where it has one of the right kind; a text has none that counts."""
    value = observation.values.get(target.field)
    if target.kind == "number":
        return _number(value)
    if target.kind == "category":
        return value if isinstance(value, str) and value in target.labels else None
    return None


def told(observation: Observation, target: TargetSettings) -> Value | None:
    """The truth that the observation carries for earlier predictions: the target's own value, a text included."""
    value = current(observation, target)
    if value is None and target.kind == "text":
        given = observation.values.get(target.field)
        value = given if isinstance(given, str) else None
    return value


def reference(observation: Observation, state: EntityState, target: TargetSettings) -> float | None:
    """The number that the model adjusts: the named field, else the target's own value, else its last known one."""
    if target.kind != "number":
        return None
    if target.reference is not None:
        return _number(observation.values.get(target.reference))
    known = current(observation, target)
    if known is None:
        known = state.experts.last
    return known if isinstance(known, float | int) else None


def _number(value: Scalar | None) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
