"""What a truth does to an entity, whenever it comes, and what happens when none does."""

from __future__ import annotations

import sys
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest

from agents.forecaster import Forecaster, Orphan, Step
from agents.text_scoring import CheckerMissing
from schemas.messages import Outcome
from schemas.state import EntityState, Origin, next_due

DAY = timedelta(days=1)


async def predicted(given: Any, core: Forecaster, *hours: float) -> EntityState:
    state: EntityState = given.state()
    for hour in hours:
        state = (await core.observe(state, given.observation(hour), now=given.at(hour), offset=int(hour))).state
    return state


async def test_a_truth_resolves_its_prediction_scores_every_arm_and_becomes_feedback(given: Any) -> None:
    core = given.forecaster()
    state = await predicted(given, core, 0)

    step = await core.learn(state, given.truth(1, 12.5, note="rain all day"), now=given.at(1.5))

    (outcome,) = step.events
    assert (outcome.prediction_id, outcome.result, outcome.truth, outcome.note) == ("o0", "matched", 12.5, "rain all day")
    assert (outcome.errors["published"], outcome.errors["model"], outcome.errors["persistence"]) == (1.5, 1.5, 2.5)
    assert outcome.verification_latency == 5400.0
    assert outcome.scores["published"].mae == 1.5
    assert step.state.pending == ()
    assert (step.state.learned_to, step.state.outcomes, len(step.state.feedback)) == (given.at(1), 1, 1)
    assert step.counts == {"truth.matched": 1}


async def test_a_truth_before_its_observation_waits_for_it_and_is_applied_at_once(given: Any) -> None:
    core = given.forecaster()
    waiting = await core.learn(given.state(), given.truth(of="o0"), now=given.at(0))

    step = await core.observe(waiting.state, given.observation(0), now=given.at(2), offset=0)

    assert (waiting.events, waiting.counts) == ((), {"truth.early": 1})
    outcome = step.events[1]
    assert isinstance(outcome, Outcome)
    assert (outcome.verification_latency, outcome.flags) == (-7200.0, ("hindsight", "early"))
    assert step.state.early == ()
    assert step.counts == {"observation.predicted": 1, "truth.matched": 1}


async def test_a_correction_that_came_early_too_is_applied_after_what_it_corrects(given: Any) -> None:
    core = given.forecaster()
    state = (await core.learn(given.state(), given.truth(of="o0", value=12.0), now=given.at(0))).state
    state = (await core.learn(state, given.truth(of="o0", value=15.0), now=given.at(0))).state

    step = await core.observe(state, given.observation(0), now=given.at(1), offset=0)

    assert [event.result for event in step.events[1:]] == ["matched", "corrected"]
    assert step.state.resolved[0].truth == 15.0


async def test_a_truth_after_the_deadline_is_late(given: Any) -> None:
    core = given.forecaster(truths={"expire_after": DAY})
    state = await predicted(given, core, 0)

    step = await core.learn(state, given.truth(of="o0"), now=given.at(26))

    assert step.events[0].flags == ("late",)
    assert step.counts == {"truth.matched": 1, "truth.late": 1}


async def test_the_same_truth_again_changes_nothing(given: Any) -> None:
    core = given.forecaster()
    first = await core.learn(await predicted(given, core, 0), given.truth(1), now=given.at(1))

    again = await core.learn(first.state, given.truth(of="o0"), now=given.at(9))

    assert again == Step(first.state, (), {"truth.duplicate": 1})


async def test_a_correction_replaces_ledger_row_and_feedback_and_rewinds_nothing_that_fades(given: Any) -> None:
    core = given.forecaster()
    before = (await core.learn(await predicted(given, core, 0), given.truth(1, 12.0), now=given.at(1))).state

    step = await core.learn(before, given.truth(1, 20.0), now=given.at(2))

    (outcome,) = step.events
    assert (outcome.result, outcome.truth, outcome.flags, outcome.errors["published"]) == ("corrected", 20.0, ("corrected",), 9.0)
    after = step.state
    assert [(row.seq, row.truth) for row in after.resolved] == [(1, 20.0)]
    assert [feedback.seq for feedback in after.feedback] == [1]
    assert "20.0" in after.feedback[0].text
    assert (after.mixture, after.interval, after.surprise) == (before.mixture, before.interval, before.surprise)
    assert after.scores["published"].faded == before.scores["published"].faded
    assert step.counts == {"truth.corrected": 1}


