"""Files into Kafka: what a line becomes, when it is due, and where it lands."""

from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.mapping import Record, read_observation, read_truth
from schemas.settings import Settings
from streams import topics
from streams.errors import ReplayError, TopicsUnfit
from streams.partitioner import partition_of
from streams.reading import read_topic
from streams.replaying import IN_FLIGHT, Fields, Line, Pace, measure, read_files, read_lines, replay, sending

FOREIGN = Settings(observations={"entity": "sensor.id", "time": "ts", "values": {"temperature": "t"}})
START = datetime(2024, 1, 1, tzinfo=UTC)


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines))
    return path


def lines_of(path: Path, settings: Settings = Settings(), **fields: Any) -> list[Line]:  # noqa: B008 - frozen
    return list(read_lines(path, "observations", settings, Fields(**fields)))


def fault_of(path: Path, settings: Settings = Settings(), **fields: Any) -> str:  # noqa: B008
    with pytest.raises(ReplayError) as refused:
        lines_of(path, settings, **fields)
    return str(refused.value)


# --- lines


def test_csv_cells_become_numbers_where_they_are_numbers_and_empty_ones_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "entity,time,t,code,label,gap,missing", "a,2024-01-01T00:00:00Z,1.5e1,007,north,,NaN")
    (line,) = lines_of(path)
    assert line.payload == {"entity": "a", "time": "2024-01-01T00:00:00Z", "t": 15.0, "code": "007", "label": "north"}
    assert (line.entity, line.time, line.role) == ("a", START, "observations")


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = write(tmp_path / "excel.csv", "\ufefftime,entity,t", "2024-01-01T00:00:00Z,a,1")
    assert [line.time for line in lines_of(path)] == [START]


def test_entity_and_time_are_put_where_the_mapping_looks_for_them(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "when,t,site", "2024-01-01,1.5,north")
    (line,) = lines_of(path, FOREIGN, entity_field="site", time_field="when")
    assert line.payload == {"ts": "2024-01-01T00:00:00Z", "t": 1.5, "sensor": {"id": "north"}}
    observation = read_observation(Record("", 0, 0, 0, None, orjson.dumps(line.payload)), FOREIGN, START)
    assert (observation.entity, observation.values) == ("north", {"temperature": 1.5})


def test_a_file_about_one_entity_needs_no_column_for_it(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "time,t", "2024-01-01,1")
    assert lines_of(path, entity="seattle")[0].payload["entity"] == "seattle"
    assert "--entity" in fault_of(path)


def test_json_lines_are_sent_as_they_are(tmp_path: Path) -> None:
    path = write(
        tmp_path / "d.jsonl", '{"sensor":{"id":"a"},"ts":1704067200000,"t":null}', "", '{"sensor":{"id":7},"ts":1704067260,"t":"x"}'
    )
    first, second = lines_of(path, FOREIGN)
    assert first.payload == {"sensor": {"id": "a"}, "ts": 1704067200000, "t": None}
    assert (first.time, second.time, second.entity) == (START, START + timedelta(minutes=1), "7")


def test_tabs_separate_where_the_name_says_so(tmp_path: Path) -> None:
    assert lines_of(write(tmp_path / "d.tsv", "entity\ttime\tt", "a\t2024-01-01\t1"))[0].payload["t"] == 1


def test_an_entity_that_the_mapping_takes_from_the_key_is_in_no_payload(tmp_path: Path) -> None:
    keyed = Settings(observations={"entity": "@key", "time": "@timestamp"})
    path = write(tmp_path / "d.csv", "site,when,t", "north,2024-01-01,1")
    (line,) = lines_of(path, keyed, entity="a", time_field="when")
    assert (line.entity, line.time) == ("a", START)
    assert "entity" not in line.payload
    assert lines_of(path, keyed, entity_field="site", time_field="when")[0].entity == "north"
    assert "--entity-field" in fault_of(path, keyed, time_field="when")
    assert "--time-field" in fault_of(path, keyed, entity="a")


@pytest.mark.parametrize(
    ("name", "content", "line", "cause"),
    [
        ("d.csv", "entity,time\na,2024-01-01\na,soon", 3, "soon"),
        ("d.csv", "entity,time\na,2024-01-01,5", 2, "more cells"),
        ("d.csv", "entity,t\na,1", 2, "--time-field"),
        ("d.csv", "entity,time\n,2024-01-01", 2, "--entity"),
        ("d.jsonl", '{"entity":"a","time":1}\n{"entity":', 2, "not-json"),
        ("d.jsonl", '{"entity":"a","time":1}\n[1]', 2, "not-object"),
        ("d.jsonl", '{"entity":{},"time":1}', 1, "text of 1 to 256"),
    ],
)
def test_a_line_that_cannot_be_sent_is_named(tmp_path: Path, name: str, content: str, line: int, cause: str) -> None:
    path = write(tmp_path / name, content)
    said = fault_of(path)
    assert f"{path}, line {line}: " in said
    assert cause in said


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path: Path) -> None:
    assert "No such file" in fault_of(tmp_path / "none.csv")
    (tmp_path / "d.csv").write_bytes(b"entity,time\n\xff\xfe")
    assert "not a readable CSV or JSON lines file" in fault_of(tmp_path / "d.csv")


