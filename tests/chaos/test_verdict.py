from collections.abc import Callable
from dataclasses import replace

import orjson
import pytest

from schemas.state import decode_state, encode_state
from tests.chaos.evidence import Ending, Evidence, Logged
from tests.chaos.verdict import CHECKS, is_clean, judge

Damage = Callable[[Evidence], object]


def found(evidence: Evidence) -> dict[str, int]:
    return {check.name: check.found for check in judge(evidence) if check.found}


def test_where_all_went_well_every_check_looks_at_something_and_finds_nothing(sound: Evidence) -> None:
    checks = judge(sound)
    assert [check for check in checks if check.found] == []
    assert [check.name for check in checks if not check.looked_at] == []
    assert is_clean(checks)


def _again(records: list[Logged], which: int, **changes: object) -> None:
    """Log a record once more, at the end, with some of its fields changed."""
    value = orjson.dumps({**orjson.loads(records[which].value or b""), **changes})
    records.append(replace(records[which], offset=records[-1].offset + 1, value=value))


def _exchange(records: list[Logged], one: int, other: int) -> None:
    first, second = records[one], records[other]
    records[one], records[other] = replace(second, offset=first.offset), replace(first, offset=second.offset)


def _change_state(evidence: Evidence, entity: str, **changes: object) -> None:
    evidence.states[entity] = encode_state(decode_state(evidence.states[entity]).model_copy(update=changes))


def _without_last_row(evidence: Evidence) -> None:
    state = decode_state(evidence.states["a"])
    _change_state(evidence, "a", resolved=state.resolved[:-1], outcomes=state.outcomes - 1, feedback=state.feedback[:-1])


def _other_row(evidence: Evidence) -> None:
    state = decode_state(evidence.states["a"])
    row = state.resolved[0]
    forecast = row.forecast.model_copy(update={"value": 77.0})
    _change_state(evidence, "a", resolved=(row.model_copy(update={"forecast": forecast}), *state.resolved[1:]))


def _outcomes_of(evidence: Evidence, entity: str) -> list[int]:
    return [place for place, record in enumerate(evidence.outcomes) if record.key == entity.encode()]


def _unexpected(code: int, asked: str) -> Damage:
    return lambda e: setattr(e, "endings", [*e.endings, Ending("one", code, asked)])


