"""Dead letters: any record fits into one, it says all of where it came from, and it can go back."""

import hashlib
from contextlib import aclosing

import pytest
from aiokafka import AIOKafkaProducer
from hypothesis import given
from hypothesis import strategies as st

from schemas.mapping import REASONS, Record
from schemas.settings import Settings
from streams import topics
from streams.dead_letters import (
    DETAIL_LIMIT,
    KEPT,
    Letter,
    NotADeadLetter,
    from_headers,
    read_letters,
    replay_letters,
    to_record,
    whole_value,
)
from streams.errors import TopicsUnfit
from streams.kafka import producer

BAD = Record("readings", 2, 41, 1_690_000_000_123, b"sensor-1", b'{"t": ')


def test_a_letter_keeps_key_and_bytes_and_says_where_they_stood() -> None:
    key, value, headers = to_record(BAD, "not-json", "unexpected end of data")
    assert (key, value) == (BAD.key, BAD.value)
    assert {name for name, _ in headers} == {
        f"palimpsest-{field}" for field in ("reason", "detail", "topic", "partition", "offset", "timestamp", "size", "sha256")
    }
    about = from_headers(headers)
    assert (about.reason, about.topic, about.partition, about.offset, about.size) == ("not-json", "readings", 2, 41, 6)
    assert about.timestamp is not None
    assert about.timestamp.isoformat() == "2023-07-22T04:26:40.123000+00:00"
    assert about.sha256 == hashlib.sha256(BAD.value).hexdigest()
    assert not about.truncated


def test_a_long_value_is_cut_and_its_size_and_digest_are_those_of_the_whole() -> None:
    whole = bytes(range(256)) * 400
    letter = to_record(BAD._replace(value=whole), "text-too-long", "x" * 5_000)
    about = from_headers(letter.headers)
    assert letter.value == whole[:KEPT]
    assert (about.truncated, about.size, about.sha256) == (True, len(whole), hashlib.sha256(whole).hexdigest())
    assert len(about.detail) == DETAIL_LIMIT


@given(
    st.sampled_from(sorted(REASONS)),
    st.text(st.characters(), max_size=50),
    st.none() | st.binary(max_size=10),
    st.binary(max_size=100),
    st.integers(-(2**63), 2**63 - 1),
)
def test_every_record_fits_into_a_letter_that_can_be_read(
    reason: str, detail: str, key: bytes | None, value: bytes, timestamp: int
) -> None:
    letter = to_record(Record("readings", 0, 0, timestamp, key, value), reason, detail)
    about = from_headers(letter.headers)
    assert (about.reason, about.size, letter.key, letter.value) == (reason, len(value), key, value)


def test_records_of_others_in_the_topic_are_told_apart() -> None:
    for headers in ([], [("reason", b"x")], [("palimpsest-reason", b"x")], [("palimpsest-partition", b"many")]):
        with pytest.raises(NotADeadLetter):
            from_headers(headers)


async def put(client: AIOKafkaProducer, settings: Settings, record: Record, reason: str) -> None:
    letter = to_record(record, reason, "for a test")
    await client.send_and_wait(
        settings.topics.dead_letters, letter.value, key=letter.key, headers=letter.headers, partition=record.partition
    )


async def letters_of(settings: Settings, *reasons: str) -> list[Letter]:
    async with aclosing(read_letters(settings, reasons)) as letters:
        return [letter async for letter in letters]


@pytest.mark.integration
async def test_letters_are_read_by_reason_and_go_back_with_their_own_key_and_bytes(own_settings: Settings) -> None:
    settings = own_settings
    await topics.create(settings)
    name = settings.topics.observations
    large = b"x" * (2 * KEPT)
    async with producer(settings.kafka) as client:
        at = await client.send_and_wait(name, large, key=b"big", partition=1)
        await put(client, settings, Record(name, 0, 3, 0, b"a", b"{"), "not-json")
        await put(client, settings, Record(name, 1, at.offset, at.timestamp, b"big", large), "text-too-long")
        await put(client, settings, Record(name, 2, 99, 0, None, b"[1]"), "not-object")
        await put(client, settings, Record(name, 3, 7, 0, b"gone", large), "text-too-long")
        await put(client, settings, Record(f"{name}.deleted", 3, 0, 0, b"homeless", b"{"), "wrong-type")
        await client.send_and_wait(settings.topics.dead_letters, b"a stranger's", partition=0)

        assert sorted(letter.about.reason for letter in await letters_of(settings)) == [
            "not-json",
            "not-object",
            "text-too-long",
            "text-too-long",
            "wrong-type",
        ]
        assert {letter.key for letter in await letters_of(settings, "not-json", "not-object")} == {b"a", None}

        sent: list[tuple[str, bytes | None, bytes]] = []

        async def send(topic: str, key: bytes | None, value: bytes) -> None:
            sent.append((topic, key, value))

        async with aclosing(read_letters(settings)) as letters:
            done = await replay_letters(settings, letters, send)
    assert sorted(sent, key=lambda one: len(one[2])) == [(name, b"a", b"{"), (name, None, b"[1]"), (name, b"big", large)]
    assert done.sent == {name: 3}
    causes = {left.key: cause for left, cause in done.left}
    assert causes.keys() == {b"gone", b"homeless"}
    assert "does not hold the record any more" in causes[b"gone"]
    assert "topic does not exist" in causes[b"homeless"]


@pytest.mark.integration
async def test_no_more_letters_go_back_than_asked_for(own_settings: Settings) -> None:
    await topics.create(own_settings)
    async with producer(own_settings.kafka) as client:
        for offset in range(5):
            await put(client, own_settings, BAD._replace(topic=own_settings.topics.observations, offset=offset), "not-json")

    async def send(topic: str, key: bytes | None, value: bytes) -> None: ...

    async with aclosing(read_letters(own_settings)) as letters:
        done = await replay_letters(own_settings, letters, send, limit=2)
    assert done.sent.total() == 2


@pytest.mark.integration
async def test_a_cut_value_is_not_taken_from_another_record_in_its_place(own_settings: Settings) -> None:
    await topics.create(own_settings)
    name = own_settings.topics.observations
    async with producer(own_settings.kafka) as client:
        at = await client.send_and_wait(name, b"another record", partition=0)
    about = from_headers(to_record(Record(name, 0, at.offset, 0, None, b"x" * (2 * KEPT)), "not-json", "").headers)
    assert await whole_value(own_settings.kafka, about) is None


@pytest.mark.integration
async def test_letters_of_open_and_aborted_transactions_are_not_read(own_settings: Settings) -> None:
    await topics.create(own_settings)
    async with producer(own_settings.kafka, transactional_id=f"{own_settings.app}-test") as client:
        async with client.transaction():
            await put(client, own_settings, BAD, "not-json")
        await client.begin_transaction()
        await put(client, own_settings, BAD, "not-object")
        await client.abort_transaction()
        assert [letter.about.reason for letter in await letters_of(own_settings)] == ["not-json"]


@pytest.mark.integration
async def test_without_the_topic_the_advice_is_to_check_its_name(own_settings: Settings) -> None:
    with pytest.raises(TopicsUnfit, match="does not exist"):
        await letters_of(own_settings)
