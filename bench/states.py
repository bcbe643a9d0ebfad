"""States of many entities in a changelog, as a worker leaves them there: what a restart has to read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

import aiokafka

from agents.asking import Asker
from agents.budget import TokenCounter
from agents.forecaster import Forecaster
from agents.models.factory import build_model
from bench.load import entity_name, events
from schemas.mapping import Record, read_observation, read_truth
from schemas.settings import Settings
from schemas.state import Condition, EntityState, Memory, Rule, Statement, encode_state, entity_key
from streams.kafka import client_options
from streams.partitioner import state_partition
from streams.topics import changelog_topic

#: Different histories; each is the state of many entities.
HISTORIES = 200
#: Outcomes that each has seen; with the memory they make a record of about 2 kB.
STEPS = 1
#: State records of a transaction: what a busy worker commits at once.
TRANSACTION = 20
#: A memory as rewriting leaves it.
MEMORY = Memory(
    revision=7,
    sections={
        "rules": (
            Statement(
                text="wind north -> about 1.2 lower than now",
                rule=Rule(when=(Condition(field="wind", op="is", value="north"),), then=-1.2, hits=7, cases=8, spread=0.4),
            ),
            Statement(
                text="pressure at least 1019 -> about 0.8 higher than now",
                rule=Rule(when=(Condition(field="pressure", op="at-least", value=1019.0),), then=0.8, hits=5, cases=7, spread=0.6),
            ),
        ),
        "notes": (
            Statement(text="The station stands in a valley: nights without cloud cool faster than the forecast says."),
            Statement(text="After a change of wind the next two readings move the same way."),
        ),
    },
)


async def histories(settings: Settings, number: int = HISTORIES, steps: int = STEPS) -> list[EntityState]:
    """States of `number` entities after `steps` observations with their truths, and a last observation that waits for its own."""
    model = build_model(settings.model)
    core = Forecaster(settings, Asker(settings, model, TokenCounter(model, settings.model.name, window=settings.model.context_budget)))
    states = {entity_name(n): EntityState(entity=entity_name(n), memory=MEMORY) for n in range(number)}
    end = datetime.now(UTC)
    wanted = list(events(number, steps + 1, end=end.timestamp()))
    # All but the last truths.
    for offset, event in enumerate(wanted[:-number]):
        record = Record("", 0, offset, event.timestamp, event.key, event.value)
        if event.role == "observations":
            observation = read_observation(record, settings, end)
            step = await core.observe(states[observation.entity], observation, now=observation.time, offset=offset)
        else:
            truth = read_truth(record, settings, end)
            step = await core.learn(states[truth.entity], truth, now=truth.time or end, raw=event.value)
        states[step.state.entity] = step.state
    return list(states.values())


def records(settings: Settings, templates: Sequence[EntityState], number: int) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield partition, key and value of the changelog record of each of `number` entities."""
    partitions = settings.topics.partitions
    for n in range(number):
        entity = entity_name(n)
        state = templates[n % len(templates)].model_copy(update={"entity": entity})
        yield state_partition(settings, entity, partitions), entity_key(entity), encode_state(state)


async def fill(settings: Settings, number: int) -> int:
    """Write the states of `number` entities to the changelog; return their bytes in all."""
    by_partition: dict[int, list[tuple[bytes, bytes]]] = {}
    for partition, key, value in records(settings, await histories(settings), number):
        by_partition.setdefault(partition, []).append((key, value))
    await asyncio.gather(*(_fill_partition(settings, partition, rows) for partition, rows in by_partition.items()))
    return sum(len(value) for rows in by_partition.values() for _, value in rows)


async def _fill_partition(settings: Settings, partition: int, rows: Sequence[tuple[bytes, bytes]]) -> None:
    topic = changelog_topic(settings)
    writer = aiokafka.AIOKafkaProducer(**client_options(settings.kafka), transactional_id=f"{settings.app}-{topic}-{partition}")
    await writer.start()
    try:
        for begin in range(0, len(rows), TRANSACTION):
            async with writer.transaction():
                await _send_all(writer, topic, partition, rows[begin : begin + TRANSACTION])
    finally:
        await writer.stop()


async def _send_all(writer: aiokafka.AIOKafkaProducer, topic: str, partition: int, rows: Iterable[tuple[bytes, bytes]]) -> None:
    sent = [await writer.send(topic, value, key=key, partition=partition) for key, value in rows]
    await asyncio.gather(*sent)
