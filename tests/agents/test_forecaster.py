"""What an observation does to an entity: a prediction, or the reason why there is none."""

from __future__ import annotations

from typing import Any

import pytest

from agents import memory
from agents.forecaster import Forecaster
from schemas.messages import Outcome, Prediction
from schemas.state import EntityState, decode_state, encode_state


async def observe(given: Any, core: Forecaster, state: EntityState, *hours: float, **options: Any) -> EntityState:
    for hour in hours:
        state = (await core.observe(state, given.observation(hour, 10.0 + hour), now=given.at(hour), offset=int(hour), **options)).state
    return state


async def test_a_prediction_carries_the_models_answer_and_all_that_it_was_made_from(given: Any) -> None:
    core = given.forecaster()

    step = await core.observe(given.state(), given.observation(3, 10.0), now=given.at(3.1), offset=7)

    (prediction,) = step.events
    assert isinstance(prediction, Prediction)
    assert (prediction.id, prediction.time, prediction.target_time, prediction.made_at) == ("o3", given.at(3), given.at(4), given.at(3.1))
    assert (prediction.forecast.value, prediction.model_answer, prediction.source) == (11.0, prediction.forecast, "model")
    assert (prediction.experts["persistence"], prediction.memory_revision, prediction.prompt_hash) == (10.0, 0, "0123456789abcdef")
    assert prediction.flags == ()
    (pending,) = step.state.pending
    assert (pending.forecast, pending.model_answer, pending.reference) == (prediction.forecast, prediction.model_answer, 10.0)
    assert step.counts == {"observation.predicted": 1}


async def test_when_the_model_gives_no_answer_a_naive_forecast_goes_out_and_says_so(given: Any) -> None:
    asker = given.asker()
    asker.answer = lambda observation: None

    step = await given.forecaster(asker).observe(given.state(), given.observation(0, 10.0), now=given.at(0), offset=0)

    (prediction,) = step.events
    assert (prediction.source, prediction.forecast.value, prediction.model_answer) == ("fallback", 10.0, None)
    assert prediction.model is not None
    assert prediction.model.error == "timeout"


@pytest.mark.parametrize(
    ("target", "forecast"),
    [({}, 0.0), ({"range": (20.0, 30.0)}, 20.0), ({"kind": "category", "labels": ("low", "high")}, "low"), ({"kind": "text"}, "")],
)
async def test_there_is_a_forecast_even_when_nothing_is_known(given: Any, target: dict[str, Any], forecast: Any) -> None:
    asker = given.asker()
    asker.answer = lambda observation: None
    core = given.forecaster(asker, target=target)

    step = await core.observe(given.state(), given.observation(0, None, wind=3.0), now=given.at(0), offset=0)

    assert step.events[0].forecast.value == forecast


async def test_guarded_publishing_shows_both_values(given: Any) -> None:
    core = given.forecaster(publish={"publish": "guarded"})

    step = await core.observe(given.state(), given.observation(0, 10.0), now=given.at(0), offset=0)

    assert step.events[0].forecast.value == 10.0, "nothing has earned weight yet: the last value speaks"
    assert step.events[0].model_answer.value == 11.0


async def test_the_same_observation_again_changes_nothing(given: Any) -> None:
    core = given.forecaster()
    first = await core.observe(given.state(), given.observation(0), now=given.at(0), offset=0)

    again = await core.observe(first.state, given.observation(0), now=given.at(5), offset=1)

    assert again.state is first.state
    assert (again.events, again.counts) == ((), {"observation.duplicate": 1})


async def test_other_content_under_a_taken_id_gets_its_offset_as_a_new_one(given: Any) -> None:
    core = given.forecaster()
    state = (await core.observe(given.state(), given.observation(0, 10.0), now=given.at(0), offset=0)).state

    step = await core.observe(state, given.observation(0, 20.0), now=given.at(0), offset=17)
    repeated = await core.observe(step.state, given.observation(0, 20.0), now=given.at(0), offset=18)

    assert step.events[0].id == "o0#17"
    assert step.counts == {"observation.renamed": 1, "observation.predicted": 1}
    assert (repeated.state, repeated.counts) == (step.state, {"observation.duplicate": 1})


async def test_an_observation_older_than_the_newest_serves_as_truth_only(given: Any) -> None:
    core = given.forecaster(truths={"source": "next-observation"})
    state = await observe(given, core, given.state(), 0, 1, 3)

    step = await core.observe(state, given.observation(2, 14.0), now=given.at(4), offset=9)

    assert step.counts == {"truth.matched": 1, "truth.late": 1, "observation.truth-only": 1}
    (outcome,) = step.events
    assert (outcome.prediction_id, outcome.truth) == ("o1", 14.0)
    assert step.state.newest == given.at(3)
    assert step.state.experts == state.experts


async def test_one_observation_learns_and_predicts_in_one_step(given: Any) -> None:
    core = given.forecaster(truths={"source": "next-observation"}, target={"horizon": "next"})
    state = await observe(given, core, given.state(), 0)

    step = await core.observe(state, given.observation(1, 15.0), now=given.at(1), offset=1)

    outcome, prediction = step.events
    assert isinstance(outcome, Outcome)
    assert (outcome.prediction_id, outcome.truth, outcome.errors["published"]) == ("o0", 15.0, 4.0)
    assert (prediction.id, prediction.target_time) == ("o1", None)


