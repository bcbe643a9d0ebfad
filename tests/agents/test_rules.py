import random
from datetime import UTC, datetime
from math import isfinite

import pytest

from agents import memory
from agents.rules import applicable, drop_refuted, execute, matching, measure, select
from agents.sentences import rule_line
from schemas.messages import Answer
from schemas.state import Condition, EntityState, Rule

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
NORTH = Condition(field="wind", op="is", value="north")
CALM = Condition(field="wind", op="is", value="calm")
CLEAR = Condition(field="sky", op="is", value="clear")
CLOUDY = Condition(field="sky", op="is", value="cloudy")
DRY = Condition(field="sky", op="is", value="dry")
WET = Condition(field="sky", op="is", value="wet")


def rule(*when, then="high"):
    return Rule(when=tuple(when), then=then)


def guards(selection):
    return [rejection.guard for rejection in selection.rejected]


def lines(rules):
    return [rule_line(one, 1) for one in rules]


def test_code_measures_what_follows_whatever_the_rule_says(ledger_of):
    rows = ledger_of([({"wind": "north"}, "high")] * 5 + [({"wind": "south"}, "low")] * 5)
    evidence = measure(rule(NORTH, then="low"), rows)
    assert (evidence.then, evidence.hits, evidence.cases) == ("high", 5, 5)
    assert evidence.gain > 2


def test_a_condition_that_separates_nothing_gains_nothing(ledger_of):
    rows = ledger_of([({"wind": "north"}, "high" if n % 2 else "low") for n in range(16)])
    assert measure(rule(NORTH), rows).gain <= 0


def test_rows_without_a_truth_and_judged_rows_are_no_evidence(ledger_of):
    rows = ledger_of([({"wind": "north"}, "high")] * 3)
    without = [row.model_copy(update={"truth": None, "result": "missing"}) for row in rows]
    judged = [row.model_copy(update={"truth": None, "result": "judged", "verdict": 1.0}) for row in rows]
    assert measure(rule(NORTH), (*without, *judged)).cases == 0


def test_two_like_outcomes_against_a_clean_rule_are_a_change_of_regime(ledger_of):
    before = [({"wind": "north"}, "high")] * 6
    assert measure(rule(NORTH), ledger_of([*before, ({"wind": "north"}, "low")])).then == "high"
    after = measure(rule(NORTH), ledger_of([*before, *[({"wind": "north"}, "low")] * 2]))
    assert (after.then, after.cases, after.changed) == ("low", 2, True)
    later = measure(rule(NORTH), ledger_of([*before, *[({"wind": "north"}, "low")] * 4]))
    assert (later.then, later.hits, later.cases) == ("low", 4, 4)


def test_a_change_does_not_hide_that_a_rule_gains(ledger_of):
    """Measured over old and new cases together the right new rule would count as refuted."""
    rows = ledger_of(
        [({"wind": "north"}, "high"), ({"wind": "south"}, "low")] * 6 + [({"wind": "north"}, "medium"), ({"wind": "south"}, "low")] * 3
    )
    assert measure(rule(NORTH), rows).gain > 0


def test_an_adjustment_is_drawn_to_the_base_as_far_as_the_cases_are_few_or_noisy(ledger_of):
    others = [({"sky": "wet"}, 10.0 + n, 10.0) for n in (-2, 2, -1, 1, 0, 0)]
    one = measure(rule(DRY, then=0.0), ledger_of([*others, ({"sky": "dry"}, 14.0, 10.0)]))
    assert 0.5 < float(one.then) < 3.9
    many = measure(rule(DRY, then=0.0), ledger_of([*others, *[({"sky": "dry"}, 14.0 + n, 10.0) for n in (0.2, -0.2, 0.1, -0.1, 0, 0)]]))
    assert float(many.then) == pytest.approx(4.0, abs=0.3)
    assert many.spread == pytest.approx(0.1, abs=0.2)


