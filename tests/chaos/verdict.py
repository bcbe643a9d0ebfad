"""Was anything lost, doubled or reordered? Decided from what a campaign left behind, and from nothing that a worker says of itself.

What was sent says what must be there: one prediction for each observation, one outcome for each prediction whose truth was sent, one dead
letter for each message that nobody can use, one answer for each command; in the order of the inputs, and the same in the outputs as in the
states. `judge` is a function of `Evidence` alone.

It holds for campaigns in which nothing expires, no bound is reached and no truth is corrected.
"""

from __future__ import annotations

import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError

from schemas.messages import DeadLetter, MemoryRevision, Message, Outcome, Prediction
from schemas.state import EntityState, UnknownSchema, decode_state
from streams import exits, topics
from streams.dead_letters import NotADeadLetter, from_headers
from tests.chaos.evidence import Evidence, Logged
from tests.chaos.load import BAD

_M = TypeVar("_M", bound=Message)

#: Commands whose answer names the revision as it is.
UNREVISING = ("freeze", "thaw", "rewrite")
#: Examples that are kept of each check's findings.
EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked for.

    Attributes
    ----------
    looked_at
        How many things were checked; none checked proves nothing, and the table shows it.
    found
        How many of them are not as they must be.
    examples
        The first of those.
    """

    name: str
    looked_at: int
    found: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sent:
    """An input record of the kind that has an effect on an entity."""

    entity: str
    identity: str
    value: float | None
    record: Logged


def judge(evidence: Evidence) -> list[Check]:
    """Every check, in the order of the table."""
    world = _World(evidence)
    return [Check(name, looked_at, len(faults), tuple(faults[:EXAMPLES])) for name, (looked_at, faults) in _run(world)]


def is_clean(checks: Iterable[Check]) -> bool:
    return not any(check.found for check in checks)


_Finding = tuple[int, list[str]]


def _run(world: _World) -> Iterator[tuple[str, _Finding]]:
    for name, check in CHECKS.items():
        yield name, check(world)


class _World:
    """The evidence, decoded and sorted by what belongs together."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.settings = evidence.settings
        self.unreadable: list[str] = []
        self.predictions = self._messages(evidence.predictions, Prediction)
        self.outcomes = self._messages(evidence.outcomes, Outcome)
        self.memories = self._messages(evidence.memories, MemoryRevision)
        self.letters = list(self._letters())
        self.states = dict(self._states())

    def _messages(self, records: Sequence[Logged], kind: type[_M]) -> list[tuple[Logged, _M]]:
        found = []
        for record in records:
            try:
                found.append((record, kind.model_validate_json(record.value or b"")))
            except ValidationError as error:
                self.unreadable.append(f"{_at(record)} is no {kind.__name__}: {error.errors()[0]['msg']}")
        return found

    def _letters(self) -> Iterator[tuple[Logged, DeadLetter]]:
        for record in self.evidence.letters:
            try:
                yield record, from_headers(record.headers)
            except NotADeadLetter as error:
                self.unreadable.append(f"{_at(record)}: {error}")

    def _states(self) -> Iterator[tuple[str, EntityState]]:
        for entity, raw in self.evidence.states.items():
            try:
                yield entity, decode_state(raw)
            except (UnknownSchema, ValueError) as error:
                self.unreadable.append(f"the state of {entity}: {error}")

    @cached_property
    def observed(self) -> dict[str, list[Sent]]:
        return self._sent("observation", "id")

    @cached_property
    def true(self) -> dict[str, list[Sent]]:
        return self._sent("truth", "observation_id")

    @cached_property
    def commanded(self) -> dict[str, list[Sent]]:
        return self._sent("command", "id")

    def _sent(self, mark: str, name: str) -> dict[str, list[Sent]]:
        """Records by the id that they carry; more than one where it was sent again."""
        found: defaultdict[str, list[Sent]] = defaultdict(list)
        for record in self.evidence.inputs:
            if record.mark == mark:
                payload: dict[str, Any] = orjson.loads(record.value or b"{}")
                found[payload[name]].append(Sent(payload["entity"], payload[name], payload.get("value"), record))
        return found

    @cached_property
    def bad(self) -> dict[tuple[str, int, int], Logged]:
        return {record.place: record for record in self.evidence.inputs if record.mark.startswith(BAD)}

    @cached_property
    def answered(self) -> dict[str, list[Sent]]:
        """Truths whose observation was sent too."""
        return {identity: sent for identity, sent in self.true.items() if identity in self.observed}

    @cached_property
    def first_prediction(self) -> dict[str, Prediction]:
        found: dict[str, Prediction] = {}
        for _, prediction in self.predictions:
            found.setdefault(prediction.id, prediction)
        return found

    @cached_property
    def outcomes_of(self) -> dict[str, list[Outcome]]:
        found: defaultdict[str, list[Outcome]] = defaultdict(list)
        for _, outcome in sorted(self.outcomes, key=lambda pair: (pair[0].partition, pair[0].offset)):
            found[outcome.entity].append(outcome)
        return found

    @cached_property
    def entities(self) -> dict[str, list[Sent]]:
        """First observations of each id, by entity, in the order of the input."""
        found: defaultdict[str, list[Sent]] = defaultdict(list)
        for sent in sorted((copies[0] for copies in self.observed.values()), key=lambda s: (s.record.partition, s.record.offset)):
            found[sent.entity].append(sent)
        return found


