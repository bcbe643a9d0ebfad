"""Keeps a worker running where nothing else does: restarts it when it asks for that, and only then.

A worker that was fenced, or does not know whether a commit went through, ends itself with exit code 75; started again, it decides by
reading. Once restarted it is also started again while Kafka is away (69). Every other code is a decision (the settings are wrong) or
a defect, and goes through to whoever called.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import time
from collections.abc import Callable, Sequence

from streams import exits

log = logging.getLogger(__name__)

#: Seconds before the first restart; each further one doubles it.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
#: A worker that ran for so many seconds was well: the pauses begin anew.
WELL_AFTER = 300.0
#: What ends the supervision; each is passed on to the worker, a lost terminal as SIGTERM.
SIGNALS = {signal.SIGTERM: signal.SIGTERM, signal.SIGINT: signal.SIGINT, signal.SIGHUP: signal.SIGTERM}


def pause_before(restart: int, chance: Callable[[], float] = random.random) -> float:
    """Seconds before the nth restart in a row: doubling, half of it left to chance so that workers do not come back in step.

    Examples
    --------
    >>> [pause_before(n, chance=lambda: 1.0) for n in (1, 2, 3, 9)]
    [1.0, 2.0, 4.0, 60.0]
    """
    longest: float = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (restart - 1))
    return longest * (0.5 + 0.5 * chance())


class Supervision:
    """One supervised command.

    Parameters
    ----------
    command
        The program and its arguments.
    pause
        Seconds before the nth restart in a row.
    """

    def __init__(self, command: Sequence[str], *, pause: Callable[[int], float] = pause_before) -> None:
        self._command = list(command)
        self._pause = pause
        self._child: asyncio.subprocess.Process | None = None
        self._told = asyncio.Event()
        self.restarts = 0

    async def run(self) -> int:
        """Run the command until it ends with another code than 75, or a signal ends it; return its exit code."""
        loop = asyncio.get_running_loop()
        for signum, passed in SIGNALS.items():
            loop.add_signal_handler(signum, self.tell, passed)
        try:
            return await self._run()
        finally:
            for signum in SIGNALS:
                loop.remove_signal_handler(signum)

    def tell(self, signum: signal.Signals) -> None:
        """Pass a signal on to the worker, and start no other one."""
        log.info("%s: passing it on to the worker", signum.name)
        self._told.set()
        if self._child is not None and self._child.returncode is None:
            self._child.send_signal(signum)

    async def _run(self) -> int:
        in_a_row = 0
        while True:
            started = time.monotonic()
            code = await self._once()
            # Kafka may be away when the worker comes back to it; at the first start that is for whoever started it to know.
            again = code == exits.RESTART or (code == exits.UNAVAILABLE and self.restarts > 0)
            if not again or self._told.is_set():
                if self.restarts:
                    log.info("the worker ended with exit code %d after %d restarts", code, self.restarts)
                return code
            in_a_row = 1 if time.monotonic() - started > WELL_AFTER else in_a_row + 1
            self.restarts += 1
            pause = self._pause(in_a_row)
            log.warning("the worker asks to be started again (exit code %d); restart %d follows in %.1f s", code, self.restarts, pause)
            try:
                await asyncio.wait_for(self._told.wait(), pause)
            except TimeoutError:
                continue
            return exits.OK

    async def _once(self) -> int:
        # A process group of its own: Ctrl-C in a terminal would reach the worker twice, from there and from here.
        self._child = await asyncio.create_subprocess_exec(
            *self._command, process_group=0, env={**os.environ, exits.RESTARTS_VARIABLE: str(self.restarts)}
        )
        if self._told.is_set():
            # The signal came while the process was being made, and reached nobody.
            self._child.send_signal(signal.SIGTERM)
        code = await self._child.wait()
        return code if code >= 0 else 128 - code
