"""`palimpsest state` on a real Kafka: what it prints, what it asks, and how it ends."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest
import typer
from rich.console import Console

from schemas.settings import Settings
from schemas.state import EntityState, encode_state, entity_key
from streams import exits, topics
from streams.cli import state
from streams.kafka import producer
from streams.partitioner import state_partition
from streams.topics import changelog_topic

if TYPE_CHECKING:
    from tests.streams.cli.conftest import Command

pytestmark = pytest.mark.integration

NAMES = [f"s{n}" for n in range(8)]


@pytest.fixture
def application(own_settings: Settings, own_file: Path, tmp_path: Path) -> Path:
    """The settings' file of an application that has states of `NAMES`, and a state directory of its own."""
    with own_file.open("a") as file:
        file.write(f'[worker]\nstate_dir = "{tmp_path / "state"}"\n')
    asyncio.run(fill(own_settings, *NAMES))
    return own_file


async def fill(settings: Settings, *names: str, junk: bytes | None = None) -> None:
    await topics.create(settings)
    async with producer(settings.kafka) as client:
        for name in names:
            value = encode_state(EntityState(entity=name)) if junk is None else junk
            await client.send_and_wait(changelog_topic(settings), value, key=entity_key(name), partition=state_partition(settings, name, 4))


def test_sound_states_are_counted_by_partition(command: Command, application: Path) -> None:
    ran = command("state", "verify", "-c", application)
    assert ran.code == exits.OK
    rows = [line.split("\t") for line in ran.out.splitlines()]
    assert [row[0] for row in rows] == ["0", "1", "2", "3"]
    assert sum(int(row[2]) for row in rows) == len(NAMES)
    assert {(row[3], row[4], row[5]) for row in rows} == {("0", "0", "-")}
    assert "8 entities, all sound" in ran.err


def test_a_fault_is_printed_with_its_place_and_what_to_do(command: Command, application: Path, own_settings: Settings) -> None:
    asyncio.run(fill(own_settings, "bad", junk=b"?"))
    partition = state_partition(own_settings, "bad", 4)
    ran = command("state", "verify", "-c", application)
    assert ran.code == exits.FAILED
    fault = next(line for line in ran.out.splitlines() if line.startswith("fail: "))
    assert fault.startswith(f"fail: partition {partition}, offset ") and ", bad: " in fault and "state export" in fault
    assert "9 entities, 1 fault, 0 harmless" in ran.err
    told = orjson.loads(command("state", "verify", "--json", "-c", application).out)
    assert not told["ok"]
    (one,) = told["faults"]
    assert (one["level"], one["partition"], one["key"], one["code"]) == ("fail", partition, "bad", "schema")
    assert [report["failed"] for report in told["partitions"]] == [int(n == partition) for n in range(4)]


def test_of_many_faults_the_first_are_printed(command: Command, application: Path, own_settings: Settings) -> None:
    asyncio.run(fill(own_settings, *(f"bad{n}" for n in range(state.SHOWN + 3)), junk=b"?"))
    ran = command("state", "verify", "-c", application)
    assert sum(line.startswith("fail: ") for line in ran.out.splitlines()) == state.SHOWN
    assert "and 3 more" in ran.err


def test_an_export_is_a_file_or_lines_on_standard_output(command: Command, application: Path, tmp_path: Path) -> None:
    ran = command("state", "export", "states.jsonl", "-c", application)
    assert (ran.code, ran.out) == (exits.OK, "")
    assert "8 entities" in ran.err
    lines = [orjson.loads(line) for line in (tmp_path / "states.jsonl").read_bytes().splitlines()]
    assert [line["kind"] for line in lines] == ["export", *["entity"] * 8, "end"]
    piped = command("state", "export", "-", "-c", application)
    assert [orjson.loads(line) for line in piped.out.splitlines()][1:] == lines[1:]
    told = orjson.loads(command("state", "export", "states.jsonl", "--json", "-c", application).out)
    assert told == {"file": "states.jsonl", "entities": 8, "partitions": 0, "left_out": []}
    assert command("state", "export", "-", "--json", "-c", application).code == exits.USAGE
    assert sorted(path.name for path in tmp_path.glob("*states*")) == ["states.jsonl"]


