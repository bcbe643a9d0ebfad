"""What order and repetition of inputs may change, and what they may not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from agents import memory
from agents.asking import Asker
from agents.budget import TokenCounter
from agents.forecaster import Forecaster, Step
from agents.models.scripted import ScriptedModel, answer_from_schema
from schemas.codec import encode
from schemas.messages import Observation, Outcome, Truth
from schemas.state import EntityState, decode_state, encode_state

Input = Observation | Truth
LABELS = ("low", "medium", "high")
#: Below half of the hour between two target times.
MINUTES = 29
#: Below a quarter of it: what waits twice is told from what corrects back.
FEW_MINUTES = 14

limited = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="session")
def world(given: Any) -> Any:
    """The factories, under a name that Hypothesis does not use."""
    return given


def run(world: Any, core: Forecaster, inputs: Sequence[Input], state: EntityState | None = None) -> list[Step]:
    """Feed inputs a minute apart; the input's place is its offset."""

    async def feed() -> list[Step]:
        steps = [Step(state or world.state())]
        for place, message in enumerate(inputs):
            steps.append(await take(world, core, steps[-1].state, message, place))
        return steps

    return asyncio.run(feed())


async def take(world: Any, core: Forecaster, state: EntityState, message: Input, place: int) -> Step:
    now, before = world.at(place / 60), encode_state(state)
    if isinstance(message, Observation):
        step = await core.observe(state, message, now=now, offset=place)
    else:
        step = await core.learn(state, message, now=now, raw=b"{}")
    assert encode_state(state) == before, "a step changed the state that it was given"
    return step


def kinds(world: Any) -> tuple[tuple[dict[str, Any], Callable[[int], Any], Callable[[Any], Any]], ...]:
    """Kind of target: its settings, the value of a draw, and a model that answers from the observation alone."""
    number = ({"kind": "number"}, lambda drawn: float(drawn), lambda observation: observation.values["value"] + 1.5)
    label = (
        {"kind": "category", "labels": LABELS},
        lambda drawn: LABELS[drawn % 3],
        lambda observation: LABELS[(LABELS.index(observation.values["value"]) + 1) % 3],
    )
    return number, label


@st.composite
def stories(draw: DrawFn, minutes: int = MINUTES) -> tuple[list[int], list[list[tuple[int, int]]], list[int]]:
    """Readings; for each the values of its truths, in order, with a shift in minutes; and the order in which inputs arrive.

    The order names a truth's reading by number, and the next reading by -1: readings stay in the order of their times, and so do the
    truths of one prediction.
    """
    readings = draw(st.lists(st.integers(-5, 5), min_size=1, max_size=9))
    shift = st.integers(-minutes, minutes)
    truths = [draw(st.lists(st.tuples(st.integers(-3, 3), shift), max_size=3)) for _ in readings]
    tokens = [-1] * len(readings) + [place for place, found in enumerate(truths) for _ in found]
    return readings, truths, draw(st.permutations(tokens))


def arrange(world: Any, story: Any, value_of: Callable[[int], Any], *, by_time: bool, in_order: bool) -> list[Input]:
    readings, truths, order = story
    observations = [world.observation(hour, value_of(drawn)) for hour, drawn in enumerate(readings)]
    told: list[list[Input]] = []
    for hour, found in enumerate(truths):
        named = [{"hours": hour + 1 + shift / 60} if by_time else {"of": f"o{hour}"} for _, shift in found]
        told.append([world.truth(value=value_of(drawn), **name) for (drawn, _), name in zip(found, named, strict=True)])
    if in_order:
        return [message for observation, own in zip(observations, told, strict=True) for message in (observation, *own)]
    waiting, ahead = iter(observations), [iter(own) for own in told]
    return [next(waiting) if token < 0 else next(ahead[token]) for token in order]


def verdicts(steps: Sequence[Step]) -> dict[str, tuple[Any, ...]]:
    """By prediction: the model's answer, what was published, the final truth, and the errors of both as last published."""
    final = steps[-1].state
    told = {event.prediction_id: event for step in steps for event in step.events if isinstance(event, Outcome)}
    found: dict[str, tuple[Any, ...]] = {row.id: (row.model_answer, row.forecast, None) for row in final.pending}
    for row in final.resolved:
        errors = told[row.id].errors
        assert told[row.id].truth == row.truth
        found[row.id] = (row.model_answer, row.forecast, row.truth, errors["published"], errors["model"])
    return found


@pytest.mark.parametrize("by_time", [False, True], ids=["by id", "by target time"])
@pytest.mark.parametrize("kind", [0, 1], ids=["number", "category"])
@limited
@given(story=stories())
def test_any_interleaving_and_delay_ends_in_the_same_predictions_truths_and_errors(
    world: Any, kind: int, by_time: bool, story: Any
) -> None:
    target, value_of, answer = kinds(world)[kind]
    asker = world.asker()
    asker.answer = answer
    core = world.forecaster(asker, target=target, truths={"tolerance": timedelta(minutes=MINUTES)})

    as_it_happened = run(world, core, arrange(world, story, value_of, by_time=by_time, in_order=True))
    as_it_came = run(world, core, arrange(world, story, value_of, by_time=by_time, in_order=False))

    assert verdicts(as_it_came) == verdicts(as_it_happened)
    assert not as_it_came[-1].state.early
    assert len(verdicts(as_it_came)) == len(story[0])


