"""Whether a partition's RocksDB holds what the changelog says, up to the record that it goes to; pure.

    changelog   a1 b1 a2 c1 | a3 d1
    RocksDB     a2 b1 c1    ^ goes to here

Records up to the mark must be there byte by byte, and nothing else. Where a key has records beyond the mark, compaction may have taken
the one that RocksDB still has; such keys are let be.
"""

from __future__ import annotations

from collections.abc import Iterator

from aiokafka.structs import ConsumerRecord

from streams.state.store import StoreContent, digest
from streams.table import Mark


class Follower:
    """What a RocksDB that goes to `mark` should hold, by what was read of the changelog so far."""

    def __init__(self, mark: Mark | None) -> None:
        self._mark = mark
        self._wanted: dict[bytes, bytes | None] = {}
        self._beyond: set[bytes] = set()
        self._met = False

    def take(self, record: ConsumerRecord) -> None:
        """Take in the next record of the changelog."""
        if self._mark is None or record.key is None:
            return
        if record.offset > self._mark.offset:
            self._beyond.add(record.key)
            return
        self._wanted[record.key] = None if record.value is None else digest(record.value)
        self._met = (record.offset, record.timestamp) == (self._mark.offset, self._mark.timestamp)

    def stale(self, content: StoreContent, end: int, oldest: int = 0) -> str:
        """Why a worker would not go on from this RocksDB, but build it anew; empty where it would go on.

        Parameters
        ----------
        end
            One past the last record of the changelog.
        oldest
            Deletions since then are still in the changelog, milliseconds since the epoch.
        """
        mark = content.mark
        if mark is None:
            return ""
        if mark.current_at < oldest:
            return "since it was last current, deletions may have left the changelog"
        if mark.offset >= end:
            return f"it goes to offset {mark.offset}, and the changelog ends at {end}: the topic was made anew"
        return "" if self._met else f"the record at offset {mark.offset} that it goes to is not in the changelog any more"

    def differences(self, content: StoreContent) -> Iterator[tuple[bytes, str, str]]:
        """Key, slug and text of everything that RocksDB has otherwise than the changelog."""
        if self._mark is None:
            for key in content.digests:
                yield key, "store-unmarked", "RocksDB has a record, and does not know how far it goes."
            return
        for key, found in content.digests.items():
            if key not in self._wanted:
                if key not in self._beyond:
                    yield key, "store-surplus", "RocksDB has a record that the changelog has not."
            elif self._wanted[key] is None:
                yield key, "store-surplus", "RocksDB has a record that the changelog has deleted."
            elif self._wanted[key] != found:
                yield key, "store-differs", "the record in RocksDB is not the one in the changelog."
        for key, wanted in self._wanted.items():
            if wanted is not None and key not in content.digests:
                yield key, "store-lacks", "RocksDB lacks a record that the changelog has."
