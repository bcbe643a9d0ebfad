"""Two applications on the same stream, compared on what their workers published: the `outcomes` topics, read and joined.

What counts of a prediction is the last word about it: an outcome is followed by another where its truth was corrected, or came after
all. Only what met a truth is compared; predictions made in hindsight, judged ones and those without a truth are left out, and counted. A
pair is the same entity, the same prediction and the same truth: where one application has heard of a correction and the other has not, the
two were not asked the same. Whether one is better is `streams.evaluation.pairs`'s to say.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from agents.experts import PERSISTENCE
from schemas.messages import Answer, Outcome
from schemas.settings import Settings
from streams import exits
from streams.errors import StreamError
from streams.evaluation.pairs import Comparison, compare
from streams.evaluation.results import CaseResult
from streams.reading import read_topic

log = logging.getLogger(__name__)

#: Why outcomes of one application are left out, in the order in which they are told.
LEFT_OUT = ("hindsight", "judged", "missing", "unreadable")
#: Of a test that finds a difference as large as the one seen: level 5 %, two-sided, in 8 of 10 tries.
_FOUND, _LEVEL = 0.8416, 1.96

Key = tuple[str, str]


class NotComparable(StreamError):
    """Two configurations that are no two applications on one stream."""

    exit_code = exits.USAGE


class NothingInCommon(StreamError):
    """Two applications of which no outcome can be paired, yet."""

    exit_code = exits.FAILED


@dataclass(frozen=True, slots=True)
class Side:
    """One application's outcomes, the last word on each prediction.

    Attributes
    ----------
    outcomes
        By entity and prediction, those that met a truth.
    left_out
        How many were left out, by `LEFT_OUT`.
    """

    app: str
    topic: str
    outcomes: Mapping[Key, Outcome]
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Joined:
    """Outcomes of two applications, paired.

    Attributes
    ----------
    first, second
        In the same order: by the observations' times.
    only_first, only_second
        Outcomes that one application has and the other has not.
    truths_differ
        Pairs whose truths are not the same.
    """

    first: tuple[Outcome, ...]
    second: tuple[Outcome, ...]
    only_first: int
    only_second: int
    truths_differ: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The second application against the first, by what both published and by what their models answered themselves.

    Attributes
    ----------
    published, model
        Positive differences mean that the second is better.
    unanswered
        Of the first and of the second, pairs in which the model gave no answer; there it is compared by what was published instead.
    """

    published: Comparison
    model: Comparison
    unanswered: tuple[int, int]


def check_comparable(first: Settings, second: Settings) -> None:
    """Whether two configurations can be two applications on one stream.

    Raises
    ------
    NotComparable
        They are one application, write to one topic, or forecast different things.
    """
    if first.app == second.app:
        raise NotComparable(f"both are the application {first.app!r}: it would be compared with itself; give the challenger its own")
    if (first.kafka.bootstrap_servers, first.topics.outcomes) == (second.kafka.bootstrap_servers, second.topics.outcomes):
        raise NotComparable(
            f"{first.app} and {second.app} write their outcomes to one topic, {first.topics.outcomes}, where nobody can tell them apart; "
            "a challenger has output topics of its own"
        )
    for name in ("kind", "labels", "scorer"):
        ours, theirs = getattr(first.target, name), getattr(second.target, name)
        if ours != theirs and (name != "scorer" or first.target.kind == "text"):
            raise NotComparable(f"target.{name} differs: {first.app} has {_said(ours)}, {second.app} has {_said(theirs)}")


async def read_both(first: Settings, second: Settings, *, since: datetime | None = None, entity: str | None = None) -> tuple[Side, Side]:
    """Read what both applications have published up to now.

    Parameters
    ----------
    since
        Only outcomes of observations from then on.
    entity
        Only of this one.

    Raises
    ------
    NotComparable
        As `check_comparable`, or a topic holds outcomes of another kind of target.
    KafkaUnavailable, TopicsUnfit
        Kafka does not answer; a topic does not exist.
    """
    check_comparable(first, second)
    one, other = await asyncio.gather(*(_read(settings, since, entity) for settings in (first, second)))
    return one, other


