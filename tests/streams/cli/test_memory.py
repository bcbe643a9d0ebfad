"""`palimpsest memory` on a real Kafka: what is printed, and what is sent. What workers answer: `tests/integration/test_commands.py`."""

from __future__ import annotations

import asyncio
import getpass
import io
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from schemas.codec import encode
from schemas.messages import MemoryRevision, Rejection
from schemas.settings import Settings
from streams import exits
from streams.cli.revision import changes
from streams.kafka import producer
from streams.partitioner import state_partition
from streams.reading import read_topic

if TYPE_CHECKING:
    from tests.streams.cli.conftest import Command

pytestmark = pytest.mark.integration

NOW = datetime(2024, 1, 1, tzinfo=UTC)
FIRST = MemoryRevision(entity="seattle", revision=1, cause="feedback", accepted=True, after="- rain cools", words=2, made_at=NOW)
SECOND = MemoryRevision(
    entity="seattle",
    revision=2,
    cause="command",
    op="edit",
    accepted=True,
    before="- rain cools",
    after="- rain cools\n- north wind: [fog]",
    words=6,
    by="ann",
    why="seen it",
    rejected=(Rejection(guard="echo", statement="do as I say"),),
    made_at=NOW,
)
REFUSED = MemoryRevision(
    entity="seattle", revision=2, cause="feedback", accepted=False, reason="empty", before=SECOND.after, after=SECOND.after, made_at=NOW
)
OTHER = MemoryRevision(entity="tacoma", revision=1, cause="feedback", accepted=True, after="- another", made_at=NOW)
HEAD = '# revision 2 of "seattle": edit, by ann, 2024-01-01 00:00:00Z, 6 words'


async def write_revisions(settings: Settings, revisions: Iterable[MemoryRevision]) -> None:
    async with producer(settings.kafka) as client:
        for revision in revisions:
            partition = state_partition(settings, revision.entity, 4)
            await client.send_and_wait(settings.topics.memories, encode(revision), key=revision.entity.encode(), partition=partition)


def sent(settings: Settings) -> list[dict[str, Any]]:
    """Every command that was sent, without its id."""

    async def read() -> list[dict[str, Any]]:
        return [orjson.loads(record.value) async for record in read_topic(settings.kafka, settings.topics.commands)]

    commands = asyncio.run(read())
    assert all(command.pop("schema_version") == 1 and len(command.pop("id")) == 36 for command in commands)
    return commands


class Typed(io.TextIOWrapper):
    """Standard input, of a person at a terminal or of a pipe."""

    def __init__(self, text: str = "", *, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(text.encode()), encoding="utf-8")
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def ready(command: Command, own_file: Path, own_settings: Settings) -> Settings:
    """Topics, and an audit log about two entities."""
    command("topics", "create", "-c", own_file)
    asyncio.run(write_revisions(own_settings, [FIRST, OTHER, SECOND, REFUSED]))
    return own_settings


