"""A circuit breaker: leaves a host alone that has failed time and again, and finds out when it is back.

Closed, it lets everything through. After so many failures in a row it opens: calls are not made, so that predictions fall back at once
instead of each waiting for its deadline. When its pause is over it is half-open and lets one call through, the probe: an answer closes it,
another failure opens it for twice as long.

What is a failure is the caller's to say. Here it is what tells of a host that is down or hangs (transport errors, 5xx, deadlines that
passed in the host's hands), never an answer that is bad, a request that is refused, or a call that was cancelled or not made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

#: The longest pause, in first ones.
LONGEST = 12

BreakerState = Literal["closed", "open", "half-open"]


class Breaker:
    """Of one host.

    Parameters
    ----------
    failures
        In a row, upon which it opens.
    pause
        Seconds of the first pause; drawn from its upper half, so that the probes of several workers do not come together.
    clock
        Seconds; never goes back.
    chance
        Returns a number from [0, 1).
    """

    def __init__(self, failures: int, pause: float, *, clock: Callable[[], float], chance: Callable[[], float]) -> None:
        self._limit = failures
        self._first_pause = self._pause = pause
        self._clock = clock
        self._chance = chance
        self._failed = 0.0
        self._until: float | None = None
        self._probing = False

    @property
    def state(self) -> BreakerState:
        if self._until is None:
            return "closed"
        return "half-open" if self._clock() >= self._until else "open"

    @property
    def admits(self) -> bool:
        """Whether a call may be made now."""
        return self._until is None or (self.state == "half-open" and not self._probing)

    def admit(self) -> bool:
        """Let a call through that `admits` allows; its end must be told. Returns whether it is the probe."""
        probe = self._until is not None
        self._probing = self._probing or probe
        return probe

    def succeeded(self) -> None:
        """The host answered: it is there, whichever call that was."""
        self._failed, self._until, self._probing, self._pause = 0.0, None, False, self._first_pause

    def failed(self, *, probe: bool, weight: float = 1.0) -> bool:
        """The host failed, as surely as `weight` (0 to 1) says. Returns whether the breaker has opened upon it."""
        if self._until is None:
            self._failed += weight
            if self._failed < self._limit - 1e-9:  # weights of tenths do not add up exactly
                return False
        elif not probe or not self._probing:
            return False  # made before it opened, and known by now
        else:
            self._pause = min(2 * self._pause, LONGEST * self._first_pause)
        self._probing = False
        self._until = self._clock() + self._pause * (1 + self._chance()) / 2
        return True

    def dropped(self, *, probe: bool) -> None:
        """The call ended without telling anything about the host; if it was the probe, the next one is."""
        if probe:
            self._probing = False