def test_a_shift_of_a_number_is_followed_after_two_cases(ledger_of):
    noise = (0.5, -0.6, 0.2, 0.9, -0.4, 0.1, -0.7, 0.3)
    rows = [({"sky": "dry"}, 4.0 + n, 0.0) for n in noise] + [({"sky": "wet"}, -2.0 + n, 0.0) for n in noise]
    changed = measure(rule(DRY, then=0.0), ledger_of([*rows, ({"sky": "dry"}, -2.0, 0.0), ({"sky": "dry"}, -2.5, 0.0)]))
    assert changed.changed
    assert float(changed.then) < 0


def test_an_exception_matches_instead_of_its_wider_rule(label_settings):
    page = memory.parse_edit(
        "Rules:\n- when wind calm: medium\n- when wind calm and sky cloudy: low\n- when wind north: high", label_settings()
    )
    assert lines(matching(page, {"wind": "calm", "sky": "cloudy"})) == ["when wind calm and sky cloudy: low"]
    assert lines(matching(page, {"wind": "calm", "sky": "clear"})) == ["when wind calm: medium"]


def test_of_two_thresholds_that_hold_the_stricter_one_matches(number_settings):
    page = memory.parse_edit("Rules:\n- when temp at least 10: add -0.5\n- when temp at least 20: add -2.0", number_settings())
    assert lines(matching(page, {"temp": 25.0})) == ["when temp at least 20: add -2.0"]
    assert lines(matching(page, {"temp": 15.0})) == ["when temp at least 10: add -0.5"]


def test_what_is_handed_to_a_reader_never_contradicts_itself(label_settings, ledger_of):
    page = memory.parse_edit("Rules:\n- when wind north: high\n- when sky clear: low", label_settings())
    rows = ledger_of(
        [({"wind": "north", "sky": "cloudy"}, "high")] * 6 + [({"wind": "south", "sky": "clear"}, label) for label in ("high", "low") * 3]
    )
    assert lines(one for one, _ in applicable(page, {"wind": "north", "sky": "clear"}, rows)) == ["when wind north: high"]


def test_code_can_follow_the_memory_by_itself(label_settings, number_settings, ledger_of):
    labels = memory.parse_edit("Rules:\n- when wind north: low", label_settings())
    rows = ledger_of([({"wind": "north"}, "high")] * 4 + [({"wind": "south"}, "low")] * 4)
    assert execute(labels, {"wind": "north"}, None, rows) == "high", "the live record decides, not the text"
    assert execute(labels, {"wind": "south"}, None, rows) is None
    numbers = memory.parse_edit("Rules:\n- when sky dry: add +4.0", number_settings())
    assert execute(numbers, {"sky": "dry"}, 10.0, ()) == pytest.approx(14.0)
    assert execute(numbers, {"sky": "dry"}, None, ()) is None


def test_adjustments_as_large_as_floats_go_are_measured_and_followed(number_settings, ledger_of):
    rows = ledger_of([({"sky": "dry"}, sign * 1.7e308, -sign * 1.7e308) for sign in (1, -1)] * 5 + [({"sky": "dry"}, 1e200, 0.0)])
    evidence = measure(rule(DRY, then=0.0), rows)
    assert all(isfinite(number) for number in (evidence.then, evidence.spread, evidence.gain))
    for page in ("add +4.0", f"add +{'9' * 250}"):
        numbers = memory.parse_edit(f"Rules:\n- when sky dry: {page}", number_settings())
        assert isfinite(execute(numbers, {"sky": "dry"}, 1.7e308, rows))
        assert isfinite(execute(numbers, {"sky": "dry"}, 1.7e308, ()))


def test_adjustments_whose_squares_are_nothing_are_measured(ledger_of):
    evidence = measure(rule(DRY, then=0.0), ledger_of([({"sky": "dry"}, 5e-324, 0.0), ({"sky": "wet"}, 5e-324, 0.0)]))
    assert evidence.then == pytest.approx(0.0)


def test_a_first_sighting_is_let_in_as_tentative(label_settings, ledger_of):
    rows = ledger_of([({"wind": "north"}, "high"), ({"wind": "south"}, "low")])
    selection = select(memory.empty(label_settings()), [(NORTH,)], rows, label_settings())
    assert lines(selection.rules) == ["when wind north: high (1 of 1, tentative)"]


