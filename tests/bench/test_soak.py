"""A soak's schedule and load, and a verdict that finds what is wrong: on a run made by the real core, and in a short form on real Kafka."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import orjson
import pytest

from bench.process import Process
from bench.soak import load, samples, worker
from bench.soak.arrivals import Arrival
from bench.soak.load import Event
from bench.soak.picture import picture
from bench.soak.run import Result, soak
from bench.soak.samples import Sample
from bench.soak.schedule import SHARES, Phase, plan
from bench.soak.verdict import holds, verdict
from schemas.mapping import read_observation, read_truth
from schemas.state import EntityState, decode_state, encode_state
from tests.chaos.conftest import HOME, Recorder
from tests.chaos.evidence import Ending
from tests.emulator.faults import Fault

SECONDS, OUTAGE = 120.0, (40.0, 70.0)


@pytest.mark.parametrize("outage", [0.0, 600.0])
def test_a_schedule_repeats_overlaps_nowhere_and_has_every_fault(outage: float) -> None:
    phases = plan(1800.0, random.Random(5), outage)
    assert phases == plan(1800.0, random.Random(5), outage) != plan(1800.0, random.Random(6), outage)
    assert all(before.end <= after.begin for before, after in pairwise(phases))
    assert phases[0].begin > 0 and phases[-1].end < 1800.0
    assert {phase.fault for phase in phases if not phase.outage} == {fault for fault, _ in SHARES}
    assert [(phase.begin, phase.end, phase.share) for phase in phases if phase.outage] == ([(600.0, 1200.0, 1.0)] if outage else [])


def test_an_outage_that_leaves_no_time_to_come_back_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1200 s"):
        plan(900.0, random.Random(5), 600.0)


def test_an_entity_is_observed_at_even_times_and_its_truth_comes_after_the_horizon() -> None:
    events = list(load.events(60.0, 5.0, random.Random(3), entities=10))
    assert [event.at for event in events] == sorted(event.at for event in events)
    observed = {event.identity: event for event in events if event.role == "observations"}
    told = {event.identity: event for event in events if event.role == "truths"}
    assert len(observed) == 300 and 0.9 * 300 < len(told) < 300
    assert sum(event.role == "truths" for event in events) == len(told)
    for identity, truth in told.items():
        assert truth.entity == observed[identity].entity == load.entity_of(identity)
        assert observed[identity].at + load.HORIZON <= truth.at <= observed[identity].at + load.HORIZON + load.LATEST
    first = [event.at for event in observed.values() if event.entity == load.entity_of("0-0")]
    assert [after - before for before, after in pairwise(first)] == pytest.approx([2.0] * 29)


def test_a_sample_is_read_from_what_a_worker_says_of_itself() -> None:
    text = (
        "palimpsest_in_flight 7.0\n"
        'palimpsest_model_waiting{host="a",kind="prediction"} 3.0\npalimpsest_model_waiting{host="a",kind="rewrite"} 2.0\n'
        'palimpsest_lag_records{input="truths",partition="0"} 4.0\npalimpsest_lag_records{input="truths",partition="1"} NaN\n'
        'palimpsest_model_breaker_state{host="a"} 2.0\n'
        'palimpsest_dropped_total{list="feedback"} 6.0\npalimpsest_dropped_total{list="resolved"} 9.0\n'
    )
    assert samples.read(3.0, 1000, 1.5, text) == Sample(3.0, 1000, 7, 3, 2, 4, 2, 1.5, 0, 6)


class Player(Recorder):
    """Plays a soak's events to the real core, without Kafka and time."""

    async def take(self, event: Event) -> None:
        record = self._take(event.role, HOME, event.value(self._now), event.mark)
        state = self._states.get(event.entity, EntityState(entity=event.entity))
        if event.role == "observations":
            step = await self._core.observe(state, read_observation(record, self.settings, self._now), now=self._now, offset=record.offset)
        else:
            step = await self._core.learn(state, read_truth(record, self.settings, self._now), now=self._now)
        self._commit(step, event.role, record.offset)


@pytest.fixture
async def sound(tmp_path: Path) -> Result:
    """A run with an outage in which everything is as it must be, long enough that every bound of a state is reached."""
    settings = Process(tmp_path, "soak", "soak", "127.0.0.1:1", config=worker.configuration("http://127.0.0.1:1")).settings
    result = Result(settings, SECONDS, [Phase(10.0, 15.0, Fault.BUSY), Phase(*OUTAGE, Fault.HANG, outage=True)], outage=OUTAGE)
    player = Player(settings)
    for event in load.events(SECONDS, 1.0, random.Random(5), entities=3):
        await player.take(event)
        (result.sent if event.role == "observations" else result.truths)[event.identity] = event.at
    result.evidence = player.finish()
    result.evidence.endings = [Ending("soak", 0, "SIGTERM", 1.0)]
    for record in result.evidence.predictions:
        said = orjson.loads(record.value or b"")
        at = result.sent[said["id"]] + 0.5
        by_model = "model_answer" in said and not OUTAGE[0] <= result.sent[said["id"]] < OUTAGE[1]
        error = "" if by_model else "away"
        result.arrivals.of[said["id"]] = [Arrival(at, "model" if by_model else "fallback", by_model, error)]
    folded = sum(decode_state(raw).dropped["feedback"] for raw in result.evidence.states.values())
    result.samples = [Sample(float(at), 10**8, 20, 30, 5, 40, 0, 4.0 * at, 0, folded) for at in range(0, 121, 2)]
    return result


