import pytest

from agents.claims import claim_of, refuted
from agents.conditions import describe_all
from agents.ledger import Ledger

WEATHER = [({"sky": "rain" if n % 2 else "sun", "wind": float(n % 6)}, 10.0 + (2.0 if n % 2 else -2.0), 10.0) for n in range(12)]


def read(sentence, rows, settings):
    claim = claim_of(sentence, rows, settings)
    return None if claim is None else (describe_all(claim.when), claim.then)


def test_a_label_claimed_for_a_condition_is_read(label_settings, ledger_of):
    rows = ledger_of([({"wind": "north"}, "high")] * 4)
    settings = label_settings()
    assert read("After wind from the north comes before high smog", rows, settings) == ("wind north", "high")
    assert read("north -> high", rows, settings) == ("wind north", "high")


def test_a_direction_claimed_for_a_condition_is_read(number_settings, ledger_of):
    rows = ledger_of(WEATHER)
    assert read("Rain usually makes temperatures rise", rows, number_settings()) == ("sky rain", 1)
    assert read("When wind is high, the temperature will be lower than today.", rows, number_settings()) == ("wind at least 4", -1)
    sentence = "Low wind makes the day warmer than the one before, while high wind makes it fall."
    assert read(sentence, rows, number_settings()) == ("wind below 2", 1)
    assert read("With sky rain the temperature falls because clouds raise the albedo.", rows, number_settings()) == ("sky rain", -1)
    assert read("Strong wind leads to a drop in temperature", rows, number_settings()) == ("wind at least 4", -1)


@pytest.mark.parametrize(
    "sentence",
    [
        "Rain does not make temperatures rise",
        "Temperatures rise",
        "Rain leads to higher temperatures",
        "Rain often makes temperatures rise or fall",
        "Rain matters for the temperature",
    ],
)
def test_what_cannot_be_read_without_doubt_is_no_claim(number_settings, ledger_of, sentence):
    assert read(sentence, ledger_of(WEATHER), number_settings()) is None


def test_the_ledger_refutes_a_clear_claim_and_lets_a_supported_one_stand(number_settings, state_of):
    settings = number_settings()
    ledger = Ledger(state_of(settings, WEATHER), settings)
    wrong = claim_of("Rain makes temperatures fall", ledger.rows, settings)
    right = claim_of("Rain makes temperatures rise", ledger.rows, settings)
    assert "mean adjustment of 6 such cases is +2.00" in refuted(wrong, ledger)
    assert refuted(right, ledger) == ""


def test_a_few_cases_refute_nothing(number_settings, state_of):
    settings = number_settings()
    ledger = Ledger(state_of(settings, WEATHER[:6]), settings)
    assert refuted(claim_of("Rain makes temperatures fall", ledger.rows, settings), ledger) == ""
