import random
from collections import Counter
from datetime import UTC, datetime
from typing import Literal

import orjson
import pytest

from schemas.codec import DecodeError
from schemas.mapping import Record, read_observation, read_truth
from schemas.settings import Settings
from streams.partitioner import partition_of
from tests.chaos.load import BAD, Event, Load

START = datetime(2024, 5, 1, tzinfo=UTC)


def records(seed: int = 1, key: Literal["entity", "any"] = "entity") -> list[Event]:
    return Load(events=600, entities=40, key=key).records(random.Random(seed), START)


def identity_of(event: Event) -> str:
    if event.mark not in ("observation", "truth"):
        return ""
    payload = orjson.loads(event.value or b"")
    return str(payload["id"] if event.mark == "observation" else payload["observation_id"])


def identities(events: list[Event], mark: str) -> list[str]:
    return [identity_of(event) for event in events if event.mark == mark]


def test_equal_chance_gives_equal_records() -> None:
    assert records(3) == records(3)
    assert records(3) != records(4)


def test_it_has_what_a_campaign_must_survive() -> None:
    events = records()
    observed, true = identities(events, "observation"), identities(events, "truth")
    assert len(set(observed)) == 300
    assert len({orjson.loads(event.value or b"")["entity"] for event in events if event.mark == "observation"}) == 40
    # Sent again, and never answered.
    assert Counter(observed).most_common(1)[0][1] == Counter(true).most_common(1)[0][1] == 2
    assert 0 < len(set(observed) - set(true)) < 30
    # Before their observation, and in another order than it.
    place = [(event.mark, identity_of(event)) for event in events]
    assert sum(place.index(("truth", i)) < place.index(("observation", i)) for i in set(true)) > 10
    assert list(dict.fromkeys(true)) != [i for i in dict.fromkeys(observed) if i in set(true)]
    assert len({event.mark for event in events if event.mark.startswith(BAD)}) > 5
    assert {"command", "tombstone"} < {event.mark for event in events}


@pytest.mark.parametrize("key", ["entity", "any"])
def test_an_entity_is_on_one_partition_of_the_observations_and_in_order_there(key: Literal["entity", "any"]) -> None:
    placed: dict[str, list[tuple[int, int]]] = {}
    for event in records(key=key):
        if event.mark == "observation":
            entity, _, number = orjson.loads(event.value or b"")["id"].rpartition("-")
            placed.setdefault(entity, []).append((event.partition, int(number)))
    assert all(len({partition for partition, _ in places}) == 1 for places in placed.values())
    assert all(list(dict.fromkeys(n for _, n in places)) == list(range(max(n for _, n in places) + 1)) for places in placed.values())
    by_entity = all(partition_of(entity.encode(), 6) == places[0][0] for entity, places in placed.items())
    assert by_entity == (key == "entity")


def test_what_is_marked_bad_is_refused_for_that_reason_and_nothing_else_is_refused() -> None:
    settings = Settings(target={"field": "t"}, backlog="all")
    for event in records():
        if event.role == "commands" or event.value is None or event.mark == BAD + "wrong-partition":
            continue
        read = read_observation if event.role == "observations" else read_truth
        record = Record(event.role, event.partition, 0, 0, event.key, event.value)
        if event.mark.startswith(BAD):
            with pytest.raises(DecodeError) as refused:
                read(record, settings, START)
            assert refused.value.reason == event.mark.removeprefix(BAD)
        else:
            read(record, settings, datetime(2024, 6, 1, tzinfo=UTC))


def test_too_few_events_for_the_entities_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        Load(events=10, entities=6)