@pytest.mark.parametrize("kind", ["number", "category"])
async def test_after_corrections_the_totals_are_those_of_a_run_that_knew_the_last_truths(given: Any, kind: str) -> None:
    values: list[Any] = [10.0, 13.0, 9.5, 11.0] if kind == "number" else ["low", "high", "low", "mid"]
    target = {"kind": kind} | ({} if kind == "number" else {"labels": ("low", "mid", "high")})
    asker = given.asker()
    asker.answer = lambda observation: observation.values["value"]
    core = given.forecaster(asker, target=target, truths={"tolerance": timedelta(0)})

    async def run(truths: list[list[Any]]) -> EntityState:
        state: EntityState = given.state()
        for hour, value in enumerate(values):
            state = (await core.observe(state, given.observation(hour, value), now=given.at(hour), offset=hour)).state
        for told in truths:
            for hour, value in enumerate(told):
                state = (await core.learn(state, given.truth(of=f"o{hour}", value=value), now=given.at(9))).state
        return state

    corrected, straight = await run([values, values[::-1], values[1:] + values[:1]]), await run([values[1:] + values[:1]])

    plain = ("n", "abs_sum", "square_sum", "hits", "top_hits")
    for arm in straight.scores:
        assert [getattr(corrected.scores[arm], name) for name in plain] == [getattr(straight.scores[arm], name) for name in plain]
    assert [row.truth for row in corrected.resolved] == [row.truth for row in straight.resolved]


async def test_a_truth_that_matches_nothing_is_handed_back_as_it_came_after_its_waiting_time(given: Any) -> None:
    core = given.forecaster(truths={"orphan_after": DAY})
    origin, raw = Origin(topic="truths", partition=3, offset=42), '{"Größe":1}'.encode() + b"\xff" + b"x" * 5_000
    waiting = (await core.learn(given.state(), given.truth(of="o9"), now=given.at(0), origin=origin, raw=raw)).state

    early = await core.due(waiting, now=given.at(23), truths_read=True)
    step = await core.due(waiting, now=given.at(24), truths_read=True)

    assert early == Step(waiting)
    (orphan,) = step.events
    assert isinstance(orphan, Orphan)
    assert (orphan.truth.origin, orphan.truth.raw.encode("latin-1"), orphan.reason) == (origin, raw, "orphan")
    assert step.state.early == ()
    assert step.counts == {"truth.orphan": 1}


async def test_nothing_expires_before_the_truths_were_read(given: Any) -> None:
    core = given.forecaster(truths={"expire_after": DAY})
    state = await predicted(given, core, 0)

    assert await core.due(state, now=given.at(99), truths_read=False) == Step(state)
    assert await core.due(state, now=given.at(24.9), truths_read=True) == Step(state)
    assert (await core.due(state, now=given.at(25), truths_read=True)).counts == {"truth.missing": 1}


async def test_a_prediction_without_truth_ends_as_missing_and_without_feedback(given: Any) -> None:
    core = given.forecaster(truths={"expire_after": DAY})

    step = await core.due(await predicted(given, core, 0), now=given.at(25), truths_read=True)

    (outcome,) = step.events
    assert (outcome.result, outcome.truth, outcome.errors, outcome.verification_latency) == ("missing", None, {}, None)
    assert (step.state.pending, step.state.feedback, step.state.scores) == ((), (), {})


async def test_a_truth_that_comes_after_all_replaces_what_was_missing(given: Any) -> None:
    core = given.forecaster(truths={"expire_after": DAY})
    state = (await core.due(await predicted(given, core, 0, 1), now=given.at(25), truths_read=True)).state
    state = (await core.learn(state, given.truth(of="o1", value=12.0), now=given.at(25.5))).state

    step = await core.learn(state, given.truth(of="o0", value=13.0), now=given.at(26))

    assert (step.events[0].result, step.events[0].flags) == ("matched", ("late",))
    assert [(row.id, row.truth, row.seq) for row in step.state.resolved] == [("o1", 12.0, 2), ("o0", 13.0, 3)]
    assert [feedback.seq for feedback in step.state.feedback] == [2, 3]
    assert step.state.scores["published"].n == 2


async def test_an_expired_prediction_is_judged_where_the_settings_say_so(given: Any) -> None:
    asker = given.asker()
    asker.answer = lambda observation: "sunny"
    core = given.forecaster(asker, target={"kind": "text"}, truths={"expire_after": DAY, "on_expiry": "judge"})
    state = await predicted(given, core, 0)

    step = await core.due(state, now=given.at(25), truths_read=True)
    asker.score = None
    failed = await core.due(state, now=given.at(25), truths_read=True)

    assert (step.events[0].result, step.events[0].verdict, step.counts) == ("judged", 0.9, {"truth.judged": 1})
    assert (failed.events[0].result, failed.counts) == ("missing", {"truth.missing": 1})


