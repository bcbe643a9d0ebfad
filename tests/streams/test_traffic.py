"""Measuring what goes through topics."""

from datetime import UTC, datetime, timedelta

import orjson
import pytest

from schemas.codec import encode
from schemas.mapping import Record
from schemas.messages import Answer, ModelCall, Outcome, Prediction
from schemas.settings import Settings
from streams import topics, traffic
from streams.cluster import describe
from streams.kafka import admin, producer

START = datetime(2024, 1, 1, tzinfo=UTC)


def reading(entity: str, seconds: float) -> Record:
    payload = {"entity": entity, "time": (START + timedelta(seconds=seconds)).isoformat(), "values": {"t": 1.0}}
    return Record("readings", 0, 0, 0, None, orjson.dumps(payload))


def test_the_interval_is_that_of_the_busiest_entity_in_whatever_order_it_came() -> None:
    records = [reading("slow", n * 600) for n in range(3)] + [reading("busy", n * 10) for n in (3, 1, 0, 2, 4)]
    assert traffic.busiest_interval(Settings(), records) == 10.0


def test_two_readings_of_an_entity_tell_no_interval() -> None:
    assert traffic.busiest_interval(Settings(), [reading("a", 0), reading("a", 5), reading("b", 9)]) is None
    assert traffic.busiest_interval(Settings(), [Record("readings", 0, 0, 0, None, b"{")]) is None


@pytest.mark.integration
async def test_rate_delay_and_cost_are_read_off_the_topics(own_settings: Settings) -> None:
    settings = own_settings
    await topics.create(settings)
    call = ModelCall(name="m", seconds=2.0)
    async with producer(settings.kafka) as client:
        for n in range(120):
            await client.send(settings.topics.observations, reading("a", n * 30).value, key=b"a", partition=0)
        for n in range(20):
            made = START + timedelta(seconds=n)
            prediction = Prediction(
                entity="a",
                id=str(n),
                kind="number",
                time=made,
                made_at=made,
                forecast=Answer(value=1.0),
                source="model",
                memory_revision=0,
                model=call if n else call.model_copy(update={"error": "timeout", "seconds": 60.0}),
            )
            outcome = Outcome(
                entity="a",
                prediction_id=str(n),
                kind="number",
                time=made,
                forecast=Answer(value=1.0),
                source="model",
                result="matched",
                verification_latency=float(n),
                resolved_at=made,
            )
            await client.send(settings.topics.predictions, encode(prediction), key=b"a", partition=0)
            await client.send(settings.topics.outcomes, encode(outcome), key=b"a", partition=0)
        await client.send(settings.topics.outcomes, b"not an outcome", partition=0)
        await client.flush()
    async with admin(settings.kafka) as client:
        found = await describe(client, [spec.name for spec in topics.topic_plan(settings)])
    observations = found[settings.topics.observations]
    observed = await traffic.sample(settings, observations)
    assert len(observed) == 120
    seen = await traffic.measure(settings, observations, observed, found.values())
    # All came within a minute, and no shorter time is taken for a rate.
    assert seen.rate is not None
    assert 0 < seen.rate <= 120 / traffic.SHORTEST
    assert (seen.interval, seen.truth_delay, seen.prediction_seconds, seen.rewrite_seconds) == (30.0, 19.0, 2.0, None)


@pytest.mark.integration
async def test_a_topic_at_rest_has_no_rate(own_settings: Settings) -> None:
    await topics.create(own_settings)
    async with admin(own_settings.kafka) as client:
        found = await describe(client, [own_settings.topics.observations])
    assert await traffic.rate(own_settings, found[own_settings.topics.observations]) is None
