"""Commands on a real Kafka: from missing topics to replayed dead letters, for people and for programs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

from schemas.mapping import Record
from schemas.settings import Settings
from streams import exits
from streams.dead_letters import to_record
from streams.kafka import producer
from streams.reading import read_topic

if TYPE_CHECKING:
    from tests.streams.cli.conftest import Command

pytestmark = pytest.mark.integration


async def records_of(settings: Settings, topic: str) -> list[tuple[bytes | None, bytes]]:
    return [(record.key, record.value) async for record in read_topic(settings.kafka, topic)]


async def write_letters(settings: Settings, *letters: tuple[Record, str]) -> None:
    async with producer(settings.kafka) as client:
        for record, reason in letters:
            letter = to_record(record, reason, "for a test")
            await client.send_and_wait(settings.topics.dead_letters, letter.value, key=letter.key, headers=letter.headers)


def test_topics_are_checked_made_and_checked_again(command: Command, own_file: Path, own_settings: Settings) -> None:
    ran = command("topics", "check", "-c", own_file)
    assert ran.code == exits.FAILED
    assert f"fail: {own_settings.topics.memories}: the topic does not exist." in ran.out
    ran = command("topics", "create", "-c", own_file)
    assert ran.code == exits.OK
    assert f"{own_settings.app}-state-changelog\tchangelog\t4\t1\tcompact\tlatest per entity\t1" in ran.out.splitlines()
    found = orjson.loads(command("topics", "check", "-c", own_file, "--json").out)
    assert not found["ok"]
    assert [one["subject"] for one in found["findings"] if one["level"] == "fail"] == [
        own_settings.topics.observations,
        own_settings.topics.truths,
    ]
    made = orjson.loads(command("topics", "create", "-c", own_file, "--inputs", "--json").out)
    assert [one["role"] for one in made] == ["observations", "truths"]
    assert command("topics", "check", "-c", own_file).code == exits.OK
    ran = command("topics", "create", "-c", own_file)
    assert (ran.code, ran.out) == (exits.OK, "")
    assert "every topic exists" in ran.err


def test_a_file_is_replayed_and_a_bad_line_stops_it_before_anything_is_sent(
    command: Command, own_file: Path, own_settings: Settings, tmp_path: Path
) -> None:
    command("topics", "create", "--inputs", "-c", own_file)
    (tmp_path / "o.csv").write_text("date,temp_max\n2012-01-01,12.8\n2012-01-02,10.6\n")
    (tmp_path / "t.jsonl").write_text('{"target_time":"2012-01-02T00:00:00Z","value":10.6}\n')
    (tmp_path / "bad.csv").write_text("date,temp_max\n2012-01-01,12.8\nlater,10.6\n")
    named = ["--entity", "seattle", "--time-field", "date", "-c", own_file]
    ran = command("replay", "bad.csv", *named)
    assert ran.code == exits.FAILED
    assert "error: bad.csv, line 3" in ran.err
    ran = command("replay", "o.csv", *named, "--json")
    assert ran.code == exits.OK
    assert orjson.loads(ran.out) | {"seconds": 0} == {
        "sent": 2,
        "first": "2012-01-01T00:00:00+00:00",
        "last": "2012-01-02T00:00:00+00:00",
        "seconds": 0,
    }
    sent = asyncio.run(records_of(own_settings, own_settings.topics.observations))
    assert [orjson.loads(value) for _, value in sent] == [
        {"time": "2012-01-01T00:00:00Z", "temp_max": 12.8, "entity": "seattle"},
        {"time": "2012-01-02T00:00:00Z", "temp_max": 10.6, "entity": "seattle"},
    ]
    (tmp_path / "o2.csv").write_text("time,temp_max\n2012-01-01,12.8\n")
    ran = command("replay", "o2.csv", "--truths", "t.jsonl", "--entity", "seattle", "-c", own_file)
    assert "sent 2 records" in ran.err
    assert len(asyncio.run(records_of(own_settings, own_settings.topics.truths))) == 1


def test_dead_letters_are_listed_and_sent_again_by_reason(command: Command, own_file: Path, own_settings: Settings) -> None:
    command("topics", "create", "--inputs", "-c", own_file)
    name = own_settings.topics.observations
    letters = [(Record(name, 0, 3, 0, b"a", b'{"t": 1}\n'), "missing-time"), (Record(name, 1, 9, 0, None, b"\xff"), "not-utf8")]
    asyncio.run(write_letters(own_settings, *letters))
    ran = command("dead-letters", "list", "-c", own_file)
    assert f'missing-time\t{name}\t0\t3\t9\tfor a test\t{{"t": 1}} ' in ran.out.splitlines()
    assert "1 not-utf8: the value is not UTF-8" in ran.err
    (line,) = command("dead-letters", "list", "-c", own_file, "--json", "--reason", "not-utf8").out.splitlines()
    assert orjson.loads(line)["offset"] == 9
    assert len(command("dead-letters", "list", "-c", own_file, "--json", "--limit", "1").out.splitlines()) == 1
    ran = command("dead-letters", "list", "-c", own_file, "--reason", "bad-luck")
    assert ran.code == exits.USAGE
    assert "missing-time" in ran.err
    ran = command("dead-letters", "replay", "-c", own_file)
    assert ran.code == exits.USAGE
    assert "--yes" in ran.err
    assert command("dead-letters", "replay", "-c", own_file, "--reason", "missing-time").code == exits.OK
    assert asyncio.run(records_of(own_settings, name)) == [(b"a", b'{"t": 1}\n')]
    ran = command("dead-letters", "replay", "-c", own_file, "--yes", "--json")
    assert orjson.loads(ran.out) == {"sent": {name: 2}, "left": 0}


def test_the_doctor_ends_with_1_where_something_is_wrong(command: Command, own_file: Path) -> None:
    with own_file.open("a") as file:
        file.write('[model]\nhost = "http://127.0.0.1:1"\n')
    ran = command("doctor", "-c", own_file, "--json")
    assert ran.code == exits.FAILED
    found = orjson.loads(ran.out)
    assert not found["ok"]
    assert {"settings", "deadlines", "version", "missing", "unreachable"} <= {one["code"] for one in found["findings"]}
    ran = command("doctor", "-c", own_file)
    assert "fail: model: " in ran.out
    assert "wrong" in ran.err
