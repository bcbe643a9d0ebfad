"""Which prediction a truth belongs to."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from agents import join
from schemas.mapping import content_digest
from schemas.messages import ENTITY_LIMIT

NONE = timedelta(0)
HALF_AN_HOUR = timedelta(minutes=30)


def names(rows: Any) -> list[str]:
    return [row.id for row in rows]


def test_a_truth_by_id_finds_its_prediction_whether_it_waits_or_is_resolved(given: Any) -> None:
    state = given.state(pending=(given.pending(0), given.pending(1)), resolved=(given.resolved(2),))

    assert join.match(state, given.truth(of="o1"), NONE) == state.pending[1]
    assert join.match(state, given.truth(of="o2"), NONE) == state.resolved[0]
    assert join.match(state, given.truth(of="o9"), NONE) is None


def test_an_id_goes_before_a_target_time(given: Any) -> None:
    state = given.state(pending=(given.pending(0), given.pending(1)))

    assert join.match(state, given.truth(1, of="o1"), HALF_AN_HOUR) == state.pending[1]
    assert join.match(state, given.truth(1, of="o9"), HALF_AN_HOUR) is None


@pytest.mark.parametrize(
    ("hours", "found"),
    [(1.0, "o0"), (1.4, "o0"), (1.6, "o1"), (2.5, "o1"), (2.6, None), (0.5, "o0"), (0.4, None)],
)
def test_a_truth_by_time_goes_to_the_nearest_target_within_the_tolerance(given: Any, hours: float, found: str | None) -> None:
    state = given.state(pending=(given.pending(0), given.pending(1)))

    match = join.match(state, given.truth(hours), HALF_AN_HOUR)

    assert (match.id if match is not None else None) == found


def test_of_two_targets_equally_near_the_earlier_is_meant(given: Any) -> None:
    later_first = given.state(pending=(given.pending(1), given.pending(0)))

    match = join.match(later_first, given.truth(1.5), HALF_AN_HOUR)

    assert match is not None
    assert match.id == "o0"


def test_without_tolerance_only_the_very_moment_matches(given: Any) -> None:
    state = given.state(pending=(given.pending(0),))

    assert join.match(state, given.truth(1), NONE) == state.pending[0]
    assert join.match(state, given.truth(1.001), NONE) is None


def test_a_second_truth_finds_what_the_first_one_found_though_another_prediction_waits_nearby(given: Any) -> None:
    state = given.state(resolved=(given.resolved(0),), pending=(given.pending(0.4),))

    assert join.match(state, given.truth(1.1), HALF_AN_HOUR) == state.resolved[0]


def test_of_two_predictions_for_one_moment_the_one_made_first_is_meant_every_time(given: Any) -> None:
    both = given.state(pending=(given.pending(0), given.pending(0, identity="o0#7")))
    one = given.state(pending=both.pending[1:], resolved=(given.resolved(0),))

    assert join.match(both, given.truth(1), NONE) == both.pending[0]
    assert join.match(one, given.truth(1), NONE) == one.resolved[0]


def test_a_prediction_without_target_time_is_found_by_id_alone(given: Any) -> None:
    state = given.state(pending=(given.pending(0, target_time=None),))

    assert join.match(state, given.truth(1), timedelta(days=365)) is None
    assert join.match(state, given.truth(of="o0"), NONE) == state.pending[0]


def test_early_truths_go_to_a_new_prediction_in_order_of_arrival(given: Any) -> None:
    new = given.pending(1)
    early = (given.early(5.0, of="o1"), given.early(6.0, hours=2), given.early(7.0, of="o2"), given.early(8.0, hours=2.2))
    state = given.state(pending=(given.pending(0), new), early=early)

    assert [truth.value for truth in join.waiting_for(state, new, HALF_AN_HOUR)] == [5.0, 6.0, 8.0]


def test_an_early_truth_that_says_the_same_again_is_waiting_already(given: Any) -> None:
    state = given.state(early=(given.early(5.0, of="o1"), given.early(6.0, of="o2"), given.early(5.0, hours=2)))

    assert join.is_waiting(state, given.early(5.0, of="o1", arrived=given.at(9)), NONE)
    assert join.is_waiting(state, given.early(5.0, hours=2), NONE)
    assert not join.is_waiting(state, given.early(6.0, of="o1"), NONE)
    assert not join.is_waiting(state, given.early(5.0, hours=3), NONE)


def test_an_early_truth_that_corrects_a_correction_back_is_not_waiting_already(given: Any) -> None:
    by_id = given.state(early=(given.early(5.0, of="o1"), given.early(6.0, of="o1")))
    by_time = given.state(early=(given.early(5.0, hours=2), given.early(6.0, hours=2.2)))

    assert not join.is_waiting(by_id, given.early(5.0, of="o1"), HALF_AN_HOUR)
    assert not join.is_waiting(by_time, given.early(5.0, hours=2), HALF_AN_HOUR)


def test_an_observation_answers_the_prediction_for_its_moment_and_leaves_older_ones_missing(given: Any) -> None:
    settings = given.settings(truths={"source": "next-observation", "tolerance": HALF_AN_HOUR})
    state = given.state(newest=given.at(2), pending=tuple(given.pending(hour) for hour in range(4)))

    settled = join.by_observation(state, given.observation(3.2), settings)

    assert names(settled.answered) == ["o2"]
    assert names(settled.missing) == ["o0", "o1"]


def test_an_observation_between_two_targets_answers_neither(given: Any) -> None:
    settings = given.settings(truths={"source": "next-observation", "tolerance": timedelta(minutes=10)})
    state = given.state(newest=given.at(0), pending=(given.pending(0), given.pending(1)))

    settled = join.by_observation(state, given.observation(1.5), settings)

    assert settled.answered == ()
    assert names(settled.missing) == ["o0"]


def test_an_observation_that_came_late_answers_its_moment_but_gives_nothing_up(given: Any) -> None:
    settings = given.settings(truths={"source": "next-observation"})
    state = given.state(newest=given.at(5), pending=(given.pending(0), given.pending(1)))

    settled = join.by_observation(state, given.observation(2), settings)

    assert names(settled.answered) == ["o1"]
    assert settled.missing == ()


def test_a_farther_observation_does_not_correct_what_a_nearer_one_answered(given: Any) -> None:
    settings = given.settings(truths={"source": "next-observation", "tolerance": HALF_AN_HOUR})
    state = given.state(newest=given.at(1), resolved=(given.resolved(0),))

    assert join.by_observation(state, given.observation(1.3), settings).answered == ()
    assert names(join.by_observation(state, given.observation(1), settings).answered) == ["o0"]


def test_the_next_observation_answers_the_predictions_made_for_the_last_one(given: Any) -> None:
    settings = given.settings(target={"horizon": "next"}, truths={"source": "next-observation"})
    last = [given.pending(2, target_time=None), given.pending(2, identity="o2#9", target_time=None)]
    state = given.state(newest=given.at(2), pending=(given.pending(1, target_time=None), *last))

    settled = join.by_observation(state, given.observation(3), settings)

    assert names(settled.answered) == ["o2", "o2#9"]
    assert names(settled.missing) == ["o1"]


@pytest.mark.parametrize(("hours", "answered", "missing"), [(2.0, ["o1"], []), (2.1, [], ["o1"])])
def test_after_a_gap_above_the_limit_the_truth_is_missing(given: Any, hours: float, answered: list[str], missing: list[str]) -> None:
    settings = given.settings(target={"horizon": "next"}, truths={"source": "next-observation", "max_gap": given.hour})
    state = given.state(newest=given.at(1), pending=(given.pending(1, target_time=None),))

    settled = join.by_observation(state, given.observation(hours), settings)

    assert names(settled.answered) == answered
    assert names(settled.missing) == missing


def test_an_observation_older_than_the_newest_is_next_to_nothing(given: Any) -> None:
    settings = given.settings(target={"horizon": "next"}, truths={"source": "next-observation"})
    state = given.state(newest=given.at(3), pending=(given.pending(1, target_time=None), given.pending(3, target_time=None)))

    assert join.by_observation(state, given.observation(2), settings) == ((), ())


def test_a_repeated_observation_is_known_by_its_own_id_or_by_the_one_it_was_renamed_to(given: Any) -> None:
    first, other = given.observation(0, 10.0), given.observation(0, 11.0)
    renamed = given.pending(0, identity=join.renamed(first.id, 42), digest=content_digest(other))
    state = given.state(resolved=(given.resolved(0, digest=content_digest(first)),), pending=(renamed,))

    assert join.is_repeated(state, first, content_digest(first))
    assert join.is_repeated(state, other, content_digest(other))
    third = given.observation(0, 12.0)
    assert not join.is_repeated(state, third, content_digest(third))
    assert not join.is_repeated(given.state(), first, content_digest(first))


def test_a_new_id_is_cut_so_that_the_offset_fits(given: Any) -> None:
    assert join.renamed("reading-7", 42) == "reading-7#42"
    assert len(join.renamed("x" * ENTITY_LIMIT, 2**62)) == ENTITY_LIMIT
