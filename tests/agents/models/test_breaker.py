"""When a host is left alone, and how it is found again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.models.breaker import LONGEST, Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock):
    # Pauses at their full length.
    return Breaker(3, 5.0, clock=clock, chance=lambda: 1.0)


def fail(breaker, times=1):
    return [breaker.failed(probe=breaker.admit()) for _ in range(times)]


def test_it_opens_upon_failures_in_a_row_and_says_so_once(breaker):
    assert fail(breaker, 3) == [False, False, True]
    assert (breaker.state, breaker.admits) == ("open", False)


def test_an_answer_in_between_starts_the_count_anew(breaker):
    fail(breaker, 2)
    breaker.succeeded()
    assert fail(breaker, 2) == [False, False]
    assert breaker.state == "closed"


def test_what_tells_nothing_neither_counts_nor_excuses(breaker):
    fail(breaker, 2)
    breaker.dropped(probe=breaker.admit())
    assert fail(breaker) == [True]


def test_when_its_pause_is_over_one_call_is_let_through_and_an_answer_closes_it(breaker, clock):
    fail(breaker, 3)
    clock.now = 4.9
    assert not breaker.admits
    clock.now = 5.0
    assert (breaker.state, breaker.admits) == ("half-open", True)
    assert breaker.admit() is True
    assert not breaker.admits, "a second probe"
    breaker.succeeded()
    assert (breaker.state, breaker.admits) == ("closed", True)
    assert fail(breaker, 2) == [False, False]


def test_each_failed_probe_doubles_the_pause_up_to_a_bound(breaker, clock):
    fail(breaker, 3)
    pauses = []
    for _ in range(6):
        began = clock.now
        while not breaker.admits:
            clock.now += 0.5
        pauses.append(clock.now - began)
        assert fail(breaker) == [True]
    assert pauses == [5.0, 10.0, 20.0, 40.0, 5.0 * LONGEST, 5.0 * LONGEST]
    clock.now += 5.0 * LONGEST
    breaker.admit()
    breaker.succeeded()
    fail(breaker, 3)
    clock.now += 5.0
    assert breaker.admits, "an answer makes the pause short again"


def test_a_probe_that_tells_nothing_makes_room_for_the_next(breaker, clock):
    fail(breaker, 3)
    clock.now = 5.0
    breaker.dropped(probe=breaker.admit())
    assert breaker.admits


def test_calls_made_before_it_opened_can_close_it_but_not_keep_it_open(breaker, clock):
    for _ in range(5):
        breaker.admit()
    for _ in range(3):
        breaker.failed(probe=False)
    clock.now = 5.0
    breaker.failed(probe=False)
    assert breaker.admits
    assert breaker.admit() is True
    breaker.failed(probe=False)
    assert not breaker.admits, "the probe is still under way"
    breaker.succeeded()
    assert breaker.state == "closed"


def test_pauses_are_drawn_from_their_upper_half(clock):
    for chance, pause in ((0.0, 2.5), (0.5, 3.75)):
        breaker = Breaker(1, 5.0, clock=clock, chance=lambda chance=chance: chance)
        began = clock.now
        fail(breaker)
        clock.now = began + pause - 0.01
        assert not breaker.admits
        clock.now = began + pause
        assert breaker.admits


@given(st.lists(st.tuples(st.sampled_from(["fail", "answer", "nothing", "wait"]), st.integers(0, 3))))
def test_at_most_one_probe_is_under_way_and_it_is_always_found_again(steps):
    clock = Clock()
    breaker = Breaker(2, 5.0, clock=clock, chance=lambda: 1.0)
    under_way = []
    for what, which in steps:
        if what == "wait":
            clock.now += 4.0
            if breaker.admits:
                under_way.append(breaker.admit())
        elif under_way:
            probe = under_way.pop(which % len(under_way))
            if what == "fail":
                breaker.failed(probe=probe)
            elif what == "answer":
                breaker.succeeded()
            else:
                breaker.dropped(probe=probe)
        assert breaker.state == "closed" or sum(under_way) <= 1 or breaker.admits
    while under_way:
        breaker.dropped(probe=under_way.pop())
    clock.now += 5.0 * LONGEST
    assert breaker.admits
