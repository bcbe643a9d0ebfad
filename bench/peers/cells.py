"""The conditions under which programs run: one, the headline, and from there one thing at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

#: Events a second that count for the length of a run: beyond, the processor is what is short, and a run would only be longer.
CEILING = 400.0
#: Fewest events of a run, and of each call at once: a steady part must be left between the first and the last of them.
FEWEST, FEWEST_OF_SLOT = 40, 8


@dataclass(frozen=True, slots=True)
class Cell:
    """One condition.

    Attributes
    ----------
    latency
        Mean seconds of a call.
    slots
        Calls that the model computes at once.
    entities
        Among which observations are drawn evenly, by chance.
    crash
        Whether the program is killed by SIGKILL halfway and started again.
    arrivals
        Observations a second, at random moments, once the program runs; None: all of them wait from the start.
    """

    name: str
    latency: float
    slots: int
    entities: int
    crash: bool = False
    arrivals: float | None = None

    @property
    def capacity(self) -> float:
        """Calls a second that the model can answer."""
        return self.slots / self.latency

    def events(self, seconds: float, *, at_once: int) -> int:
        """Return the length of a backlog that takes about so many seconds.

        Parameters
        ----------
        at_once
            Calls that the program has under way at most.

        Examples
        --------
        >>> HEADLINE.events(12, at_once=16), HEADLINE.events(12, at_once=1)
        (3840, 240)
        """
        if self.arrivals is not None:
            return max(FEWEST, round(seconds * self.arrivals))
        return max(FEWEST, FEWEST_OF_SLOT * at_once, round(seconds * min(CEILING, at_once / self.latency)))


HEADLINE = Cell("headline", 0.05, 16, 200)
LATENCIES = (0.005, 0.5)
SLOTS = (1, 4, 64)
ENTITIES = (1, 1000)
#: Well below what one call after the other can do: every program keeps up, and none waits for a backlog.
LIVE = replace(HEADLINE, name="live", arrivals=0.6 / HEADLINE.latency)


def cells() -> Iterator[Cell]:
    """Yield all conditions, the headline first and the crash last."""
    yield HEADLINE
    for latency in LATENCIES:
        yield replace(HEADLINE, name=f"{latency * 1000:g}ms", latency=latency)
    for slots in SLOTS:
        yield replace(HEADLINE, name=f"{slots}-slots" if slots > 1 else "1-slot", slots=slots)
    for entities in ENTITIES:
        yield replace(HEADLINE, name=f"{entities}-entities" if entities > 1 else "1-entity", entities=entities)
    yield LIVE
    yield replace(HEADLINE, name="crash", crash=True)
