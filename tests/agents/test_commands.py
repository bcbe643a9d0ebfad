"""What a person may change, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from agents.answers import ProposedRewrite
from agents.forecaster import Forecaster, Step
from schemas.messages import Command, MemoryRevision
from schemas.state import EntityState, decode_state, encode_state

NOTE = "Notes:\n- Fog stays in the valley."
TEXT = {"kind": "text"}


def command(op: Any, **fields: Any) -> Command:
    return Command(entity="north", op=op, by="ada", why="looked wrong", **fields)


async def obeyed(given: Any, core: Forecaster, state: EntityState, *commands: Command) -> EntityState:
    for wanted in commands:
        step = await core.command(state, wanted, now=given.at(0))
        assert step.counts["command.applied"] == 1
        state = step.state
    return state


async def test_an_edit_makes_a_new_revision_and_says_who_and_why(given: Any) -> None:
    step = await given.forecaster().command(given.state(), command("edit", text=NOTE), now=given.at(3))

    (entry,) = step.events
    assert isinstance(entry, MemoryRevision)
    assert (entry.revision, entry.cause, entry.accepted, entry.by, entry.why) == (1, "command", True, "ada", "looked wrong")
    assert (entry.before, entry.after, entry.made_at) == ("", NOTE, given.at(3))
    assert step.state.memory.revision == 1
    assert step.counts == {"command.applied": 1}


async def test_a_rollback_makes_a_new_revision_with_old_content(given: Any) -> None:
    core = given.forecaster()
    state = await obeyed(given, core, given.state(), command("edit", text=NOTE), command("edit", text="Notes:\n- All is well."))

    step = await core.command(state, command("rollback", to_revision=1), now=given.at(1))

    entry = step.events[0]
    assert (entry.revision, entry.cause, entry.after) == (3, "rollback", NOTE)
    assert step.state.memory.sections == state.revisions[0].memory.sections


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (command("edit", text=NOTE, revision=7), "moved on"),
        (command("freeze", revision=7), "moved on"),
        (command("edit", text="Gossip:\n- it is said"), "line 1"),
        (command("edit", text="Notes:\n- " + "word " * 250), "line 2"),
        (command("rollback", to_revision=9), "revision 9"),
        (command("rewrite"), "no feedback"),
    ],
    ids=["stale edit", "stale freeze", "unknown section", "too long", "unknown revision", "nothing to rewrite from"],
)
async def test_what_cannot_be_done_is_refused_with_the_reason_and_changes_nothing(given: Any, wanted: Command, reason: str) -> None:
    state = await obeyed(given, given.forecaster(), given.state(), command("edit", text=NOTE))

    step = await given.forecaster().command(state, wanted, now=given.at(1))

    (entry,) = step.events
    assert not entry.accepted
    assert reason in entry.reason
    assert (entry.by, entry.revision, entry.before, entry.after) == ("ada", 1, NOTE, NOTE)
    assert encode_state(step.state) == encode_state(state)
    assert step.counts == {"command.refused": 1}


@pytest.mark.parametrize(
    "wanted",
    [
        command("edit", text=NOTE),
        command("edit", text="Gossip:\n- it is said"),
        command("edit", text=NOTE, revision=9),
        command("rollback", to_revision=0),
        command("rollback", to_revision=9),
        command("freeze"),
        command("thaw"),
        command("forget"),
        command("rewrite"),
    ],
    ids=lambda wanted: f"{wanted.op}",
)
async def test_every_command_done_or_refused_is_answered_once_under_the_id_that_its_sender_gave(given: Any, wanted: Command) -> None:
    step = await given.forecaster().command(given.state(), wanted.model_copy(update={"id": "c-7"}), now=given.at(1))

    (answer,) = step.events
    assert (answer.command, answer.op, answer.by, answer.why) == ("c-7", wanted.op, "ada", "looked wrong")
    assert step.counts == {"command.applied" if answer.accepted else "command.refused": 1}


async def test_freezing_what_is_frozen_is_done_once_more_to_no_effect(given: Any) -> None:
    core = given.forecaster()
    frozen = await obeyed(given, core, given.state(), command("freeze"))

    again = await obeyed(given, core, frozen, command("freeze"))
    thawed = await obeyed(given, core, again, command("thaw"), command("thaw"))

    assert encode_state(again) == encode_state(frozen)
    assert encode_state(thawed) == encode_state(given.state())


async def test_a_command_made_for_the_present_revision_is_applied(given: Any) -> None:
    core = given.forecaster()
    state = await obeyed(given, core, given.state(), command("edit", text=NOTE), command("freeze", revision=1))

    assert state.frozen


async def test_freeze_and_thaw_are_audited_and_leave_the_memory_alone(given: Any) -> None:
    core = given.forecaster()
    state = await obeyed(given, core, given.state(), command("edit", text=NOTE))

    frozen = await core.command(state, command("freeze"), now=given.at(1))
    thawed = await core.command(frozen.state, command("thaw"), now=given.at(2))

    assert (frozen.state.frozen, thawed.state.frozen) == (True, False)
    assert [(step.events[0].op, step.events[0].before, step.events[0].after) for step in (frozen, thawed)] == [
        ("freeze", NOTE, NOTE),
        ("thaw", NOTE, NOTE),
    ]
    assert thawed.state == state


async def test_a_person_may_edit_what_is_frozen_but_not_have_it_rewritten(given: Any) -> None:
    core = given.forecaster()
    frozen = await obeyed(given, core, given.state(), command("freeze"))

    edited = await core.command(frozen, command("edit", text=NOTE), now=given.at(1))
    rewritten = await core.command(frozen, command("rewrite"), now=given.at(1))

    assert edited.events[0].accepted
    assert (rewritten.events[0].accepted, rewritten.events[0].reason) == (False, "the entity is frozen")


async def outcome(given: Any, core: Forecaster, state: EntityState) -> EntityState:
    state = (await core.observe(state, given.observation(0, None, sky="grey"), now=given.at(0), offset=0)).state
    return (await core.learn(state, given.truth(of="o0", value="rain", note="drizzle"), now=given.at(1))).state


async def test_a_rewrite_is_made_at_once_whatever_the_policy(given: Any) -> None:
    asker = given.asker()
    asker.answer = lambda observation: "sun"
    core = given.forecaster(asker, target=TEXT)
    state = await outcome(given, core, given.state())

    step = await core.command(state, command("rewrite"), now=given.at(2))

    assert [(event.cause, event.op) for event in step.events] == [("feedback", None), ("command", "rewrite")]
    assert step.counts == {"rewrite.accepted": 1, "command.applied": 1}
    assert step.state.memory.revision == 1


async def test_in_the_background_a_rewrite_is_wanted_from_then_on(given: Any) -> None:
    asker = given.asker()
    asker.answer = lambda observation: "sun"
    core = given.forecaster(asker, target=TEXT, rewrite={"mode": "background"})
    state = await outcome(given, core, given.state())

    step = await core.command(state, command("rewrite"), now=given.at(2))

    assert step.state.rewrite_wanted == given.at(2)
    assert core.propose(step.state, now=given.at(2)) is not None


async def test_forget_leaves_no_text_at_all(given: Any) -> None:
    asker = given.asker()
    asker.answer, asker.propose = (lambda observation: "sun"), ProposedRewrite(notes=("Drizzle follows grey skies.",))
    core = given.forecaster(asker, target=TEXT, rewrite={"policy": "every"})
    state = given.state(applied={"observations": 7, "truths": 3})
    state = await outcome(given, core, state)
    state = (await core.observe(state, given.observation(2, None, sky="secret"), now=given.at(2), offset=2)).state
    state = (await core.learn(state, given.truth(of="visit-9", value="thunder"), now=given.at(2), raw=b"raw words")).state

    step = await core.command(state, command("forget"), now=given.at(3))

    record = encode_state(step.state)
    for text in (b"rizzle", b"grey", b"secret", b"rain", b"thunder", b"raw", b"sun", b"visit", b"o0", b"o2", b"sky", b"ada", b"wrong"):
        assert text not in record
    restored = decode_state(record)
    assert (restored.forgotten, restored.applied, restored.entity) == (True, {"observations": 7, "truths": 3}, "north")
    (entry,) = step.events
    assert (entry.cause, entry.before, entry.after, entry.accepted) == ("forget", "", "", True)


async def test_a_forgotten_entity_refuses_commands_and_begins_anew_with_its_next_observation(given: Any) -> None:
    core = given.forecaster()
    state = await obeyed(given, core, given.state(applied={"observations": 7}), command("edit", text=NOTE), command("forget"))

    refused = await core.command(state, command("edit", text=NOTE), now=given.at(1))
    step = await core.observe(state, given.observation(1), now=given.at(1), offset=8)

    assert refused.events[0].reason == "the entity was forgotten"
    assert (step.state.forgotten, step.state.applied, len(step.state.pending)) == (False, {"observations": 7}, 1)
    assert step.state.memory.sections == {}


async def test_a_rewrite_that_was_under_way_does_not_bring_a_forgotten_memory_back(given: Any) -> None:
    asker = given.asker()
    asker.answer = lambda observation: "sun"
    core = given.forecaster(asker, target=TEXT, rewrite={"policy": "every", "mode": "background"})
    state = await outcome(given, core, given.state())
    request = core.propose(state, now=given.at(1))
    assert request is not None
    proposal = await core.ask(request)

    gone = await obeyed(given, core, state, command("forget"))
    anew = await outcome(given, core, gone)

    assert await core.apply(gone, proposal, now=given.at(2)) == Step(gone, (), {"rewrite.conflict": 1})
    assert await core.apply(anew, proposal, now=given.at(2)) == Step(anew, (), {"rewrite.conflict": 1})