def test_what_never_occurred_what_is_mixed_and_what_gains_nothing_is_refused(label_settings, ledger_of):
    rows = ledger_of(
        [({"wind": "calm", "sky": "clear"}, "low"), ({"wind": "calm", "sky": "clear"}, "high")]
        + [({"wind": "south", "sky": "cloudy"}, "high" if n % 2 else "low") for n in range(8)]
    )
    selection = select(memory.empty(label_settings()), [(NORTH,), (CALM,), (CLOUDY,)], rows, label_settings())
    assert selection.rules == ()
    assert guards(selection) == ["no-case", "mixed", "no-gain"]


def test_a_rule_that_contradicts_a_proven_one_is_refused(label_settings, ledger_of):
    settings = label_settings()
    held = memory.parse_edit("Rules:\n- when wind north: high", settings)
    rows = ledger_of(
        [({"wind": "north", "sky": "cloudy"}, "high")] * 6
        + [({"wind": "south", "sky": "clear"}, "low")] * 7
        + [({"wind": "north", "sky": "clear"}, "high"), ({"wind": "north", "sky": "clear"}, "low")]
    )
    selection = select(held, [(CLEAR,)], rows, settings)
    assert lines(selection.rules) == ["when wind north: high (7 of 8)"]
    assert guards(selection) == ["contradiction"]


def test_a_spurious_rule_that_fits_the_latest_cases_does_not_push_a_proven_one_out(number_settings, ledger_of):
    """`forecast below 15` happened to hold on dry days only, and took `sky wet` out of the memory for ten steps."""
    settings = number_settings()
    held = memory.parse_edit("Rules:\n- when sky wet: add -2.0\n- when sky dry: add +4.0", settings)
    rows = ledger_of(
        [({"sky": "wet", "level": 20.0}, -2.0 + n, 0.0) for n in (0.1, -0.2, 0.3, 0.0, -0.1)]
        + [({"sky": "dry", "level": 18.0}, 4.0 + n, 0.0) for n in (0.1, -0.2, 0.3, 0.0, -0.1)]
        + [({"sky": "dry", "level": 10.0}, 4.0, 0.0)] * 3
    )
    low = Condition(field="level", op="below", value=15.0)
    selection = select(held, [(low,)], rows, settings)
    assert {one.when for one in selection.rules} >= {(WET,), (DRY,)}


def test_a_narrow_rule_that_only_repeats_a_clean_wide_one_is_redundant(label_settings, ledger_of):
    settings = label_settings()
    rows = ledger_of(
        [({"wind": "north", "sky": sky}, "high") for sky in ("clear", "cloudy") * 5] + [({"wind": "south", "sky": "clear"}, "low")] * 10
    )
    selection = select(memory.parse_edit("Rules:\n- when wind north: high", settings), [(NORTH, CLEAR)], rows, settings)
    assert lines(selection.rules) == ["when wind north: high (8 of 8)"]
    assert guards(selection) == ["redundant"]


def test_an_impure_wide_rule_gives_way_to_the_narrow_one_that_says_the_same(label_settings, ledger_of):
    settings = label_settings()
    rows = ledger_of(
        [
            ({"wind": "calm", "sky": sky}, label)
            for sky, label in (("clear", "medium"), ("cloudy", "low"), ("clear", "medium"), ("cloudy", "high"), ("clear", "medium")) * 2
        ]
        + [({"wind": "south", "sky": "clear"}, "low")] * 12
    )
    selection = select(memory.parse_edit("Rules:\n- when wind calm: medium", settings), [(CALM, CLEAR)], rows, settings)
    assert [one.when for one in selection.rules] == [(CLEAR, CALM)]
    assert guards(selection) == ["redundant"]