# -- lost


def _not_in_the_inputs(world: _World) -> _Finding:
    there = {record.place for record in world.evidence.inputs}
    return len(world.evidence.sent), [_where(place) for place in sorted(world.evidence.sent - there)]


def _not_worked_off(world: _World) -> _Finding:
    return 1, [world.evidence.stuck] if world.evidence.stuck else []


def _unpredicted(world: _World) -> _Finding:
    seen = world.first_prediction
    return len(world.observed), [f"{i} ({_at(sent[0].record)})" for i, sent in world.observed.items() if i not in seen]


def _without_outcome(world: _World) -> _Finding:
    seen = {outcome.prediction_id for _, outcome in world.outcomes}
    return len(world.answered), [f"{i} ({_at(sent[0].record)})" for i, sent in world.answered.items() if i not in seen]


def _without_letter(world: _World) -> _Finding:
    seen = Counter((about.topic, about.partition, about.offset) for _, about in world.letters)
    return len(world.bad), [f"{_at(record)} ({record.mark})" for place, record in world.bad.items() if not seen[place]]


def _without_answer(world: _World) -> _Finding:
    seen = Counter(entry.command for _, entry in world.memories)
    return len(world.commanded), [f"{i} ({_at(sent[0].record)})" for i, sent in world.commanded.items() if not seen[i]]


# -- doubled


def _predicted_twice(world: _World) -> _Finding:
    return len(world.observed), _twice(prediction.id for _, prediction in world.predictions)


def _settled_twice(world: _World) -> _Finding:
    return len(world.answered), _twice(outcome.prediction_id for _, outcome in world.outcomes)


def _letters_twice(world: _World) -> _Finding:
    return len(world.bad), _twice(_where((about.topic, about.partition, about.offset)) for _, about in world.letters)


def _answered_twice(world: _World) -> _Finding:
    return len(world.commanded), _twice(entry.command for _, entry in world.memories if entry.command)


def _of_nothing(world: _World) -> _Finding:
    faults = [f"prediction {p.id} of {p.entity}" for _, p in world.predictions if p.id not in world.observed]
    faults += [f"outcome {o.prediction_id} of {o.entity}" for _, o in world.outcomes if o.prediction_id not in world.answered]
    faults += [
        f"letter {about.reason} of {_where((about.topic, about.partition, about.offset))}: {about.detail}"
        for _, about in world.letters
        if (about.topic, about.partition, about.offset) not in world.bad
    ]
    faults += [f"answer to {entry.command!r}" for _, entry in world.memories if entry.command and entry.command not in world.commanded]
    return len(world.predictions) + len(world.outcomes) + len(world.letters) + len(world.memories), world.unreadable + faults


# -- order


