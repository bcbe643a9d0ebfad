import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from agents.asking import Asker
from agents.budget import TokenCounter
from agents.errors import ModelAway, ModelOverloaded, ModelTimeout, ModelUnreachable
from agents.models.protocol import Reply
from agents.models.scripted import ScriptedModel
from agents.rewriting import request_rewrite
from schemas.messages import Answer, Observation
from schemas.state import EntityState

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
SMOG = [({"wind": "north"}, "high"), ({"wind": "south"}, "low"), ({"wind": "calm"}, "medium")] * 3
SEEN = Observation(entity="north", id="o99", time=datetime(2025, 1, 1, tzinfo=UTC), values={"wind": "north"})


def asker(settings, *said, tokens=None, observed=None):
    model = ScriptedModel(list(said), tokens=tokens)
    counter = TokenCounter(model, "scripted", window=settings.model.context_budget)
    return Asker(settings, model, counter, None if observed is None else lambda *what: observed.append(what)), model


async def predict(made, state=None, *, reference=None):
    return await made.predict(state or EntityState(entity="north"), SEEN, reference=reference, now=NOON)


async def test_a_usable_answer_costs_one_call_and_says_which_page_was_read(label_settings):
    made, model = asker(label_settings(), '{"answer":"high"}')
    asked = await predict(made)
    assert asked.answer.value == "high"
    assert (asked.call.calls, asked.call.error, asked.call.name) == (1, "", "scripted")
    assert asked.call.prompt_tokens + 0 < asked.call.budgeted_tokens <= 4096
    assert len(asked.prompt_hash) == 16
    assert model.calls[0].limits.context_tokens == 4096


async def test_a_number_is_the_reference_plus_the_adjustment(number_settings):
    made, _ = asker(number_settings(), '{"adjust":"-1.5"}', '{"value":"7.5"}')
    assert (await predict(made, reference=10.0)).answer == Answer(value=8.5)
    assert (await predict(made, reference=None)).answer == Answer(value=7.5)


async def test_an_answer_that_cannot_be_used_is_sent_back_once_with_what_is_wrong(label_settings):
    made, model = asker(label_settings(), '{"answer":"purple"}', '{"answer":"low"}')
    asked = await predict(made)
    assert asked.answer.value == "low"
    assert asked.call.calls == 2
    first, second = model.calls
    assert second.purpose == "repair"
    assert second.messages[:2] == first.messages
    assert "not one of low, medium, high" in second.messages[-1].content


async def test_a_second_unusable_answer_is_given_up(label_settings):
    made, _ = asker(label_settings(), "{}", "{}")
    asked = await predict(made)
    assert asked.answer is None
    assert (asked.call.calls, asked.call.error) == (2, "invalid")


@pytest.mark.parametrize("error", [ModelTimeout("slow"), ModelUnreachable("down")])
async def test_a_model_that_fails_is_no_exception_but_the_slug_of_the_call(label_settings, error):
    observed = []
    made, _ = asker(label_settings(), error, observed=observed)
    asked = await predict(made)
    assert asked.answer is None
    assert asked.call.error == error.slug
    assert [(purpose, what) for purpose, what, _ in observed] == [("predict", error)]


async def test_an_answer_that_was_cut_off_is_repaired_like_any_other(label_settings):
    made, _ = asker(label_settings(), Reply('{"answer":"hi', "length"), '{"answer":"high"}')
    assert (await predict(made)).answer.value == "high"


async def test_the_answer_to_a_prompt_that_the_server_cut_is_not_taken(label_settings, caplog):
    made, model = asker(label_settings(), Reply('{"answer":"high"}', "stop", prompt_tokens=3))
    asked = await predict(made)
    assert asked.answer is None
    assert asked.call.error == "truncated"
    assert len(model.calls) == 1
    assert "seems to cut prompts" in caplog.text


async def test_a_prompt_above_the_budget_is_not_sent(label_settings):
    settings = label_settings(model={"context_budget": 512}, memory={"facts": ("The town lies in a basin. " * 60,)})
    made, model = asker(settings)
    asked = await predict(made)
    assert (asked.answer, asked.call.error, asked.call.calls, asked.prompt_hash) == (None, "too-long", 0, "")
    assert model.calls == []


async def test_the_ranks_after_the_first_are_filled_from_the_ledger_without_a_label_twice(label_settings, state_of):
    settings = label_settings()
    state = state_of(settings, [*SMOG, ({"wind": "south"}, "low"), ({"wind": "south"}, "low")])
    made, _ = asker(settings, '{"answer":"medium"}')
    assert (await predict(made, state)).answer.top == ("medium", "low", "high")


async def test_the_rules_that_match_lift_their_label_in_the_ranks(label_settings, state_of):
    settings = label_settings()
    cases = [*SMOG, ({"wind": "south"}, "low"), ({"wind": "south"}, "low")]
    state = state_of(settings, cases, page="Rules:\n- when wind north: high (3 of 3)")
    made, _ = asker(settings, '{"answer":"medium"}')
    assert (await predict(made, state)).answer.top == ("medium", "high", "low")


