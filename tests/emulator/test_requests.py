import json

import pytest

from tests.emulator.requests import FOREVER, NotGenerated, Refused, check_format, check_options, read_chat, read_duration


@pytest.mark.parametrize(
    ("found", "seconds"),
    [(-1, FOREVER), (0, 0.0), (2.9, 2.0), ("10m", 600.0), ("1h30m", 5400.0), ("1.5s", 1.5), ("-1s", FOREVER), ("0", 0.0), ("250ms", 0.25)],
)
def test_a_time_is_read_as_go_reads_it(found, seconds) -> None:
    assert read_duration(found) == seconds


@pytest.mark.parametrize(
    ("found", "fault"), [("-1", "missing unit"), ("soon", "invalid"), ("5y", "invalid"), ("", "invalid"), (True, "bool")]
)
def test_a_time_that_go_does_not_read_is_refused(found, fault) -> None:
    with pytest.raises(Refused, match=fault) as caught:
        read_duration(found)
    assert caught.value.status == 400


@pytest.mark.parametrize(("num_ctx", "num_predict", "most"), [(4096, 32, 32), (4096, -1, 40_960), (4096, 50_000, 40_960), (2, 0, None)])
def test_an_answer_is_bound_by_ten_windows_unless_its_bound_is_none(num_ctx, num_predict, most) -> None:
    request = read_chat(json.dumps({"model": "m", "options": {"num_ctx": num_ctx, "num_predict": num_predict}}).encode())
    assert request.most_tokens == most
    assert request.window == max(4, num_ctx)


def test_only_options_by_which_a_model_is_loaded_make_a_difference_to_loading() -> None:
    def loading(**options):
        return read_chat(json.dumps({"model": "m", "options": options}).encode()).loading

    assert loading(num_predict=1, seed=2, temperature=0.5) == loading() == loading(num_ctx=4096)
    assert loading(num_ctx=2048) != loading()
    assert loading(num_thread=2) != loading()


def test_what_is_no_integer_or_no_format_is_refused() -> None:
    with pytest.raises(Refused, match='option "num_ctx" must be of type integer'):
        check_options({"num_ctx": "many"})
    check_options({"num_ctx": 4096, "stop": ["x"]})
    with pytest.raises(NotGenerated, match='invalid format: "5"'):
        check_format(5)
    for fine in (None, "json", {"type": "object"}):
        check_format(fine)