async def test_of_many_expired_predictions_one_is_judged_in_a_step_and_the_rest_stay_due(given: Any) -> None:
    asker = given.asker()
    asker.answer = lambda observation: "sunny"
    core = given.forecaster(asker, target={"kind": "text"}, truths={"expire_after": DAY, "on_expiry": "judge"})
    state = await predicted(given, core, 0, 1, 2)

    for left in (2, 1, 0):
        assert next_due(state) is not None
        step = await core.due(state, now=given.at(99), truths_read=True)
        state = step.state
        assert (step.counts, len(state.pending)) == ({"truth.judged": 1}, left)

    assert [row.id for row in state.resolved] == ["o0", "o1", "o2"]


async def test_a_truth_by_id_alone_makes_no_hindsight_of_predictions_while_events_lie_behind_the_clock(given: Any) -> None:
    core = given.forecaster(target={"horizon": "next"})
    state = (await core.observe(given.state(), given.observation(0), now=given.at(900), offset=0)).state
    state = (await core.observe(state, given.observation(1), now=given.at(901), offset=1)).state

    state = (await core.learn(state, given.truth(of="o0"), now=given.at(902))).state
    step = await core.observe(state, given.observation(2), now=given.at(903), offset=2)

    assert state.learned_to == state.resolved[0].target_time == given.at(1)
    assert step.events[0].flags == ()


async def test_a_verdict_gives_feedback_and_no_score_and_makes_way_for_a_truth(given: Any) -> None:
    asker = given.asker()
    asker.answer, asker.score = (lambda observation: "sunny"), 0.2
    core = given.forecaster(asker, target={"kind": "text"}, truths={"source": "judge"})

    judged = await core.observe(given.state(), given.observation(0, "cloudy"), now=given.at(0), offset=0)
    told = await core.learn(judged.state, given.truth(of="o0", value="rainy"), now=given.at(1))

    assert [event.flags for event in judged.events] == [(), ("judged",)]
    assert (judged.state.feedback[0].judged, judged.state.feedback[0].miss, judged.state.scores) == (True, True, {})
    assert (told.events[0].result, told.events[0].flags, told.events[0].errors["published"]) == ("matched", ("late",), 1.0)
    assert [feedback.judged for feedback in told.state.feedback] == [False]
    assert told.state.scores["published"].n == 1


async def test_an_early_truth_without_room_goes_back_as_an_orphan(given: Any) -> None:
    core = given.forecaster(bounds={"early": 2})
    state = given.state()
    for name in ("a", "b"):
        state = (await core.learn(state, given.truth(of=name), now=given.at(0))).state

    step = await core.learn(state, given.truth(of="c"), now=given.at(0))

    assert [event.truth.observation_id for event in step.events] == ["a"]
    assert step.counts == {"truth.early": 1, "truth.orphan": 1, "dropped.early": 1}


async def test_feedback_over_its_bound_is_folded(given: Any) -> None:
    core = given.forecaster(bounds={"feedback": 2})
    state = await predicted(given, core, 0, 1, 2)
    for hour in range(3):
        step = await core.learn(state, given.truth(of=f"o{hour}", value=12.0), now=given.at(4))
        state = step.state

    assert step.counts == {"truth.matched": 1, "dropped.feedback": 1}
    assert (len(state.feedback), state.folded.count) == (2, 1)
    assert state.scores["published"].n == 3


async def test_a_checkers_message_becomes_the_note_and_the_feedback(given: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = ModuleType("checks_of_forecasts")
    checks.starts = lambda answer, truth: (answer[0] == truth[0], f"begins with {answer[0]}")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, checks.__name__, checks)
    asker = given.asker()
    asker.answer = lambda observation: "sunny"
    core = given.forecaster(asker, target={"kind": "text", "scorer": "checker:checks_of_forecasts:starts"})

    step = await core.learn(await predicted(given, core, 0), given.truth(of="o0", value="rainy"), now=given.at(1))

    assert (step.events[0].note, step.events[0].errors["published"]) == ("begins with s", 1.0)
    assert "begins with s" in step.state.feedback[0].text


def test_a_checker_that_cannot_be_loaded_is_refused_at_start(given: Any) -> None:
    with pytest.raises(CheckerMissing, match="no_such_module"):
        given.forecaster(target={"kind": "text", "scorer": "checker:no_such_module:check"})
