"""Where a look at the main thread finds it."""

import signal
import sys
from collections.abc import Callable

from bench.sampler import IDLE, IMPORTS, Sampler, part_of
from schemas.codec import decode_object
from schemas.times import parse_duration


def seen_by(call: Callable[[], object]) -> str:
    """The part in which `call` is when it first raises."""
    found: list[str] = []

    def trace(frame, event, argument):
        if event == "exception" and not found:
            found.append(part_of(frame))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except ValueError:
        pass
    finally:
        sys.settrace(before)
    return found[0]


def test_a_look_counts_for_the_innermost_module_of_ours() -> None:
    assert seen_by(lambda: parse_duration("nonsense")) == "schemas/times.py"


def test_what_the_standard_library_does_counts_for_whom_it_does_it() -> None:
    assert seen_by(lambda: decode_object(b"\xff")) == "schemas/codec.py"


def test_work_is_seen_while_it_goes_on_and_the_signal_is_given_back() -> None:
    before = signal.getsignal(signal.SIGPROF)
    with Sampler(interval=0.001) as sampler:
        while not sampler.seen["schemas/times.py"]:
            parse_duration("1h 30m")
    assert signal.getsignal(signal.SIGPROF) == before


def test_an_event_loop_that_waits_counts_for_other_threads() -> None:
    code = compile("import sys\ndef select(): return sys._getframe()\nframe = select()", "selectors.py", "exec")
    space: dict[str, object] = {}
    exec(code, space)
    assert part_of(space["frame"]) == IDLE


def test_loading_a_module_is_told_from_work() -> None:
    code = compile("import sys; frame = sys._getframe()", "<frozen importlib._bootstrap>", "exec")
    space: dict[str, object] = {}
    exec(code, space)
    assert part_of(space["frame"]) == IMPORTS


def test_no_stack_at_all_counts_for_the_event_loop() -> None:
    assert part_of(None) == "asyncio"