def test_one_entity_is_exported_alone_and_one_that_is_not_there_is_said_so(command: Command, application: Path) -> None:
    ran = command("state", "export", "-", "--entity", "s3", "-c", application)
    assert ran.code == exits.OK
    assert [orjson.loads(line)["state"]["entity"] for line in ran.out.splitlines()[1:-1]] == ["s3"]
    ran = command("state", "export", "-", "--entity", "nobody", "-c", application)
    assert ran.code == exits.FAILED
    assert "nobody has no state" in ran.err


def test_an_export_that_fails_leaves_the_file_of_before(command: Command, application: Path, tmp_path: Path) -> None:
    (tmp_path / "states.jsonl").write_text("precious")
    ran = command("state", "export", "states.jsonl", "-c", write_app(application, "nobody"))
    assert ran.code == exits.FAILED and "has no states" in ran.err
    assert (tmp_path / "states.jsonl").read_text() == "precious"
    assert not list(tmp_path.glob("*.part"))
    ran = command("state", "export", "no/such/folder.jsonl", "-c", application)
    assert ran.code == exits.USAGE and "No such file" in ran.err


def write_app(file: Path, app: str) -> Path:
    """The same settings for another application."""
    other = file.with_name(f"{app}.toml")
    first, *lines = file.read_text().splitlines(keepends=True)
    assert first.startswith("app = ")
    other.write_text("".join([f'app = "{app}"\n', *lines]))
    return other


def test_states_are_taken_away_only_when_the_name_is_typed_and_come_back_from_the_file(
    command: Command, application: Path, own_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("state", "export", "states.jsonl", "-c", application).code == exits.OK
    dry = command("state", "reset", "--dry-run", "-c", application)
    assert dry.code == exits.OK
    assert f"topic\t{changelog_topic(own_settings)}\t4 partitions, 8 offsets" in dry.out.splitlines()
    asked = command("state", "reset", "-c", application)
    assert asked.code == exits.USAGE and "--yes" in asked.err
    monkeypatch.setattr(state, "stderr", Console(stderr=True, force_terminal=True))
    monkeypatch.setattr(typer, "prompt", lambda text, err: "another")
    other = command("state", "reset", "-c", application)
    assert other.code == exits.FAILED and "nothing was done" in other.err
    assert "8 entities" in command("state", "verify", "-c", application).err
    refused = command("state", "import", "states.jsonl", "-c", application)
    assert refused.code == exits.FAILED and "state reset" in refused.err
    monkeypatch.setattr(typer, "prompt", lambda text, err: own_settings.app)
    done = command("state", "reset", "-c", application)
    assert done.code == exits.OK and "state import" in done.err
    assert "0 entities" in command("state", "verify", "-c", application).err
    imported = command("state", "import", "states.jsonl", "-c", application)
    assert imported.code == exits.OK
    assert "observations" in imported.err and "offsets kept" in imported.err and "8 entities on 4 partitions" in imported.err
    assert "8 entities, all sound" in command("state", "verify", "-c", application).err


def test_programs_are_told_in_json(command: Command, application: Path, own_settings: Settings) -> None:
    command("state", "export", "states.jsonl", "-c", application)
    held = orjson.loads(command("state", "reset", "--yes", "--json", "-c", application).out)
    assert held["topics"][changelog_topic(own_settings)] == {"partitions": 4, "offsets": 8}
    told = orjson.loads(command("state", "import", "states.jsonl", "--json", "--positions", "drop", "-c", application).out)
    assert (told["entities"], told["partitions"], told["left_out"]) == (8, 4, 0)
    assert {role: one["kept"] for role, one in told["inputs"].items()} == {"observations": False, "truths": False, "commands": False}


def test_a_bad_line_is_named(command: Command, application: Path, tmp_path: Path) -> None:
    (tmp_path / "states.jsonl").write_text("{}\n")
    ran = command("state", "import", "states.jsonl", "-c", application)
    assert ran.code == exits.FAILED and "states.jsonl: line 1" in ran.err
    assert command("state", "import", "states.jsonl", "--positions", "maybe", "-c", application).code == exits.USAGE
