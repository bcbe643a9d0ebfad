"""Logs: JSON lines for machines, plain lines for a terminal.

A line says where it belongs: `topic`, `partition`, `offset`, `entity` come from `extra=` or, for everything logged while one record is
worked on, from `located`. In JSON an exception stands on the same line as its message.

Observed texts are other people's data and stay out of operators' logs. A text is handed over as `extra={"content": ...}` and nowhere
else; above DEBUG it is left out.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from pythonjsonlogger.json import JsonFormatter

#: The fields that say which record or entity a line is about, in the order in which they are written.
LOCATION: Final = ("topic", "partition", "offset", "entity")
#: The field for observed text; removed above DEBUG.
CONTENT: Final = "content"

#: Logs of these say at INFO what is of no use to an operator: each service that starts, each request, each metadata update.
_NOISY: Final = ("faust", "mode", "aiokafka", "asyncio", "aiohttp", "httpx", "httpcore", "ollama")

_location: ContextVar[dict[str, Any]] = ContextVar("location", default={})  # noqa: B039 - never changed in place


@contextmanager
def located(**fields: Any) -> Iterator[None]:
    """Everything logged inside, in this task and in tasks it starts, carries these fields.

    Examples
    --------
    >>> with located(topic="observations", partition=3, offset=17):
    ...     logging.getLogger(__name__).warning("no such field")
    """
    token = _location.set({**_location.get(), **fields})
    try:
        yield
    finally:
        _location.reset(token)


def configure(level: str = "INFO", json: bool | None = None, stream: TextIO | None = None) -> None:
    """Set up the logging of the whole process; calling it again replaces what it set up before.

    Parameters
    ----------
    level
        Lowest level of our own lines. Libraries' lines begin at WARNING; with DEBUG, at INFO.
    json
        JSON lines; None: unless `stream` is a terminal.
    stream
        Where lines go; default: standard error, so that a command's output stays its own.
    """
    stream = stream or sys.stderr
    if json is None:
        json = not stream.isatty()
    handler = _Handler(stream)
    handler.setFormatter(_json_formatter() if json else _LineFormatter())
    handler.addFilter(_locate)
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.INFO if root.level <= logging.DEBUG else max(root.level, logging.WARNING))
    logging.captureWarnings(True)


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, so that `configure` finds it again and leaves other people's handlers alone."""


def _locate(record: logging.LogRecord) -> bool:
    for name, value in _location.get().items():
        record.__dict__.setdefault(name, value)
    return True


def _withholds_content(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _JsonFormatter(JsonFormatter):
    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        log_data["time"] = _time(record)
        super().add_fields(log_data, record, message_dict)
        if _withholds_content(record):
            log_data.pop(CONTENT, None)


def _json_formatter() -> logging.Formatter:
    return _JsonFormatter(
        "%(levelname)s %(name)s %(message)s",
        rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception", "stack_info": "stack"},
    )


class _LineFormatter(logging.Formatter):
    """`12:03:04.123 WARNING streams.intake: no such field  [topic=observations partition=3 offset=17]`, in local time."""

    default_msec_format = "%s.%03d"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", datefmt="%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        line = super().formatMessage(record)
        names = LOCATION if _withholds_content(record) else (*LOCATION, CONTENT)
        fields = [f"{name}={_plain(record.__dict__[name])}" for name in names if name in record.__dict__]
        return f"{line}  [{' '.join(fields)}]" if fields else line


def _plain(value: object) -> str:
    text = str(value)
    # Ids are other people's; a line break or an escape sequence in one must not pass for a line or a colour of ours.
    return text if text.isprintable() and " " not in text else repr(text)