#: What was done to a sound campaign, and the checks that must find it; others may find it too.
DAMAGE: dict[str, tuple[Damage, tuple[str, ...]]] = {
    "a prediction is lost": (lambda e: e.predictions.pop(3), ("observations without a prediction",)),
    "a prediction is published twice": (lambda e: _again(e.predictions, 2), ("observations predicted more than once",)),
    "the model is asked again": (
        lambda e: _again(e.predictions, 2, forecast={"value": 3.25}),
        ("observations predicted more than once",),
    ),
    "predictions change places": (lambda e: _exchange(e.predictions, 0, 4), ("predictions out of their inputs' order",)),
    "an entity's predictions are on two partitions": (
        lambda e: e.predictions.__setitem__(-1, replace(e.predictions[-1], partition=1)),
        ("predictions out of their inputs' order",),
    ),
    "an outcome is lost": (
        lambda e: e.outcomes.pop(_outcomes_of(e, "b")[0]),
        ("truths without an outcome", "outcomes whose count does not rise by one", "ledgers that differ from what was published"),
    ),
    "an outcome is published twice": (
        lambda e: _again(e.outcomes, 1),
        ("truths with more than one outcome", "outcomes whose count does not rise by one", "ledgers that differ from what was published"),
    ),
    "outcomes change places": (
        lambda e: _exchange(e.outcomes, *_outcomes_of(e, "b")[-2:]),
        ("outcomes whose count does not rise by one", "truths of one partition out of order"),
    ),
    "an outcome scores another forecast": (
        lambda e: _again(e.outcomes, 1, forecast={"value": 3.25}),
        ("outcomes of another forecast than published",),
    ),
    "a prediction nobody asked for": (lambda e: _again(e.predictions, 0, id="a-99"), ("outputs that nothing called for",)),
    "an output that nobody can read": (lambda e: _again(e.outcomes, 0, errors="none"), ("outputs that nothing called for",)),
    "a dead letter is missing": (lambda e: e.letters.pop(0), ("bad messages without a dead letter",)),
    "a dead letter is written twice": (lambda e: e.letters.append(e.letters[0]), ("bad messages with more than one letter",)),
    "a dead letter holds other bytes": (
        lambda e: e.letters.__setitem__(0, replace(e.letters[0], value=b"?")),
        ("letters with another reason or other bytes",),
    ),
    "a good message is dead-lettered": (
        lambda e: e.inputs.__setitem__(0, replace(e.inputs[0], headers=(("chaos", b"bad:not-json"),))),
        ("bad messages without a dead letter", "outputs that nothing called for"),
    ),
    "a letter about a good message": (
        lambda e: e.inputs.__setitem__(_bad_place(e), replace(e.inputs[_bad_place(e)], headers=(("chaos", b"tombstone"),))),
        ("outputs that nothing called for",),
    ),
    "a command is not answered": (
        lambda e: e.memories.pop(0),
        ("commands without an answer", "memory revisions that do not follow"),
    ),
    "a command is answered twice": (lambda e: _again(e.memories, 1), ("commands answered more than once",)),
    "a revision is skipped": (
        lambda e: _again(e.memories, -1, revision=9, command="", accepted=True),
        ("memory revisions that do not follow",),
    ),
    "a state is lost": (lambda e: e.states.pop("b"), ("entities without a state, states of nobody",)),
    "an effect is lost in the state": (_without_last_row, ("ledgers that differ from what was published",)),
    "the state holds another answer": (_other_row, ("ledgers that differ from what was published",)),
    "a waiting prediction is lost": (lambda e: _change_state(e, "a", pending=()), ("predictions that wait wrongly",)),
    "something fell out of a bound": (lambda e: _change_state(e, "a", dropped={"resolved": 1}), ("predictions that wait wrongly",)),
    "feedback is lost": (
        lambda e: _change_state(e, "b", feedback=decode_state(e.states["b"]).feedback[:-1]),
        ("feedback with gaps",),
    ),
    "old feedback is lost": (
        lambda e: _change_state(e, "b", feedback=decode_state(e.states["b"]).feedback[1:]),
        ("feedback with gaps",),
    ),
    "a record was not applied": (
        lambda e: _change_state(e, "a", applied={**decode_state(e.states["a"]).applied, "truths/0": 0}),
        ("applied offsets that are not the last",),
    ),
    "a state goes back": (lambda e: e.history.append(e.history[0]), ("state records that go back",)),
    "a disk differs": (
        lambda e: e.disks.__setitem__(0, (replace(e.disks[0][0], records={}), e.disks[0][1])),
        ("disks that differ from the changelog",),
    ),
    "the last owner's disk is behind": (
        lambda e: e.disks.__setitem__(0, (replace(e.disks[0][0], records={}), {})),
        ("disks that differ from the changelog",),
    ),
    "a position is short of the end": (lambda e: e.positions.update({_input(e): 1}), ("positions short of the end",)),
    "a position is missing": (lambda e: e.positions.pop(_input(e)), ("positions short of the end",)),
    "a transaction is open": (lambda e: e.open_transactions.append("outcomes/0"), ("transactions left open",)),
    "work is left over": (lambda e: setattr(e, "stuck", "truths/0: 3"), ("records that were not worked off",)),
    "a sent record is not there": (lambda e: e.sent.add(("truths", 0, 99)), ("sent records that are not in the inputs",)),
    "a worker crashes": (_unexpected(70, ""), ("unexpected ends of workers",)),
    "a worker ends for no reason": (_unexpected(0, ""), ("unexpected ends of workers",)),
    "a worker is killed by another": (_unexpected(-9, ""), ("unexpected ends of workers",)),
    "a worker ends badly when told to": (_unexpected(1, "SIGTERM"), ("unexpected ends of workers",)),
}


def _bad_place(evidence: Evidence) -> int:
    return next(place for place, record in enumerate(evidence.inputs) if record.mark.startswith("bad:"))


def _input(evidence: Evidence) -> tuple[str, int]:
    return evidence.settings.topics.observations, 0


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_found(sound: Evidence, what: str) -> None:
    damage, expected = DAMAGE[what]
    damage(sound)
    assert set(expected) <= set(found(sound))


def test_what_is_folded_or_logged_may_fall_out_of_its_bound(sound: Evidence) -> None:
    _change_state(sound, "a", dropped={"feedback": 3, "revisions": 1})
    assert found(sound) == {}


def test_each_check_has_damage_that_it_finds() -> None:
    assert set(CHECKS) == {name for _, names in DAMAGE.values() for name in names}


def test_a_lost_truth_counts_once_however_often_it_was_sent(sound: Evidence) -> None:
    sound.outcomes = [record for record in sound.outcomes if orjson.loads(record.value or b"")["prediction_id"] != "a-0"]
    assert found(sound)["truths without an outcome"] == 1
