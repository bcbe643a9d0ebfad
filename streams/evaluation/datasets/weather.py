"""The daily weather of Seattle: the next day's class, or its highest temperature."""

from __future__ import annotations

from datetime import date
from typing import Any

from schemas.messages import Observation
from streams.demo import dataset as days
from streams.demo.dataset import HORIZON, LABELS, UNIT, Target
from streams.evaluation.dataset import Case, Dataset, DatasetError

NOTES = ("The data are public and from 2012 to 2015: the model may have read them in its training.",)
_TITLES: dict[Target, str] = {
    "class": "weather of Seattle, next day's class",
    "temperature": "weather of Seattle, next day's maximum temperature (°C)",
}
_TARGETS: dict[Target, dict[str, Any]] = {
    "class": {"kind": "category", "description": "weather class of the next day", "labels": LABELS, "top_k": 2},
    "temperature": {"kind": "number", "description": "maximum temperature of the next day", "decimals": 1, "range": (-40.0, 60.0)},
}


def seattle(target: Target, *, start: date | None = None, steps: int | None = None) -> Dataset:
    """`seattle-class` or `seattle-temperature`, one observation a day.

    Parameters
    ----------
    target
        What is forecast.
    start
        The first day that is observed; the first there is, 2012-01-01, if None.
    steps
        How many days are observed; all that are left if None.

    Raises
    ------
    DatasetError
        The days asked for are not all there, or the package with the data is not installed.
    """
    try:
        found = days.read_days()
        begin = start or found[0].date
        asked = days.questions(found, target, begin, (found[-1].date - begin) // HORIZON if steps is None else steps)
    except days.DatasetError as error:
        raise DatasetError(str(error)) from error
    cases = [
        Case(
            Observation(entity=days.ENTITY, id=question.id, time=question.day.time, values=question.day.values),
            question.truth,
            question.day.time + HORIZON,
        )
        for question in asked
    ]
    return Dataset(
        name=f"seattle-{target}",
        title=_TITLES[target],
        cases=tuple(cases),
        settings={
            "target": {"field": days.FIELD[target], "unit": UNIT[target], "horizon": HORIZON, **_TARGETS[target]},
            "memory": {
                "facts": (
                    "One observation a day from Seattle, at sea level by the Pacific.",
                    "precipitation is in mm, temperatures in °C, wind in m/s.",
                )
            },
        },
        notes=NOTES,
    )
