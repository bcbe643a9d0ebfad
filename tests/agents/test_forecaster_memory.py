"""When the memory is rewritten, inline and in the background, and when it is not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from agents import memory
from agents.answers import ProposedRewrite
from agents.forecaster import Forecaster, Step
from schemas.messages import Command, MemoryRevision
from schemas.state import EntityState

#: Texts are rewritten from the first outcome on; numbers and labels once there are conditions to choose from.
TEXT = {"kind": "text"}
EVERY = {"target": TEXT, "rewrite": {"policy": "every"}}
BACKGROUND = {"target": TEXT, "rewrite": {"policy": "every", "mode": "background"}}
MINUTE = timedelta(minutes=1)
A_NOTE = ProposedRewrite(notes=("Wind turns before rain.",))
NOTHING = ProposedRewrite()


async def outcome(given: Any, core: Forecaster, state: EntityState, hour: int, truth: str = "rain") -> Step:
    """A reading, and an hour later its truth."""
    state = (await core.observe(state, given.observation(hour, None, sky="grey"), now=given.at(hour), offset=hour)).state
    return await core.learn(state, given.truth(of=f"o{hour}", value=truth), now=given.at(hour + 1))


def asker_of(given: Any, proposal: ProposedRewrite | None) -> Any:
    """A model that always forecasts sun, and proposes that rewrite."""
    asker = given.asker()
    asker.answer, asker.propose = (lambda observation: "sun"), proposal
    return asker


async def test_after_an_outcome_the_memory_is_rewritten_and_the_next_prediction_reads_it(given: Any) -> None:
    asker = asker_of(given, A_NOTE)
    core = given.forecaster(asker, **EVERY)

    step = await outcome(given, core, given.state(), 0)
    after = await core.observe(step.state, given.observation(1), now=given.at(1), offset=1)

    revision = step.events[1]
    assert isinstance(revision, MemoryRevision)
    assert (revision.revision, revision.cause, revision.accepted) == (1, "feedback", True)
    assert "Wind turns before rain." in revision.after
    assert step.counts == {"truth.matched": 1, "rewrite.accepted": 1}
    assert step.state.feedback == ()
    assert asker.states[-1].memory.revision == 1
    assert after.events[0].memory_revision == 1


async def test_by_surprise_usual_outcomes_gather_and_an_unusual_one_triggers(given: Any) -> None:
    asker = asker_of(given, A_NOTE)
    core = given.forecaster(asker, target=TEXT, rewrite={"policy": "surprise", "gather": 2, "after": 50})
    state = given.state()
    for hour in range(5):
        state = (await outcome(given, core, state, hour, truth="sun")).state
    assert (asker.rewrites, len(state.feedback)) == ([], 5)

    step = await outcome(given, core, state, 5, truth="rain")

    assert len(asker.rewrites) == 1
    assert step.state.feedback == ()


async def test_a_refused_proposal_is_recorded_and_leaves_the_memory_as_it_was(given: Any) -> None:
    asker = asker_of(given, NOTHING)

    step = await outcome(given, given.forecaster(asker, **EVERY), given.state(), 0)

    revision = step.events[1]
    assert (revision.accepted, revision.revision, revision.after) == (False, 0, "")
    assert step.counts == {"truth.matched": 1, "rewrite.rejected": 1}
    assert len(step.state.feedback) == 1


async def test_a_model_that_fails_keeps_the_feedback_and_is_asked_again_after_a_growing_wait(given: Any) -> None:
    asker = asker_of(given, None)
    core = given.forecaster(asker, **EVERY)

    step = await outcome(given, core, given.state(), 0)
    failed_at = given.at(1)
    assert step.counts == {"truth.matched": 1, "rewrite.failed": 1}
    assert (len(step.state.feedback), step.state.rewrite_wanted) == (1, failed_at + MINUTE)

    patient = await core.due(step.state, now=failed_at + MINUTE / 2, truths_read=True)
    again = await core.due(step.state, now=failed_at + MINUTE, truths_read=False)
    assert patient == Step(step.state)
    assert again.counts == {"rewrite.failed": 1}
    assert again.state.rewrite_wanted == failed_at + 3 * MINUTE

    asker.propose = A_NOTE
    healed = await core.due(again.state, now=failed_at + 3 * MINUTE, truths_read=True)
    assert healed.counts == {"rewrite.accepted": 1}
    assert (healed.state.rewrite_wanted, healed.state.rewrite_failures, healed.state.feedback) == (None, 0, ())


@pytest.mark.parametrize("failure", ["shed", "away"])
async def test_a_rewrite_that_was_not_asked_waits_a_minute_each_time_and_is_no_failure_of_the_model(given: Any, failure: str) -> None:
    asker = asker_of(given, None)
    asker.failure = failure
    core = given.forecaster(asker, **EVERY)
    state = (await outcome(given, core, given.state(), 0)).state
    for minutes in (1, 2, 3):
        assert (len(state.feedback), state.rewrite_wanted, state.rewrite_failures) == (1, given.at(1) + minutes * MINUTE, 0)
        step = await core.due(state, now=given.at(1) + minutes * MINUTE, truths_read=True)
        assert step.counts == {"rewrite.shed": 1}
        state = step.state

    asked = len(asker.rewrites)
    state = (await core.observe(state, given.observation(0.5, None), now=given.at(1), offset=1)).state
    state = (await core.learn(state, given.truth(of="o0.5", value="rain"), now=given.at(1) + 3.5 * MINUTE)).state
    assert len(asker.rewrites) == asked, "an outcome asks before its time"

    asker.propose = A_NOTE
    healed = await core.due(state, now=given.at(1) + 4 * MINUTE, truths_read=True)
    assert (healed.state.rewrite_wanted, healed.state.feedback) == (None, ())


async def test_outcomes_that_come_while_it_waits_do_not_ask_a_failing_model_again(given: Any) -> None:
    asker = asker_of(given, None)
    core = given.forecaster(asker, **EVERY)
    state = (await outcome(given, core, given.state(), 0)).state

    state = (await core.observe(state, given.observation(0.5, None), now=given.at(1), offset=1)).state
    step = await core.learn(state, given.truth(of="o0.5", value="rain"), now=given.at(1) + MINUTE / 2)

    assert len(asker.rewrites) == 1
    assert len(step.state.feedback) == 2


async def test_a_failing_model_costs_no_attempt(given: Any) -> None:
    asker = asker_of(given, None)
    core = given.forecaster(asker, target=TEXT, rewrite={"policy": "every", "max_attempts": 2})
    state = (await outcome(given, core, given.state(), 0)).state
    for hour in (10, 20, 30):
        state = (await core.due(state, now=given.at(hour), truths_read=True)).state

    asker.propose = NOTHING
    step = await core.due(state, now=given.at(40), truths_read=True)

    assert step.counts == {"rewrite.rejected": 1}
    assert len(step.state.feedback) == 1


async def test_where_the_context_budget_has_no_room_for_a_rewrite_the_outcome_counts_all_the_same(given: Any) -> None:
    asker = asker_of(given, A_NOTE)
    asker.counter.ratio = 1_000.0
    core = given.forecaster(asker, **EVERY)

    step = await outcome(given, core, given.state(), 0)

    assert step.counts == {"truth.matched": 1}
    assert (asker.rewrites, step.state.rewrite_wanted, len(step.state.feedback)) == ([], None, 1)


async def test_a_frozen_entity_predicts_and_scores_and_rewrites_nothing(given: Any) -> None:
    asker = asker_of(given, None)
    core = given.forecaster(asker, **EVERY)
    state = (await outcome(given, core, given.state(), 0)).state
    state = (await core.command(state, Command(entity="north", op="freeze", by="ada"), now=given.at(1))).state

    due = await core.due(state, now=given.at(9), truths_read=True)
    step = await outcome(given, core, state, 10)

    assert len(asker.rewrites) == 1
    assert due == Step(state)
    assert step.counts == {"truth.matched": 1}
    assert (step.state.scores["published"].n, len(step.state.resolved)) == (2, 2)


async def test_a_rule_that_outcomes_refute_is_dropped_by_code(given: Any) -> None:
    settings = given.settings()
    page = memory.parse_edit("Rules:\n- when sky clear: add +5.0 (4 cases, spread 0.1)", settings)
    core = given.forecaster()
    state = given.state(memory=page)
    for hour in range(3):
        state = (await core.observe(state, given.observation(hour, 10.0, sky="clear"), now=given.at(hour), offset=hour)).state
        step = await core.learn(state, given.truth(of=f"o{hour}", value=5.0), now=given.at(hour + 1))
        state = step.state
        if "rewrite.rule-dropped" in step.counts:
            break

    assert step.events[-1].cause == "rule-dropped"
    assert "add +5.0" in step.events[-1].before
    assert step.events[-1].after == ""


async def test_in_the_background_the_question_is_asked_outside_and_the_answer_applied_inside(given: Any) -> None:
    asker = asker_of(given, A_NOTE)
    core = given.forecaster(asker, **BACKGROUND)
    wanted = await outcome(given, core, given.state(), 0)
    assert (wanted.state.rewrite_wanted, asker.rewrites) == (given.at(1), [])

    request = core.propose(wanted.state, now=given.at(1))
    assert request is not None
    waiting = await core.due(wanted.state, now=given.at(1), truths_read=False)
    proposal = await core.ask(request)
    newer = (await outcome(given, core, waiting.state, 1)).state
    step = await core.apply(newer, proposal, now=given.at(3))

    assert waiting.state.rewrite_wanted == given.at(1) + 2 * MINUTE, "asked again if nothing comes of it"
    assert step.counts == {"rewrite.accepted": 1}
    assert step.state.memory.revision == 1
    assert [feedback.seq for feedback in step.state.feedback] == [2], "what came meanwhile is not consumed"


async def test_a_proposal_for_a_memory_that_has_moved_on_changes_nothing_and_is_asked_for_anew(given: Any) -> None:
    core = given.forecaster(asker_of(given, A_NOTE), **BACKGROUND)
    state = (await outcome(given, core, given.state(), 0)).state
    request = core.propose(state, now=given.at(1))
    assert request is not None
    edit = Command(entity="north", op="edit", by="ada", text="Notes:\n- Fog stays in the valley.")
    moved = (await core.command(state, edit, now=given.at(2))).state

    step = await core.apply(moved, await core.ask(request), now=given.at(3))

    assert step == Step(moved, (), {"rewrite.conflict": 1})
    again = core.propose(moved, now=given.at(3))
    assert again is not None
    assert again.revision == 1


async def test_in_the_background_what_cannot_be_asked_is_not_wanted_for_ever(given: Any) -> None:
    core = given.forecaster(asker_of(given, A_NOTE), **BACKGROUND)
    state = given.state(rewrite_wanted=given.at(1))

    assert core.propose(state, now=given.at(1)) is None
    assert (await core.due(state, now=given.at(1), truths_read=True)).state.rewrite_wanted is None


async def test_in_the_background_a_failing_model_backs_off_too(given: Any) -> None:
    asker = asker_of(given, None)
    core = given.forecaster(asker, **BACKGROUND)
    state = (await outcome(given, core, given.state(), 0)).state
    request = core.propose(state, now=given.at(1))
    assert request is not None

    step = await core.apply(state, await core.ask(request), now=given.at(2))

    assert step.counts == {"rewrite.failed": 1}
    assert core.propose(step.state, now=given.at(2)) is None
    assert core.propose(step.state, now=given.at(2) + MINUTE) is not None
