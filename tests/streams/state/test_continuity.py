"""Which inputs are the topics they were, and where reading goes on."""

from __future__ import annotations

from typing import Any

import pytest

from streams.cluster import Span
from streams.errors import DumpError
from streams.state.continuity import Present, judge
from streams.state.dump import Input

THEN = Input(topic="readings", id="A", keyed=True, ends=(10, 20), positions=(8, 20))


def now(*spans: tuple[int, int], **changes: Any) -> Present:
    about: dict[str, Any] = {"topic": "readings", "id": "A", "keyed": True, **changes}
    return Present(**about, spans=[Span(*span) for span in spans or ((0, 12), (5, 20))])


def test_the_same_topic_goes_on_where_it_was_left() -> None:
    passage = judge(THEN, now(), {0: 9, 1: 19}, "auto")
    assert (passage.kept, passage.positions, passage.stranded) == (True, {0: 8, 1: 20}, 0)


def test_partitions_that_were_added_begin_at_their_first_record_and_what_was_not_read_by_then_is_counted() -> None:
    grown = now((0, 12), (0, 20), (3, 9))
    passage = judge(THEN, grown, {0: 9}, "auto")
    assert (passage.positions, passage.stranded) == ({0: 8, 1: 20, 2: 3}, 4)
    placed_by_entity = judge(THEN, now((0, 12), (0, 20), (3, 9), keyed=False), {0: 9}, "auto")
    assert (placed_by_entity.positions, placed_by_entity.stranded) == ({0: 8, 1: 20, 2: 3}, 0)


def test_an_input_that_nothing_was_read_of_begins_as_a_new_one() -> None:
    unread = THEN.model_copy(update={"positions": (None, None)})
    assert judge(unread, now((0, 12), (0, 20), (3, 9)), {}, "auto").positions == {}


@pytest.mark.parametrize(
    ("then", "present", "furthest", "why"),
    [
        (THEN, now(topic="others"), {}, "readings was read before"),
        (THEN, now(id="B"), {0: 9}, "made anew since the export"),
        (THEN, now(), {0: 10}, "offset 10 of partition 0 was applied, and it ended at 10"),
        (THEN, now(), {7: 0}, "offset 0 of partition 7 was applied, and it ended at 0"),
        (THEN.model_copy(update={"positions": (11, 20)}), now(), {0: 9}, "partition 0 was read to offset 11, and it ended at 10"),
        (THEN.model_copy(update={"id": None}), now((0, 12)), {0: 9}, "it has 1 partitions, it had 2"),
        (None, now(), {}, "the export did not read it"),
    ],
)
def test_another_topic_begins_anew(then: Input | None, present: Present, furthest: dict[int, int], why: str) -> None:
    passage = judge(then, present, furthest, "auto")
    assert (passage.kept, passage.positions) == (False, {})
    assert why in passage.why


@pytest.mark.parametrize(
    ("then", "present", "furthest", "why"),
    [
        (THEN.model_copy(update={"id": None}), now(), {0: 9}, "no ids"),
        (THEN, now(id=None), {0: 9}, "no ids"),
        (THEN.model_copy(update={"positions": (None, 20)}), now(), {0: 9}, "no position"),
        (THEN, now((0, 7), (0, 20)), {0: 9}, "partition 0 was read to offset 8, and it ends at 7"),
    ],
)
def test_what_cannot_be_told_is_asked(then: Input, present: Present, furthest: dict[int, int], why: str) -> None:
    with pytest.raises(DumpError, match=r"--positions keep.*--positions drop") as caught:
        judge(then, present, furthest, "auto")
    assert why in str(caught.value)
    assert not judge(then, present, furthest, "drop").kept


def test_it_can_be_said_and_what_cannot_be_kept_is_refused_all_the_same() -> None:
    assert judge(THEN, now(id="B"), {0: 12}, "keep").positions == {0: 8, 1: 20}
    for present in (now((0, 12)), now((0, 7), (0, 20))):
        with pytest.raises(DumpError, match="cannot be kept"):
            judge(THEN, present, {}, "keep")