async def test_equal_questions_are_asked_in_equal_words(label_settings, state_of):
    settings = label_settings()
    state = state_of(settings, SMOG)
    made, model = asker(settings, '{"answer":"high"}', '{"answer":"high"}')
    await predict(made, state)
    await made.predict(state, SEEN, reference=None, now=datetime(2030, 1, 1, tzinfo=UTC))
    assert model.calls[0] == model.calls[1]


async def test_a_forecast_and_a_rewrite_share_their_system_message(label_settings, state_of):
    settings = label_settings()
    state = state_of(settings, SMOG)
    made, model = asker(settings, '{"answer":"high"}', '{"a_rules":[{"a_when":"wind north","b_and":"none"}]}')
    await predict(made, state)
    proposal = await made.rewrite(request_rewrite(state, settings, made.counter))
    assert proposal.parsed.conditions == (("wind north",),)
    assert model.calls[0].messages[0] == model.calls[1].messages[0]


async def test_a_forecast_is_not_shown_what_came_after_its_observation(label_settings, state_of):
    settings = label_settings()
    state = state_of(settings, SMOG)
    made, model = asker(settings, '{"answer":"high"}')
    early = SEEN.model_copy(update={"time": state.resolved[1].target_time})
    await made.predict(state, early, reference=None, now=NOON)
    assert model.calls[0].messages[0].content.count(" -> ") == 2


async def test_a_judge_gives_a_share_and_reads_no_memory(text_settings):
    settings = text_settings()
    made, model = asker(settings, '{"a_score":7}', "{}", "{}")
    judged = await made.judge({"kind": "refund"}, Answer(value="We pay."), criteria=("it is polite",))
    assert (judged.score, judged.call.error) == (0.7, "")
    assert "Memory" not in model.calls[0].messages[0].content
    assert "- it is polite" in model.calls[0].messages[0].content
    failed = await made.judge({"kind": "refund"}, Answer(value="We pay."), criteria=("it is polite",))
    assert (failed.score, failed.call.error) == (None, "invalid")


async def test_whatever_is_sent_is_within_the_budget_that_its_record_states(label_settings, state_of):
    settings = label_settings(model={"context_budget": 1024})
    made, model = asker(settings, "{}", '{"answer":"high"}', tokens=len)
    asked = await predict(made, state_of(settings, SMOG * 3))
    sent = [sum(len(message.content) for message in call.messages) + call.limits.answer_tokens for call in model.calls]
    assert max(sent) <= asked.call.budgeted_tokens <= 1024


async def test_each_call_says_whose_it_is_so_that_it_finds_its_warm_prompt(label_settings, state_of):
    settings = label_settings()
    state = state_of(settings, SMOG)
    made, model = asker(settings, "{}", '{"answer":"high"}', '{"a_rules":[]}')
    await predict(made, state)
    await made.rewrite(request_rewrite(state, settings, made.counter))
    assert [(call.purpose, call.entity, call.fresh) for call in model.calls] == [
        ("predict", state.entity, False),
        ("repair", state.entity, False),
        ("rewrite", state.entity, False),
    ]


async def test_a_rewrite_after_a_refused_one_asks_for_a_fresh_answer(label_settings, state_of):
    settings = label_settings()
    state = state_of(settings, SMOG).model_copy(update={"rewrite_attempts": 1})
    made, model = asker(settings, "{}", '{"a_rules":[],"b_note":""}')
    await made.rewrite(request_rewrite(state, settings, made.counter))
    assert [(call.purpose, call.fresh) for call in model.calls] == [("rewrite", True), ("repair", True)]


async def test_a_remembered_answer_is_reported_apart_and_costs_nothing(label_settings):
    remembered = Reply('{"answer":"high"}', "stop", prompt_tokens=900, cached_tokens=800, output_tokens=9, remembered=True)
    made, _ = asker(label_settings(), remembered)
    asked = await predict(made)
    assert asked.answer.value == "high"
    call = asked.call
    assert (call.calls, call.remembered, call.prompt_tokens, call.cached_tokens, call.output_tokens) == (0, 1, 0, None, 0)


@pytest.mark.parametrize("error", [ModelOverloaded("full"), ModelAway("down")])
async def test_a_call_that_was_not_made_is_not_counted(label_settings, error):
    made, _ = asker(label_settings(), error)
    asked = await predict(made)
    assert (asked.call.calls, asked.call.error) == (0, error.slug)


async def test_a_repair_has_what_is_left_of_the_deadline_waiting_included(label_settings):
    settings = label_settings(model={"deadline": timedelta(seconds=60)})
    made, model = asker(settings, Reply("{}", "stop", seconds=5.0, waited_seconds=40.0), '{"answer":"high"}')
    await predict(made)
    assert [call.limits.seconds for call in model.calls] == [60.0, 15.0]


async def test_a_host_that_hangs_when_asked_who_it_is_does_not_take_the_deadline_twice(label_settings):
    settings = label_settings(model={"deadline": "50ms"})
    made, model = asker(settings, '{"answer":"high"}')
    seconds = settings.model.deadline.total_seconds()

    async def hang():
        await asyncio.sleep(seconds)
        raise ModelTimeout("it hangs")

    model.identify = hang
    asked = await predict(made)
    assert asked.answer is None
    assert (asked.call.calls, asked.call.error) == (0, "timeout")
    assert model.calls == []
