"""States as they were read or written last, so that the next record of an entity need not decode them again.

What counts is the record in RocksDB: a kept state is used only where the record is, byte for byte, the one that it was read from or
written as. So nothing has to be invalidated, by a take-over or by anything else.
"""

from __future__ import annotations

from collections import OrderedDict

from schemas.state import EntityState, decode_state

#: Bytes of the records whose states are kept. A decoded state takes about ten times as much.
KEPT_BYTES = 8 * 1024 * 1024


class States:
    """The states used last."""

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self._limit = limit
        self._kept: OrderedDict[bytes, tuple[bytes, EntityState]] = OrderedDict()
        #: Bytes of all records that are kept.
        self.size = 0

    def decode(self, key: bytes, record: bytes) -> EntityState:
        """The state that a record holds."""
        kept = self._kept.get(key)
        if kept is not None and kept[0] == record:
            self._kept.move_to_end(key)
            return kept[1]
        state = decode_state(record)
        self.keep(key, record, state)
        return state

    def keep(self, key: bytes, record: bytes, state: EntityState) -> None:
        """Keep a state that was written as `record`; the ones that were not used for longest make room."""
        before = self._kept.pop(key, None)
        self.size += len(record) - (0 if before is None else len(before[0]))
        self._kept[key] = (record, state)
        while self.size > self._limit:
            _, (oldest, _) = self._kept.popitem(last=False)
            self.size -= len(oldest)
