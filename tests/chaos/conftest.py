"""A small campaign that went well, made by the real core and without Kafka: what the checker's tests damage."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from agents.asking import Asker
from agents.budget import TokenCounter
from agents.forecaster import Forecaster
from schemas.codec import encode
from schemas.mapping import Record, read_command, read_observation, read_truth
from schemas.messages import MemoryRevision, Outcome
from schemas.settings import Settings, load_settings
from schemas.state import EntityState, encode_state, entity_key
from streams import dead_letters
from tests.chaos.campaign import Campaign
from tests.chaos.evidence import Disk, Ending, Evidence, Logged, digest, take_state
from tests.chaos.load import BAD, MARK
from tests.chaos.stub_model import StubModel

START = datetime(2024, 5, 1, tzinfo=UTC)
#: The one partition of the state; truths and commands come from source partitions of their own.
HOME = 0


async def _at_once(seconds: float) -> None:
    """A model call takes no time."""


class Recorder:
    """Plays worker and Kafka: hands records to the core, and logs what a worker would have committed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.evidence = Evidence(settings)
        model = StubModel(chance=random.Random(1), sleep=_at_once)
        self._core = Forecaster(settings, Asker(settings, model, TokenCounter(model, "stub", window=4096)))
        self._states: dict[str, EntityState] = {}
        self._ends: defaultdict[tuple[str, int], int] = defaultdict(int)
        self._changelog: dict[bytes, bytes] = {}
        self._now = START

    def _log(self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Any = ()) -> Logged:
        offset = self._ends[topic, partition]
        self._ends[topic, partition] += 1
        return Logged(topic, partition, offset, key, value, tuple(headers))

    def _take(self, role: str, partition: int, value: bytes, mark: str) -> Record:
        topic = getattr(self.settings.topics, role)
        logged = self._log(topic, partition, None, value, [(MARK, mark.encode())])
        self.evidence.inputs.append(logged)
        self.evidence.sent.add(logged.place)
        self._now += timedelta(seconds=1)
        return Record(topic, partition, logged.offset, 0, None, value)

    async def observation(self, entity: str, number: int) -> None:
        value = {"entity": entity, "id": f"{entity}-{number}", "time": START + timedelta(minutes=number), "values": {"t": float(number)}}
        record = self._take("observations", HOME, orjson.dumps(value), "observation")
        state = self._states.get(entity, EntityState(entity=entity))
        read = read_observation(record, self.settings, self._now)
        self._commit(await self._core.observe(state, read, now=self._now, offset=record.offset), "observations", record.offset)

    async def truth(self, entity: str, number: int, partition: int = 0) -> None:
        value = {
            "entity": entity,
            "observation_id": f"{entity}-{number}",
            "value": number + 0.5,
            "time": START + timedelta(minutes=number + 1),
        }
        record = self._take("truths", partition, orjson.dumps(value), "truth")
        state = self._states.get(entity, EntityState(entity=entity))
        read = read_truth(record, self.settings, self._now)
        self._commit(await self._core.learn(state, read, now=self._now), f"truths/{partition}", record.offset)

    async def command(self, entity: str, op: str, identity: str, **more: Any) -> None:
        record = self._take("commands", 0, orjson.dumps({"entity": entity, "op": op, "by": "test", "id": identity, **more}), "command")
        command = read_command(record, self.settings)
        self._commit(await self._core.command(self._states[entity], command, now=self._now), "commands/0", record.offset)

    def bad(self, value: bytes, reason: str) -> None:
        record = self._take("observations", HOME, value, BAD + reason)
        letter = dead_letters.to_record(record, reason, "as it was meant")
        self.evidence.letters.append(self._log(self.settings.topics.dead_letters, HOME, letter.key, letter.value, letter.headers))

    def _commit(self, step: Any, position: str, offset: int) -> None:
        state = step.state.model_copy(update={"applied": {**step.state.applied, position: offset}})
        self._states[state.entity] = state
        for event in step.events:
            role = "outcomes" if isinstance(event, Outcome) else "memories" if isinstance(event, MemoryRevision) else "predictions"
            logged = self._log(getattr(self.settings.topics, role), HOME, event.entity.encode(), encode(event))
            getattr(self.evidence, role).append(logged)
        record = self._log("changelog", HOME, entity_key(state.entity), encode_state(state))
        take_state(self.evidence, record)
        assert record.key is not None and record.value is not None
        self._changelog[record.key] = digest(record.value)

    def finish(self) -> Evidence:
        found, topics = self.evidence, self.settings.topics
        inputs = {place: end for place, end in self._ends.items() if place[0] in (topics.observations, topics.truths, topics.commands)}
        found.positions, found.ends = dict(inputs), {**inputs, (topics.commands, 1): 0}
        found.last = {HOME: dict(self._changelog)}
        found.disks = [(Disk("one", HOME, self._ends["changelog", HOME] - 1, dict(self._changelog)), found.last[HOME])]
        found.endings = [Ending("one", -9, "SIGKILL"), Ending("one", 75, ""), Ending("one", 0, "SIGTERM", 1.5)]
        return found


@pytest.fixture
async def sound(tmp_path: Path) -> Evidence:
    """Two entities: truths late, early, twice, out of order and never; an observation twice, commands, bad messages."""
    config = tmp_path / "sound.toml"
    config.write_text(Campaign("sound", events=20, entities=2).configuration("sound", "127.0.0.1:1", 1, tmp_path / "state", "one", 1))
    made = Recorder(load_settings(config))
    for number in range(6):
        if number == 3:
            await made.truth("a", 3, partition=1)
        await made.observation("a", number)
        await made.observation("b", number)
        if number == 2:
            await made.truth("b", 2, partition=1)
            await made.observation("a", 1)
            made.bad(b"{", "not-json")
            await made.command("a", "edit", "first", text="Notes:\n- By hand.")
    for number in (1, 0, 4, 0):
        await made.truth("a", number)
    for number in (0, 1, 3, 4):
        await made.truth("b", number)
    await made.command("b", "freeze", "second")
    await made.command("a", "edit", "third", text="Notes:\n- By another hand.")
    made.bad(b"[]", "not-object")
    return made.finish()
