"""What can be wrong with a server, each switched on and off while it runs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from tests.emulator.kinds import INFERENCE, KINDS, Kind


class Fault(StrEnum):
    """What a call meets."""

    #: 404: the model is not there.
    MISSING = "missing"
    #: 500: the runner is gone.
    ERROR = "error"
    #: 503: too many requests wait.
    BUSY = "busy"
    #: The connection is taken and nothing is answered until the fault is off; then the call goes on as if nothing had been.
    HANG = "hang"
    #: The connection is reset instead of an answer.
    RESET = "reset"
    #: Half of the answer's bytes come, then the connection ends.
    HALF_BODY = "half-body"
    #: The model fails half way: an error line in a stream, status 500 otherwise.
    ERROR_LINE = "error-line"
    #: The prompt is cut to half without a word; only `prompt_eval_count` tells.
    TRUNCATE = "truncate"
    #: JSON of another shape than was asked for.
    WRONG_SCHEMA = "wrong-schema"
    #: `1e999` for every number, as a text where the schema has texts.
    OVERFLOW = "overflow"
    #: The same words over and over until `num_predict`, `done_reason` being `length`.
    LOOP = "loop"
    #: The same token over and over, which the server ends after 30: status 200, not done, no reason, no counts.
    REPEAT = "repeat"
    #: The answer comes in small pieces with a pause between them, each within any timeout that looks at silence.
    DRIP = "drip"
    #: A connection that was used before is closed when it is used again.
    STALE = "stale"


#: Faults of what a model says; questions about it cannot meet them.
OF_ANSWERS = frozenset({Fault.ERROR_LINE, Fault.TRUNCATE, Fault.WRONG_SCHEMA, Fault.OVERFLOW, Fault.LOOP, Fault.REPEAT})


@dataclass(slots=True)
class Switched:
    """A fault that is on.

    Attributes
    ----------
    share
        Of the calls that meet it, 0 to 1.
    kinds
        Calls that may meet it.
    left
        How many more meet it; None: all.
    """

    share: float
    kinds: frozenset[Kind]
    left: int | None


class Faults:
    """Which faults are on. A call meets at most one: the first that was switched on and whose chance it is.

    Parameters
    ----------
    chance
        Whether a call meets a fault of less than all calls.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._on: dict[Fault, Switched] = {}
        self._hanging: asyncio.Event = asyncio.Event()

    @property
    def on_now(self) -> dict[Fault, Switched]:
        return dict(self._on)

    def on(self, fault: Fault | str, *, share: float = 1.0, kinds: Iterable[Kind] = INFERENCE, times: int | None = None) -> None:
        """Switch a fault on, or on with other numbers.

        Parameters
        ----------
        share
            Of the calls that meet it, above 0 to 1.
        kinds
            Calls that may meet it; those that take a slot if not given.
        times
            Off again after so many calls met it, at least 1; None: never.

        Raises
        ------
        ValueError
            There is no such fault or kind, none of that kind can meet it, or a number is out of its range.
        """
        fault, kinds = Fault(fault), frozenset(kinds)
        if not kinds or not kinds <= (INFERENCE if fault in OF_ANSWERS else KINDS):
            raise ValueError(f"calls of the kinds {', '.join(sorted(kinds)) or 'none'} do not all meet {fault}")
        if not 0 < share <= 1 or (times is not None and times < 1):
            raise ValueError(f"a share is above 0 to 1 and times at least 1, not {share} and {times}")
        self._on[fault] = Switched(share, kinds, times)

    def off(self, fault: Fault | str | None = None) -> None:
        """Switch one fault off, or all of them; calls that hang go on."""
        if fault is None:
            self._on.clear()
        else:
            self._on.pop(Fault(fault), None)
        if fault in (None, Fault.HANG):
            self._hanging.set()
            self._hanging = asyncio.Event()

    def meet(self, kind: Kind, *, used_before: bool) -> Fault | None:
        """Return the fault that a call meets, if any.

        Parameters
        ----------
        used_before
            Whether its connection carried a call before.
        """
        for fault, switched in self._on.items():
            if kind not in switched.kinds or (fault is Fault.STALE and not used_before):
                continue
            if switched.share < 1 and self._chance.random() >= switched.share:
                continue
            if switched.left is not None:
                switched.left -= 1
                if not switched.left:
                    # Calls that hang already go on hanging: nobody called `off`.
                    del self._on[fault]
            return fault
        return None

    async def until_off(self) -> None:
        """Wait until hanging is switched off."""
        await self._hanging.wait()
