"""Which host a call goes to, and what a host's breaker learns of it."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.errors import ModelMisbehaved, ModelMissing, ModelOverloaded, ModelRefused, ModelTimeout, ModelUnreachable
from agents.models.breaker import Breaker
from agents.models.hosts import Host, choose, ranking
from agents.models.schedule import Schedule, Ticket
from agents.models.scripted import ScriptedModel
from tests.agents.models.simulated import simulate

NAMES = ["http://a:11434", "http://b:11434", "http://c:11434"]
ENTITIES = [f"station-{number}" for number in range(600)]


def host(name="http://a:11434", *, slots=1, failures=3, queue=100, model=None):
    schedule = Schedule(slots, queue=queue, rewrite_share=0.2, rewrite_max_wait=10.0)
    clock = lambda: asyncio.get_running_loop().time()  # noqa: E731
    return Host(name, model or ScriptedModel([]), schedule, Breaker(failures, 5.0, clock=clock, chance=lambda: 1.0))


def ticket(purpose="predict", *, number=0, seconds=100.0):
    now = asyncio.get_running_loop().time()
    return Ticket(purpose, now, now + seconds, number)


def fill(host, running=0, predictions=0, rewrites=0):
    tickets = [Ticket("predict", 0.0, 1e9, n) for n in range(running + predictions)]
    for waiting in [*tickets, *(Ticket("rewrite", 0.0, 1e9, 1000 + n) for n in range(rewrites))]:
        host.admission.schedule.arrive(waiting, 0.0)
    return host


def test_entities_are_spread_evenly():
    homes = Counter(ranking(entity, NAMES)[0] for entity in ENTITIES)
    assert all(150 < number < 250 for number in homes.values())


@given(st.sampled_from(ENTITIES), st.permutations(NAMES))
def test_every_worker_finds_the_same_order_whatever_order_its_settings_have(entity, names):
    assert [names[position] for position in ranking(entity, names)] == [NAMES[position] for position in ranking(entity, NAMES)]


@given(st.sampled_from(ENTITIES), st.sampled_from(range(3)))
def test_when_a_host_goes_only_its_own_entities_move_to_the_next_of_their_order(entity, gone):
    before = [NAMES[position] for position in ranking(entity, NAMES)]
    left = [name for name in NAMES if name != NAMES[gone]]
    assert [left[position] for position in ranking(entity, left)] == [name for name in before if name != NAMES[gone]]


async def test_a_call_waits_at_its_own_host_up_to_the_bound_and_then_goes_to_the_next():
    own, other = fill(host(), running=1, predictions=3), host("http://b:11434")
    assert choose([own, other], ticket(), spill=4) is own
    fill(own, predictions=1)
    assert choose([own, other], ticket(), spill=4) is other


async def test_where_all_lines_are_long_the_shortest_is_taken():
    hosts = [fill(host(), running=1, predictions=9), fill(host(), running=1, predictions=7), fill(host(), running=1, predictions=8)]
    assert choose(hosts, ticket(), spill=4) is hosts[1]


async def test_rewrites_that_wait_stand_in_the_way_of_rewrites_only():
    own, other = fill(host(), running=1, rewrites=9), host("http://b:11434")
    assert choose([own, other], ticket(), spill=4) is own
    assert choose([own, other], ticket("rewrite"), spill=4) is other


async def test_a_host_whose_breaker_is_open_or_that_is_foreign_gets_nothing():
    hosts = [host(failures=1), host(), host()]
    hosts[0].breaker.failed(probe=False)
    hosts[1].is_foreign = True
    assert choose(hosts, ticket(), spill=4) is hosts[2]
    hosts[2].is_foreign = True
    assert choose(hosts, ticket(), spill=4) is None


async def raising(error):
    raise error


@pytest.mark.parametrize("error", [ModelUnreachable("reset"), ModelUnreachable("500"), ModelTimeout("slow")])
async def test_a_host_that_does_not_answer_has_failed(error):
    one = host(failures=1)
    with pytest.raises(type(error)):
        await one.call(ticket(), lambda: raising(error))
    assert one.breaker.state == "open"


@pytest.mark.parametrize(
    "error", [ModelMisbehaved("x"), ModelRefused("400"), ModelMissing("404"), ModelUnreachable("429", alive=True), LookupError("a defect")]
)
async def test_an_answer_that_is_bad_and_a_defect_on_this_side_are_no_failure_of_the_host(error):
    one = host(failures=1)
    for _ in range(5):
        with pytest.raises(type(error)):
            await one.call(ticket(), lambda: raising(error))
    assert one.breaker.state == "closed"


def test_a_deadline_counts_where_it_passes_in_the_hosts_hands_and_not_where_it_passes_in_line():
    async def main():
        one = host(failures=2)
        holding = asyncio.create_task(one.call(ticket(seconds=50.0), asyncio.Event().wait))
        await asyncio.sleep(0)
        for number in range(1, 4):
            with pytest.raises(TimeoutError):
                await one.call(ticket(seconds=1.0, number=number), asyncio.Event().wait)
        assert one.breaker.state == "closed"
        with pytest.raises(TimeoutError):
            await holding
        with pytest.raises(TimeoutError):
            await one.call(ticket(seconds=1.0), asyncio.Event().wait)
        return one.breaker.state

    assert simulate(main) == "open"


def test_calls_that_were_cancelled_or_sent_away_count_neither_way():
    async def main():
        one = host(failures=2, queue=1)
        with pytest.raises(ModelUnreachable):
            await one.call(ticket(), lambda: raising(ModelUnreachable("reset")))
        for number in range(5):
            running, waiting = (asyncio.create_task(one.call(ticket(number=3 * number + n), asyncio.Event().wait)) for n in range(2))
            await asyncio.sleep(0.1)
            with pytest.raises(ModelOverloaded):
                await one.call(ticket(number=3 * number + 2), asyncio.Event().wait)
            waiting.cancel()
            running.cancel()
            await asyncio.gather(running, waiting, return_exceptions=True)
        assert one.breaker.state == "closed"
        with pytest.raises(ModelUnreachable):
            await one.call(ticket(), lambda: raising(ModelUnreachable("reset")))
        return one.breaker.state

    assert simulate(main) == "open"


async def test_one_call_that_fails_at_every_try_is_one_failure():
    one = host(failures=2)
    for again in (False, True, True):
        with pytest.raises(ModelUnreachable):
            await one.call(ticket(), lambda: raising(ModelUnreachable("the runner has stopped")), again=again)
    assert one.breaker.state == "closed"
