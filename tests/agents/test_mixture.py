"""The published mixture: hardly worse than the best naive expert, whatever the model does and however late the truths come."""

from __future__ import annotations

import csv
import math
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import experts
from agents.mixture import CAP, REACH, learn, publish
from schemas.codec import encode
from schemas.messages import Answer, Value
from schemas.settings import TargetSettings
from schemas.state import ExpertsState, MixtureState

NUMBER = TargetSettings()
LABEL = TargetSettings(kind="category", labels=("rain", "fog", "sun", "snow", "drizzle"))
NAIVE = ("persistence",)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)

#: (step, truth, forecast of persistence, random) -> what the model says
Model = Callable[[int, float, float, random.Random], float | None]


class Run(NamedTuple):
    """Losses over a stream: of what was published, and of each arm."""

    published: float
    arms: Mapping[str, float]
    state: MixtureState

    @property
    def best_naive(self) -> float:
        return min(loss for name, loss in self.arms.items() if name != "model")


def seattle(column: str) -> list[str]:
    with files("vega_datasets").joinpath("_data/seattle-weather.csv").open(encoding="utf-8") as lines:
        return [row[column] for row in csv.DictReader(lines)]


def followed(truths: Sequence[Value], target: TargetSettings, delay: int, model: Callable[[int, Value, Value], Value | None]) -> Run:
    """Publish for every truth; learn each `delay` steps after its prediction, from what was stored with it."""
    known, state, waiting = ExpertsState(), MixtureState(), deque[tuple[int, dict[str, Value], Answer, Value]]()
    published, arms = 0.0, dict.fromkeys(experts.names(target), 0.0)
    start = datetime(2012, 1, 1, tzinfo=UTC)
    for step, truth in enumerate(truths):
        while waiting and waiting[0][0] + delay <= step:
            _, stored, answer, outcome = waiting.popleft()
            state = learn(state, stored, answer, outcome, target)
        forecasts = experts.forecasts(known, target, None)
        if forecasts:
            said = model(step, truth, forecasts["persistence"])
            if said is not None:
                forecasts["model"] = said
            answer = publish(state, forecasts, target, NAIVE)
            assert answer is not None
            waiting.append((step, forecasts, answer, truth))
            published += loss(answer.value, truth)
            for name in {*arms, *forecasts}:
                arms[name] = arms.get(name, 0.0) + loss(forecasts.get(name, forecasts["persistence"]), truth)
        known = experts.update(known, truth, start + timedelta(days=step), target)
    return Run(published, arms, state)


def loss(forecast: Value, truth: Value) -> float:
    return abs(forecast - truth) if isinstance(forecast, float) and isinstance(truth, float) else float(forecast != truth)


def temperatures(delay: int, model: Model) -> Run:
    chance = random.Random(7)
    return followed(
        [float(value) for value in seattle("temp_max")],
        NUMBER,
        delay,
        lambda step, truth, last: model(step, float(truth), float(last), chance),
    )


MIDWAY = 730


def absent(step: int, truth: float, last: float, chance: random.Random) -> float | None:
    return None


def hostile(step: int, truth: float, last: float, chance: random.Random) -> float | None:
    return chance.choice([1.7e308, -1e6, truth + 30.0, 2 * last - truth])


def copying_then_hostile(step: int, truth: float, last: float, chance: random.Random) -> float | None:
    return last + chance.gauss(0, 1) if step < MIDWAY else chance.choice([-1e6, 1.7e308])


def good_then_hostile(step: int, truth: float, last: float, chance: random.Random) -> float | None:
    return truth + chance.gauss(0, 1.5) if step < MIDWAY else 1e6


@pytest.mark.parametrize("delay", [1, 5, 50])
@pytest.mark.parametrize(("model", "factor"), [(absent, 1.02), (hostile, 1.02), (copying_then_hostile, 1.05), (good_then_hostile, 1.05)])
def test_on_real_temperatures_the_mixture_stays_beside_the_best_naive_expert(model: Model, factor: float, delay: int) -> None:
    run = temperatures(delay, model)
    assert run.published <= factor * run.best_naive


