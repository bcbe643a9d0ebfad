"""RocksDB against the changelog: same keys and bytes up to the record that it goes to."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from streams.state.following import Follower
from streams.state.store import StoreContent, digest
from streams.table import Mark

LOG: Sequence[tuple[bytes, bytes | None]] = [(b"ea", b"1"), (b"eb", b"1"), (b"ea", b"2"), (b"eb", None), (b"ea", b"3"), (b"ec", b"1")]


class Record(NamedTuple):
    offset: int
    key: bytes | None
    value: bytes | None

    @property
    def timestamp(self) -> int:
        return 1_000 + self.offset


def follow(log: Sequence[Record], content: StoreContent) -> Follower:
    follower = Follower(content.mark)
    for record in log:
        follower.take(record)  # type: ignore[arg-type]
    return follower


def records(log: Sequence[tuple[bytes, bytes | None]] = LOG) -> list[Record]:
    return [Record(offset, key, value) for offset, (key, value) in enumerate(log)]


def store(offset: int | None, held: dict[bytes, bytes]) -> StoreContent:
    mark = None if offset is None else Mark(offset, 1_000 + offset, 0)
    return StoreContent(mark, {key: digest(value) for key, value in held.items()})


def slugs(log: Sequence[Record], content: StoreContent) -> list[tuple[bytes, str]]:
    follower = follow(log, content)
    assert follower.stale(content, len(log)) == ""
    return [(key, slug) for key, slug, _ in follower.differences(content)]


def test_a_rocksdb_that_followed_has_no_differences_however_far_it_came() -> None:
    assert slugs(records(), store(2, {b"ea": b"2", b"eb": b"1"})) == []
    assert slugs(records(), store(5, {b"ea": b"3", b"ec": b"1"})) == []
    assert slugs([], store(None, {})) == []


def test_what_it_has_otherwise_is_told_by_key() -> None:
    assert slugs(records(), store(2, {b"ea": b"1", b"eb": b"1"})) == [(b"ea", "store-differs")]
    assert slugs(records(), store(5, {b"ea": b"3", b"ec": b"1", b"ex": b"1"})) == [(b"ex", "store-surplus")]
    assert slugs(records(), store(5, {b"ea": b"3", b"eb": b"1", b"ec": b"1"})) == [(b"eb", "store-surplus")]
    assert slugs(records(), store(5, {b"ec": b"1"})) == [(b"ea", "store-lacks")]
    assert slugs(records(), store(None, {b"ea": b"3"})) == [(b"ea", "store-unmarked")]


def test_one_that_goes_beyond_the_end_or_to_a_record_that_is_another_now_is_of_another_log() -> None:
    beyond = store(9, {})
    assert "ends at 6" in follow(records(), beyond).stale(beyond, 6)
    other = StoreContent(Mark(2, 77, 0), {})
    assert "offset 2" in follow(records(), other).stale(other, 6)
    old = StoreContent(Mark(2, 1_002, 500), {})
    assert follow(records(), old).stale(old, 6, oldest=500) == ""
    assert "deletions" in follow(records(), old).stale(old, 6, oldest=501)
    compacted = store(2, {})
    assert "not in the changelog any more" in follow([r for r in records() if r.offset != 2], compacted).stale(compacted, 6)


@given(
    log=st.lists(st.tuples(st.sampled_from([b"ea", b"eb", b"ec"]), st.sampled_from([b"1", b"2", None])), min_size=1, max_size=20),
    data=st.data(),
)
def test_compaction_makes_no_differences(log: list[tuple[bytes, bytes | None]], data: Any) -> None:
    whole = records(log)
    goes_to = data.draw(st.integers(0, len(whole) - 1))
    held: dict[bytes, bytes] = {}
    for record in whole[: goes_to + 1]:
        assert record.key is not None
        if record.value is None:
            held.pop(record.key, None)
        else:
            held[record.key] = record.value
    content = store(goes_to, held)
    gone: set[int] = set()
    for key in {record.key for record in whole}:
        *replaced, last = [record for record in whole if record.key == key]
        # The oldest go first. A deletion goes too, when all before it are gone; not so soon that RocksDB had no time to follow it.
        candidates = [record.offset for record in replaced] + [last.offset] * (last.value is None and last.offset < goes_to)
        gone |= set(candidates[: data.draw(st.integers(0, len(candidates)))])
    gone.discard(goes_to)
    left = [record for record in whole if record.offset not in gone]
    follower = follow(left, content)
    assert follower.stale(content, len(whole)) == ""
    assert list(follower.differences(content)) == []
