"""RocksDB as workers leave it on this machine's disk, read from outside: where it lies, who has it open, what it holds.

Nothing is changed by reading. A worker may go on writing meanwhile; what is read is what there was when it was opened.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import orjson
from faust.stores.rocksdb import Store
from rocksdict import AccessType, Options, Rdict

from schemas.settings import Settings
from streams.table import MARK_KEY, NAME, Mark

#: Bytes of a digest that stands for a value.
_DIGEST = 16


def tables_directory(settings: Settings) -> Path:
    """Where Faust puts the RocksDB files below `worker.state_dir`: one directory for each partition."""
    return settings.state_dir / "v1" / "tables"


def find_stores(settings: Settings) -> dict[int, Path]:
    """This machine's RocksDB directories, by partition."""
    found = {}
    for path in tables_directory(settings).glob(f"{NAME}-*.db"):
        if match := re.fullmatch(rf"{NAME}-(\d+)\.db", path.name):
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def is_open(path: Path) -> bool:
    """Whether another process has a RocksDB directory open: it holds a lock on a file in it. Of no use to whoever has it open itself."""
    try:
        with (path / "LOCK").open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def wipe(settings: Settings) -> int:
    """Delete this machine's RocksDB files; return how many partitions they held."""
    number, directory = len(find_stores(settings)), tables_directory(settings)
    if directory.exists():
        shutil.rmtree(directory)
    return number


class UnreadableStore(Exception):
    """RocksDB refuses: a file is missing or damaged."""


@dataclass(frozen=True, slots=True)
class StoreContent:
    """What one partition's RocksDB held at one moment: how far it goes, and a digest of each record by key."""

    mark: Mark | None
    digests: dict[bytes, bytes]


def digest(value: bytes) -> bytes:
    """What stands for a value where values are compared and not kept."""
    return blake2b(value, digest_size=_DIGEST).digest()


def read_store(path: Path) -> StoreContent:
    """Read a partition's RocksDB, with all checksums checked.

    Raises
    ------
    UnreadableStore
        It cannot be opened, or not be read to its end.
    """
    with tempfile.TemporaryDirectory(prefix="palimpsest-verify-") as scratch:
        try:
            # As a follower of whoever has it open: that takes no lock, and stands it if the owner compacts meanwhile.
            database = Rdict(str(path), options=Options(raw_mode=True), access_type=AccessType.secondary(scratch))
        except Exception as error:  # rocksdict raises no class of its own
            raise UnreadableStore(str(error)) from None
        try:
            mark, digests = None, {}
            for key, value in _items(database):
                if key == MARK_KEY:
                    mark = _mark(value)
                elif key != Store.offset_key:
                    digests[key] = digest(value)
            return StoreContent(mark, digests)
        finally:
            database.close()


def _mark(value: bytes) -> Mark:
    try:
        return Mark(*orjson.loads(value))
    except (ValueError, TypeError):
        raise UnreadableStore("what it notes about how far it goes is damaged") from None


def _items(database: Rdict) -> Iterator[tuple[bytes, bytes]]:
    """All records. The iterator that `items()` gives ends at a damaged block as if that were the end; this one's status tells."""
    try:
        iterator = database.iter()
        iterator.seek_to_first()
        while iterator.valid():
            yield iterator.key(), iterator.value()
            iterator.next()
        iterator.status()
    except Exception as error:
        raise UnreadableStore(str(error)) from None
