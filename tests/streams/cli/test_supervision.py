"""A supervised worker: when it is started again, when not, and that signals reach it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from streams import exits
from streams.cli.supervision import FIRST_PAUSE, LONGEST_PAUSE, Supervision, pause_before

#: Notes each start with the count of restarts it was told, and ends with the next code of its list.
CHILD = """
import os, pathlib, sys
log = pathlib.Path(sys.argv[1])
log.open("a").write(os.environ["PALIMPSEST_RESTARTS"])
codes = sys.argv[2].split(",")
sys.exit(int(codes[len(log.read_text()) - 1]))
"""

#: Says that it runs, and ends when it is told, with the number of the signal.
WAITING = """
import pathlib, signal, sys
def told(signum, frame):
    sys.exit(100 + signum)
for signum in (signal.SIGTERM, signal.SIGINT):
    signal.signal(signum, told)
pathlib.Path(sys.argv[1]).write_text("up")
while True:
    signal.pause()
"""


def ending(log: Path, *codes: int) -> Supervision:
    return Supervision([sys.executable, "-c", CHILD, str(log), ",".join(map(str, codes))], pause=lambda restart: 0.0)


def waiting(directory: Path, script: str) -> tuple[Supervision, Path]:
    """A worker that waits for a signal, and a pipe by whose end it says that it does."""
    os.mkfifo(directory / "up")
    return Supervision([sys.executable, "-c", script, str(directory / "up")], pause=lambda restart: 0.0), directory / "up"


async def test_a_worker_that_asks_for_it_is_started_again_until_it_ends_otherwise(tmp_path: Path) -> None:
    supervision = ending(tmp_path / "log", exits.RESTART, exits.RESTART, exits.OK)
    assert await supervision.run() == exits.OK
    assert (tmp_path / "log").read_text() == "012"
    assert supervision.restarts == 2


@pytest.mark.parametrize("code", [exits.OK, exits.FAILED, exits.UNAVAILABLE, exits.SOFTWARE, exits.CONFIG])
async def test_every_other_code_goes_through_at_once(tmp_path: Path, code: int) -> None:
    assert await ending(tmp_path / "log", code).run() == code
    assert (tmp_path / "log").read_text() == "0"


async def test_a_worker_that_was_killed_is_not_started_again() -> None:
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert await Supervision([sys.executable, "-c", kill]).run() == 128 + signal.SIGKILL


@pytest.mark.parametrize(
    ("sent", "received"),
    [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGINT), (signal.SIGHUP, signal.SIGTERM)],
)
async def test_a_signal_reaches_the_worker_and_its_code_comes_back(tmp_path: Path, sent: signal.Signals, received: signal.Signals) -> None:
    supervision, up = waiting(tmp_path, WAITING)
    running = asyncio.create_task(supervision.run())
    await asyncio.to_thread(up.read_text)
    signal.raise_signal(sent)
    assert await running == 100 + received


async def test_a_worker_that_ends_with_the_restart_code_after_a_signal_stays_ended(tmp_path: Path) -> None:
    supervision, up = waiting(tmp_path, WAITING.replace("100 + signum", str(exits.RESTART)))
    running = asyncio.create_task(supervision.run())
    await asyncio.to_thread(up.read_text)
    supervision.tell(signal.SIGTERM)
    assert await running == exits.RESTART
    assert supervision.restarts == 0


async def test_a_signal_during_the_pause_ends_it(tmp_path: Path) -> None:
    paused = asyncio.Event()

    def pause(restart: int) -> float:
        paused.set()
        return 3600.0

    command = [sys.executable, "-c", CHILD, str(tmp_path / "log"), f"{exits.RESTART},0"]
    supervision = Supervision(command, pause=pause)
    running = asyncio.create_task(supervision.run())
    await paused.wait()
    supervision.tell(signal.SIGTERM)
    assert await running == exits.OK
    assert (tmp_path / "log").read_text() == "0"


def test_pauses_double_up_to_a_bound_and_never_agree() -> None:
    longest = [pause_before(n, chance=lambda: 1.0) for n in range(1, 10)]
    shortest = [pause_before(n, chance=lambda: 0.0) for n in range(1, 10)]
    assert longest[0] == FIRST_PAUSE
    assert longest[-1] == LONGEST_PAUSE == pause_before(1000, chance=lambda: 1.0)
    assert [high / low for high, low in zip(longest, shortest, strict=True)] == [2.0] * 9
    assert longest == sorted(longest)
