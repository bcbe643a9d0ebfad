from streams.due import DueIndex


def test_entities_come_up_when_they_are_due_and_once() -> None:
    index = DueIndex()
    index.set("late", 300)
    index.set("early", 100)
    assert index.pop(99) == []
    assert index.pop(200) == [("early", 100)]
    assert index.pop(400) == [("late", 300)]
    assert len(index) == 0


def test_a_new_due_time_replaces_the_old_one() -> None:
    index = DueIndex()
    index.set("a", 100)
    index.set("a", 500)
    assert index.pop(200) == []
    index.set("a", None)
    assert index.pop(1_000) == []


def test_stored_due_times_do_not_undo_newer_ones() -> None:
    index = DueIndex()
    index.set("handled", None)
    index.load([("handled", 100), ("untouched", 100)])
    assert index.pop(1_000) == [("untouched", 100)]


def test_due_times_that_are_replaced_again_and_again_do_not_pile_up() -> None:
    index = DueIndex()
    for number in range(10_000):
        index.set(f"e{number % 10}", 1_000_000 + number)
    assert len(index) == 10
    assert index.entries < 100
    assert index.pop(2_000_000) == [(f"e{number % 10}", 1_000_000 + number) for number in range(9_990, 10_000)]
