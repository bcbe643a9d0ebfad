from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import memory
from schemas.messages import Command
from schemas.state import EntityState, Memory, Statement

NOW = datetime(2024, 3, 1, tzinfo=UTC)
PAGE = (
    "Rules:\n- when wind north: high (6 of 6)\n- when sky 'partly cloudy' and rain at least 2.1: low (1 of 1, tentative)\n"
    "Notes:\n- Smog stays when the wind is calm."
)


def edited(state, settings, text, **fields):
    command = Command(entity=state.entity, op="edit", by="ada", why="seen on the roof", text=text, **fields)
    return memory.edit(state, command, settings, now=NOW)


def rolled_back(state, settings, revision):
    command = Command(entity=state.entity, op="rollback", by="ada", to_revision=revision)
    return memory.rollback(state, command, settings, now=NOW)


def test_what_is_shown_of_a_memory_can_be_edited_and_read_back_equal(label_settings):
    page = memory.parse_edit(PAGE, label_settings())
    assert memory.render(page) == PAGE
    assert page.sections["rules"][0].rule.hits == 6
    assert memory.parse_edit(memory.render(page), label_settings()) == page


@given(st.lists(st.from_regex(r"[A-Z][a-z]{1,8}( [a-z]{1,8}){1,6}\.", fullmatch=True), max_size=4))
def test_any_notes_are_read_back_equal(notes):
    settings = _free()
    page = Memory(sections={"history": tuple(Statement(text=note) for note in notes), "mistakes": (), "watch": ()})
    assert memory.parse_edit(memory.render(page), settings) == page


def _free():
    from schemas.settings import Settings

    return Settings(memory={"form": "free-text"})


def test_an_empty_memory_reads_as_nothing(label_settings):
    blank = memory.empty(label_settings())
    assert memory.render(blank) == ""
    assert memory.words(blank) == 0
    assert list(blank.sections) == ["focus", "rules", "notes"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Smog stays.", "line 1: 'Smog stays.' stands outside any section"),
        ("Notes:\n\nHistory:\n- x", "line 3: section 'History:' does not belong"),
        ("Rules:\n- when wind north: purple", "line 2: unknown label 'purple'"),
        ("Rules:\n- wind north is high", "line 2: no rule"),
        ("Notes:\n- " + "x" * 400, "line 2: 400 characters"),
        ("Notes:\n" + "- a note\n" * 5, "5 notes, at most 4"),
        ("Notes:\n" + ("- " + "calm " * 55 + "\n") * 4, "words, at most 200"),
    ],
)
def test_an_edit_that_cannot_be_read_is_refused_with_the_line(label_settings, text, fault):
    with pytest.raises(ValueError, match=fault):
        memory.parse_edit(text, label_settings())


def test_an_edit_makes_a_new_revision_and_says_who_and_why(label_settings):
    state = EntityState(entity="north")
    changed, entry = edited(state, label_settings(), PAGE)
    assert (entry.accepted, entry.revision, entry.cause, entry.by, entry.why) == (True, 1, "command", "ada", "seen on the roof")
    assert (entry.before, entry.after, entry.words) == ("", PAGE, len(PAGE.split()))
    assert changed.memory.revision == 1
    assert changed.revisions[-1].memory == changed.memory


def test_a_rollback_is_a_new_revision_with_old_content(label_settings):
    settings = label_settings()
    first, _ = edited(EntityState(entity="north"), settings, PAGE)
    second, _ = edited(first, settings, "Notes:\n- Calm days are bad.")
    back, entry = rolled_back(second, settings, 1)
    assert (entry.cause, entry.revision, entry.accepted) == ("rollback", 3, True)
    assert memory.render(back.memory) == PAGE
    blank, _ = rolled_back(back, settings, 0)
    assert memory.render(blank.memory) == ""


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_rules": 1}, "2 rules, at most 1"),
        ({"max_notes": 0}, "1 notes, at most 0"),
        ({"words": 20}, "words, at most 20"),
        ({"form": "free-text"}, "Rules, Notes: no section of this memory's form; it has History"),
    ],
)
def test_a_rollback_to_what_the_settings_no_longer_allow_is_refused(label_settings, limits, reason):
    state, _ = edited(EntityState(entity="north"), label_settings(), PAGE)
    blank, _ = edited(state, label_settings(), "")
    same, entry = rolled_back(blank, label_settings(memory=limits), 1)
    assert same == blank
    assert (entry.accepted, entry.cause) == (False, "rollback")
    assert reason in entry.reason


def test_a_rule_s_record_that_no_state_could_hold_is_refused(label_settings):
    with pytest.raises(ValueError, match="line 2"):
        memory.parse_edit(f"Rules:\n- when wind north: high (6 of {'6' * 30})", label_settings())


def test_a_rollback_to_what_is_no_longer_kept_is_refused(label_settings):
    state, _ = edited(EntityState(entity="north"), label_settings(), PAGE)
    same, entry = rolled_back(state, label_settings(), 7)
    assert same == state
    assert entry.reason == "revision 7 is no longer kept; there are 0 and 1"