def _predictions_out_of_order(world: _World) -> _Finding:
    actual: defaultdict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for record, prediction in world.predictions:
        actual[prediction.entity].append((record.partition, record.offset, prediction.id))
    faults, pairs = [], 0
    for entity, expected in world.entities.items():
        place = {sent.identity: number for number, sent in enumerate(expected)}
        order = [identity for _, _, identity in sorted(actual[entity]) if identity in place]
        pairs += max(0, len(order) - 1)
        newest = -1
        for before, identity in zip(("", *order), order, strict=False):
            if place[identity] < newest:
                faults.append(f"{entity}: {identity} was predicted after {before}")
            newest = max(newest, place[identity])
        if len({partition for partition, _, _ in actual[entity]}) > 1:
            faults.append(f"{entity}: predictions on more than one partition")
    return pairs, faults


def _running_count(world: _World) -> _Finding:
    faults = []
    for entity, outcomes in world.outcomes_of.items():
        before = 0
        for outcome in outcomes:
            published = outcome.scores.get("published")
            n = 0 if published is None else published.n
            # What was predicted in hindsight is not scored.
            expected = before + ("hindsight" not in outcome.flags)
            if n != expected:
                faults.append(f"{entity}: {outcome.prediction_id} has n = {n}, expected {expected}")
            before = n
    return len(world.outcomes), faults


def _truths_out_of_order(world: _World) -> _Finding:
    """Of one entity and one partition of the truths; one that waited for its observation takes effect with that."""
    faults, count = [], 0
    for entity, outcomes in world.outcomes_of.items():
        newest: dict[int, int] = {}
        for outcome in outcomes:
            copies = world.true.get(outcome.prediction_id, [])
            if len(copies) != 1 or "early" in outcome.flags:
                continue
            count += 1
            record = copies[0].record
            if record.offset < newest.get(record.partition, -1):
                faults.append(f"{entity}: the truth of {outcome.prediction_id} ({_at(record)}) after that at {newest[record.partition]}")
            newest[record.partition] = max(record.offset, newest.get(record.partition, -1))
    return count, faults


# -- what the outputs say


def _other_forecasts(world: _World) -> _Finding:
    faults = []
    for _, outcome in world.outcomes:
        prediction = world.first_prediction.get(outcome.prediction_id)
        if prediction is not None and (outcome.forecast, outcome.model_answer) != (prediction.forecast, prediction.model_answer):
            said = f"{outcome.forecast.value} ({_answer(outcome)})"
            faults.append(f"{outcome.prediction_id}: published {prediction.forecast.value} ({_answer(prediction)}), scored {said}")
    return len(world.outcomes), faults


def _other_letters(world: _World) -> _Finding:
    faults = []
    for letter, about in world.letters:
        record = world.bad.get((about.topic, about.partition, about.offset))
        if record is None:
            continue
        if about.reason != record.mark.removeprefix(BAD):
            faults.append(f"{_at(record)}: {about.reason} instead of {record.mark.removeprefix(BAD)}")
        if letter.value != record.value:
            faults.append(f"{_at(record)}: other bytes than were sent")
    return len(world.letters), faults


def _revisions(world: _World) -> _Finding:
    faults = []
    newest: dict[str, int] = defaultdict(int)
    for _, entry in sorted(world.memories, key=lambda pair: (pair[0].partition, pair[0].offset)):
        expected = newest[entry.entity] + (entry.accepted and entry.op not in UNREVISING)
        if entry.revision != expected:
            faults.append(f"{entry.entity}: revision {entry.revision} ({entry.cause}) after {newest[entry.entity]}")
        newest[entry.entity] = entry.revision
    for entity, state in world.states.items():
        if state.memory.revision != newest[entity]:
            faults.append(f"{entity}: the state has revision {state.memory.revision}, the log ends at {newest[entity]}")
    return len(world.memories) + len(world.states), faults


# -- the states


def _states_of_nobody(world: _World) -> _Finding:
    missing = [f"{entity} has none" for entity in world.entities if entity not in world.states]
    return len(world.entities), missing + [f"{entity} was never observed" for entity in world.states if entity not in world.entities]