async def test_experts_know_nothing_later_than_the_observation(given: Any) -> None:
    core = given.forecaster()
    state = given.state(resolved=(given.resolved(0, 30.0), given.resolved(1, 40.0, seq=2), given.resolved(4, 99.0, seq=3)))

    step = await core.observe(state, given.observation(2.5, None, wind=1.0), now=given.at(9), offset=0)

    assert step.events[0].experts["persistence"] == 40.0
    assert step.events[0].experts["mean"] == 35.0


async def test_rules_are_measured_on_nothing_later_than_the_observation(given: Any) -> None:
    settings = given.settings()
    page = memory.parse_edit("Rules:\n- when sky clear: add +5.0", settings)
    rows = [given.resolved(hour, 15.0, seq=hour + 1, reference=10.0, values={"sky": "clear"}) for hour in range(4)]
    rows += [given.resolved(hour, 0.0, seq=hour + 1, reference=10.0, values={"sky": "clear"}) for hour in range(6, 12)]
    state = given.state(memory=page, resolved=tuple(rows), learned_to=given.at(12))

    step = await given.forecaster().observe(state, given.observation(5, 10.0, sky="clear"), now=given.at(20), offset=0)

    assert step.events[0].experts["rules"] > 10.0


async def test_a_prediction_made_after_its_own_or_a_later_truth_is_flagged_and_kept_out_of_the_scores(given: Any) -> None:
    core = given.forecaster()
    state = await observe(given, core, given.state(), 0, 1)
    known = (await core.learn(state, given.truth(2), now=given.at(2))).state

    step = await core.observe(known, given.observation(1, 55.0), now=given.at(3), offset=9)
    settled = await core.learn(step.state, given.truth(of="o1#9"), now=given.at(3))

    assert step.events[0].flags == ("hindsight",)
    assert settled.events[0].flags == ("hindsight",)
    assert settled.state.scores == known.scores
    assert settled.state.mixture == known.mixture
    assert settled.state.interval == known.interval


async def test_a_prediction_whose_truth_was_waiting_is_hindsight(given: Any) -> None:
    core = given.forecaster()
    state = (await core.learn(given.state(), given.truth(of="o0"), now=given.at(0))).state

    step = await core.observe(state, given.observation(0), now=given.at(1), offset=0)

    assert step.events[0].flags == ("hindsight",)
    assert step.state.scores == {}


@pytest.mark.parametrize(("overtaken", "now"), [(True, 0.0), (False, 1.0)], ids=["overtaken", "target time has passed"])
async def test_an_observation_worth_no_call_any_more_feeds_ledger_and_experts_and_publishes_nothing(
    given: Any, overtaken: bool, now: float
) -> None:
    asker = given.asker()
    core = given.forecaster(asker, time="live")

    step = await core.observe(given.state(), given.observation(0, 10.0), now=given.at(now), offset=0, overtaken=overtaken)
    settled = await core.learn(step.state, given.truth(1, 12.0), now=given.at(2))

    assert (step.events, step.counts) == ((), {"observation.conflated": 1})
    assert asker.states == []
    assert step.state.experts.last == 10.0
    assert (settled.events, settled.counts) == ((), {"truth.matched": 1})
    assert [(row.id, row.truth) for row in settled.state.resolved] == [("o0", 12.0)]
    assert (settled.state.scores, settled.state.feedback, settled.state.surprise.n) == ({}, (), 0)


async def test_with_a_backlog_of_all_what_is_late_is_predicted_and_marked_stale(given: Any) -> None:
    core = given.forecaster(time="live", backlog="all")

    step = await core.observe(given.state(), given.observation(0), now=given.at(1), offset=0)

    assert (step.events[0].flags, step.counts) == (("stale",), {"observation.predicted": 1})


async def test_in_replay_nothing_is_stale(given: Any) -> None:
    core = given.forecaster(time="replay")

    step = await core.observe(given.state(), given.observation(0), now=given.at(99), offset=0, overtaken=True)

    assert (step.events[0].flags, step.counts) == ((), {"observation.predicted": 1})


async def test_an_observation_with_too_much_in_it_is_cut_in_the_record_and_counted(given: Any) -> None:
    core = given.forecaster(bounds={"text": 50})

    step = await core.observe(given.state(), given.observation(0, 10.0, sky="c" * 80), now=given.at(0), offset=0)

    assert step.state.pending[0].values["sky"] == "c" * 50
    assert step.counts == {"dropped.text": 1, "observation.predicted": 1}


async def test_numbers_as_large_as_floats_go_leave_a_state_that_can_be_read_back(given: Any) -> None:
    core = given.forecaster(publish={"publish": "guarded"}, truths={"source": "next-observation"}, rewrite={"policy": "every"})
    state = given.state()
    for hour, value in enumerate([1.7e308, -1.7e308] * 6):
        step = await core.observe(state, given.observation(hour, value), now=given.at(hour), offset=hour)
        state = step.state

    assert decode_state(encode_state(state)) == state
