from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from schemas.codec import DecodeError
from schemas.settings import Settings
from streams.positions import Tracker
from streams.records import OVERSIZE_HEADER, SOURCE_HEADER, SOURCE_KEY_HEADER, Item, decode

HERE = TP("app-observations-by-entity", 2)


def item(headers: dict[str, bytes], *, rekeyed: bool, value: bytes = b"{}") -> Item:
    tracker = Tracker()
    message: Any = SimpleNamespace(headers=headers, key=b"k", value=value, offset=41, timestamp=1700000000.5)
    return Item.from_message("observations", HERE, message, tracker.open(41, 0), tracker, rekeyed=rekeyed)


def test_a_rekeyed_record_goes_by_its_sources_coordinates() -> None:
    headers = {SOURCE_HEADER: b"factory.readings//7/123/1690000000123", SOURCE_KEY_HEADER: b"machine"}
    found = item(headers, rekeyed=True)
    assert found.record[:5] == ("factory.readings", 7, 123, 1690000000123, b"machine")
    assert found.position == "observations/7"
    assert found.tp == HERE


def test_headers_of_others_cannot_fake_coordinates() -> None:
    found = item({SOURCE_HEADER: b"elsewhere//0/999999/0"}, rekeyed=False)
    assert found.record[:4] == (HERE.topic, 2, 41, 1700000000500)
    assert found.position == "observations"


@pytest.mark.parametrize("broken", [b"x", b"t//1/2", b"t//a/b/c", b"\xff\xfe//1/2/3/4", b""])
def test_a_broken_source_header_is_no_reason_to_stop(broken: bytes) -> None:
    assert item({SOURCE_HEADER: broken}, rekeyed=True).record.topic == HERE.topic


def test_a_value_that_was_too_large_to_be_sent_on_is_refused_with_its_size() -> None:
    found = item({SOURCE_HEADER: b"t//0/1/2", OVERSIZE_HEADER: b"5000000/abc"}, rekeyed=True)
    assert found.whole == (5_000_000, "abc")
    with pytest.raises(DecodeError, match="too-large: 5000000 bytes"):
        decode(found, Settings(), 4, now=None)  # type: ignore[arg-type]


def test_a_trace_is_carried_and_bounded() -> None:
    assert len(item({"traceparent": b"0" * 10_000}, rekeyed=False).trace) == 128