def _ledgers(world: _World) -> _Finding:
    faults = []
    for entity, state in world.states.items():
        rows, outcomes = state.resolved, world.outcomes_of.get(entity, [])
        if [row.seq for row in rows] != list(range(1, state.outcomes + 1)):
            faults.append(f"{entity}: {state.outcomes} outcomes, ledger rows {[row.seq for row in rows]}")
        published, kept = [outcome.prediction_id for outcome in outcomes], [row.id for row in rows]
        if kept != published:
            lost = sorted(set(published) - set(kept))
            faults.append(f"{entity}: the ledger has {len(kept)} rows, {len(published)} outcomes were published; not in it: {lost}")
        for row in rows:
            prediction, copies = world.first_prediction.get(row.id), world.true.get(row.id, [])
            if prediction is None or (row.made_at, row.forecast, row.model_answer) != (
                prediction.made_at,
                prediction.forecast,
                prediction.model_answer,
            ):
                faults.append(f"{entity}: {row.id} stands in the ledger with another prediction than was published")
            if row.truth not in [sent.value for sent in copies]:
                faults.append(f"{entity}: {row.id} has the truth {row.truth}, sent was {[sent.value for sent in copies]}")
    return sum(len(state.resolved) for state in world.states.values()), faults


def _waiting(world: _World) -> _Finding:
    faults, count = [], 0
    for entity, state in world.states.items():
        expected = {sent.identity for sent in world.entities.get(entity, []) if sent.identity not in world.true}
        actual = {pending.id for pending in state.pending}
        count += len(expected)
        faults += [f"{entity}: {identity} does not wait for its truth" for identity in sorted(expected - actual)]
        faults += [f"{entity}: {identity} waits for a truth that came" for identity in sorted(actual - expected)]
        faults += [f"{entity}: the truth of {early.observation_id} waits for an observation that came" for early in state.early]
        # Old revisions are in the log, and feedback is folded: nothing of those is lost.
        if lost := {name: number for name, number in state.dropped.items() if name not in ("revisions", "feedback")}:
            faults.append(f"{entity}: fell out of bounds: {lost}")
        for pending in state.pending:
            prediction = world.first_prediction.get(pending.id)
            if prediction is not None and (pending.made_at, pending.forecast) != (prediction.made_at, prediction.forecast):
                faults.append(f"{entity}: {pending.id} waits with another prediction than was published")
    return count, faults


def _feedback(world: _World) -> _Finding:
    """What no rewrite has consumed are the newest outcomes without a gap; where none was ever tried, it is all of them."""
    faults, count = [], 0
    tried = {entry.entity for _, entry in world.memories if entry.cause == "feedback"}
    for entity, state in world.states.items():
        waiting = [feedback.seq for feedback in state.feedback]
        count += len(waiting)
        if waiting != list(range(state.outcomes - len(waiting) + 1, state.outcomes + 1)):
            faults.append(f"{entity}: {state.outcomes} outcomes, feedback of {waiting}")
        if entity not in tried and len(waiting) + state.folded.count != state.outcomes:
            faults.append(
                f"{entity}: {state.outcomes} outcomes, {len(waiting)} wait and {state.folded.count} are folded; no rewrite took any"
            )
    return count, faults


def _applied(world: _World) -> _Finding:
    """The offset that a state says was applied last is that of the entity's last record in each input partition."""
    settings, faults = world.settings, []
    unknown = {entry.command for _, entry in world.memories if entry.reason == "no such entity"}
    newest: dict[tuple[str, str], int] = {}
    due: dict[tuple[str, str], int] = {}
    for role, by_identity in (("observations", world.observed), ("truths", world.true), ("commands", world.commanded)):
        rekeyed = role in topics.rekeyed_roles(settings)
        for identity, copies in by_identity.items():
            for sent in copies:
                place = sent.entity, f"{role}/{sent.record.partition}" if rekeyed else role
                newest[place] = max(newest.get(place, -1), sent.record.offset)
                if role != "commands" or identity not in unknown:
                    due[place] = max(due.get(place, -1), sent.record.offset)
    for entity, state in world.states.items():
        for position in sorted({name for one, name in newest if one == entity} | set(state.applied)):
            applied = state.applied.get(position, -1)
            if not due.get((entity, position), -1) <= applied <= newest.get((entity, position), -1):
                faults.append(f"{entity}: {position} applied to {applied}, its last record stands at {newest.get((entity, position))}")
    return len(newest), faults


