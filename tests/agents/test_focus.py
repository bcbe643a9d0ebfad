"""Where records are wide, the memory names the fields that matter, and rows show these."""

from __future__ import annotations

import pytest

from agents import focus
from agents.memory import parse_edit, render
from agents.rules import Cases
from schemas.settings import Settings
from schemas.state import Condition, Memory, Rule, Statement


@pytest.fixture
def settings() -> Settings:
    return Settings(target={"kind": "category", "labels": ("low", "high")})


def rows_of(ledger_of, count: int, fields: int):
    return ledger_of([({f"f{n}": "ab"[(row + n) % 2] for n in range(fields)}, "high" if row % 2 else "low") for row in range(count)])


def named(*fields: str) -> Memory:
    return Memory(sections={"focus": (focus.statement_of(fields),)})


def test_narrow_records_need_no_choice(settings, ledger_of) -> None:
    rows = rows_of(ledger_of, 4, focus.WIDE - 1)
    assert focus.choices(Memory(), Cases.of(rows), rows, settings) == ()


def test_of_wide_records_all_plain_fields_are_offered(settings, ledger_of) -> None:
    rows = rows_of(ledger_of, 4, focus.WIDE)
    assert focus.choices(Memory(), Cases.of(rows), rows, settings) == tuple(sorted(f"f{n}" for n in range(focus.WIDE)))


def test_fields_that_were_named_stay_until_they_have_had_their_trial(settings, ledger_of) -> None:
    rows = rows_of(ledger_of, focus.TRIAL - 1, focus.WIDE)
    assert focus.choices(named("f1"), Cases.of(rows), rows, settings) == ()


def test_fields_on_which_no_rule_is_borne_out_are_not_offered_again(settings, ledger_of) -> None:
    rows = rows_of(ledger_of, focus.TRIAL, focus.WIDE)
    offered = focus.choices(named("f1"), Cases.of(rows), rows, settings)
    assert "f1" not in offered
    assert len(offered) == focus.WIDE - 1


def test_a_rule_that_is_borne_out_keeps_its_field(settings, ledger_of) -> None:
    rows = rows_of(ledger_of, focus.TRIAL, focus.WIDE)
    rule = Rule(when=(Condition(field="f1", op="is", value="b"),), then="low")
    memory = named("f1").model_copy(update={"sections": {**named("f1").sections, "rules": (Statement(text="r", rule=rule),)}})
    assert focus.choices(memory, Cases.of(rows), rows, settings) == ()


def test_rows_show_the_fields_that_are_named_or_have_a_rule(settings) -> None:
    assert focus.shown(Memory(), {"f1": "a", "f2": "b"}, settings) is None
    assert focus.shown(named("f2", "gone"), {"f1": "a", "f2": "b"}, settings) == {"f2"}


def test_a_person_edits_the_fields_as_any_other_section(settings) -> None:
    memory = parse_edit("Fields that matter:\n- f1, f2\n", settings)
    assert focus.fields_of(memory) == ("f1", "f2")
    assert parse_edit(render(memory), settings) == memory
