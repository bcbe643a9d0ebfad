"""Requests as Ollama reads them, and what it says of those it cannot read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

FOREVER = float("inf")
#: Options by which a model is loaded, with the server's defaults; another set loads it anew.
LOADING: Mapping[str, Any] = {"num_ctx": 4096, "num_batch": 512, "num_gpu": -1, "main_gpu": 0, "use_mmap": None, "num_thread": 0}
_INTEGERS = frozenset({"num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "num_keep", "num_predict", "seed", "top_k"})
_SMALLEST_WINDOW = 4
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)([a-zµ]+)")


class Refused(Exception):
    """A request that is answered by an error.

    Attributes
    ----------
    status
        Of HTTP.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class NotGenerated(Exception):
    """The model failed after the call was accepted: status 500, or an error line in a stream that has begun with 200."""


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat.

    Attributes
    ----------
    format
        What the answer is bound to: a JSON Schema, `"json"`, or None.
    keep_alive
        Seconds; None where the request says nothing.
    options
        As they came.
    """

    model: str
    messages: tuple[Message, ...]
    format: Any = None
    stream: bool = True
    think: bool = False
    keep_alive: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def loading(self) -> tuple[Any, ...]:
        """The options by which the model must be loaded, in the order of `LOADING`."""
        return tuple(self.window if name == "num_ctx" else self.options.get(name, default) for name, default in LOADING.items())

    @property
    def window(self) -> int:
        """Tokens of the context window."""
        return max(_SMALLEST_WINDOW, int(self.options.get("num_ctx", LOADING["num_ctx"])))

    @property
    def most_tokens(self) -> int | None:
        """Tokens that the answer may have; None: as many as it likes (`num_predict` 0 is read as that)."""
        bound = int(self.options.get("num_predict", -1))
        if bound == 0:
            return None
        return 10 * self.window if bound < 0 else min(bound, 10 * self.window)


def read_object(body: bytes, kind: str) -> dict[str, Any]:
    """Read a request's body, of the type that the server calls `kind`. Raises `Refused`."""
    if not body.strip():
        raise Refused(400, "missing request body")
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"invalid character: {error}") from error
    if not isinstance(found, dict):
        raise Refused(400, f"json: cannot unmarshal {_go_name(found)} into Go value of type api.{kind}")
    return found


def read_chat(body: bytes) -> ChatRequest:
    """Read a request for /api/chat. Raises `Refused`."""
    found = read_object(body, "ChatRequest")
    try:
        messages = tuple(Message(str(said.get("role", "")), str(said.get("content") or "")) for said in found.get("messages") or ())
    except AttributeError as error:
        raise Refused(400, "json: cannot unmarshal into Go struct field ChatRequest.messages of type api.Message") from error
    keep_alive = None if found.get("keep_alive") is None else read_duration(found["keep_alive"])
    if not found.get("model"):
        raise Refused(400, "model is required")
    options = found.get("options") or {}
    return ChatRequest(
        model=str(found["model"]),
        messages=messages,
        format=found.get("format") or None,
        stream=found.get("stream") is not False,
        think=bool(found.get("think")),
        keep_alive=keep_alive,
        options=options,
    )


def check_options(options: Mapping[str, Any]) -> None:
    """Look at options as the server does when it schedules a call: after the model was found. Raises `Refused`."""
    for name in sorted(_INTEGERS & set(options)):
        if isinstance(options[name], bool) or not isinstance(options[name], (int, float)):
            raise Refused(500, f'option "{name}" must be of type integer')


def check_format(wanted: Any) -> None:
    """Look at a format as the server does when it begins to generate. Raises `NotGenerated`."""
    if wanted is not None and wanted != "json" and not isinstance(wanted, dict):
        text = orjson.dumps(wanted).decode()
        raise NotGenerated(f'invalid format: {orjson.dumps(text).decode()}; expected "json" or a valid JSON Schema object')


def read_duration(found: Any) -> float:
    """Read a time as Go does: a number of seconds, or a text such as `10m`; anything negative is for ever. Raises `Refused`."""
    if isinstance(found, bool) or not isinstance(found, (int, float, str)):
        raise Refused(400, f"Unsupported type: '{_go_name(found)}'")
    if not isinstance(found, str):
        return FOREVER if found < 0 else float(int(found))
    text = found.lstrip("+-")
    parts = _PART.findall(text)
    if text == "0":
        return 0.0
    if not text or "".join(number + unit for number, unit in parts) != text or any(unit not in _UNITS for _, unit in parts):
        fault = "missing unit" if re.fullmatch(r"[\d.]+", text) else "invalid duration"
        raise Refused(400, f'time: {fault}{" in duration" if fault == "missing unit" else ""} "{found}"')
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    return FOREVER if found.startswith("-") and seconds else seconds


def _go_name(found: Any) -> str:
    names = {bool: "bool", str: "string", int: "number", float: "number", list: "array", dict: "object", type(None): "null"}
    return names[type(found)]
