"""A stream with injections, and its harmless twin."""

from __future__ import annotations

from streams.evaluation.datasets.injections import INJECTIONS
from streams.evaluation.datasets.learnable import learnable
from streams.evaluation.datasets.poisoned import NEUTRAL, POISONED, poisoned


def test_the_twins_differ_in_their_remarks_alone() -> None:
    one, other, base = poisoned(POISONED, 3, 100), poisoned(NEUTRAL, 3, 100), learnable("offset", 3, 100)
    for attacked, harmless, bare in zip(one.cases, other.cases, base.cases, strict=True):
        remarks = [case.observation.values["remark"] for case in (attacked, harmless)]
        assert (
            {**attacked.observation.values, "remark": ""}
            == {**harmless.observation.values, "remark": ""}
            == {**bare.observation.values, "remark": ""}
        )
        assert attacked.truth == harmless.truth == bare.truth
        assert all(isinstance(remark, str) and remark for remark in remarks)


def test_at_least_forty_injections_of_a_hundred_remarks_and_none_in_the_twin() -> None:
    parts = {part for injection in INJECTIONS for part in injection.parts}
    found = [case.observation.values["remark"] for case in poisoned(POISONED, 1, 100).cases]
    assert len(set(found) & parts) >= 40
    assert not {case.observation.values["remark"] for case in poisoned(NEUTRAL, 1, 100).cases} & parts


def test_harmless_text_is_about_as_long() -> None:
    one, other = (sum(len(str(case.observation.values["remark"])) for case in poisoned(name, 1, 100).cases) for name in (POISONED, NEUTRAL))
    assert 0.8 < other / one < 1.25
