import random
import statistics

import pytest

from tests.emulator.latency import Latency, Timing


def test_a_constant_latency_is_so_much_a_call_a_prompt_token_and_an_answer_token() -> None:
    latency = Latency(seconds=0.5, prompt_token=0.25, answer_token=0.125)
    assert latency.draw(random.Random(1), prompt_tokens=8, answer_tokens=4) == Timing(prefill=2.0, decode=1.0)


@pytest.mark.parametrize(("distribution", "spread"), [("exponential", 1.0), ("lognormal", 0.53)])
def test_other_distributions_keep_the_mean_and_have_their_own_spread(distribution, spread) -> None:
    latency = Latency(seconds=2.0, distribution=distribution, sigma=0.5)
    chance = random.Random(1)
    drawn = [latency.draw(chance, prompt_tokens=0, answer_tokens=0).decode for _ in range(20_000)]
    assert statistics.mean(drawn) == pytest.approx(2.0, rel=0.03)
    assert statistics.stdev(drawn) == pytest.approx(2.0 * spread, rel=0.1)
    assert min(drawn) > 0


def test_one_factor_of_chance_covers_prompt_and_answer() -> None:
    latency = Latency(prompt_token=1.0, answer_token=2.0, distribution="exponential")
    timing = latency.draw(random.Random(1), prompt_tokens=1, answer_tokens=1)
    assert timing.decode == pytest.approx(2 * timing.prefill)