def join(first: Side, second: Side) -> Joined:
    """Pair the outcomes of two applications.

    Raises
    ------
    NothingInCommon
        There is no pair.
    """
    common = sorted(first.outcomes.keys() & second.outcomes.keys(), key=lambda key: (first.outcomes[key].time, key))
    same = [key for key in common if first.outcomes[key].truth == second.outcomes[key].truth]
    if not same:
        raise NothingInCommon(
            f"{first.app} and {second.app} have no outcome in common: {len(first.outcomes)} in {first.topic}, {len(second.outcomes)} in "
            f"{second.topic}, {len(common)} of the same observation, none with the same truth. Do both read the same topics?"
        )
    return Joined(
        first=tuple(first.outcomes[key] for key in same),
        second=tuple(second.outcomes[key] for key in same),
        only_first=len(first.outcomes) - len(common),
        only_second=len(second.outcomes) - len(common),
        truths_differ=len(common) - len(same),
    )


def judge(joined: Joined, settings: Settings) -> Verdict:
    """Compare the second application with the first, by the paired tests of an evaluation."""
    published = [results(side, own=False) for side in (joined.first, joined.second)]
    own = [results(side, own=True) for side in (joined.first, joined.second)]
    return Verdict(
        published=compare(published[1], published[0], settings.target),
        model=compare(own[1], own[0], settings.target),
        unanswered=(sum(bool(row.failed) for row in own[0]), sum(bool(row.failed) for row in own[1])),
    )


def results(outcomes: Sequence[Outcome], *, own: bool) -> list[CaseResult]:
    """Outcomes as results of an evaluation: of the published forecasts, or of the model's own answers."""
    return [_result(index, outcome, own=own) for index, outcome in enumerate(outcomes)]


def needed(comparison: Comparison) -> int | None:
    """About how many outcomes it takes to find a difference as large as the one seen, four times in five; None where nothing can be said.

    A rule of thumb: intervals narrow with the root of the number of outcomes. The difference seen is itself uncertain.
    """
    if comparison.low is None or comparison.high is None or comparison.difference == 0.0:
        return None
    error = (comparison.high - comparison.low) / 2 / _LEVEL
    return math.ceil(comparison.n * ((_LEVEL + _FOUND) * error / comparison.difference) ** 2)


def last_words(outcomes: Iterable[Outcome]) -> tuple[dict[Key, Outcome], Counter[str]]:
    """The last outcome of each prediction, of those that met a truth, and how many others there are, by `LEFT_OUT`."""
    last: dict[Key, Outcome] = {}
    for outcome in outcomes:
        last[outcome.entity, outcome.prediction_id] = outcome
    found: dict[Key, Outcome] = {}
    left_out: Counter[str] = Counter()
    for key, outcome in last.items():
        if "hindsight" in outcome.flags:
            left_out["hindsight"] += 1
        elif outcome.truth is None:
            left_out[outcome.result] += 1
        else:
            found[key] = outcome
    return found, left_out


async def _read(settings: Settings, since: datetime | None, entity: str | None) -> Side:
    topic, kind = settings.topics.outcomes, settings.target.kind
    unreadable = 0
    read: list[Outcome] = []
    async with aclosing(read_topic(settings.kafka, topic)) as records:
        async for record in records:
            if record.value is None or (entity is not None and record.key != entity.encode()):
                continue
            try:
                outcome = Outcome.model_validate_json(record.value)
            except ValidationError as error:
                unreadable += 1
                log.warning("%s/%d, offset %d: not an outcome (%d faults)", topic, record.partition, record.offset, error.error_count())
                continue
            if since is not None and outcome.time < since:
                continue
            if outcome.kind != kind:
                raise NotComparable(f"{topic} holds outcomes of a {outcome.kind}, the settings of {settings.app} forecast a {kind}")
            read.append(outcome)
    found, left_out = last_words(read)
    if unreadable:
        left_out["unreadable"] = unreadable
    return Side(settings.app, topic, found, left_out)


def _result(index: int, outcome: Outcome, *, own: bool) -> CaseResult:
    if outcome.truth is None:
        raise ValueError(f"the outcome of {outcome.prediction_id} has no truth")
    naive: dict[str, float | str] = {}
    if not isinstance(outcome.truth, str) and PERSISTENCE in outcome.errors:
        naive[PERSISTENCE] = outcome.truth - outcome.errors[PERSISTENCE]
    failed = "no answer" if own and outcome.model_answer is None else ""
    answer: Answer = (outcome.model_answer or outcome.forecast) if own else outcome.forecast
    return CaseResult(
        index=index,
        entity=outcome.entity,
        id=outcome.prediction_id,
        time=outcome.time,
        truth=outcome.truth,
        answer=answer,
        failed=failed,
        interval=None if own else outcome.interval,
        published=outcome.forecast,
        naive=naive,
        revision=outcome.memory_revision,
    )


def _said(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
