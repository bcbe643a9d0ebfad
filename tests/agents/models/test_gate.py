"""What stands in front of the backends, together: slots, deadline, retries, breaker, hosts, remembered answers."""

import asyncio
import contextlib
import random
from datetime import timedelta

import pytest

from agents.errors import NOT_ASKED, ModelError, ModelMisbehaved, ModelMissing, ModelRefused, ModelTimeout, ModelUnreachable
from agents.models.gate import Gate
from agents.models.hosts import ranking
from agents.models.protocol import CallLimits, ChatMessage, ModelIdentity
from agents.models.retrying import BURST, FIRST_PAUSE, MOST_TRIES
from agents.models.scripted import ScriptedModel
from schemas.settings import ModelSettings
from tests.agents.models.simulated import simulate


def gate_of(model, *, chance=lambda: 0.0, **settings):
    return Gate(model, ModelSettings(**settings), chance=chance)


async def ask(gate, limits, *, purpose="predict", content="?"):
    return await gate.complete([ChatMessage("user", content)], schema=None, limits=limits, purpose=purpose)


async def turns(number: int = 20) -> None:
    """Let every task that can go on do so."""
    for _ in range(number):
        await asyncio.sleep(0)


class Held:
    """Calls that stay in the backend until released one by one."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.order: list[str] = []
        self._releases = asyncio.Semaphore(0)
        self.model = ScriptedModel(self._answer, latency=self._wait)

    def release(self, number: int = 1) -> None:
        for _ in range(number):
            self._releases.release()

    def _answer(self, messages, schema, purpose):
        self.order.append(messages[0].content)
        return "answer"

    async def _wait(self):
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self._releases.acquire()
        finally:
            self.running -= 1


@pytest.mark.parametrize("slots", [1, 3])
async def test_no_more_calls_than_slots_reach_the_backend_at_once(limits, slots):
    held = Held()
    gate = gate_of(held.model, slots=slots)
    calls = [asyncio.create_task(ask(gate, limits)) for _ in range(7)]
    await turns()
    assert held.running == slots
    held.release(7)
    await asyncio.gather(*calls)
    assert held.most == slots


async def test_waiting_calls_are_served_in_order_predictions_before_rewrites(limits):
    held = Held()
    gate = gate_of(held.model)
    arrivals = [
        ("first", "predict"),
        ("r1", "rewrite"),
        ("p1", "predict"),
        ("r2", "rewrite"),
        ("j1", "judge"),
        ("p2", "predict"),
        ("f1", "repair"),
    ]
    calls = []
    for content, purpose in arrivals:
        calls.append(asyncio.create_task(ask(gate, limits, purpose=purpose, content=content)))
        await turns(3)
    held.release(len(arrivals))
    await asyncio.gather(*calls)
    assert held.order == ["first", "p1", "j1", "p2", "f1", "r1", "r2"]


async def test_a_cancelled_wait_takes_no_slot(limits):
    held = Held()
    gate = gate_of(held.model)
    first, second, third = (asyncio.create_task(ask(gate, limits, content=name)) for name in ("first", "second", "third"))
    await turns()
    second.cancel()
    held.release(2)
    await asyncio.gather(first, third)
    assert held.order == ["first", "third"]
    with pytest.raises(asyncio.CancelledError):
        await second


async def test_cancelling_a_running_call_gives_its_slot_to_the_next(limits):
    held = Held()
    gate = gate_of(held.model)
    first, second = (asyncio.create_task(ask(gate, limits, content=name)) for name in ("first", "second"))
    await turns()
    first.cancel()
    held.release()
    assert (await second).text == "answer"
    assert held.order == ["second"]


async def test_a_slot_comes_back_after_a_failure(limits):
    gate = gate_of(ScriptedModel([ModelRefused("no"), "answer"]))
    with pytest.raises(ModelRefused):
        await ask(gate, limits)
    assert (await ask(gate, limits)).text == "answer"


async def test_what_may_succeed_is_tried_again(limits):
    model = ScriptedModel([ModelUnreachable("reset"), ModelUnreachable("busy"), "answer"])
    assert (await ask(gate_of(model), limits)).text == "answer"
    assert len(model.calls) == 3


async def test_when_the_tries_are_spent_the_last_error_stands(limits):
    model = ScriptedModel([ModelUnreachable(f"try {number}") for number in range(1, 5)])
    with pytest.raises(ModelUnreachable, match=f"try {MOST_TRIES}"):
        await ask(gate_of(model), limits)
    assert len(model.calls) == MOST_TRIES


async def test_without_a_share_for_retries_nothing_is_tried_again(limits):
    model = ScriptedModel([ModelUnreachable("reset"), "answer"])
    gate = gate_of(model, retry_share=0.0)
    with pytest.raises(ModelUnreachable):
        await ask(gate, limits)
    assert len(model.calls) == 1
    assert (gate.account().retries, gate.account().retries_denied) == (0, 1)


async def test_a_server_in_trouble_is_not_given_more_than_the_budget_on_top():
    model = ScriptedModel(lambda *_: ModelUnreachable("500"))
    gate = gate_of(model, retry_share=0.1, breaker_failures=1000)
    limits = CallLimits(8, 2048, seconds=60.0)
    for _ in range(200):
        with pytest.raises(ModelUnreachable):
            await ask(gate, limits)
    assert len(model.calls) <= 200 + 0.1 * 200 + BURST
    assert gate.account().retries == len(model.calls) - 200
    assert gate.account().retries_denied > 100


def test_a_retry_waits_as_long_as_the_server_asks_for():
    async def main():
        model = ScriptedModel([ModelUnreachable("503", retry_after=7.0), "answer"])
        reply = await ask(gate_of(model), CallLimits(8, 2048, seconds=30.0))
        return reply.waited_seconds

    assert simulate(main) == 7.0


def test_a_server_that_asks_for_more_than_the_time_that_is_left_is_not_waited_for():
    async def main():
        model = ScriptedModel([ModelUnreachable("503", retry_after=7.0), "answer"])
        with pytest.raises(ModelUnreachable):
            await ask(gate_of(model), CallLimits(8, 2048, seconds=5.0))
        return asyncio.get_running_loop().time(), len(model.calls)

    assert simulate(main) == (0.0, 1)


@pytest.mark.parametrize("kind", [ModelTimeout, ModelMissing, ModelRefused, ModelMisbehaved, LookupError])
async def test_what_cannot_succeed_is_tried_once(limits, kind):
    model = ScriptedModel(lambda *_: (_ for _ in ()).throw(kind("no")))
    with pytest.raises(kind):
        await ask(gate_of(model), limits)
    assert len(model.calls) == 1


async def test_a_pause_that_the_deadline_does_not_allow_is_not_begun(limits):
    model = ScriptedModel([ModelUnreachable("reset"), "answer"])
    gate = gate_of(model, chance=lambda: 0.999)
    with pytest.raises(ModelUnreachable, match="reset"):
        await ask(gate, CallLimits(limits.answer_tokens, limits.context_tokens, seconds=FIRST_PAUSE / 2))
    assert len(model.calls) == 1


async def test_the_slot_is_free_during_a_pause(limits, monkeypatch):
    paused, over = asyncio.Event(), asyncio.Event()

    async def pause(seconds):
        paused.set()
        await over.wait()

    monkeypatch.setattr(asyncio, "sleep", pause)
    gate = gate_of(ScriptedModel([ModelUnreachable("reset"), "other", "answer"]))
    first = asyncio.create_task(ask(gate, limits, content="first"))
    await paused.wait()
    assert (await ask(gate, limits, content="second")).text == "other"
    over.set()
    assert (await first).text == "answer"


async def test_each_pause_may_be_twice_as_long_as_the_one_before(limits, monkeypatch):
    pauses = []

    async def note(seconds):
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", note)
    model = ScriptedModel([*[ModelUnreachable("reset")] * 2, "answer"])
    assert (await ask(gate_of(model, chance=lambda: 0.5), limits)).text == "answer"
    assert pauses == [0.5, 1.0]


async def test_a_call_past_its_deadline_is_cancelled_in_the_backend(limits):
    held = Held()
    with pytest.raises(ModelTimeout, match="at try 1"):
        await ask(gate_of(held.model), CallLimits(8, 2048, seconds=0.01))
    assert (held.running, held.order) == (0, [])


async def test_waiting_for_a_slot_counts_toward_the_deadline(limits):
    held = Held()
    gate = gate_of(held.model)
    first = asyncio.create_task(ask(gate, limits))
    await turns()
    with pytest.raises(ModelTimeout, match="waiting for a slot"):
        await ask(gate, CallLimits(8, 2048, seconds=0.01))
    held.release()
    assert (await first).text == "answer"


async def test_a_backend_is_told_only_the_time_that_is_left(limits):
    held = Held()
    gate = gate_of(held.model)
    clock = asyncio.get_running_loop().time
    first, second = (asyncio.create_task(ask(gate, limits)) for _ in range(2))
    await turns()
    arrived = clock()
    await turns()
    waited = clock() - arrived
    held.release(2)
    await asyncio.gather(first, second)
    assert 0 < held.model.calls[1].limits.seconds <= limits.seconds - waited


async def test_the_rest_passes_through(limits):
    model = ScriptedModel([], tokens=len, name="tiny")
    gate = gate_of(model)
    assert gate.count_tokens("four") == 4
    assert (await gate.identify()).name == "tiny"
    await gate.close()
    assert model.closed


async def test_identifying_has_the_settings_deadline():
    class Silent(ScriptedModel):
        async def identify(self):
            await asyncio.Event().wait()

    with pytest.raises(ModelTimeout, match="which one it is"):
        await gate_of(Silent([]), deadline=timedelta(milliseconds=10)).identify()


# --- a share for rewrites, a full queue -----------------------------------------------------------------------------------------


class Timed(ScriptedModel):
    """Each call takes so many seconds of the simulated clock, by purpose."""

    def __init__(self, **seconds):
        super().__init__(lambda *_: "answer")
        self._seconds = seconds
        self.begun = []

    async def complete(self, messages, **call):
        self.begun.append((asyncio.get_running_loop().time(), call["purpose"]))
        await asyncio.sleep(self._seconds[call["purpose"]])
        return await super().complete(messages, **call)


def long(seconds=1000.0):
    return CallLimits(8, 2048, seconds=seconds)


def test_a_cut_rewrite_is_made_again_and_its_caller_sees_nothing_of_it():
    async def main():
        model = Timed(predict=1.0, rewrite=10.0)
        gate = gate_of(model)
        rewrite = asyncio.create_task(ask(gate, long(), purpose="rewrite"))
        await asyncio.sleep(3.0)
        await ask(gate, long())
        assert (await rewrite).text == "answer"
        assert model.begun == [(0.0, "rewrite"), (3.0, "predict"), (4.0, "rewrite")]
        [host] = gate.account().hosts
        assert (host.cut, host.prediction_seconds, host.rewrite_seconds) == (1, 1.0, 13.0)

    simulate(main)


@pytest.mark.parametrize("slots", [1, 4])
def test_under_a_backlog_of_both_kinds_all_slots_are_busy_and_rewrites_get_their_share(slots):
    async def main():
        gate = gate_of(Timed(predict=0.5, rewrite=5.0), slots=slots)

        async def keep_asking(purpose):
            while True:
                await ask(gate, long(), purpose=purpose)

        callers = [asyncio.create_task(keep_asking(purpose)) for purpose in ("predict", "rewrite") * 20]
        await asyncio.sleep(1000.0)
        [host] = gate.account().hosts
        for caller in callers:
            caller.cancel()
        busy = (host.prediction_seconds + host.rewrite_seconds) / (1000.0 * slots)
        assert busy > 0.999
        assert 0.19 < host.rewrite_seconds / (1000.0 * slots) < 0.22

    simulate(main)


def test_what_a_full_queue_sends_away_is_said_to_be_shed_and_not_asked():
    async def main():
        model = Timed(predict=1.0, rewrite=1.0)
        gate = gate_of(model, queue=2)
        running = asyncio.create_task(ask(gate, long()))
        await asyncio.sleep(0.1)
        calls = [asyncio.create_task(ask(gate, long(), purpose=purpose)) for purpose in ("rewrite", "predict", "predict", "predict")]
        results = await asyncio.gather(running, *calls, return_exceptions=True)
        assert [getattr(result, "slug", "answered") for result in results] == ["answered", "shed", "answered", "answered", "shed"]
        assert results[1].slug in NOT_ASKED
        assert len(model.calls) == 3

    simulate(main)


def test_a_reply_says_how_long_it_waited():
    async def main():
        gate = gate_of(Timed(predict=2.0))
        replies = await asyncio.gather(*(ask(gate, long()) for _ in range(3)))
        assert [reply.waited_seconds for reply in replies] == [0.0, 2.0, 4.0]

    simulate(main)


# --- a host that hangs, a host that is gone ---------------------------------------------------------------------------------------


class Hanging(ScriptedModel):
    """Takes a second a call, and answers nothing between two moments of the simulated clock."""

    def __init__(self, since, until):
        super().__init__(lambda *_: "answer")
        self._since, self._until = since, until

    async def complete(self, messages, **call):
        self.calls.append(call)
        clock = asyncio.get_running_loop().time
        if self._since <= clock() < self._until:
            await asyncio.Event().wait()
        await asyncio.sleep(1.0)
        return await super().complete(messages, **call)


def test_a_model_that_hangs_for_ten_minutes_costs_no_prediction_more_than_its_deadline_and_most_of_them_nothing():
    async def main():
        clock = asyncio.get_running_loop().time
        gate = gate_of(Hanging(100.0, 700.0), chance=lambda: 0.5)
        took = []

        async def predict(at):
            await asyncio.sleep(at)
            began = clock()
            try:
                await ask(gate, long(60.0))
                said = "answer"
            except ModelError as error:
                said = error.slug
            took.append((began, clock() - began, said))

        await asyncio.gather(*(predict(2.0 * n) for n in range(500)))
        assert all(seconds <= 60.0 for _, seconds, _ in took)
        assert all(said == "answer" for began, _, said in took if began < 98)
        # It takes a deadline to see that it hangs.
        hung = [(seconds, said) for began, seconds, said in took if 100 + 60 + 25 <= began < 700]
        assert sum(said == "away" and seconds == 0 for seconds, said in hung) > 0.95 * len(hung)
        assert sum(said == "timeout" for _, said in hung) <= 10, "one probe after each pause"
        # Found again within the longest pause and one probe that was sent just before.
        assert all(said == "answer" for began, _, said in took if began > 700 + 60 + 60)

    simulate(main)


@pytest.mark.parametrize("seed", range(3))
def test_a_host_with_twice_as_much_to_do_as_it_can_answers_as_much_as_it_can_and_is_not_taken_for_one_that_hangs(seed):
    async def main():
        chance = random.Random(seed)

        class Busy(ScriptedModel):
            async def complete(self, messages, **call):
                await asyncio.sleep(chance.lognormvariate(-0.18, 0.6))
                return await super().complete(messages, **call)

        gate = gate_of(Busy(lambda *_: "answer"))
        became = []

        async def predict(at):
            await asyncio.sleep(at)
            try:
                await ask(gate, long(20.0))
                became.append("answered")
            except ModelError as error:
                became.append(error.slug)

        await asyncio.gather(*(predict(0.5 * n) for n in range(2000)))
        assert became.count("away") == 0
        assert became.count("answered") > 0.75 * 1000
        assert became.count("timeout") < 0.25 * became.count("answered")
        assert gate.account().hosts[0].breaker == "closed"

    simulate(main)


def test_a_model_that_was_quick_is_seen_to_hang_soon_after_the_first_deadline_has_passed():
    async def main():
        clock = asyncio.get_running_loop().time
        gate = gate_of(Hanging(100.0, 1e9), chance=lambda: 0.5)

        async def predict(at):
            await asyncio.sleep(at)
            with contextlib.suppress(ModelError):
                await ask(gate, long(60.0))

        calls = [asyncio.create_task(predict(2.0 * n)) for n in range(100)]
        states = []
        for moment in (159.0, 174.0):
            await asyncio.sleep(moment - clock())
            states.append(gate.account().hosts[0].breaker)
        assert states == ["closed", "open"]
        for call in calls:
            call.cancel()

    simulate(main)


def test_when_the_breaker_opens_what_waits_falls_back_at_once():
    async def main():
        gate = gate_of(Hanging(0.0, 1e9), breaker_failures=1)
        calls = [asyncio.create_task(ask(gate, long(seconds))) for seconds in (5.0, 60.0, 60.0)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [result.slug for result in results] == ["timeout", "away", "away"]
        assert asyncio.get_running_loop().time() == 5.0
        assert gate.account().hosts[0].breaker == "open"

    simulate(main)


def several(models, **settings):
    hosts = {f"http://{name}": model for name, model in models.items()}
    return Gate(hosts, ModelSettings(hosts=tuple(hosts), answer_cache=0, **settings), chance=lambda: 0.5)


async def ask_for(gate, entity, limits=None, **call):
    return await gate.complete([ChatMessage("user", "?")], schema=None, limits=limits or long(), purpose="predict", entity=entity, **call)


def test_an_entity_has_a_host_of_its_own_and_all_hosts_have_some():
    async def main():
        models = {name: Timed(predict=0.1) for name in "abc"}
        gate = several(models)
        for number in range(30):
            before = {name: len(model.calls) for name, model in models.items()}
            for _ in range(3):
                await ask_for(gate, f"station-{number}")
            assert sorted(len(model.calls) - before[name] for name, model in models.items()) == [0, 0, 3]
        assert all(model.calls for model in models.values())

    simulate(main)


def test_slots_are_each_hosts_own_and_a_long_line_spills_over():
    async def main():
        models = {name: Timed(predict=1.0) for name in "ab"}
        gate = several(models, spill=2)
        await asyncio.gather(*(ask_for(gate, "north") for _ in range(9)))
        assert sorted(len(model.calls) for model in models.values()) == [4, 5]
        assert asyncio.get_running_loop().time() == 5.0

    simulate(main)


def test_calls_without_an_entity_go_where_a_slot_is_free():
    async def main():
        models = {name: Timed(predict=1.0) for name in "abc"}
        gate = several(models)
        await asyncio.gather(*(ask_for(gate, "") for _ in range(3)))
        assert [len(model.calls) for model in models.values()] == [1, 1, 1]

    simulate(main)


def test_a_call_goes_to_another_host_at_once_when_its_own_is_gone_and_stays_away_from_it_when_its_breaker_is_open():
    async def main():
        gone = ScriptedModel(lambda *_: ModelUnreachable("refused"))
        there = ScriptedModel(lambda *_: "answer")
        gate = several({"a": gone, "b": there})
        own = [entity for entity in map(str, range(100)) if ranking(entity, ["http://a", "http://b"])[0] == 0]
        for entity in own:
            assert (await ask_for(gate, entity)).text == "answer"
        assert asyncio.get_running_loop().time() == 0.0
        assert len(gone.calls) == ModelSettings().breaker_failures
        assert gate.account().retries == len(gone.calls)
        assert [host.breaker for host in gate.account().hosts] == ["open", "closed"]

    simulate(main)


def test_what_waits_for_a_host_that_is_given_up_goes_to_the_others():
    async def main():
        models = {"a": Hanging(0.0, 1e9), "b": Hanging(1e9, 1e9)}
        gate = several(models, breaker_failures=1, spill=100)
        own = next(entity for entity in map(str, range(100)) if ranking(entity, ["http://a", "http://b"])[0] == 0)
        calls = [asyncio.create_task(ask_for(gate, own, long(seconds))) for seconds in (5.0, 60.0, 60.0)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(results[0], ModelTimeout)
        assert [result.text for result in results[1:]] == ["answer", "answer"]
        assert asyncio.get_running_loop().time() == 7.0

    simulate(main)


class Identified(ScriptedModel):
    def __init__(self, *said, digest="abc"):
        super().__init__(list(said) if said else lambda *_: "answer")
        self._digest = digest

    async def identify(self):
        if isinstance(self._digest, Exception):
            raise self._digest
        return ModelIdentity("tiny", self._digest, "ollama 0.11.4")


async def test_a_host_with_another_model_under_the_name_is_asked_nothing(caplog):
    models = {"a": Identified(digest="abc"), "b": Identified(digest="other"), "c": Identified(digest="abc")}
    gate = several(models)
    assert (await gate.identify()).digest == "abc"
    for number in range(30):
        await ask_for(gate, str(number), long(30.0))
    assert (len(models["a"].calls) + len(models["c"].calls), models["b"].calls) == (30, [])
    assert models["a"].calls
    assert models["c"].calls
    assert caplog.text.count("http://b has another") == 1


async def test_the_model_is_who_the_first_host_that_answers_says():
    gate = several({"a": Identified(digest=ModelUnreachable("down")), "b": Identified(digest="def")})
    assert (await gate.identify()).digest == "def"
    with pytest.raises(ModelMissing):
        await several({"a": Identified(digest=ModelUnreachable("down")), "b": Identified(digest=ModelMissing("x"))}).identify()


def test_a_server_that_does_not_say_who_it_is_is_left_alone_like_one_that_does_not_answer():
    async def main():
        class Silent(ScriptedModel):
            async def identify(self):
                self.calls.append("identify")
                await asyncio.Event().wait()

        model = Silent([])
        gate = gate_of(model, deadline=timedelta(seconds=10))
        slugs = []
        for _ in range(5):
            with pytest.raises(ModelError) as caught:
                await gate.identify()
            slugs.append(caught.value.slug)
        assert slugs == ["timeout"] * 3 + ["away"] * 2
        assert (len(model.calls), asyncio.get_running_loop().time()) == (3, 30.0)

    simulate(main)


def test_a_retry_goes_back_to_the_host_that_failed_only_where_no_other_is_to_be_asked():
    async def main():
        models = {"a": ScriptedModel(lambda *_: ModelUnreachable("refused")), "b": Timed(predict=10.0)}
        gate = several(models, spill=0, breaker_failures=100)
        own = next(entity for entity in map(str, range(100)) if ranking(entity, ["http://a", "http://b"])[0] == 0)
        await asyncio.gather(*(ask_for(gate, own) for _ in range(3)))
        assert (len(models["a"].calls), asyncio.get_running_loop().time()) == (3, 30.0)

    simulate(main)


# --- remembered answers -----------------------------------------------------------------------------------------------------------


async def test_equal_questions_cost_one_call_once_it_is_known_which_model_answers(limits):
    model = Identified("one", "two", "three")
    gate = gate_of(model)
    assert [(await ask(gate, limits)).text for _ in range(2)] == ["one", "two"]
    await gate.identify()
    replies = [await ask(gate, limits) for _ in range(3)]
    assert [(reply.text, reply.remembered) for reply in replies] == [("three", False), ("three", True), ("three", True)]


async def test_a_rewrite_after_a_refused_one_gets_an_answer_of_its_own(limits):
    gate = gate_of(Identified("refused", "better"))
    await gate.identify()
    texts = [
        (await gate.complete([ChatMessage("user", "?")], schema=None, limits=limits, purpose="rewrite", fresh=fresh)).text
        for fresh in (False, False, True)
    ]
    assert texts == ["refused", "refused", "better"]


@pytest.mark.parametrize(
    ("settings", "digest"),
    [({"temperature": 0.7}, "abc"), ({"answer_cache": 0}, "abc"), ({"backend": "import", "factory": "a:b"}, "")],
)
async def test_nothing_is_remembered_where_answers_differ_or_nobody_wants_it(limits, settings, digest):
    model = Identified(digest=digest)
    gate = gate_of(model, **settings)
    await gate.identify()
    for _ in range(2):
        await ask(gate, limits)
    assert len(model.calls) == 2
