"""Guarded publishing on a whole real series: beside the best naive forecaster whatever the model does, intervals as wide as they say."""

from __future__ import annotations

from itertools import pairwise

import pytest

from bench import guarded
from streams.evaluation import datasets


@pytest.fixture(scope="module")
def seattle() -> tuple:
    dataset = datasets.load("seattle-temperature", datasets.Choice())
    return [float(case.truth) for case in dataset.cases], dataset.configured().target


@pytest.mark.parametrize("delay", guarded.DELAYS)
@pytest.mark.parametrize("model", guarded.MODELS)
def test_the_published_forecast_costs_at_most_two_per_cent_and_its_interval_holds_what_it_says(seattle, model, delay) -> None:
    truths, target = seattle
    found = guarded.follow(truths, target, delay, guarded.MODELS[model])
    assert found.n > 1400
    assert found.ratio <= guarded.MOST
    assert found.coverage == pytest.approx(guarded.LEVEL, abs=guarded.WITHIN)


def test_a_forecast_that_follows_the_model_would_not_pass(seattle) -> None:
    truths, target = seattle
    steps = len(truths)
    chance = guarded.random.Random(7)
    told = [guarded.turning(step, steps, truth, last, chance) for step, (last, truth) in enumerate(pairwise(truths))]
    naive = guarded.follow(truths, target, 1, guarded.absent).best_error
    assert sum(min(abs(float(said or 0.0) - truth), 1e9) for said, truth in zip(told, truths[1:], strict=True)) / steps > 100 * naive
