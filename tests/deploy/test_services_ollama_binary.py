"""How Ollama is built."""

import shutil
from pathlib import Path

import pytest

from deploy.services import MissingTool
from deploy.services.ollama_binary import can_have_ollama, compiler_flags, ollama_program, processor_fingerprint


def cpu(path: Path, flags: str, megahertz: str = "2000") -> Path:
    path.write_text(
        f"processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\ncpu MHz\t\t: {megahertz}\nflags\t\t: {flags}\n"
    )
    return path


def test_another_processor_gets_another_build(tmp_path: Path) -> None:
    older, newer = cpu(tmp_path / "a", "sse2 avx2"), cpu(tmp_path / "b", "sse2 avx2 avx512f")
    assert processor_fingerprint(older) != processor_fingerprint(newer)
    assert compiler_flags("1", older) != compiler_flags("2", older)


def test_the_same_processor_at_another_speed_is_the_same(tmp_path: Path) -> None:
    fingerprint = processor_fingerprint(cpu(tmp_path / "a", "avx2", "2000.1"))
    assert fingerprint == processor_fingerprint(cpu(tmp_path / "b", "avx2", "3100.7"))


def test_amx_is_switched_off_where_the_processor_has_it(tmp_path: Path) -> None:
    assert "-mno-amx-tile" in compiler_flags("1", cpu(tmp_path / "a", "avx2 amx_tile amx_int8"))
    assert "amx" not in compiler_flags("1", cpu(tmp_path / "b", "avx2"))


async def test_an_installed_ollama_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "ollama"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    assert can_have_ollama()
    assert await ollama_program(tmp_path) == program


async def test_without_ollama_and_go_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert not can_have_ollama()
    with pytest.raises(MissingTool, match="Go"):
        await ollama_program(tmp_path)