def _going_back(world: _World) -> _Finding:
    """A state record that knows less than the one before it was made by somebody who had not read that one."""
    faults = []
    newest: dict[str, Any] = {}
    for record in world.evidence.history:
        before = newest.get(record.entity)
        if before is not None:
            back = [name for name, offset in before.applied.items() if record.applied.get(name, -1) < offset]
            if back or record.outcomes < before.outcomes or record.revision < before.revision or record.partition != before.partition:
                what = f"{before.outcomes} -> {record.outcomes} outcomes, revision {before.revision} -> {record.revision}, back in {back}"
                faults.append(f"{record.entity}: changelog {record.partition}/{record.offset} after {before.offset}: {what}")
        newest[record.entity] = record
    return len(world.evidence.history), faults


def _disks(world: _World) -> _Finding:
    faults = []
    for disk, expected in world.evidence.disks:
        differing = [key for key in sorted({*disk.records, *expected}) if disk.records.get(key) != expected.get(key)]
        if differing:
            faults.append(f"{disk.worker}, partition {disk.partition} at offset {disk.offset}: {len(differing)} records, {differing[:3]}")
    whole = {disk.partition for disk, _ in world.evidence.disks if disk.records == world.evidence.last.get(disk.partition)}
    faults += [
        f"partition {partition}: nobody's disk is whole"
        for partition, content in sorted(world.evidence.last.items())
        if content and partition not in whole
    ]
    return len(world.evidence.disks), faults


# -- positions and processes


def _positions(world: _World) -> _Finding:
    evidence = world.evidence
    faults = [
        f"{topic}/{partition}: committed {evidence.positions.get((topic, partition))}, ends at {end}"
        for (topic, partition), end in sorted(evidence.ends.items())
        if end and evidence.positions.get((topic, partition)) != end
    ]
    return len(evidence.ends), faults


def _open_transactions(world: _World) -> _Finding:
    return 1, list(world.evidence.open_transactions)


def _endings(world: _World) -> _Finding:
    """Killed by us, told to end and ended well, or asking to be started again."""
    # Before it has begun to listen to signals SIGTERM ends a process as it ends any.
    told, killed = {exits.OK, exits.RESTART, -signal.SIGTERM}, {exits.OK, exits.RESTART, -signal.SIGKILL}
    allowed = {"": {exits.RESTART}, "SIGTERM": told, "SIGKILL": killed}
    faults = [
        f"{ending.worker} ended with {ending.code}" + (f" upon {ending.asked}" if ending.asked else " by itself")
        for ending in world.evidence.endings
        if ending.code not in allowed[ending.asked]
    ]
    return len(world.evidence.endings), faults


CHECKS: Mapping[str, Callable[[_World], _Finding]] = {
    "sent records that are not in the inputs": _not_in_the_inputs,
    "records that were not worked off": _not_worked_off,
    "observations without a prediction": _unpredicted,
    "truths without an outcome": _without_outcome,
    "bad messages without a dead letter": _without_letter,
    "commands without an answer": _without_answer,
    "observations predicted more than once": _predicted_twice,
    "truths with more than one outcome": _settled_twice,
    "bad messages with more than one letter": _letters_twice,
    "commands answered more than once": _answered_twice,
    "outputs that nothing called for": _of_nothing,
    "predictions out of their inputs' order": _predictions_out_of_order,
    "outcomes whose count does not rise by one": _running_count,
    "truths of one partition out of order": _truths_out_of_order,
    "outcomes of another forecast than published": _other_forecasts,
    "letters with another reason or other bytes": _other_letters,
    "memory revisions that do not follow": _revisions,
    "entities without a state, states of nobody": _states_of_nobody,
    "ledgers that differ from what was published": _ledgers,
    "predictions that wait wrongly": _waiting,
    "feedback with gaps": _feedback,
    "applied offsets that are not the last": _applied,
    "state records that go back": _going_back,
    "disks that differ from the changelog": _disks,
    "positions short of the end": _positions,
    "transactions left open": _open_transactions,
    "unexpected ends of workers": _endings,
}


def _twice(names: Iterable[str]) -> list[str]:
    return [f"{name}: {count} times" for name, count in Counter(names).items() if count > 1]


def _answer(message: Prediction | Outcome) -> object:
    return None if message.model_answer is None else message.model_answer.value


def _at(record: Logged) -> str:
    return _where(record.place)


def _where(place: tuple[str, int, int]) -> str:
    topic, partition, offset = place
    return f"{topic}/{partition}/{offset}"
