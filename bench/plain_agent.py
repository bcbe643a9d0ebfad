"""What our worker is held against: the same job as a plain Faust agent, with Faust's own table, acknowledgements and settings.

    python -m bench.plain_agent core CONFIG
    python -m bench.plain_agent io STATE_BYTES OUTPUT_BYTES CONFIG

`core` reads each event, asks the same forecaster that the worker asks about the state from the table, writes the state back and sends the
prediction or outcome. `io` does without the forecaster: it reads and writes values, and sends outputs, of the given sizes. Both are
at-least-once at best, and lose events in the ways that the worker does not (`streams.upstream`); what that saves is what is measured.

It ends on SIGTERM.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import faust
from aiokafka.admin import NewTopic

from agents.asking import Asker
from agents.budget import TokenCounter
from agents.forecaster import Forecaster, Step
from agents.models.factory import build_model
from bench import states
from schemas.codec import encode
from schemas.mapping import Record, read_observation, read_truth
from schemas.settings import Settings, load_settings
from schemas.state import EntityState, decode_state, encode_state, entity_key
from streams.cli.console import print_text
from streams.kafka import admin, producer
from streams.records import Role, timestamp_ms

Handler = Callable[[Any], Awaitable[None]]
TABLE = "plain"
#: In replay the clock only bounds how far ahead a time may be, which replay does not look at.
_CLOCK = datetime.fromtimestamp(0, UTC)


def plain_app(settings: Settings) -> faust.App:
    """A Faust application with stock settings; what is set has no default that works, or is no part of what is measured."""
    return faust.App(
        f"{settings.app}-plain",
        broker=f"kafka://{settings.kafka.bootstrap_servers}",
        store="rocksdb://",
        datadir=str(settings.state_dir),
        topic_partitions=settings.topics.partitions,
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
        worker_redirect_stdouts=False,
    )


def _topic(app: faust.App, name: str, settings: Settings) -> Any:
    return app.topic(
        name, partitions=settings.topics.partitions, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
    )


def _agent(app: faust.App, topic: Any, handle: Handler) -> None:
    async def consume(stream: Any) -> None:
        async for event in stream.events():
            await handle(event)

    app.agent(topic, name=f"plain.{topic.get_topic_name()}")(consume)


def with_core(settings: Settings) -> faust.App:
    """The same job: decode, forecast or learn on the state from the table, write it back, send what comes of it."""
    app = plain_app(settings)
    table = app.Table(TABLE, partitions=settings.topics.partitions, key_type=bytes, value_type=bytes)
    model = build_model(settings.model)
    core = Forecaster(settings, Asker(settings, model, TokenCounter(model, settings.model.name, window=settings.model.context_budget)))
    outputs = {role: _topic(app, getattr(settings.topics, role), settings) for role in ("predictions", "outcomes")}

    async def store(key: bytes, step: Step) -> None:
        table[key] = encode_state(step.state)
        for event in step.events:
            output = outputs["predictions" if type(event).__name__ == "Prediction" else "outcomes"]
            await output.send(key=step.state.entity.encode(), value=encode(event))  # type: ignore[arg-type]

    def state_of(entity: str) -> tuple[bytes, EntityState]:
        key = entity_key(entity)
        raw = table.get(key)
        return key, EntityState(entity=entity) if raw is None else decode_state(raw)

    async def observe(event: Any) -> None:
        observation = read_observation(_record(event), settings, _CLOCK)
        key, state = state_of(observation.entity)
        await store(key, await core.observe(state, observation, now=observation.time, offset=event.message.offset))

    async def learn(event: Any) -> None:
        truth = read_truth(_record(event), settings, _CLOCK)
        key, state = state_of(truth.entity)
        assert truth.time is not None
        await store(key, await core.learn(state, truth, now=truth.time, raw=event.message.value))

    _agent(app, _topic(app, settings.topics.observations, settings), observe)
    _agent(app, _topic(app, settings.topics.truths, settings), learn)
    return app


def without_core(settings: Settings, state_bytes: int, output_bytes: int) -> faust.App:
    """Faust's part of the job alone: for each event one read and one write of the table, and one output."""
    app = plain_app(settings)
    table = app.Table(TABLE, partitions=settings.topics.partitions, key_type=bytes, value_type=bytes)
    # Random, because what compresses well would be no match for a state on its way to the disk.
    state, output = os.urandom(state_bytes), os.urandom(output_bytes)
    roles: tuple[tuple[Role, str], ...] = (("observations", "predictions"), ("truths", "outcomes"))
    for role, target in roles:
        sink = _topic(app, getattr(settings.topics, target), settings)

        async def handle(event: Any, sink: Any = sink) -> None:
            key = b"e" + event.message.key
            table.get(key)
            table[key] = state
            await sink.send(key=event.message.key, value=output)

        _agent(app, _topic(app, getattr(settings.topics, role), settings), handle)
    return app


def _record(event: Any) -> Record:
    message = event.message
    return Record(message.topic, message.partition, message.offset, timestamp_ms(message), message.key, message.value)


def changelog_of(settings: Settings) -> str:
    """Name of the table's changelog, as Faust makes it."""
    return f"{settings.app}-plain-{TABLE}-changelog"


async def fill_changelog(settings: Settings, number: int) -> None:
    """Make the changelog, and write `number` states of entities to it as a plain producer does."""
    count, topic = settings.topics.partitions, changelog_of(settings)
    async with admin(settings.kafka) as client:
        await client.create_topics([NewTopic(topic, count, 1, topic_configs={"cleanup.policy": "compact"})])
    templates = await states.histories(settings)
    async with producer(settings.kafka, linger_ms=5) as out:
        rows = states.records(settings, templates, number)
        await asyncio.gather(*[await out.send(topic, value, key=key, partition=partition) for partition, key, value in rows])


async def run(app: faust.App) -> None:
    """Run an application until SIGTERM. When its table is recovered it says on standard output how long that took."""
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    began = 0.0

    async def assigned(*_: Any, **__: Any) -> None:
        nonlocal began
        began = time.monotonic()

    async def recovered(*_: Any, **__: Any) -> None:
        print_text(f"recovered in {time.monotonic() - began:.2f} s")
        sys.stdout.flush()

    app.on_partitions_assigned.connect(assigned, weak=False)
    app.on_rebalance_complete.connect(recovered, weak=False)
    await app.start()
    await ended.wait()
    await app.stop()


def main(arguments: list[str]) -> None:
    match arguments:
        case ["core", config]:
            app = with_core(load_settings(Path(config)))
        case ["io", state_bytes, output_bytes, config]:
            app = without_core(load_settings(Path(config)), int(state_bytes), int(output_bytes))
        case _:
            sys.exit(str(__doc__))
    asyncio.run(run(app))


if __name__ == "__main__":
    main(sys.argv[1:])