@pytest.mark.parametrize("by_time", [False, True], ids=["by id", "by target time"])
@limited
@given(story=stories(FEW_MINUTES), data=st.data())
def test_identical_duplicates_change_neither_state_nor_outputs(world: Any, by_time: bool, story: Any, data: st.DataObject) -> None:
    policy = data.draw(st.sampled_from(["never", "every"]))
    core = world.forecaster(truths={"tolerance": timedelta(minutes=FEW_MINUTES)}, rewrite={"policy": policy})
    inputs = arrange(world, story, float, by_time=by_time, in_order=False)
    steps = run(world, core, inputs)

    for place, step in enumerate(steps[1:], start=1):
        repeated = data.draw(repeatable(inputs[:place], by_time=by_time))
        again = asyncio.run(take(world, core, step.state, repeated, 1_000 + place))

        assert encode_state(again.state) == encode_state(step.state)
        assert again.events == ()
        assert sum(again.counts.values()) == 1
        assert next(iter(again.counts)).endswith(".duplicate")


def repeatable(seen: Sequence[Input], *, by_time: bool) -> SearchStrategy[Input]:
    """Inputs whose repetition is one: any observation, and of each prediction the newest truth (an older one would be a correction)."""
    newest: dict[Any, Input] = {}
    for message in seen:
        if isinstance(message, Observation):
            newest["observation", message.id] = message
        else:
            hour = message.target_time.replace(minute=0) if by_time and message.target_time is not None else message.observation_id
            if by_time and message.target_time is not None and message.target_time.minute > 30:
                hour = message.target_time.replace(minute=0) + timedelta(hours=1)
            newest["truth", hour] = message
    return st.sampled_from(list(newest.values()))


#: As far as floats go, where squares overflow, where they vanish, and what is usual.
SIZES = (1.7976931348623157e308, 1.7e308, 1e200, 1e154, 1e100, 1e16, 20.0, 1.0, 1e-9, 1e-200, 5e-324, 0.0)
NUMBERS = st.builds(lambda size, sign: sign * size, st.sampled_from(SIZES), st.sampled_from((1.0, -1.0)))
PAGES = ("", "Rules:\n- when sky dry: add +4.0 (6 cases, spread 0.5)", f"Rules:\n- when sky dry: add -{'9' * 200}")


@limited
@given(
    cases=st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, st.sampled_from(("dry", "wet"))), min_size=6, max_size=12),
    page=st.sampled_from(PAGES),
    form=st.sampled_from(["evidence", "free-text"]),
    publish=st.sampled_from(["model", "guarded"]),
    reference=st.sampled_from([None, "given"]),
    drop=st.sampled_from([{}, {"feedback": 2}]),
)
def test_no_finite_number_raises_or_leaves_a_state_that_cannot_be_read_back(
    world: Any, cases: Any, page: str, form: str, publish: str, reference: str | None, drop: dict[str, int]
) -> None:
    given_settings = world.settings(
        target={"reference": reference},
        memory={"form": form},
        rewrite={"policy": "every"},
        publish={"publish": publish},
        bounds=drop,
        model={"context_budget": 16_384},
    )
    model = ScriptedModel(answer_from_schema)
    core = Forecaster(given_settings, Asker(given_settings, model, TokenCounter(model, "scripted", window=16_384)))

    async def live() -> None:
        state = world.state(memory=memory.parse_edit(page if form == "evidence" else "", given_settings))
        for hour, (value, expected, truth, sky) in enumerate(cases):
            reading = world.observation(hour, value, given=expected, sky=sky)
            made = await core.observe(state, reading, now=world.at(hour), offset=hour)
            learned = await core.learn(made.state, world.truth(of=f"o{hour}", value=truth), now=world.at(hour + 0.5))
            corrected = await core.learn(learned.state, world.truth(of=f"o{hour}", value=-truth or 1.0), now=world.at(hour + 0.6))
            for step in (made, learned, corrected):
                assert decode_state(encode_state(step.state)) == step.state
                for event in step.events:
                    assert type(event).model_validate_json(encode(event)) == event
            state = corrected.state

    asyncio.run(live())


@limited
@given(story=stories(), policy=st.sampled_from(["never", "every", "surprise"]), publish=st.sampled_from(["model", "guarded"]))
def test_a_replay_is_byte_identical(world: Any, story: Any, policy: str, publish: str) -> None:
    sections = {"rewrite": {"policy": policy, "gather": 1}, "publish": {"publish": publish}}
    inputs = arrange(world, story, float, by_time=False, in_order=False)

    once = run(world, world.forecaster(**sections), inputs)
    # Crashed half-way and restored from its record.
    half = len(inputs) // 2
    restored = decode_state(encode_state(once[half].state))
    rest = asyncio.run(resume(world, world.forecaster(**sections), restored, inputs[half:], half))

    assert [encode_state(step.state) for step in once[half + 1 :]] == [encode_state(step.state) for step in rest]
    assert [[encode(event) for event in step.events] for step in once[half + 1 :]] == [[encode(e) for e in step.events] for step in rest]


async def resume(world: Any, core: Forecaster, state: EntityState, inputs: Sequence[Input], first: int) -> list[Step]:
    steps: list[Step] = []
    for place, message in enumerate(inputs, start=first):
        steps.append(await take(world, core, steps[-1].state if steps else state, message, place))
    return steps
