"""Exit codes, help, and that no mistake of a user shows a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer

from streams import exits
from streams.cli import doctor, program
from streams.cli.program import build_program

if TYPE_CHECKING:
    from tests.streams.cli.conftest import Command

COMMANDS = [
    ("worker",),
    ("workers",),
    ("entity",),
    ("doctor",),
    ("topics", "check"),
    ("topics", "create"),
    ("replay",),
    ("compare",),
    ("evaluate",),
    ("memory", "show"),
    ("memory", "history"),
    ("memory", "edit"),
    ("memory", "rollback"),
    ("memory", "freeze"),
    ("memory", "thaw"),
    ("memory", "forget"),
    ("memory", "rewrite"),
    ("dead-letters", "list"),
    ("dead-letters", "replay"),
    ("state", "verify"),
    ("state", "export"),
    ("state", "import"),
    ("state", "reset"),
    ("services", "up"),
    ("services", "status"),
    ("services", "down"),
    ("models", "list"),
    ("models", "pull"),
    ("schemas", "export"),
    ("version",),
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_help_of_every_command_teaches_by_an_example(command: Command, words: tuple[str, ...]) -> None:
    ran = command(*words, "--help")
    assert ran.code == exits.OK
    assert f"Example: palimpsest {' '.join(words)}" in " ".join(ran.out.split())


def test_every_command_is_in_the_list_above() -> None:
    built = typer.main.get_command(build_program())
    found = set()
    for name, one in built.commands.items():  # type: ignore[attr-defined]
        found |= {(name, inner) for inner in one.commands} if hasattr(one, "commands") else {(name,)}
    assert found - {("demo",)} == set(COMMANDS)


def test_without_a_command_the_help_is_shown(command: Command) -> None:
    ran = command()
    assert ran.code == exits.USAGE
    assert "doctor" in ran.out + ran.err


@pytest.mark.parametrize(
    "line",
    [["topics", "chek"], ["replay"], ["doctor", "--colour"], ["replay", "x.csv", "--limit", "0"], ["replay", "x.csv", "--speed", "fast"]],
)
def test_a_wrong_command_line_ends_with_2_and_says_what_is_wrong(command: Command, line: list[str]) -> None:
    ran = command(*line)
    assert ran.code == exits.USAGE
    assert ran.err
    assert "Traceback" not in ran.err


def test_wrong_settings_end_with_78_and_every_fault_in_its_own_line(command: Command, tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text('[bounds]\npending = 0\n[kafka]\nhost = "x"')
    for line in (["doctor"], ["worker"], ["worker", "--supervise"], ["topics", "check"], ["memory", "show", "a"], ["replay", "x.csv"]):
        ran = command(*line, "-c", "wrong.toml")
        assert ran.code == exits.CONFIG
        assert ran.out == ""
        assert "error: wrong.toml: bounds.pending: Input should be greater than or equal to 1 (got 0)" in ran.err
        assert "error: wrong.toml: kafka.host: unknown key" in ran.err
        assert "Traceback" not in ran.err


def test_the_settings_of_the_directory_are_taken_and_others_only_when_named(command: Command, tmp_path: Path) -> None:
    (tmp_path / "palimpsest.toml").write_text("app = 5")
    assert "error: palimpsest.toml: app" in command("doctor").err
    assert "error: none.toml: no such file" in command("doctor", "--config", "none.toml").err


def test_kafka_away_ends_with_69(command: Command, tmp_path: Path) -> None:
    (tmp_path / "palimpsest.toml").write_text('[kafka]\nbootstrap_servers = "127.0.0.1:1"')
    for line in (["topics", "check"], ["topics", "create"], ["memory", "show", "a"], ["dead-letters", "list"]):
        ran = command(*line)
        assert ran.code == exits.UNAVAILABLE
        assert ran.err.startswith("error: Kafka does not answer at 127.0.0.1:1")
        assert "Traceback" not in ran.err


def test_a_defect_ends_with_70_and_shows_where_it_is(
    command: Command, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def defective(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(doctor, "settings_of", defective)
    assert command("doctor").code == exits.SOFTWARE
    assert "please report" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_an_interrupted_command_ends_with_130(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "settings_of", interrupted)
    assert command("doctor").code == exits.INTERRUPTED


def test_the_version_is_that_of_the_package(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "installed_version", lambda name: f"{name} 1.2.3")
    assert command("version").out == "palimpsest 1.2.3\n"


def test_the_program_runs_as_a_module_and_passes_its_code_on(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "streams.cli", "doctor", "-c", str(tmp_path / "none.toml")]
    ended = subprocess.run(line, capture_output=True, text=True, check=False)
    assert ended.returncode == exits.CONFIG
    assert "no such file" in ended.stderr


def test_a_reader_that_has_enough_is_no_error() -> None:
    # Standard output is a pipe whose other end is closed already.
    closed = "import os, sys; r, w = os.pipe(); os.close(r); os.dup2(w, 1)"
    script = f"{closed}; from streams.cli.entry import run; sys.exit(run(['models', 'list', '--json']))"
    ended = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (exits.OK, "")