def test_no_more_rules_are_kept_than_allowed_and_the_weakest_goes(label_settings, ledger_of):
    settings = label_settings(memory={"max_rules": 2})
    rows = ledger_of(
        [({"wind": "north"}, "high")] * 5 + [({"wind": "south"}, "low")] * 5 + [({"wind": "calm"}, "medium")] + [({"wind": "south"}, "low")]
    )
    south = Condition(field="wind", op="is", value="south")
    selection = select(memory.empty(settings), [(CALM,), (NORTH,), (south,)], rows, settings)
    assert len(selection.rules) == 2
    assert guards(selection) == ["capacity"]


def test_the_newest_outcomes_refute_a_rule_and_it_may_come_back(label_settings, state_of):
    settings = label_settings()
    before = [({"wind": "north"}, "high"), ({"wind": "south"}, "low")] * 4
    state = state_of(settings, before, page="Rules:\n- when wind north: high (4 of 4)\nNotes:\n- North wind is rare.")
    assert drop_refuted(state, settings, now=NOON) == (state, None)
    changed = state_of(settings, [*before, *[({"wind": "north"}, "medium")] * 2], page=memory.render(state.memory))
    dropped, revision = drop_refuted(changed, settings, now=NOON)
    assert revision is not None
    assert (revision.cause, revision.accepted, revision.revision) == ("rule-dropped", True, 1)
    assert revision.after == "Notes:\n- North wind is rare."
    assert [one.guard for one in revision.rejected] == ["refuted"]
    back = select(dropped.memory, [(NORTH,)], changed.resolved, settings)
    assert lines(back.rules) == ["when wind north: medium (2 of 2, tentative)"]


def test_a_frozen_memory_keeps_even_a_refuted_rule(label_settings, state_of):
    state = state_of(label_settings(), [({"wind": "north"}, "low")] * 4, page="Rules:\n- when wind north: high")
    frozen = state.model_copy(update={"frozen": True})
    assert drop_refuted(frozen, label_settings(), now=NOON) == (frozen, None)


def test_a_numeric_rule_is_refuted_by_another_adjustment(number_settings, state_of):
    settings = number_settings()
    cases = [({"sky": "dry"}, -3.0, 0.0), ({"sky": "dry"}, -3.2, 0.0), ({"sky": "wet"}, 3.0, 0.0), ({"sky": "wet"}, 3.1, 0.0)] * 3
    state = state_of(settings, cases, page="Rules:\n- when sky dry: add +4.0 (6 cases, spread 0.5)")
    _, revision = drop_refuted(state, settings, now=NOON)
    assert revision is not None and "not add +4.0" in revision.reason


def test_on_noise_rules_come_and_go_but_never_contradict_each_other(label_settings, ledger_of):
    settings = label_settings()
    draw = random.Random(7)
    cases = [
        ({"wind": draw.choice(["north", "south", "calm"]), "sky": draw.choice(["clear", "cloudy"])}, draw.choice(settings.target.labels))
        for _ in range(80)
    ]
    page = memory.empty(settings)
    for step in range(10, 80, 5):
        rows = ledger_of(cases[:step])
        proposed = [(draw.choice([NORTH, CALM]), draw.choice([CLEAR, CLOUDY])), (draw.choice([NORTH, CALM, CLEAR, CLOUDY]),)]
        selection = select(page, proposed, rows, settings)
        assert len({frozenset(one.when) for one in selection.rules}) == len(selection.rules) <= settings.memory.max_rules
        for case in cases:
            said = {evidence.then for _, evidence in applicable(page, case[0], rows)}
            assert len(said) <= 1
        page = page.model_copy(
            update={"sections": {"rules": tuple(memory.Statement(text=rule_line(one, 1), rule=one) for one in selection.rules)}}
        )


def test_forecasts_and_flags_of_a_row_play_no_part(ledger_of):
    rows = ledger_of([({"wind": "north"}, "high")] * 4)
    odd = tuple(row.model_copy(update={"forecast": Answer(value="low"), "miss": True}) for row in rows)
    assert measure(rule(NORTH), rows) == measure(rule(NORTH), odd)


def test_a_state_without_rules_is_left_alone(label_settings):
    blank = EntityState(entity="north")
    assert drop_refuted(blank, label_settings(), now=NOON) == (blank, None)
