import random
from collections import Counter

from tests.chaos.__main__ import FULL, scaled
from tests.chaos.schedule import KINDS, Kind, plan


def test_a_seed_repeats_the_schedule() -> None:
    counts: dict[Kind, int] = {"kill": 9, "freeze": 3, "broker": 1}
    assert plan(counts, random.Random(5)) == plan(counts, random.Random(5))
    assert plan(counts, random.Random(5)) != plan(counts, random.Random(6))


def test_every_fault_that_was_asked_for_is_in_it() -> None:
    counts = {kind: number for number, kind in enumerate(KINDS)}
    assert Counter(fault.kind for fault in plan(counts, random.Random(1))) == Counter(counts)


def test_the_long_form_has_what_it_promises() -> None:
    done = sum((Counter(campaign.faults) for campaign in FULL), Counter())
    assert done == {"kill": 30, "terminate": 10, "join": 10, "freeze": 6, "rolling": 3, "wipe": 3, "broker": 3, "outage": 3}
    assert sum(campaign.events for campaign in FULL) == 20_000
    assert {campaign.entities for campaign in FULL} == {500}
    assert {campaign.standbys for campaign in FULL} == {0, 1}


def test_scaled_down_no_fault_is_left_out() -> None:
    small = scaled(FULL[0], 0.01)
    assert (small.events, small.entities) == (100, 5)
    assert set(small.faults) == set(FULL[0].faults) and set(small.faults.values()) == {1}