@pytest.mark.parametrize("delay", [1, 5, 50])
def test_a_combination_better_than_each_of_its_parts_is_found(delay: int) -> None:
    chance, level, truths = random.Random(5), 0.0, list[float]()
    for _ in range(1500):
        level = 0.5 * level + chance.gauss(0, 1)
        truths.append(level)
    run = followed(truths, NUMBER, delay, lambda *_: None)
    assert run.published < 0.95 * run.best_naive


@pytest.mark.parametrize("delay", [1, 5, 50])
def test_a_good_model_is_followed(delay: int) -> None:
    run = temperatures(delay, lambda step, truth, last, chance: truth + chance.gauss(0, 1))
    assert run.published <= 1.1 * run.arms["model"] < 0.5 * run.best_naive


def test_a_model_that_answers_now_and_then_is_used_when_it_does() -> None:
    run = temperatures(1, lambda step, truth, last, chance: truth + chance.gauss(0, 1) if chance.random() < 0.5 else None)
    assert run.published < 0.85 * run.best_naive


@pytest.mark.parametrize(("delay", "factor"), [(1, 1.03), (5, 1.03), (50, 1.12)])
@pytest.mark.parametrize("hostility", [False, True])
def test_on_real_labels_the_vote_stays_beside_the_best_naive_expert(delay: int, factor: float, hostility: bool) -> None:
    run = followed(
        seattle("weather"), LABEL, delay, lambda step, truth, last: ("fog" if truth == "rain" else "rain") if hostility else None
    )
    assert run.published <= factor * run.best_naive


def test_a_good_models_labels_are_followed() -> None:
    chance = random.Random(3)
    run = followed(seattle("weather"), LABEL, 5, lambda step, truth, last: truth if chance.random() < 0.8 else "snow")
    assert run.published <= 1.05 * run.arms["model"]


@given(
    st.lists(st.tuples(*[st.floats(-1, 1)] * 4), min_size=1, max_size=60),
    st.integers(0, 6),
)
def test_regret_never_exceeds_its_bound(rows: list[tuple[float, float, float, float]], between: int) -> None:
    """The bound of the module's docstring, for arms as an adversary likes them and truths `between` outcomes late; here the unit is 1."""
    state, waiting, names = MixtureState(scale=1.0), deque[tuple[dict[str, Value], Answer, float]](), ("a", "b", "model")
    excess = dict.fromkeys(names, 0.0)
    for *values, truth in rows:
        forecasts: dict[str, Value] = dict(zip(names, values, strict=True))
        answer = publish(state, forecasts, NUMBER.model_copy(update={"decimals": 6}), ("a",))
        assert answer is not None
        waiting.append((forecasts, answer, truth))
        for name in names:
            excess[name] += loss(answer.value, truth) - loss(forecasts[name], truth)
        if len(waiting) > between:
            stored, given_answer, outcome = waiting.popleft()
            state = learn(state, stored, given_answer, outcome, NUMBER)
    assert max(excess.values()) <= 2.0 * math.sqrt((1 + 2 * between) * (len(names) + 1) * len(rows)) + 1e-4


@given(st.lists(st.tuples(FLOATS, FLOATS, FLOATS), min_size=1, max_size=30))
def test_any_finite_numbers_give_a_finite_forecast_and_a_state_that_reads_back(rows: list[tuple[float, float, float]]) -> None:
    state = MixtureState()
    for last, said, truth in rows:
        forecasts: dict[str, Value] = {"persistence": last, "model": said}
        answer = publish(state, forecasts, NUMBER, NAIVE)
        assert answer is not None and isinstance(answer.value, float) and math.isfinite(answer.value)
        state = learn(state, forecasts, answer, truth, NUMBER)
        assert MixtureState.model_validate(orjson.loads(encode(state))) == state
        assert all(abs(regret) <= CAP * len(rows) for regret in state.regret.values())


