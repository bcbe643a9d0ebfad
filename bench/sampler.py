"""Where a worker's processor time goes: its main thread is looked at some hundred times a second of it.

    python -m bench.sampler OUTPUT worker -c CONFIG

runs `palimpsest worker -c CONFIG` and, when that ends, writes to OUTPUT how many looks found it in which part. A look counts for the
innermost frame that belongs to a part: to a module of ours, or to a library as a whole; what the standard library or pydantic does for
someone counts for whom it does it. Where the main thread waits, another one was at work.
"""

from __future__ import annotations

import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import orjson

#: Seconds of processor time between two looks.
INTERVAL = 0.004
OURS = ("agents", "schemas", "streams")
LIBRARIES = ("aiokafka", "faust", "mode", "tenacity", "prometheus_client", "aiohttp", "rocksdict")
#: The event loop has nothing to do; another thread works.
IDLE = "other threads"
#: Modules are loaded; at the start only.
IMPORTS = "imports"
_ROOT = Path(__file__).resolve().parents[1]


def part_of(frame: FrameType | None) -> str:
    """The part that a stack belongs to, by its innermost frame that has one."""
    if frame is not None and frame.f_code.co_name == "select" and frame.f_code.co_filename.endswith("selectors.py"):
        return IDLE
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return IMPORTS
        name = _part(frame.f_code.co_filename)
        if name:
            return name
        frame = frame.f_back
    return "asyncio"


def _part(filename: str) -> str:
    path = Path(filename)
    if path.is_relative_to(_ROOT) and "site-packages" not in path.parts:
        inside = path.relative_to(_ROOT)
        return str(inside) if inside.parts[0] in OURS else ""
    if "site-packages" in path.parts:
        library = path.parts[path.parts.index("site-packages") + 1]
        return library if library in LIBRARIES else ""
    return ""


class Sampler:
    """Looks at the main thread each time that the process has used up `interval` seconds of processor time, until it is left.

    Made and left in the main thread: the looks are signals (SIGPROF). A thread would get its turn only where the main one waits without
    the interpreter's lock, and would see nothing but that.
    """

    def __init__(self, interval: float = INTERVAL) -> None:
        self.seen: Counter[str] = Counter()
        self._interval = interval
        self._before: Any = None

    def __enter__(self) -> Sampler:
        self._before = signal.signal(signal.SIGPROF, self._look)
        signal.setitimer(signal.ITIMER_PROF, self._interval, self._interval)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, self._before)

    def _look(self, _: int, frame: FrameType | None) -> None:
        self.seen[part_of(frame)] += 1


def main(output: Path, arguments: list[str]) -> int:
    from streams.cli.entry import main as command

    sys.argv = ["palimpsest", *arguments]
    code = 0
    with Sampler() as sampler:
        try:
            command()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
    output.write_bytes(orjson.dumps(dict(sampler.seen)))
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
