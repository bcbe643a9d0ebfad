"""What goes through an application's topics: how often, how late, at what cost. Measured from the topics themselves.

A sample of the newest records and the offsets of the last hour; so a topic that rests shows little, and says so.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TypeVar

from aiokafka.structs import TopicPartition
from pydantic import BaseModel, ValidationError

from schemas.codec import DecodeError
from schemas.mapping import Record, read_observation
from schemas.messages import MemoryRevision, Outcome, Prediction
from schemas.settings import Settings
from streams.cluster import TopicState
from streams.kafka import consumer
from streams.reading import read_topic

_M = TypeVar("_M", bound=BaseModel)

#: Records of a topic that are looked at, over all partitions.
SAMPLE = 1_000
#: Of each partition at least so many.
LEAST_OF_PARTITION = 20
#: Seconds over which the rate is taken.
WINDOW = 3_600.0
#: Seconds below which no rate is taken: a burst of a second says nothing about a minute.
SHORTEST = 60.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """What was seen; None where there was nothing to see it by.

    Attributes
    ----------
    rate
        Observations a second, over the last hour.
    interval
        Seconds of event time between two observations of the busiest entity of the sample.
    truth_delay
        Seconds within which 19 of 20 truths of the sample came.
    prediction_seconds, rewrite_seconds
        Mean seconds of model time for a prediction and for a rewrite.
    """

    rate: float | None = None
    interval: float | None = None
    truth_delay: float | None = None
    prediction_seconds: float | None = None
    rewrite_seconds: float | None = None


async def sample(settings: Settings, topic: TopicState) -> list[Record]:
    """The newest records of a topic that have a value, some of each partition."""
    last = max(LEAST_OF_PARTITION, SAMPLE // max(1, topic.partitions))
    async with aclosing(read_topic(settings.kafka, topic.name, last=last)) as records:
        return [
            Record(record.topic, record.partition, record.offset, record.timestamp, record.key, record.value)
            async for record in records
            if record.value is not None
        ]


async def measure(settings: Settings, observations: TopicState, observed: Sequence[Record], outputs: Iterable[TopicState]) -> Traffic:
    """Measure the traffic.

    Parameters
    ----------
    observations, observed
        The observations' topic and a sample of it.
    outputs
        Those of the output topics that exist.
    """
    by_name = {topic.name: topic for topic in outputs}
    outcomes = await _messages(settings, by_name.get(settings.topics.outcomes), Outcome)
    predictions = await _messages(settings, by_name.get(settings.topics.predictions), Prediction)
    memories = await _messages(settings, by_name.get(settings.topics.memories), MemoryRevision)
    return Traffic(
        rate=await rate(settings, observations),
        interval=busiest_interval(settings, observed),
        truth_delay=_late(outcome.verification_latency for outcome in outcomes),
        prediction_seconds=_mean(prediction.model.seconds for prediction in predictions if prediction.model and not prediction.model.error),
        rewrite_seconds=_mean(memory.model.seconds for memory in memories if memory.model and not memory.model.error),
    )


async def rate(settings: Settings, topic: TopicState, *, clock: Callable[[], float] = time.time) -> float | None:
    """Records a second that came in the last hour, or since the topic's first record if that is younger."""
    places = [TopicPartition(topic.name, partition) for partition in range(topic.partitions)]
    now = clock()
    since = int((now - WINDOW) * 1000)
    async with consumer(settings.kafka) as reader:
        first = {place: found for place, found in (await reader.offsets_for_times(dict.fromkeys(places, since))).items() if found}
        if not first:
            return None
        ends = await reader.end_offsets(list(first))
    count = sum(ends[place] - found.offset for place, found in first.items())
    began = min(found.timestamp for found in first.values()) / 1000
    return count / max(SHORTEST, now - began)


def busiest_interval(settings: Settings, records: Iterable[Record]) -> float | None:
    """Median seconds between two observations of the entity that has most of them in a sample; None below three."""
    times: dict[str, list[datetime]] = defaultdict(list)
    # Far ahead, so that none is refused for its time.
    now = datetime.now(UTC) + timedelta(days=3650)
    for record in records:
        try:
            observation = read_observation(record, settings, now)
        except DecodeError:
            continue
        times[observation.entity].append(observation.time)
    busiest = max(times, key=lambda entity: len(times[entity]), default=None)
    if busiest is None or len(times[busiest]) < 3:
        return None
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(sorted(times[busiest]))]
    return statistics.median(gaps) or None


async def _messages(settings: Settings, topic: TopicState | None, model: type[_M]) -> list[_M]:
    if topic is None:
        return []
    found = []
    for record in await sample(settings, topic):
        try:
            found.append(model.model_validate_json(record.value))
        except ValidationError:
            continue  # of another program, or another version of this one
    return found


def _late(latencies: Iterable[float | None]) -> float | None:
    known = sorted(latency for latency in latencies if latency is not None)
    return known[(len(known) * 19) // 20] if known else None


def _mean(seconds: Iterable[float]) -> float | None:
    known = [value for value in seconds if value > 0]
    return statistics.fmean(known) if known else None