def test_a_hostile_arm_with_all_the_weight_pulls_no_further_than_its_reach() -> None:
    state = MixtureState(regret={"model": 9.0}, scale=2.0)
    answer = publish(state, {"persistence": 10.0, "mean": 12.0, "model": 1e300}, NUMBER, NAIVE)
    assert answer == Answer(value=12.0 + REACH * 2.0)


def test_an_outlier_among_the_truths_is_soon_forgotten() -> None:
    honest = [float(value) for value in seattle("temp_max")][:200]
    usual = followed(honest, NUMBER, 1, lambda *_: None).state.scale
    assert followed([-9999.0, *honest], NUMBER, 1, lambda *_: None).state.scale < 3 * usual


@pytest.mark.parametrize(("present", "expected"), [({"mean": 2.0, "persistence": 1.0}, 1.0), ({"mean": 2.0, "drift": 3.0}, 3.0)])
def test_before_anything_is_learned_the_first_fallback_present_goes_out(present: dict[str, Value], expected: float) -> None:
    assert publish(MixtureState(), present, NUMBER, ("persistence", "drift", "mean")) == Answer(value=expected)


def test_an_arm_asleep_keeps_its_regret_and_the_others_share_its_weight() -> None:
    state = MixtureState(regret={"model": 5.0, "mean": 1.0}, scale=1.0)
    assert publish(state, {"persistence": 1.0, "mean": 2.0}, NUMBER, NAIVE) == Answer(value=2.0)
    assert learn(state, {"persistence": 1.0, "mean": 2.0}, Answer(value=2.0), 2.0, NUMBER).regret["model"] == 5.0


def test_a_mixture_stays_in_the_targets_range() -> None:
    target = TargetSettings(range=(0.0, 10.0))
    assert publish(MixtureState(), {"model": 99.0}, target, NAIVE) == Answer(value=10.0)


def test_without_forecasts_nothing_is_published() -> None:
    assert publish(MixtureState(), {}, NUMBER, NAIVE) is None
    assert publish(MixtureState(), {"persistence": "a label, from other settings"}, NUMBER, NAIVE) is None


def test_labels_are_ranked_by_their_votes_then_by_those_without_weight() -> None:
    state = MixtureState(regret={"model": 2.0, "markov": 1.5, "most-frequent": 1.0})
    arms: dict[str, Value] = {"persistence": "snow", "most-frequent": "rain", "markov": "rain", "model": "sun"}
    assert publish(state, arms, LABEL, NAIVE) == Answer(value="rain", top=("rain", "sun", "snow"))
    assert publish(state, arms, LABEL.model_copy(update={"top_k": 1}), NAIVE) == Answer(value="rain", top=("rain",))


def test_of_texts_the_models_goes_out_and_nothing_is_learned() -> None:
    text = TargetSettings(kind="text")
    assert publish(MixtureState(), {"persistence": "a", "model": "b"}, text, NAIVE) == Answer(value="b")
    assert publish(MixtureState(), {"persistence": "a"}, text, NAIVE) == Answer(value="a")
    assert learn(MixtureState(), {"persistence": "a"}, Answer(value="a"), "b", text) == MixtureState()


@given(st.permutations(["persistence", "drift", "mean", "model"]), st.lists(st.floats(-50, 50), min_size=1, max_size=8))
def test_the_order_of_the_arms_changes_no_byte(order: Iterable[str], truths: list[float]) -> None:
    said: dict[str, Value] = {"persistence": 1.1, "drift": 2.3, "mean": -3.7, "model": 40.1}
    states = []
    for arms in (said, {name: said[name] for name in order}):
        state = MixtureState()
        for truth in truths:
            answer = publish(state, arms, NUMBER, NAIVE)
            assert answer is not None
            state = learn(state, arms, answer, truth, NUMBER)
        states.append(encode(state))
    assert states[0] == states[1]