def test_truths_come_between_the_observations_by_their_time_and_after_them_at_equal_times(tmp_path: Path) -> None:
    observations = write(tmp_path / "o.csv", "entity,time,t", "a,2024-01-01,1", "a,2024-01-02,2", "a,2024-01-03,3")
    truths = write(tmp_path / "t.csv", "entity,target_time,value", "a,2024-01-02,2", "a,2024-01-04,4")
    lines = list(read_files(observations, truths, Settings(), Fields()))
    assert [(line.role[0], line.time.day) for line in lines] == [("o", 1), ("o", 2), ("t", 2), ("o", 3), ("t", 4)]
    truth = read_truth(Record("", 0, 0, 0, None, orjson.dumps(lines[2].payload)), Settings(time="replay"), START)
    assert truth.target_time == START + timedelta(days=1)
    assert measure(iter(lines)) == (5, START, START + timedelta(days=3))
    assert len(list(read_files(observations, truths, Settings(), Fields(), limit=2))) == 2


# --- pace


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, []  # type: ignore[var-annotated]

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def line_at(seconds: float, entity: str = "a") -> Line:
    return Line(START + timedelta(seconds=seconds), "observations", entity, {})


async def done() -> None: ...


async def test_records_go_out_when_their_stream_time_has_come() -> None:
    clock, sent = Clock(), []

    async def send(line: Line) -> Awaitable[object]:
        sent.append((clock.now, line.time))
        return done()

    lines = [line_at(0), line_at(60), line_at(30), line_at(120)]
    assert await replay(lines, send, Pace(60.0, clock=clock, sleep=clock.sleep)) == 4
    # The third is late and goes at once.
    assert [moment for moment, _ in sent] == [0.0, 1.0, 1.0, 2.0]


async def test_at_full_speed_nothing_waits_and_no_more_than_the_bound_is_on_its_way() -> None:
    clock, waiting, most = Clock(), 0, 0

    async def send(line: Line) -> Awaitable[object]:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)

        async def arrive() -> None:
            nonlocal waiting
            waiting -= 1

        return arrive()

    count = IN_FLIGHT * 3
    assert await replay((line_at(n) for n in range(count)), send, Pace(None, clock=clock, sleep=clock.sleep)) == count
    assert clock.slept == []
    assert most <= IN_FLIGHT + 1


async def test_what_was_sent_is_told_before_waiting_for_the_next() -> None:
    clock, told = Clock(), []

    async def send(line: Line) -> Awaitable[object]:
        return done()

    async def sleep(seconds: float) -> None:
        assert len(told) == len(clock.slept) + 1
        await clock.sleep(seconds)

    await replay([line_at(0), line_at(1), line_at(2)], send, Pace(1.0, clock=clock, sleep=sleep), told.append)
    assert len(told) == 3


async def test_a_refused_record_ends_the_replay() -> None:
    async def send(line: Line) -> Awaitable[object]:
        async def refuse() -> None:
            raise RuntimeError("refused")

        return refuse()

    with pytest.raises(RuntimeError, match="refused"):
        await replay([line_at(0)], send, Pace(None))


# --- on a real Kafka


@pytest.mark.integration
@pytest.mark.parametrize("partitioner", ["murmur2", "crc32"])
async def test_records_land_by_entity_with_the_time_of_sending(own_settings: Settings, partitioner: str) -> None:
    observations = own_settings.observations.model_copy(update={"partitioner": partitioner})
    settings = own_settings.model_copy(update={"observations": observations})
    await topics.create(settings)
    before = datetime.now(UTC) - timedelta(minutes=1)
    lines = [Line(START + timedelta(hours=n), "observations", f"s{n % 7}", {"n": n}) for n in range(50)]
    async with sending(settings) as send:
        assert await replay(lines, send, Pace(None)) == 50
    records = [record async for record in read_topic(settings.kafka, settings.topics.observations)]
    assert len(records) == 50
    for record in records:
        assert record.partition == partition_of(record.key, 4, partitioner)  # type: ignore[arg-type]
        assert record.timestamp > before.timestamp() * 1000
        assert ("content-type", b"application/json") in record.headers
    numbers = {entity: [orjson.loads(r.value)["n"] for r in records if r.key == entity] for entity in {r.key for r in records}}
    assert all(sent == sorted(sent) for sent in numbers.values())


@pytest.mark.integration
async def test_event_timestamps_are_given_on_request(own_settings: Settings) -> None:
    await topics.create(own_settings)
    now = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    async with sending(own_settings, event_timestamps=True) as send:
        await replay([Line(now, "truths", "a", {})], send, Pace(None))
    (record,) = [record async for record in read_topic(own_settings.kafka, own_settings.topics.truths)]
    assert record.timestamp == int(now.timestamp() * 1000)


@pytest.mark.integration
async def test_a_record_too_large_and_a_topic_that_is_not_there_are_named(own_settings: Settings) -> None:
    with pytest.raises(TopicsUnfit, match="topics create --inputs"):
        async with sending(own_settings) as send:
            await replay([line_at(0)], send, Pace(None))
    await topics.create(own_settings)
    with pytest.raises(ReplayError, match=r"2000008 bytes \(a, 2024-01-01"):
        async with sending(own_settings) as send:
            await replay([Line(START, "observations", "a", {"t": "x" * 2_000_000})], send, Pace(None))
