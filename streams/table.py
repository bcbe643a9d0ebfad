"""The one table: state records of entities, by partition, in RocksDB behind a changelog.

RocksDB holds nothing that the changelog does not: it is written after a transaction is committed (`apply_committed`) and by
recovery (`apply_changelog_batch`), with the persisted offset, through the same call. Reads name their partition, because work
in lanes has no current event that Faust could derive it from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import faust
from faust.types import TP, EventT

from schemas.state import ENTITY_KEY, HEADER_SIZE

NAME = "state"
#: Key of the plain record that a partition's writer sends when it starts. Recovery ends when it has read the last offset, and the
#: marker that ends a transaction is an offset that is never delivered; this record is a last offset that is.
FENCE_KEY = b"f"


class StateTable(faust.Table):
    """Written only by `streams.writer`; setting a key directly is refused."""

    def read(self, partition: int, key: bytes) -> bytes | None:
        record: bytes | None = self.data._db_for_partition(partition).get(key)
        return record

    def entities(self, partition: int) -> Iterator[tuple[str, bytes]]:
        """Entities of a partition with the front of their records, header included; in key order."""
        for key, value in self.data._db_for_partition(partition).items(from_key=ENTITY_KEY):
            if not key.startswith(ENTITY_KEY):
                return
            yield key[len(ENTITY_KEY) :].decode(), value[:HEADER_SIZE]

    def apply_committed(self, tp: TP, offset: int, records: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Take over what a transaction committed. `offset` is that of its last record in the changelog."""
        db = self.data._db_for_partition(tp.partition)
        for key, value in records:
            if value is None:
                db.delete(key)
            else:
                db.put(key, value)
        self.data.set_persisted_offset(tp, offset)

    def apply_changelog_batch(self, batch: Iterable[EventT]) -> None:
        by_partition: dict[TP, list[tuple[bytes, bytes | None]]] = {}
        ends: dict[TP, int] = {}
        for event in batch:
            message = event.message
            ends[message.tp] = message.offset
            records = by_partition.setdefault(message.tp, [])
            if message.key != FENCE_KEY:
                records.append((message.key, message.value))
        for tp, records in by_partition.items():
            self.apply_committed(tp, ends[tp], records)

    def on_key_set(self, key: Any, value: Any) -> None:
        raise TypeError("the state is written by a partition's writer, in a transaction")

    def on_key_del(self, key: Any) -> None:
        raise TypeError("the state is written by a partition's writer, in a transaction")