@pytest.fixture
def editor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An editor at a terminal that adds a line to what it is given; the file is its script. Drafts lie in `tmp_path`."""
    script = tmp_path / "my editor"
    script.write_text('#!/bin/sh\necho "- and so on" >> "$1"\n')
    script.chmod(0o755)
    monkeypatch.setenv("VISUAL", f"'{script}'")
    monkeypatch.setattr(sys, "stdin", Typed(terminal=True))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return script


def drafts(directory: Path) -> list[str]:
    return [path.read_text() for path in directory.glob("palimpsest-*.txt")]


# -- reading


def test_a_memory_is_shown_under_a_line_that_says_which_revision_it_is(command: Command, own_file: Path, ready: Settings) -> None:
    ran = command("memory", "show", "seattle", "-c", own_file)
    assert (ran.code, ran.out) == (exits.OK, f"{HEAD}\n- rain cools\n- north wind: [fog]\n")
    shown = command("memory", "show", "seattle", "-c", own_file, "--json").out
    assert MemoryRevision.model_validate_json(shown) == SECOND
    ran = command("memory", "show", "portland", "-c", own_file)
    assert (ran.code, ran.out) == (exits.FAILED, "")
    assert "no memory yet" in ran.err


def test_a_history_says_what_changed_by_whom_and_what_was_refused(command: Command, own_file: Path, ready: Settings) -> None:
    ran = command("memory", "history", "seattle", "-c", own_file)
    lines = ran.out.splitlines()
    assert lines[0] == "revision 1, feedback, 2024-01-01 00:00:00Z, 2 words"
    assert "revision 2, edit, by ann, 2024-01-01 00:00:00Z, 6 words" in lines
    for line in ("  + - rain cools", "  + - north wind: [fog]", "  why: seen it", "  ! echo: do as I say"):
        assert line in lines
    # The last entry is a refusal, which changed nothing.
    assert lines[-1] == "revision 2, feedback, 2024-01-01 00:00:00Z, 0 words REFUSED (empty)"
    assert "another" not in ran.out
    lines = command("memory", "history", "seattle", "-c", own_file, "--json").out.splitlines()
    assert [MemoryRevision.model_validate_json(line) for line in lines] == [FIRST, SECOND, REFUSED]


def test_topics_that_hold_text_of_what_was_forgotten_are_listed(command: Command, own_file: Path, ready: Settings) -> None:
    held = ("memories (for ever)", "observations (7 d)")
    gone = MemoryRevision(entity="tacoma", revision=2, cause="forget", op="forget", accepted=True, held_by=held, made_at=NOW)
    asyncio.run(write_revisions(ready, [gone]))
    lines = command("memory", "history", "tacoma", "-c", own_file).out.splitlines()
    assert lines[-2:] == ["  still held by memories (for ever)", "  still held by observations (7 d)"]
    assert command("memory", "show", "tacoma", "-c", own_file).out.splitlines()[0].startswith('# revision 2 of "tacoma": forget')


def test_only_lines_that_changed_are_marked() -> None:
    assert list(changes("a\nbc\nd", "a\nbd\nd")) == ["  a", "- bc", "+ bd", "  d"]
    assert list(changes("", "")) == []


# -- changing


def test_commands_say_who_why_and_for_which_revision(
    command: Command, own_file: Path, ready: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "page.txt").write_text(command("memory", "show", "seattle", "-c", own_file).out + "- more\n")
    asyncio.run(write_revisions(ready, [SECOND.model_copy(update={"revision": 3})]))
    options = ("--timeout", "1", "-c", own_file)
    by_ann = (*options, "--by", "ann", "--why", "seen it")

    monkeypatch.setattr(sys, "stdin", Typed("- from a pipe\n"))
    command("memory", "edit", "seattle", "page.txt", *by_ann)
    command("memory", "edit", "seattle", "page.txt", "--revision", "9", *options)
    command("memory", "edit", "seattle", *options)
    monkeypatch.setattr(sys, "stdin", Typed("\ufeff- from a dash\r\n"))
    command("memory", "edit", "portland", "-", *options)
    command("memory", "rollback", "seattle", "1", *options)
    command("memory", "rollback", "seattle", "0", "--revision", "2", *options)
    for op in ("freeze", "thaw", "rewrite"):
        command("memory", op, "seattle", *options)
    ran = command("memory", "forget", "tacoma", "--yes", *options)

    me = getpass.getuser()
    seattle = {"entity": "seattle", "by": me}
    text = "- rain cools\n- north wind: [fog]\n- more\n"
    commands = sent(ready)
    assert [c for c in commands if c["entity"] == "seattle"] == [
        # The page knows that it was made of revision 2; the log would say 3.
        {**seattle, "op": "edit", "by": "ann", "why": "seen it", "revision": 2, "text": text},
        {**seattle, "op": "edit", "revision": 9, "text": text},
        {**seattle, "op": "edit", "revision": 3, "text": "- from a pipe\n"},
        {**seattle, "op": "rollback", "revision": 3, "to_revision": 1},
        {**seattle, "op": "rollback", "revision": 2, "to_revision": 0},
        *({**seattle, "op": op} for op in ("freeze", "thaw", "rewrite")),
    ]
    assert [c for c in commands if c["entity"] == "portland"] == [
        {"entity": "portland", "op": "edit", "by": me, "revision": 0, "text": "- from a dash\r\n"}
    ]
    assert [c for c in commands if c["entity"] == "tacoma"] == [{"entity": "tacoma", "op": "forget", "by": me, "revision": 1}]
    assert (ran.code, ran.out) == (exits.UNAVAILABLE, "")
    for said in ("forget sent", "no answer", "palimpsest workers", "palimpsest memory history tacoma", "palimpsest dead-letters list"):
        assert said in ran.err


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("edit", "seattle", "other.txt"), "the memory of 'tacoma'"),
        (("edit", "seattle", "latin.txt"), "not UTF-8"),
        (("edit", "seattle", "long.txt", "--revision", "0"), "text: String should have at most 8000 characters"),
        (("edit", "seattle", "nowhere.txt"), "nowhere.txt: No such file"),
        (("rollback", "seattle", "-1"), "-1"),
        (("rollback", "seattle", "one"), "REVISION"),
        (("freeze", ""), "entity"),
        (("freeze", "seattle", "--why", "x" * 2001), "why"),
        (("forget", "seattle", "--revision", "0"), "--yes"),
    ],
    ids=["another's page", "not UTF-8", "too long", "no file", "below the first", "no number", "no entity", "long reason", "not confirmed"],
)
def test_what_cannot_be_meant_is_a_mistake_in_the_command_line_and_is_not_sent(
    command: Command, tmp_path: Path, arguments: tuple[str, ...], fault: str
) -> None:
    # Where sending is tried, the exit code is another.
    (tmp_path / "palimpsest.toml").write_text('kafka.bootstrap_servers = "127.0.0.1:1"\n')
    (tmp_path / "other.txt").write_text('# revision 1 of "tacoma": feedback\n- another\n')
    (tmp_path / "latin.txt").write_bytes(b"- caf\xe9\n")
    (tmp_path / "long.txt").write_text("- long\n" * 1200)
    ran = command("memory", *arguments)
    assert ran.code == exits.USAGE
    assert fault in " ".join(ran.err.split())


def test_who_has_no_user_name_must_say_who_he_is(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", nobody)
    monkeypatch.setenv("PALIMPSEST__KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    ran = command("memory", "thaw", "seattle")
    assert ran.code == exits.USAGE
    assert "--by" in ran.err
    assert command("memory", "thaw", "seattle", "--by", "ann").code == exits.UNAVAILABLE


def test_an_editor_opens_on_the_memory_and_what_it_saved_is_sent_and_kept_until_it_is_accepted(
    command: Command, own_file: Path, ready: Settings, editor: Path, tmp_path: Path
) -> None:
    ran = command("memory", "edit", "seattle", "--timeout", "1", "-c", own_file)
    assert ran.code == exits.UNAVAILABLE
    text = f"{SECOND.after}\n- and so on\n"
    assert sent(ready) == [{"entity": "seattle", "op": "edit", "by": getpass.getuser(), "revision": 2, "text": text}]
    (draft,) = drafts(tmp_path)
    assert draft.partition("\n")[2] == text
    assert f"kept in {tmp_path}/palimpsest-" in ran.err


def test_an_editor_that_changes_nothing_sends_nothing(
    command: Command, own_file: Path, ready: Settings, editor: Path, tmp_path: Path
) -> None:
    editor.write_text("#!/bin/sh\n")
    ran = command("memory", "edit", "portland", "-c", own_file)
    assert (ran.code, drafts(tmp_path)) == (exits.OK, [])
    assert "nothing was changed" in ran.err
    editor.write_text('#!/bin/sh\necho "- half a" >> "$1"\nexit 3\n')
    ran = command("memory", "edit", "portland", "-c", own_file)
    assert (ran.code, drafts(tmp_path)) == (exits.USAGE, ['# revision 0 of "portland": blank\n- half a\n'])
    assert "ended with 3" in " ".join(ran.err.split())
    editor.unlink()
    ran = command("memory", "edit", "portland", "-c", own_file)
    assert (ran.code, len(drafts(tmp_path))) == (exits.USAGE, 1)
    assert sent(ready) == []


def test_interrupted_while_it_waits_it_says_that_the_command_was_sent_all_the_same(own_file: Path, ready: Settings) -> None:
    # Whatever started the tests may ignore the signal, and hand that down.
    program = ["env", "--default-signal=INT", sys.executable, "-m", "streams.cli", "memory", "freeze", "seattle", "-c", str(own_file)]
    process = subprocess.Popen(program, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert "waiting for the answer" in said
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    assert process.returncode == exits.INTERRUPTED
    assert "was sent all the same" in rest
    assert "palimpsest memory history seattle" in rest
    assert [one["op"] for one in sent(ready)] == ["freeze"]
