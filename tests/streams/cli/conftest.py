"""Command lines run in this process, against settings in a file."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from schemas.settings import Settings
from streams.cli.entry import run


class Ran(NamedTuple):
    """What a command line came to."""

    code: int
    out: str
    err: str


Command = Callable[..., Ran]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `palimpsest` with arguments, in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def palimpsest(*arguments: object) -> Ran:
        code = run([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Ran(code, printed.out, printed.err)

    return palimpsest


@pytest.fixture
def own_file(own_settings: Settings, tmp_path: Path) -> Path:
    """`own_settings` as a file."""
    topics = own_settings.topics
    names = "\n".join(f'{role} = "{name}"' for role, name in topics.model_dump().items() if isinstance(name, str))
    path = tmp_path / "own.toml"
    path.write_text(
        f'app = "{own_settings.app}"\n[kafka]\nbootstrap_servers = "{own_settings.kafka.bootstrap_servers}"\n[topics]\n{names}\n'
    )
    return path
