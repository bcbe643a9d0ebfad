"""One record of the changelog: whose it is, and what it says."""

from __future__ import annotations

import orjson
from pydantic import ValidationError

from schemas.state import ENTITY_KEY, PARTITION_KEY, EntityState, PartitionState, UnknownSchema, decode_state

#: Bytes of a key that a message shows.
_SHOWN = 80


class BadRecord(ValueError):
    """A record that no worker can use. `code` is a slug, the text one sentence."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def show_key(key: bytes | None) -> str:
    """A key for people: the entity's id, `(partition)` for a partition's own record, else its bytes.

    Examples
    --------
    >>> show_key(b"esensor-1"), show_key(b"p"), show_key(b"xyz")
    ('sensor-1', '(partition)', "b'xyz'")
    """
    if key == PARTITION_KEY:
        return "(partition)"
    if key is not None and key.startswith(ENTITY_KEY):
        return key[len(ENTITY_KEY) :].decode(errors="backslashreplace")
    return repr(key if key is None else key[:_SHOWN])


def decode_entry(key: bytes | None, value: bytes) -> EntityState | PartitionState:
    """What a record says.

    Raises
    ------
    BadRecord
        Codes `key`, `schema`, `json`, `fields`, `entity`.
    """
    if key == PARTITION_KEY:
        return _partition_state(value)
    if key is None or not key.startswith(ENTITY_KEY) or key == ENTITY_KEY:
        raise BadRecord("key", "the key is neither an entity's nor the partition's own: another program writes to this topic.")
    state = _entity_state(value)
    if state.entity.encode() != key[len(ENTITY_KEY) :]:
        raise BadRecord("entity", f"the key is {show_key(key)!r}, and the state in it is that of {state.entity!r}.")
    return state


def _entity_state(value: bytes) -> EntityState:
    try:
        return decode_state(value)
    except UnknownSchema as error:
        raise BadRecord("schema", f"{error}.") from None
    except orjson.JSONDecodeError as error:
        raise BadRecord("json", f"behind the header stands no JSON ({error}).") from None
    except ValidationError as error:
        raise BadRecord("fields", _first(error)) from None


def _partition_state(value: bytes) -> PartitionState:
    try:
        return PartitionState.model_validate(orjson.loads(value))
    except orjson.JSONDecodeError as error:
        raise BadRecord("json", f"the record is no JSON ({error}).") from None
    except ValidationError as error:
        raise BadRecord("fields", _first(error)) from None


def _first(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in fault["loc"]) or "the whole"
    return f"{where}: {fault['msg']} ({error.error_count()} faults)."
