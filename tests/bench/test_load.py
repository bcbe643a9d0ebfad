"""The benchmarks' events and states are what they say they are; a benchmark of wrong input would go unnoticed."""

from datetime import UTC, datetime

from bench import states
from bench.load import STEP_SECONDS, events
from schemas.mapping import Record, read_observation, read_truth
from schemas.settings import Settings
from schemas.state import PARTITION_KEY, decode_state
from streams.partitioner import state_partition

SETTINGS = Settings(
    time="replay",
    model={"backend": "import", "factory": "bench.instant_model:from_settings"},
    observations={"key": "entity"},
    truths={"key": "entity"},
    rewrite={"policy": "never"},
    target={"field": "temperature"},
)
NOW = datetime(2024, 3, 1, tzinfo=UTC)


def test_the_same_seed_gives_the_same_events_and_another_one_others() -> None:
    first, again, other = (list(events(3, 4, seed=seed, end=NOW.timestamp())) for seed in (1, 1, 2))
    assert first == again != other


def test_every_observation_has_its_truth_one_step_later_and_the_last_truth_is_at_the_end() -> None:
    observed, told = {}, {}
    for event in events(3, 4, end=NOW.timestamp()):
        record = Record("", 0, 0, event.timestamp, event.key, event.value)
        if event.role == "observations":
            observation = read_observation(record, SETTINGS, NOW)
            observed[observation.id] = observation.time
        else:
            truth = read_truth(record, SETTINGS, NOW)
            told[truth.observation_id] = truth.time
    assert len(observed) == 12
    assert told.keys() == observed.keys()
    assert {(told[identity] - time).total_seconds() for identity, time in observed.items()} == {STEP_SECONDS}
    assert max(told.values()) == NOW


async def test_a_state_in_the_changelog_is_one_of_its_entity_that_has_learned_and_remembers() -> None:
    rows = list(states.records(SETTINGS, await states.histories(SETTINGS, number=5), 12))
    found = {}
    for partition, key, value in rows:
        state = decode_state(value)
        assert key[1:].decode() == state.entity and key[:1] != PARTITION_KEY
        assert partition == state_partition(SETTINGS, state.entity, SETTINGS.topics.partitions)
        found[state.entity] = state
    assert len(found) == 12
    assert all(state.resolved and len(state.pending) == 1 and state.memory.sections for state in found.values())
    assert 1_500 < sum(len(value) for _, _, value in rows) / 12 < 3_000
