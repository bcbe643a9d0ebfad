"""Log lines, as they come out of the stream."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import warnings
from collections.abc import Iterator

import pytest

from streams.logs import configure, located

log = logging.getLogger("streams.test")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logger.level for name, logger in root.manager.loggerDict.items() if isinstance(logger, logging.Logger)}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    logging.captureWarnings(False)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _json_lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_without_a_terminal_each_line_is_json_with_its_place() -> None:
    stream = io.StringIO()
    configure(stream=stream)
    log.warning("no field %r", "t", extra={"topic": "observations", "partition": 3, "offset": 17, "entity": "sensor-9"})
    (line,) = _json_lines(stream)
    assert str(line.pop("time")).endswith("Z")
    assert line == {
        "level": "WARNING", "logger": "streams.test", "message": "no field 't'",
        "topic": "observations", "partition": 3, "offset": 17, "entity": "sensor-9",
    }  # fmt: skip


def test_on_a_terminal_a_line_is_for_people() -> None:
    stream = Terminal()
    configure(stream=stream)
    log.warning("no such field", extra={"topic": "observations", "partition": 3})
    log.info("ready")
    first, second = stream.getvalue().splitlines()
    assert first.endswith("WARNING streams.test: no such field  [topic=observations partition=3]")
    assert second.endswith("INFO    streams.test: ready")


def test_an_id_cannot_pass_for_a_line_or_a_colour() -> None:
    stream = Terminal()
    configure(stream=stream)
    log.info("read", extra={"entity": "a\n12:00 ERROR gone \x1b[31m"})
    assert stream.getvalue().endswith("read  [entity='a\\n12:00 ERROR gone \\x1b[31m']\n")


def test_the_form_can_be_chosen_against_the_stream() -> None:
    stream = Terminal()
    configure(json=True, stream=stream)
    log.info("ready")
    assert _json_lines(stream)[0]["message"] == "ready"


def test_lines_of_one_record_carry_its_place_and_the_others_do_not() -> None:
    stream = io.StringIO()
    configure(stream=stream)
    with located(topic="truths", partition=1), located(offset=5):
        log.info("inside")
        log.info("nearer", extra={"offset": 6})
    log.info("outside")
    inside, nearer, outside = _json_lines(stream)
    assert (inside["topic"], inside["partition"], inside["offset"]) == ("truths", 1, 5)
    assert nearer["offset"] == 6
    assert "topic" not in outside


async def test_concurrent_tasks_keep_their_places_apart() -> None:
    stream = io.StringIO()
    configure(stream=stream)
    both = asyncio.Barrier(2)

    async def work(entity: str) -> None:
        with located(entity=entity):
            await both.wait()
            log.info(entity)

    await asyncio.gather(work("a"), work("b"))
    lines = _json_lines(stream)
    assert {line["message"] for line in lines} == {"a", "b"}
    assert all(line["message"] == line["entity"] for line in lines)


def test_an_exception_stands_on_the_line_of_its_message() -> None:
    stream = io.StringIO()
    configure(stream=stream)
    try:
        raise ValueError("bad\nvalue")
    except ValueError:
        log.exception("failed")
    (line,) = _json_lines(stream)
    assert line["message"] == "failed"
    assert str(line["exception"]).startswith("Traceback")
    assert "ValueError: bad\nvalue" in str(line["exception"])


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["json", "terminal"])
def test_observed_text_is_written_at_debug_only(stream: io.StringIO) -> None:
    configure("DEBUG", stream=stream)
    log.warning("odd text", extra={"content": "a patient's letter"})
    assert "letter" not in stream.getvalue()
    log.debug("the text", extra={"content": "a patient's letter"})
    assert "letter" in stream.getvalue()


def test_what_json_cannot_hold_is_still_logged() -> None:
    stream = io.StringIO()
    configure(stream=stream)
    log.info("lone surrogate \ud800", extra={"entity": object(), "topic": b"\xff"})
    assert len(_json_lines(stream)) == 1


def test_libraries_speak_from_warning_on_and_at_debug_from_info_on() -> None:
    stream = io.StringIO()
    configure("INFO", stream=stream)
    for name in ("faust", "mode", "aiokafka.consumer", "httpx"):
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("trouble")
    assert [line["message"] for line in _json_lines(stream)] == ["trouble"] * 4
    configure("DEBUG", stream=stream)
    logging.getLogger("aiokafka").info("joined")
    logging.getLogger("aiokafka").debug("fetched")
    assert [line["message"] for line in _json_lines(stream)][4:] == ["joined"]


def test_configuring_again_replaces_what_was_set_up_and_nothing_else() -> None:
    theirs = logging.NullHandler()
    logging.getLogger().addHandler(theirs)
    first, second = io.StringIO(), io.StringIO()
    configure(stream=first)
    configure("WARNING", stream=second)
    log.info("quiet")
    log.warning("once")
    assert first.getvalue() == ""
    assert [line["message"] for line in _json_lines(second)] == ["once"]
    assert theirs in logging.getLogger().handlers


def test_warnings_become_log_lines() -> None:
    stream = io.StringIO()
    configure(stream=stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old", UserWarning, stacklevel=1)
    assert _json_lines(stream)[0]["logger"] == "py.warnings"
