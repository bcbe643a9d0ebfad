"""The one table: state records of entities, by partition, in RocksDB behind a changelog.

RocksDB holds nothing that the changelog does not: it is written after a transaction is committed (`streams.writer`) and by recovery and
standbys (`streams.restoring`), both through `apply`, in one atomic write with the mark of how far that goes. Reads name their partition,
because work in lanes has no current event that Faust could derive it from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import faust
import orjson
import rocksdict

from schemas.state import ENTITY_KEY, HEADER_SIZE

NAME = "state"
#: Key of a partition's `Mark` in RocksDB; in no changelog.
MARK_KEY = b"\0mark"
#: Bytes of RocksDB's caches and buffers for each partition; Faust's own are 2 GiB and 3 x 64 MiB.
_OPTIONS = {"block_cache_size": 32 * 1024**2, "write_buffer_size": 16 * 1024**2, "target_file_size_base": 16 * 1024**2}


class Mark(NamedTuple):
    """How far a partition's RocksDB has followed the changelog.

    Attributes
    ----------
    offset, timestamp
        Of the last changelog record that it holds; the timestamp (Kafka's, milliseconds) tells whether that is still the same log.
    current_at
        When it was last known to hold everything, milliseconds since the epoch: what was deleted later may have left the log unseen.
    """

    offset: int
    timestamp: int
    current_at: int


class StateTable(faust.Table):
    """Written only through `apply`; setting a key directly is refused."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "options": dict(_OPTIONS)})

    def read(self, partition: int, key: bytes) -> bytes | None:
        record: bytes | None = self.data._db_for_partition(partition).get(key)
        return record

    def entities(self, partition: int) -> Iterator[tuple[str, bytes]]:
        """Entities of a partition with the front of their records, header included; in key order.

        Raises
        ------
        Exception
            RocksDB cannot read a block. The iterator that `items()` gives would end there as if that were the end.
        """
        records = self.data._db_for_partition(partition).iter()
        records.seek(ENTITY_KEY)
        while records.valid() and (key := records.key()).startswith(ENTITY_KEY):
            yield key[len(ENTITY_KEY) :].decode(), records.value()[:HEADER_SIZE]
            records.next()
        records.status()

    def apply(self, partition: int, records: Iterable[tuple[bytes, bytes | None]], mark: Mark) -> None:
        """Take over committed records (None deletes), and the mark that goes with them, at once or not at all."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in records:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(MARK_KEY, orjson.dumps(tuple(mark)))
        self.data._db_for_partition(partition).write(batch)

    def mark(self, partition: int) -> Mark | None:
        """How far the partition's RocksDB goes; None where it is new."""
        raw = self.data._db_for_partition(partition).get(MARK_KEY)
        return None if raw is None else Mark(*orjson.loads(raw))

    def touch(self, partition: int, now: int) -> None:
        """Note that the partition holds everything at `now` (milliseconds since the epoch). Nothing to note where it is new."""
        mark = self.mark(partition)
        if mark is not None:
            self.apply(partition, (), mark._replace(current_at=now))

    def clear(self, partition: int) -> None:
        """Delete everything that the partition's RocksDB holds, from the disk too."""
        db = self.data._db_for_partition(partition)
        db.delete_range(b"", b"\xff" * 8)
        db.compact_range(None, None)

    def on_key_set(self, key: Any, value: Any) -> None:
        raise TypeError("the state is written by a partition's writer, in a transaction")

    def on_key_del(self, key: Any) -> None:
        raise TypeError("the state is written by a partition's writer, in a transaction")
