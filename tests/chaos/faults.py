"""What is done to workers, brokers and the model.

Each fault counts once it has happened: a SIGKILL that finds its process dead already is tried on the next one. Those that last (a
frozen worker, a broker that is down, a model that is away) may run into the faults after them.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.chaos.brokers import Brokers, Role
from tests.chaos.fleet import Fleet, Worker
from tests.chaos.schedule import Fault, Kind

#: Seconds, from the shortest to the longest: how far beyond its session a worker stays frozen, a broker and the model are away, a third
#: worker stays, a killed worker is left dead.
FROZEN, BROKER_DOWN, MODEL_AWAY, STAY, DEAD = (1.5, 4.0), (2.0, 8.0), (2.0, 6.0), (1.0, 5.0), (0.0, 2.0)

Tell = Callable[[str], None]


class Faults:
    """Strikes; `done` counts what struck.

    Parameters
    ----------
    base
        Names of the workers that are always there; the others join and leave.
    outage
        The file whose presence takes the model away.
    brokers
        None where the only broker must live.
    """

    def __init__(self, fleet: Fleet, base: list[str], outage: Path, brokers: Brokers | None, tell: Tell) -> None:
        self._fleet, self._base, self._outage, self._brokers, self._tell = fleet, base, outage, brokers, tell
        self.done: Counter[Kind] = Counter()
        self._lasting: dict[Kind, asyncio.Task[None]] = {}

    async def strike(self, fault: Fault) -> None:
        """Do it, and return when it has struck; what lasts goes on by itself."""
        act = {
            "kill": self._kill,
            "terminate": self._terminate,
            "join": self._join,
            "freeze": self._freeze,
            "rolling": self._roll,
            "wipe": self._wipe,
            "broker": self._break,
            "outage": self._take_away,
        }[fault.kind]
        await act(fault)
        self.done[fault.kind] += 1

    async def over(self) -> None:
        """Return when nothing lasts any more."""
        await asyncio.gather(*self._lasting.values())

    async def cancel(self) -> None:
        """Give up what lasts: the campaign has failed."""
        for task in self._lasting.values():
            task.cancel()
        await asyncio.gather(*self._lasting.values(), return_exceptions=True)

    # -- at a stroke

    async def _killed(self, fault: Fault) -> Worker:
        while True:
            victim = await self._fleet.victim(fault.victim)
            if await victim.end(signal.SIGKILL) == -signal.SIGKILL:
                return victim
            await victim.start()

    async def _kill(self, fault: Fault) -> None:
        victim = await self._killed(fault)
        self._tell(f"killed {victim.name}")
        await asyncio.sleep(_between(DEAD, fault.lasts))
        await victim.start()

    async def _wipe(self, fault: Fault) -> None:
        victim = await self._killed(fault)
        victim.wipe()
        self._tell(f"killed {victim.name} and wiped its disk")
        await victim.start()

    async def _terminate(self, fault: Fault) -> None:
        victim = await self._fleet.victim(fault.victim)
        await victim.end(signal.SIGTERM)
        self._tell(f"{victim.name} ended upon SIGTERM")
        await asyncio.sleep(_between(DEAD, fault.lasts))
        await victim.start()

    async def _join(self, fault: Fault) -> None:
        (joining,) = [worker for worker in self._fleet.workers.values() if worker.name not in self._base]
        await joining.start()
        await self._fleet.ready([joining])
        self._tell(f"{joining.name} joined")
        await asyncio.sleep(_between(STAY, fault.lasts))
        await joining.end(signal.SIGTERM)
        self._tell(f"{joining.name} left")

    async def _roll(self, fault: Fault) -> None:
        await self._no_longer("freeze")
        for name in self._base:
            worker = self._fleet[name]
            await worker.end(signal.SIGTERM)
            await worker.start()
            await self._fleet.ready([worker])
            self._tell(f"{name} was restarted")

    # -- for a while

    async def _freeze(self, fault: Fault) -> None:
        await self._no_longer("freeze")
        victim = await self._fleet.victim(fault.victim)
        victim.freeze()
        session = victim.settings.worker.session_timeout.total_seconds()
        self._tell(f"froze {victim.name}")
        self._last("freeze", self._thaw(victim, session + _between(FROZEN, fault.lasts)))

    async def _thaw(self, victim: Worker, seconds: float) -> None:
        await asyncio.sleep(seconds)
        victim.thaw()
        self._tell(f"{victim.name} goes on after {seconds:.1f} s")

    async def _break(self, fault: Fault) -> None:
        assert self._brokers is not None, "this campaign has one broker, which must live"
        await self._no_longer("broker")
        await self._brokers.whole()
        role: Role = "group coordinator" if self.done["broker"] % 2 else "partition leader"
        broker = await self._brokers.find(role)
        await self._brokers.kill(broker)
        self._tell(f"killed broker {broker}, {role}")
        self._last("broker", self._mend(self._brokers, broker, _between(BROKER_DOWN, fault.lasts)))

    async def _mend(self, brokers: Brokers, broker: int, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await brokers.start(broker)
        self._tell(f"broker {broker} is back")

    async def _take_away(self, fault: Fault) -> None:
        await self._no_longer("outage")
        self._outage.touch()
        self._tell("the model is away")
        self._last("outage", self._bring_back(_between(MODEL_AWAY, fault.lasts)))

    async def _bring_back(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._outage.unlink()
        self._tell("the model is back")

    def _last(self, kind: Kind, work: object) -> None:
        self._lasting[kind] = asyncio.create_task(work, name=kind)  # type: ignore[arg-type]

    async def _no_longer(self, kind: Kind) -> None:
        """Return when the last fault of a kind is over; raises what it ended in."""
        if kind in self._lasting:
            await self._lasting[kind]


def _between(span: tuple[float, float], share: float) -> float:
    shortest, longest = span
    return shortest + share * (longest - shortest)
