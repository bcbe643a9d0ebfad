"""Tests of `streams.demo.revision`."""

from __future__ import annotations

from rich.text import Text

from streams.demo.revision import ADDED, REMOVED, changes, plain_changes

BEFORE = "# Rules\n- when wind below 3: add +1.0\n- old rule"
AFTER = "# Rules\n- when wind below 4: add +1.0\n- entirely new words here"


def styled(text: Text, style: str) -> list[str]:
    return [text.plain[span.start : span.end] for span in text.spans if span.style == style]


def test_removed_words_are_struck_and_added_ones_set_off() -> None:
    text = changes("- when wind below 3: add +1.0", "- when wind below 4: add +1.0")
    assert (styled(text, REMOVED), styled(text, ADDED)) == (["3:"], ["4:"])
    assert text.plain == "- when wind below 3: 4: add +1.0"


def test_unchanged_lines_stay_plain_and_others_come_and_go_whole() -> None:
    text = changes(BEFORE, AFTER)
    assert text.plain.splitlines()[0] == "# Rules"
    assert "- old rule" in styled(text, REMOVED)
    assert "- entirely new words here" in styled(text, ADDED)


def test_a_first_memory_is_all_new_and_an_emptied_one_all_gone() -> None:
    assert styled(changes("", AFTER), ADDED) == AFTER.splitlines()
    assert styled(changes(BEFORE, ""), REMOVED) == BEFORE.splitlines()
    assert changes("", "").plain == "(empty)"


def test_a_log_tells_changed_lines_only() -> None:
    assert plain_changes(BEFORE, AFTER) == [
        "- - when wind below 3: add +1.0",
        "- - old rule",
        "+ - when wind below 4: add +1.0",
        "+ - entirely new words here",
    ]
    assert plain_changes(AFTER, AFTER) == []
