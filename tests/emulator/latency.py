"""How long a call computes: a part for reading the prompt, a part for writing the answer, and chance over both."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

Distribution = Literal["constant", "exponential", "lognormal"]


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds that one call spends on its prompt and on its answer."""

    prefill: float
    decode: float


@dataclass(frozen=True, slots=True)
class Latency:
    """How long calls take.

    Parameters
    ----------
    seconds
        Of every call, whatever its size; they count as time of writing.
    prompt_token
        Seconds of a prompt token that no slot's cache had.
    answer_token
        Seconds of an answer token.
    distribution
        Of the factor on the whole, whose mean is 1: `constant`, `exponential` or `lognormal`.
    sigma
        Spread of the lognormal one: the standard deviation of its logarithm.
    """

    seconds: float = 0.0
    prompt_token: float = 0.0
    answer_token: float = 0.0
    distribution: Distribution = "constant"
    sigma: float = 0.5

    def draw(self, chance: random.Random, *, prompt_tokens: int, answer_tokens: int) -> Timing:
        """Return the time of one call; `prompt_tokens` are those that must be read."""
        factor = self._factor(chance)
        return Timing(factor * self.prompt_token * prompt_tokens, factor * (self.seconds + self.answer_token * answer_tokens))

    def _factor(self, chance: random.Random) -> float:
        match self.distribution:
            case "constant":
                return 1.0
            case "exponential":
                return chance.expovariate(1.0)
            case "lognormal":
                return chance.lognormvariate(-self.sigma * self.sigma / 2, self.sigma)
