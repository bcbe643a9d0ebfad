"""What guarded publishing costs at most: the mixture beside the best naive forecaster in hindsight, on whole recorded series.

    python -m bench.guarded

Next value of Seattle's daily maximum temperature, the S&P 500's daily move in %, New York's hourly temperature at three airports; truths
that come 1, 5 and 50 steps late; no model, a hostile one, and one that is good until half-way and hostile from then on. The ratio of mean
absolute errors is to stay below 1.02, the intervals' coverage within 2 points of nominal. Core functions alone: no Kafka, no model.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import orjson
import typer

from agents import experts, intervals, mixture
from bench.report import conditions, show
from schemas.messages import Answer, Interval, Value
from schemas.settings import TargetSettings
from schemas.state import ExpertsState, IntervalState, MixtureState
from streams.evaluation import datasets

DELAYS = (1, 5, 50)
LEVEL = 0.8
MOST, WITHIN = 1.02, 0.02
_BEGIN = datetime(2012, 1, 1, tzinfo=UTC)

#: A model: step, steps in all, truth, last value, chance.
Model = Callable[[int, int, float, float, random.Random], float | None]


def absent(step: int, steps: int, truth: float, last: float, chance: random.Random) -> float | None:
    """No model."""
    return None


def hostile(step: int, steps: int, truth: float, last: float, chance: random.Random) -> float | None:
    """Far off, in several ways."""
    return chance.choice([1.7e308, -1e6, truth + 30.0, 2 * last - truth])


def turning(step: int, steps: int, truth: float, last: float, chance: random.Random) -> float | None:
    """As good as the last value until half-way, then far off."""
    return last + chance.gauss(0, 0.1) if step < steps // 2 else chance.choice([-1e6, 1.7e308])


MODELS: dict[str, Model] = {"no model": absent, "hostile": hostile, "turns hostile": turning}


class Figures(NamedTuple):
    """Mean absolute errors of the published forecast and of the best naive one, and the share of truths inside the intervals."""

    n: int
    published: float
    best: str
    best_error: float
    coverage: float

    @property
    def ratio(self) -> float:
        return self.published / self.best_error


def follow(truths: Sequence[float], target: TargetSettings, delay: int, model: Model) -> Figures:
    """Publish for every truth; learn each `delay` steps after its prediction, from what was stored with it."""
    known, weights, calibrated = ExpertsState(), MixtureState(), IntervalState()
    waiting: deque[tuple[int, dict[str, Value], Answer, Interval | None, float]] = deque()
    chance, published, errors, inside, told, n = random.Random(7), 0.0, dict.fromkeys(experts.names(target), 0.0), 0, 0, 0
    for step, truth in enumerate(truths):
        while waiting and waiting[0][0] + delay <= step:
            _, stored, answer, stated, came = waiting.popleft()
            weights = mixture.learn(weights, stored, answer, came, target)
            calibrated = intervals.learn(calibrated, stated, answer, came, target, LEVEL)
        forecasts = experts.forecasts(known, target, None)
        if forecasts:
            last = float(forecasts["persistence"])
            said = model(step, len(truths), truth, last, chance)
            voters = forecasts if said is None else {**forecasts, mixture.MODEL: said}
            answer = mixture.publish(weights, voters, target, experts.names(target)) or Answer(value=last)
            stated = intervals.interval(calibrated, answer, voters, target, LEVEL)
            waiting.append((step, dict(voters), answer, stated, truth))
            n += 1
            published += abs(float(answer.value) - truth)
            for name in errors:
                errors[name] += abs(float(forecasts.get(name, last)) - truth)
            if stated is not None:
                told += 1
                inside += intervals.covers(stated, truth)
        known = experts.update(known, truth, _BEGIN + timedelta(hours=step), target)
    best = min(errors, key=lambda name: errors[name])
    return Figures(n, published / n, best, errors[best] / n, inside / told)


def series() -> Iterator[tuple[str, TargetSettings, list[float]]]:
    """Each entity's truths, in order."""
    for name in ("seattle-temperature", "sp500-index", "newyork-temperature"):
        dataset = datasets.load(name, datasets.Choice())
        by_entity: dict[str, list[float]] = {}
        for case in dataset.cases:
            by_entity.setdefault(case.observation.entity, []).append(float(case.truth))
        for entity, truths in by_entity.items():
            yield f"{name} {entity}", dataset.configured().target, truths


def main(json: Annotated[Path | None, typer.Option(help="Write every figure to this file.")] = None) -> None:
    """Print the table; end with 1 where a figure is beyond its bound."""
    began, rows, found = conditions(), [], []
    for name, target, truths in series():
        for model, answers in MODELS.items():
            for delay in DELAYS:
                one = follow(truths, target, delay, answers)
                held = one.ratio <= MOST and abs(one.coverage - LEVEL) <= WITHIN
                found.append({"series": name, "model": model, "delay": delay, **one._asdict(), "ratio": one.ratio, "held": held})
                rows.append(
                    (
                        name,
                        model,
                        str(delay),
                        str(one.n),
                        f"{one.published:.3f}",
                        f"{one.best_error:.3f} {one.best}",
                        f"{one.ratio:.3f}",
                        f"{one.coverage:.3f}",
                        "" if held else "beyond",
                    )
                )
    show("Guarded publishing", ("series", "model", "delay", "n", "MAE", "best naive", "ratio", f"coverage of {LEVEL}", ""), rows, began)
    if json is not None:
        written: dict[str, Any] = {"conditions": began, "figures": found}
        json.write_bytes(orjson.dumps(written, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    if not all(one["held"] for one in found):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
