"""RocksDB read from outside: while it is closed, while a worker has it open, and when its files are damaged."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
from faust.stores.rocksdb import RocksDBOptions
from rocksdict import Rdict

from schemas.settings import Settings
from streams.state.store import StoreContent, UnreadableStore, digest, find_stores, is_open, read_store, tables_directory, wipe
from streams.table import MARK_KEY, Mark

MARK = Mark(12, 1_700_000_000_000, 1_700_000_000_500)


@contextmanager
def opened(path: Path) -> Iterator[Rdict]:
    path.parent.mkdir(parents=True, exist_ok=True)
    database = RocksDBOptions().open(path)
    try:
        yield database
    finally:
        database.close()


def filled(path: Path, number: int = 500) -> StoreContent:
    """A RocksDB with so many records of 2 kB."""
    held = {b"e%d" % n: orjson.dumps(list(range(n, n + 400))) for n in range(number)}
    with opened(path) as database:
        for key, value in held.items():
            database.put(key, value)
        database.put(MARK_KEY, orjson.dumps(tuple(MARK)))
        database.flush()
    return StoreContent(MARK, {key: digest(value) for key, value in held.items()})


def test_everything_is_read_and_nothing_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "state-0.db"
    content = filled(path)
    tables = {file.name: file.read_bytes() for file in path.glob("*.sst")}
    assert read_store(path) == content
    assert {file.name: file.read_bytes() for file in path.glob("*.sst")} == tables
    with opened(path) as database:
        assert database.get(b"e1") is not None


def test_a_new_one_holds_nothing(tmp_path: Path) -> None:
    with opened(tmp_path / "state-0.db"):
        pass
    assert read_store(tmp_path / "state-0.db") == StoreContent(None, {})


HOLDER = """
import sys
from pathlib import Path
from faust.stores.rocksdb import RocksDBOptions
database = RocksDBOptions().open(Path(sys.argv[1]))
database.put(b"elast", b"1")
print("open", flush=True)
sys.stdin.read()
"""


def test_one_that_a_process_has_open_is_known_for_it_and_read_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "state-0.db"
    content = filled(path)
    assert not is_open(path)
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdin is not None
        assert holder.stdout.readline() == b"open\n"
        assert is_open(path)
        assert read_store(path) == StoreContent(MARK, {**content.digests, b"elast": digest(b"1")})
        holder.stdin.close()
    assert not is_open(path)


@pytest.mark.parametrize("pattern", ["*.sst", "MANIFEST-*", "CURRENT"])
def test_a_damaged_file_is_noticed(tmp_path: Path, pattern: str) -> None:
    path = tmp_path / "state-0.db"
    filled(path)
    (file,) = path.glob(pattern)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(UnreadableStore):
        read_store(path)


def test_a_damaged_mark_is_noticed(tmp_path: Path) -> None:
    with opened(tmp_path / "state-0.db") as database:
        database.put(MARK_KEY, b"[1,")
    with pytest.raises(UnreadableStore, match="how far"):
        read_store(tmp_path / "state-0.db")


def test_an_application_s_files_are_found_where_workers_put_them_and_wiped_with_nothing_else(tmp_path: Path) -> None:
    settings = Settings(worker={"state_dir": tmp_path})
    assert find_stores(settings) == {}
    assert wipe(settings) == 0
    for name in ("state-10.db", "state-2.db"):
        filled(tables_directory(settings) / name, 1)
    (tmp_path / "notes.txt").write_text("mine")
    assert list(find_stores(settings)) == [2, 10]
    assert wipe(settings) == 2
    assert find_stores(settings) == {}
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["notes.txt"]
