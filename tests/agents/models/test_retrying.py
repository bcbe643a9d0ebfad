"""Retries never come to more than their share of the calls."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.models.retrying import BURST, RetryBudget, pause, retry_after


@given(st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.lists(st.booleans(), max_size=400))
def test_retries_are_at_most_a_share_of_the_calls_and_the_burst(share, wants):
    budget, calls, retries = RetryBudget(share), 0, 0
    for retry in wants:
        if retry:
            retries += budget.spend()
        else:
            calls += 1
            budget.called()
        assert retries <= share * calls + (BURST if share else 0) + 1e-6


def test_a_budget_that_is_spent_comes_back_with_the_calls():
    budget = RetryBudget(0.1)
    while budget.spend():
        pass
    for _ in range(9):
        budget.called()
    assert not budget.spend()
    budget.called()
    assert budget.spend()


def test_what_is_saved_up_is_bounded():
    budget = RetryBudget(1.0)
    for _ in range(1000):
        budget.called()
    assert sum(budget.spend() for _ in range(1000)) == BURST


@given(st.integers(1, 5), st.floats(0, 0.999), st.none() | st.floats(0, 100))
def test_a_pause_is_drawn_from_zero_to_a_bound_that_doubles_and_never_sooner_than_asked(tried, chance, asked):
    seconds = pause(tried, chance, asked)
    assert seconds <= max(2.0 ** (tried - 1), asked or 0)
    assert seconds >= (asked or 0)


def test_a_date_is_read_as_the_time_until_then():
    soon = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    assert 3500 < retry_after({"retry-after": soon}) <= 3600
    past = format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)
    assert retry_after({"retry-after": past}) == 0.0


@pytest.mark.parametrize("text", ["", "-1", "nan", "1e9", "２", "Wed, 21 Oct 2015 07:28:00"])
def test_what_cannot_be_read_is_as_if_it_were_not_there(text):
    assert retry_after({"retry-after": text}) is None