def test_where_all_went_well_every_line_holds(sound: Result) -> None:
    lines = verdict(sound)
    assert [line for line in lines if not line.holds] == []
    assert holds(lines)
    drawn = picture(sound)
    # In each of three panels, and once in the legend.
    assert drawn.startswith("<svg") and drawn.count("a fault is on") == drawn.count("every call hangs") == 4


def _look(result: Result, which: int, **changes: float) -> None:
    result.samples[which] = replace(result.samples[which], **changes)


def _grow(result: Result) -> None:
    result.samples = [replace(sample, memory=round(sample.memory * (1 + sample.at / 500))) for sample in result.samples]


def _arrive(result: Result, identity: str, **changes: object) -> None:
    result.arrivals.of[identity] = [replace(result.arrivals.of[identity][0], **changes)]


def _change_state(result: Result, **changes: object) -> None:
    states = result.evidence.states
    entity = next(entity for entity, raw in states.items() if decode_state(raw).pending)
    states[entity] = encode_state(decode_state(states[entity]).model_copy(update=changes))


def _drop_row(result: Result) -> None:
    states = map(decode_state, result.evidence.states.values())
    _change_state(result, resolved=next(state for state in states if state.pending).resolved[1:])


def _never_again(result: Result) -> None:
    for identity, at in result.sent.items():
        if at >= OUTAGE[1]:
            _arrive(result, identity, source="fallback", answered=False, error="away")


#: What was done to a sound run, and how the line begins that must find it; others may find it too.
DAMAGE: dict[str, tuple[Callable[[Result], object], str]] = {
    "memory grows": (_grow, "resident memory grows"),
    "more is in flight than may be": (lambda r: _look(r, 9, in_flight=513), "records in flight"),
    "more waits than may": (lambda r: _look(r, 9, waiting_rewrites=60), "calls that wait"),
    "a prediction comes late": (lambda r: _arrive(r, "0-1", at=r.sent["0-1"] + 7.5), "predictions can be read within"),
    "a prediction does not come": (lambda r: r.arrivals.of.pop("0-1"), "predictions can be read within"),
    "a fallback is not marked": (lambda r: _arrive(r, "0-1", source="model", answered=False, error="timeout"), "predictions without"),
    "slots are idle": (lambda r: _look(r, -1, busy_seconds=0.0), "the load is full"),
    "a prediction waits for the outage to end": (lambda r: _arrive(r, "0-15", at=75.0), "while every call hangs"),
    "the model is not used again": (_never_again, "after the outage"),
    "the ledger lacks a row": (_drop_row, "every outcome is in ledger"),
    "the scores lack an outcome": (lambda r: _change_state(r, scores={}), "every outcome is in ledger"),
    "a prediction waits no more": (lambda r: _change_state(r, pending=()), "every outcome is in ledger"),
    "feedback falls out uncounted": (lambda r: _change_state(r, dropped={}), "feedback is consumed"),
    "a worker was started again": (lambda r: _look(r, 5, restarts=1), "one worker process"),
    "the worker does not answer": (lambda r: setattr(r, "missed", 9), "the worker answers"),
    "an outcome is lost": (lambda r: r.evidence.outcomes.pop(4), "no truths without an outcome"),
    "the worker ends by itself": (lambda r: setattr(r.evidence, "endings", [Ending("soak", 1, "")]), "no unexpected ends"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_whatever_is_not_as_it_must_be_is_found(sound: Result, damage: str) -> None:
    do, begin = DAMAGE[damage]
    do(sound)
    failing = [line.name for line in verdict(sound) if not line.holds]
    assert [name for name in failing if name.startswith(begin)], failing


#: What depends on how fast the machine is, or shows in minutes only.
BY_TIME = ("resident memory", "predictions can be read", "the load is full", "the worker answers", "after the outage")


@pytest.mark.integration
async def test_a_short_soak_finds_nothing(kafka: str, tmp_path: Path) -> None:
    phases = [Phase(4.0, 7.0, Fault.WRONG_SCHEMA, 0.5), Phase(10.0, 22.0, Fault.HANG, outage=True), Phase(24.0, 26.0, Fault.RESET, 0.5)]
    told: list[str] = []
    result = await soak(kafka, tmp_path, 30.0, phases, 3, told.append)
    lines = [line for line in verdict(result) if not line.name.startswith(BY_TIME)]
    assert [line for line in lines if not line.holds] == []
    assert result.arrivals.sources["model"] and result.arrivals.sources["fallback"]
