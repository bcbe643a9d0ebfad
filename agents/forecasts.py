"""One observation's forecast: what is published for it, and the stored prediction with all that scoring it will need.

Pure functions of the entity's state, the observation and the model's answer, if it gave one. What a forecast is shown has target times up
to the observation's time only; one made when its own truth or a later one was known is flagged `hindsight`.
"""

from __future__ import annotations

from collections.abc import Mapping

from agents import bounds, experts, intervals, mixture, readings, rules, scoring
from agents.asking import Asked
from agents.step import Work, later
from schemas.messages import Answer, Flag, Observation, Prediction, Value
from schemas.settings import Settings, TargetSettings
from schemas.state import EntityState, ExpertsState, Pending, Resolved


def up_to_date(state: EntityState, observation: Observation, target: TargetSettings) -> ExpertsState:
    """Experts that know everything up to the observation's time and nothing later."""
    known = state.experts
    fresh = [
        (row.target_time, row.truth)
        for row in state.resolved
        if row.truth is not None
        and row.target_time is not None
        and row.target_time <= observation.time
        and (known.last_time is None or row.target_time > known.last_time)
    ]
    for time, truth in sorted(fresh, key=lambda pair: pair[0]):
        known = experts.update(known, truth, time, target)
    current = readings.current(observation, target)
    return known if current is None else experts.update(known, current, observation.time, target)


def in_hindsight(state: EntityState, observation: Observation, settings: Settings) -> bool:
    """Whether the prediction's own truth, or a later one, is known already."""
    if any(early.observation_id == observation.id for early in state.early):
        return True
    target_time, tolerance = readings.target_time(observation, settings.target), settings.truths.tolerance
    if target_time is not None and any(e.target_time is not None and abs(e.target_time - target_time) <= tolerance for e in state.early):
        return True
    if state.learned_to is None:
        return False
    return state.learned_to >= target_time if target_time is not None else state.learned_to > observation.time


def keep(work: Work, observation: Observation, settings: Settings, *, own: Answer | None, digest: str, flags: tuple[Flag, ...]) -> Pending:
    """Make the published forecast and store it in the state with all that scoring it will need.

    Parameters
    ----------
    own
        The model's answer, if it gave one.
    """
    state, target, limits = work.state, settings.target, settings.bounds
    reference, current = readings.reference(observation, state, target), readings.current(observation, target)
    own = None if own is None else bounds.cut_answer(own, limits)
    arms = experts.forecasts(state.experts, target, current)
    by_rules = rules.execute(state.memory, observation.values, reference, _known_rows(state, observation))
    if by_rules is not None:
        arms = {**arms, "rules": bounds.cut_value(by_rules, limits)}
    forecast = _publish(state, own, arms, current, settings)
    if forecast is None:
        # Nothing is known and the model gave nothing: there is no forecast to make yet.
        forecast = Answer(value=experts.settled(0.0, target) if target.kind == "number" else (target.labels or ("",))[0])
    values, cut = bounds.cut_values(observation.values, limits)
    if cut:
        work.counts["dropped.text"] += cut
    target_time, expiry = readings.target_time(observation, target), settings.truths.expire_after
    pending = Pending(
        id=observation.id,
        time=observation.time,
        target_time=target_time,
        made_at=work.now,
        values=values,
        digest=digest,
        forecast=forecast,
        model_answer=own,
        experts=arms,
        reference=reference,
        interval=intervals.interval(state.interval, forecast, _voters(own, arms), target, settings.publish.level),
        source="model" if own is not None else "fallback",
        flags=flags,
        memory_revision=state.memory.revision,
        due=None if expiry is None else (target_time or observation.time) + expiry,
    )
    work.set(pending=(*state.pending, pending), touched_at=later(state.touched_at, work.now))
    return pending


def message(entity: str, pending: Pending, asked: Asked, settings: Settings) -> Prediction:
    """The stored prediction as it is published."""
    return Prediction(
        entity=entity,
        id=pending.id,
        kind=settings.target.kind,
        time=pending.time,
        target_time=pending.target_time,
        made_at=pending.made_at,
        forecast=pending.forecast,
        model_answer=pending.model_answer,
        experts=pending.experts,
        interval=pending.interval,
        source=pending.source,
        flags=pending.flags,
        memory_revision=pending.memory_revision,
        prompt_hash=asked.prompt_hash,
        model=asked.call,
    )


def _known_rows(state: EntityState, observation: Observation) -> tuple[Resolved, ...]:
    if state.learned_to is None or state.learned_to <= observation.time:
        return state.resolved
    return tuple(row for row in state.resolved if row.target_time is None or row.target_time <= observation.time)


def _voters(own: Answer | None, arms: Mapping[str, Value]) -> dict[str, Value]:
    return dict(arms) if own is None else {**arms, scoring.MODEL: own.value}


def _publish(state: EntityState, own: Answer | None, arms: Mapping[str, Value], current: Value | None, settings: Settings) -> Answer | None:
    target, publish = settings.target, settings.publish
    if publish.publish == "model" and own is not None:
        return own
    order = ("rules", *experts.names(target)) if publish.publish == "model" else experts.names(target)
    voters = dict(arms) if publish.publish == "model" else _voters(own, arms)
    answer = mixture.publish(state.mixture, voters, target, order)
    if answer is not None and target.kind == "category":
        ranked = experts.ranked(state.experts, target, current)
        top = dict.fromkeys((*answer.top, *(own.top if own is not None else ()), *ranked))
        answer = answer.model_copy(update={"top": tuple(top)[: target.top_k]})
    return answer
