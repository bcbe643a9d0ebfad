"""JSON on the wire, by orjson, with what strictness orjson leaves open.

Decoding refuses what Python would let through and a broker's next reader would not: numbers that are not finite, nesting
that exhausts a stack, top levels that are no object. Encoding is deterministic: equal values give equal bytes.
"""

from __future__ import annotations

import math
from typing import Any

import orjson
from pydantic import BaseModel

#: Nesting above this is refused; no payload that people write comes near, and recursion stays shallow.
MAX_DEPTH = 32


class DecodeError(ValueError):
    """Bytes that are no acceptable message. `reason` is a short slug fit for a metric's label."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def decode_object(raw: bytes) -> dict[str, Any]:
    """Decode one JSON object.

    Raises
    ------
    DecodeError
        Reasons `not-utf8`, `not-json`, `not-object`, `not-finite`, `too-deep`.
    """
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DecodeError("not-utf8", f"byte {error.start}: {error.reason}") from None
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise DecodeError(_reason(str(error).lower()), str(error)) from None
    if not isinstance(value, dict):
        raise DecodeError("not-object", f"the top level is {type(value).__name__}, a message is an object")
    _check(value)
    return value


def _reason(fault: str) -> str:
    """Which of our reasons a fault of orjson is; it has no types for them, and its wording differs between releases."""
    if "recursion" in fault or "depth limit" in fault:
        return "too-deep"
    return "not-finite" if "infinity" in fault else "not-json"


def _check(root: dict[str, Any]) -> None:
    level: list[Any] = [root]
    for depth in range(MAX_DEPTH + 1):
        deeper: list[Any] = []
        for value in level:
            if isinstance(value, float):
                if not math.isfinite(value):
                    raise DecodeError("not-finite", "a number is infinite or NaN")
            elif isinstance(value, dict):
                deeper.extend(value.values())
            elif isinstance(value, list):
                deeper.extend(value)
        if not deeper:
            return
        if depth == MAX_DEPTH:
            break
        level = deeper
    raise DecodeError("too-deep", f"nested deeper than {MAX_DEPTH} levels")


def encode(message: BaseModel) -> bytes:
    """Encode a message or a state without its empty fields; key order is the model's field order.

    Notes
    -----
    `None`, empty tuples and unset defaults are all written the same way (left out when they equal the default), so the
    bytes depend on the value alone and not on how it was built.
    """
    fields = message.model_dump(mode="json", exclude_defaults=True)
    if "schema_version" in type(message).model_fields:
        fields = {"schema_version": message.schema_version, **fields}  # type: ignore[attr-defined]
    return orjson.dumps(fields)
