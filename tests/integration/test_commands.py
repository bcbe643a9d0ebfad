"""Every command end to end: from the command line through the log, the worker and its lane, to the answer that is printed."""

import asyncio
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest

from schemas.messages import MemoryRevision
from streams import exits
from streams.cli.entry import run

pytestmark = pytest.mark.integration

# Free text about what is steady, so that the scripted model's one sentence makes a memory; commands go the long way, by the internal topic.
CONFIG = """\
app = "{app}"
time = "replay"
kafka.bootstrap_servers = "{kafka}"
topics = {topics}
worker = {{ http_port = {port}, state_dir = "{state}", session_timeout = "6s" }}
model = {{ backend = "import", factory = "agents.models.scripted:from_settings" }}
observations.key = "entity"
commands.key = "any"
memory.form = "free-text"
rewrite = {{ policy = "every", mode = "inline" }}
target = {{ field = "t", description = "how steady the day is" }}
"""
PAGE = "History:\n- Mornings are cold."


class Ran(NamedTuple):
    code: int
    answer: MemoryRevision
    err: str


class Person:
    """Somebody at the command line of this process."""

    def __init__(self, bench, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.bench, self.config, self.capsys = bench, config, capsys
        self.answers: list[str] = []

    async def run(self, *arguments: object) -> tuple[int, str, str]:
        words = ["memory", *(str(argument) for argument in arguments), "-c", str(self.config)]
        code = await asyncio.to_thread(run, words)
        out, err = self.capsys.readouterr()
        return code, out, err

    async def command(self, op: str, *arguments: object) -> Ran:
        code, out, err = await self.run(op, "e0", *arguments, "--by", "ann", "--why", f"{op} it", "--timeout", "100", "--json")
        assert out, f"{err}\n{self.bench.worker.tail()}"
        answer = MemoryRevision.model_validate_json(out)
        self.answers.append(answer.command)
        return Ran(code, answer, err)


class Stream:
    """Observations and truths of one entity, each waited for until it has come through."""

    def __init__(self, bench) -> None:
        self.bench, self.count = bench, 0

    async def observe(self) -> dict:
        self.count += 1
        reading = {"entity": "e0", "id": f"o{self.count}", "time": 1_700_000_000 + self.count * 60, "values": {"t": self.count}}
        await self.bench.send("observations", [(b"e0", orjson.dumps(reading), None)])
        seen = await self.bench.until("predictions", lambda records: len(records) >= self.count)
        return orjson.loads(seen[-1].value)

    async def learn(self, number: int) -> None:
        truth = {"entity": "e0", "observation_id": f"o{number}", "value": number + 3.0, "time": 1_700_000_030 + number * 60}
        await self.bench.send("truths", [(None, orjson.dumps(truth), None)])
        await self.bench.until("outcomes", lambda records: len(records) >= number)

    async def rewrites(self) -> int:
        return sum(message["cause"] == "feedback" for message in await self.bench.messages("memories"))


async def test_people_edit_roll_back_freeze_thaw_rewrite_and_forget_a_memory(make_bench, tmp_path: Path, capsys) -> None:
    bench = await make_bench(CONFIG)
    person, stream = Person(bench, tmp_path / f"{bench.settings.app}-0.toml", capsys), Stream(bench)
    await bench.worker.start()
    page = tmp_path / "page.txt"

    # Nobody has heard of the entity yet.
    ran = await person.command("freeze")
    assert (ran.code, ran.answer.accepted, ran.answer.reason) == (exits.FAILED, False, "no such entity")
    assert "refused: no such entity" in ran.err

    # An edit counts from the next prediction on; an entity has no revision before its first.
    assert (await stream.observe())["memory_revision"] == 0
    page.write_text(PAGE)
    ran = await person.command("edit", page)
    assert (ran.code, ran.answer.revision, ran.answer.after, ran.answer.op) == (exits.OK, 1, PAGE, "edit")
    assert (ran.answer.by, ran.answer.why) == ("ann", "edit it")
    assert (await stream.observe())["memory_revision"] == 1

    # A page that was taken before another change is refused, whatever it says; what cannot be read as well.
    _, shown, _ = await person.run("show", "e0")
    page.write_text(shown.replace("cold", "warm"))
    assert (await person.command("edit", page)).code == exits.OK
    ran = await person.command("edit", page)
    assert (ran.code, ran.answer.revision) == (exits.FAILED, 2)
    assert "moved on: it is at revision 2, the command was made for 1" in ran.answer.reason
    page.write_text("Gossip:\n- It is said.")
    ran = await person.command("edit", page)
    assert (ran.code, "line 1" in ran.answer.reason) == (exits.FAILED, True)

    # The content of the first revision comes back as the third.
    ran = await person.command("rollback", 1)
    assert (ran.code, ran.answer.revision, ran.answer.cause, ran.answer.after) == (exits.OK, 3, "rollback", PAGE)
    assert (await person.command("rollback", 9)).code == exits.FAILED
    assert (await stream.observe())["memory_revision"] == 3

    # Frozen, what is learned is kept and nothing is rewritten; asked for after the thaw it is.
    assert [(await person.command("freeze")).code for _ in range(2)] == [exits.OK, exits.OK]
    await stream.learn(1)
    await stream.learn(2)
    ran = await person.command("rewrite")
    assert (ran.code, ran.answer.reason) == (exits.FAILED, "the entity is frozen")
    assert await stream.rewrites() == 0
    assert (await person.command("thaw")).code == exits.OK
    ran = await person.command("rewrite")
    assert (ran.code, ran.answer.revision, ran.answer.before, await stream.rewrites()) == (exits.OK, 4, PAGE, 1)
    assert "Steady as before." in ran.answer.after
    ran = await person.command("rewrite")
    assert (ran.code, ran.answer.reason) == (exits.FAILED, "there is no feedback to rewrite from")
    await stream.learn(3)
    assert await stream.rewrites() == 2

    # Forgotten, nothing of it is there to be shown or brought back.
    ran = await person.command("forget", "--yes")
    assert (ran.code, ran.answer.cause, ran.answer.before, ran.answer.after) == (exits.OK, "forget", "", "")
    assert bench.settings.topics.memories in " ".join(ran.answer.held_by)
    _, shown, _ = await person.run("show", "e0")
    assert shown.partition("\n")[2].strip() == ""
    assert not (await person.command("rollback", 1)).answer.accepted

    # Each was answered once, under an id of its own.
    answers = [message["command"] for message in await bench.messages("memories") if "command" in message]
    assert answers == person.answers
    assert len(set(answers)) == len(answers)
    assert await bench.read("dead_letters") == []
    assert await bench.worker.stop() == 0
