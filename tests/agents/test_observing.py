from agents.observing import facts, truth_text, with_unit


def test_fields_stand_in_the_settings_order_or_by_name(label_settings):
    values = {"wind": 2.50, "open": True, "sky": "clear"}
    assert facts(values, label_settings()) == "open yes, sky clear, wind 2.5"
    mapped = label_settings(observations={"values": {"wind": "w", "sky": "s", "rain": "r"}})
    assert facts(values, mapped) == "wind 2.5, sky clear"


def test_only_numbers_flags_labels_and_listed_texts_are_shown(label_settings):
    values = {"note": "a\nb", "sky": "clear\nsky", "x; drop": 1, "long": "w" * 41, "n": 1}
    assert facts(values, label_settings()) == "n 1"
    assert facts(values, label_settings(observations={"text_fields": ["note"]})) == "n 1, note «a b»"
    assert facts({}, label_settings()) == "nothing measured"


def test_a_number_has_the_target_s_decimals_and_unit(number_settings, label_settings, text_settings):
    assert truth_text(3.14159, number_settings()) == "3.1"
    assert truth_text("high", label_settings()) == "high"
    assert truth_text("two words", text_settings()) == "«two words»"
    assert with_unit(3.0, number_settings()) == "3.0 C"
    assert with_unit(3.0, label_settings()) == "3.0"
