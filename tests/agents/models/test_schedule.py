"""Who gets a slot next: what holds for every load, and the figures of some."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.models.schedule import Schedule
from tests.agents.models.simulated import Server


def schedule(slots=1, *, queue=1000, share=0.2, max_wait=10.0):
    return Schedule(slots, queue=queue, rewrite_share=share, rewrite_max_wait=max_wait)


def server(slots=1, **options):
    return Server(schedule(slots, **options))


def waited(world, *, rewrites):
    """Seconds until each call began for the first time."""
    return [call.begun[0] - call.ticket.arrived for call in world.calls.values() if call.ticket.is_rewrite == rewrites]


CALLS = st.lists(
    st.tuples(
        st.floats(0, 60),  # when it comes
        st.sampled_from(["predict", "predict", "judge", "repair", "rewrite", "rewrite"]),
        st.floats(0.1, 20),  # how long it takes
        st.sampled_from([3.0, 30.0, 300.0]),  # its deadline
        st.none() | st.floats(0, 30),  # when its caller goes away
    ),
    max_size=40,
)


@given(CALLS, st.integers(1, 4), st.integers(1, 10), st.sampled_from([0.0, 0.2, 0.6]), st.sampled_from([0.0, 5.0]))
@settings(max_examples=300, deadline=None)
def test_whatever_comes_no_slot_idles_no_bound_breaks_nobody_is_overtaken_and_each_call_ends_once(calls, slots, queue, share, max_wait):
    world = server(slots, queue=queue, share=share, max_wait=max_wait)
    for at, purpose, seconds, patience, leaves in calls:
        world.offer(at, purpose, seconds, patience=patience, leaves=leaves)
    world.run()
    assert all(call.became for call in world.calls.values())
    assert (world.schedule.running, world.schedule.waiting_predictions, world.schedule.waiting_rewrites) == (0, 0, 0)
    assert len(world.cuts) == len(set(world.cuts)), "cut more than once"
    assert all(ticket.is_rewrite for ticket in world.cuts)
    assert not world.cuts or slots == 1
    assert all(len(call.begun) <= 2 if call.ticket in world.cuts else len(call.begun) <= 1 for call in world.calls.values())


@given(CALLS, st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_the_slots_time_adds_up_to_what_the_calls_held_them(calls, slots):
    world = server(slots)
    for at, purpose, seconds, *_ in calls:
        world.offer(at, purpose, seconds)
    world.run()
    answered = {False: 0.0, True: 0.0}
    for call in world.calls.values():
        answered[call.ticket.is_rewrite] += call.seconds
    assert world.schedule.prediction_seconds == pytest.approx(answered[False])
    # What was cut is time of the slot too.
    assert world.schedule.rewrite_seconds >= answered[True] - 1e-6
    assert world.cuts or world.schedule.rewrite_seconds == pytest.approx(answered[True])


@given(st.integers(1, 6), st.floats(0.1, 0.7), st.floats(0.5, 12))
@settings(max_examples=30, deadline=None)
def test_under_full_load_rewrites_get_their_share_and_no_more(slots, share, rewrite):
    share = min(share, 0.8 * max(1, slots - 1) / slots)
    world = server(slots, share=share, queue=100_000)
    end = 200.0
    for n in range(int(1.2 * slots * end)):
        world.offer(n / slots / 1.2, "predict", 1.0)
    for n in range(int(1.5 * slots * share * end / rewrite) + slots):
        world.offer(n * rewrite / slots / share / 1.5, "rewrite", rewrite)
    world.run(until=end)
    total = world.schedule.rewrite_seconds + world.schedule.prediction_seconds
    assert total >= 0.98 * slots * end
    # Off by what is not charged as it should: the first ones of which nothing is known, those before they are overdue, the last.
    off = slots * (2 * rewrite + 1 + 10 * share)
    assert abs(world.schedule.rewrite_seconds - share * total) <= off


def test_a_share_of_nothing_lets_rewrites_run_only_in_slots_that_nobody_wants():
    world = server(share=0.0)
    for n in range(100):
        world.offer(float(n) / 2, "predict", 1.0)
    last = world.offer(0.25, "rewrite", 5.0)
    world.run()
    assert last.begun == [100.0]


def test_rewrites_that_come_while_slots_are_idle_leave_one_to_predictions():
    world = server(3)
    rewrites = [world.offer(0.0, "rewrite", 10.0) for _ in range(3)]
    prediction = world.offer(1.0, "predict", 1.0)
    world.run()
    assert [call.begun for call in rewrites] == [[0.0], [0.0], [10.0]]
    assert prediction.begun == [1.0]


def test_with_one_slot_a_rewrite_is_cut_for_a_prediction_once_and_its_second_attempt_runs_to_its_end():
    world = server()
    rewrite = world.offer(0.0, "rewrite", 10.0)
    first, second = world.offer(2.0, "predict", 1.0), world.offer(4.0, "predict", 1.0)
    world.run()
    assert rewrite.begun == [0.0, 3.0]
    assert (first.begun, second.begun) == ([2.0], [13.0])
    assert rewrite.ended == 13.0


def test_a_rewrite_that_is_past_half_its_usual_time_is_let_finish():
    world = server()
    world.offer(0.0, "rewrite", 10.0)
    late, prediction = world.offer(100.0, "rewrite", 10.0), world.offer(106.0, "predict", 1.0)
    early, other = world.offer(200.0, "rewrite", 10.0), world.offer(204.0, "predict", 1.0)
    world.run()
    assert (late.begun, prediction.begun) == ([100.0], [110.0])
    assert (early.begun, other.begun) == ([200.0, 205.0], [204.0])


def test_a_rewrite_in_its_own_turn_is_not_cut():
    world = server(max_wait=3.0)
    for n in range(20):
        world.offer(n * 1.0, "predict", 1.0)
    rewrite = world.offer(0.5, "rewrite", 5.0)
    world.run()
    assert rewrite.begun == [4.0]
    assert world.cuts == []


@pytest.mark.parametrize("slots", [1, 2])
def test_a_full_queue_sheds_the_youngest_rewrite_first_and_then_turns_predictions_away(slots):
    world = server(slots, queue=4)
    for _ in range(slots):
        world.offer(0.0, "predict", 100.0)
    old, young = world.offer(1.0, "rewrite", 1.0), world.offer(2.0, "rewrite", 1.0)
    waiting = [world.offer(3.0 + n, "predict", 1.0) for n in range(4)]
    too_many = world.offer(8.0, "predict", 1.0)
    no_room = world.offer(9.0, "rewrite", 1.0)
    world.run()
    shed = [(call.became, call.ended) for call in (young, old, too_many, no_room)]
    assert shed == [("shed", 5.0), ("shed", 6.0), ("shed", 8.0), ("shed", 9.0)]
    assert [call.became for call in waiting] == ["answered"] * 4


def test_calls_that_would_not_be_done_in_time_are_not_begun_so_that_an_overloaded_host_answers_as_many_as_it_can():
    world = server(queue=1000)
    for n in range(400):
        world.offer(n / 2, "predict", 1.0, patience=20.0)  # twice what it can do
    world.run(until=200.0)
    assert len(world.became("answered")) >= 190
    assert len(world.became("expired")) <= 10


def test_rewrites_too_are_begun_only_if_they_can_be_done_by_their_deadline():
    world = server(queue=1000)
    for n in range(1500):
        world.offer(float(n), "predict", 1.0, patience=60.0)
    for n in range(150):
        world.offer(10.0 * n, "rewrite", 10.0, patience=120.0)
    world.run(until=1500.0)
    done = [call for call in world.became("answered") if call.ticket.is_rewrite]
    assert len(done) >= 0.9 * 0.2 * 1500 / 10
    assert len([call for call in world.became("expired") if call.begun]) <= 3


def test_what_is_usual_is_learned_anew_when_calls_become_quick_again():
    world = server()
    for n in range(40):
        world.offer(100.0 * n, "predict", 50.0, patience=60.0)
    quick = [world.offer(4000.0 + 0.5 * n, "predict", 0.4, patience=60.0) for n in range(100)]
    world.run()
    assert all(call.became == "answered" for call in quick)


def test_purposes_have_a_usual_time_of_their_own():
    world = server()
    for n in range(10):
        world.offer(10.0 * n, "repair", 8.0)
    held, prediction = world.offer(200.0, "judge", 7.0), world.offer(200.0, "predict", 1.0, patience=10.0)
    world.run()
    assert held.became == prediction.became == "answered"


def test_no_rewrite_starves_and_predictions_wait_at_most_one_rewrite_longer():
    chance = random.Random(7)
    world, alone = server(queue=10_000), server(queue=10_000)
    at = 0.0
    for n in range(3000):
        at += chance.expovariate(0.6)
        predictions = [play.offer(at, "predict", 1.0) for play in (world, alone)]
        assert predictions
        if n % 50 == 0:
            world.offer(at, "rewrite", 5.0)
    world.run()
    alone.run()
    p99 = [sorted(waited(play, rewrites=False))[2970] for play in (world, alone)]
    assert p99[0] <= p99[1] + 5.0
    assert max(waited(world, rewrites=True)) <= 60.0


@pytest.mark.parametrize(("slots", "longer"), [(4, lambda p99: 1.2 * p99), (1, lambda p99: p99 + 0.5)])
def test_at_60_percent_load_rewriting_hardly_shows_in_the_waits_of_predictions(slots, longer):
    chance = random.Random(11)
    world, alone = server(slots), server(slots)
    at = 0.0
    for n in range(6000):
        at += chance.expovariate(0.6 * slots / 0.5)
        for play in (world, alone):
            play.offer(at, "predict", 0.5)
        if n % 8 == 0:
            world.offer(at + 1.0, "rewrite", 0.5)
    world.run()
    alone.run()
    p99 = [sorted(0.5 + wait for wait in waited(play, rewrites=False))[5940] for play in (world, alone)]
    assert p99[0] <= longer(p99[1])


def test_more_rewrites_than_there_is_time_for_get_their_share_and_leave_predictions_the_slots_that_they_need():
    chance = random.Random(11)
    world, alone = server(4, queue=100_000), server(4, queue=100_000)
    at = 0.0
    for n in range(3000):
        at += chance.expovariate(0.6 * 4 / 0.5)
        for play in (world, alone):
            play.offer(at, "predict", 0.5)
        if n % 4 == 0:
            world.offer(at + 1.0, "rewrite", 2.0)
    world.run(until=at)
    alone.run(until=at)
    p99 = [sorted(0.5 + wait for wait in waited(play, rewrites=False))[2970] for play in (world, alone)]
    # With all the time that is left over, four tenths of it, they would make it two and a half times as long.
    assert p99[0] <= 1.6 * p99[1]
    assert 0.2 <= world.schedule.rewrite_seconds / (4 * at) <= 0.25


def test_where_few_predictions_come_rewrites_have_all_other_slots():
    world = server(16)
    for n in range(200):
        world.offer(float(n), "predict", 1.0)
    rewrites = [world.offer(100.0, "rewrite", 10.0) for _ in range(20)]
    world.run()
    # One slot is in use, and its square root is another.
    assert [call.begun[0] for call in rewrites] == [100.0] * 14 + [110.0] * 6


def test_the_time_that_rewrites_had_while_nobody_else_wanted_it_is_held_against_them_for_one_turn_at_most():
    world = server()
    for _ in range(100):
        world.offer(0.0, "rewrite", 5.0)
    for n in range(200):
        world.offer(500.0 + n, "predict", 1.0)
    last = world.offer(500.5, "rewrite", 5.0)
    world.run()
    # A rewrite is paid off by four times its time; the ten seconds after which it is overdue are over by then.
    assert last.begun[0] == pytest.approx(520.0, abs=2.0)
