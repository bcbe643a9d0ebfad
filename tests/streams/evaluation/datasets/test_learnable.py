"""The learnable streams: drawn from the seed, with a rule that changes, and words that held-out seeds have for themselves."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from streams.evaluation.dataset import DatasetError
from streams.evaluation.datasets import learnable, wordings
from streams.evaluation.datasets.learnable import FAMILIES, HELD_OUT_FROM

SEEDS = (1, 2, HELD_OUT_FROM, HELD_OUT_FROM + 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_seeds_give_equal_streams_and_others_give_others(family) -> None:
    assert learnable.learnable(family, 7).digest == learnable.learnable(family, 7).digest
    assert len({learnable.learnable(family, seed).digest for seed in range(7, 17)}) == 10


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_truth_is_known_when_the_next_observation_comes(family, seed) -> None:
    cases = learnable.learnable(family, seed, 20).cases
    assert all(case.known_at == after.observation.time for case, after in pairwise(cases))
    assert len({case.observation.id for case in cases}) == 20


@pytest.mark.parametrize("family", ["mapping", "paraphrased"])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_level_can_come_true_before_and_after_the_change(family, seed) -> None:
    cases = learnable.learnable(family, seed, 2000).cases
    assert set(Counter(case.truth for case in cases[:1000])) == set(Counter(case.truth for case in cases[1000:])) == set(learnable.LEVELS)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_station_s_class_is_nearly_always_the_one_that_the_rule_says(seed) -> None:
    cases = learnable.learnable("mapping", seed, 1000).cases[:500]
    by_station: dict[str, Counter] = {}
    for case in cases:
        by_station.setdefault(str(case.observation.values["station"]), Counter())[case.truth] += 1
    right = sum(counts.most_common(1)[0][1] for counts in by_station.values())
    assert 0.9 < right / 500 < 1.0
    assert min(counts.total() for counts in by_station.values()) < 500 / 10


@pytest.mark.parametrize("seed", SEEDS)
def test_an_offset_is_the_same_wherever_its_label_is(seed) -> None:
    data = learnable.learnable("offset", seed, 400)
    deciding = data.rules[0].split()[2]
    by_label: dict[str, list[float]] = {}
    for case in data.cases[:200]:
        by_label.setdefault(str(case.observation.values[deciding]), []).append(case.truth - case.observation.values["forecast"])
    spreads = [max(found) - min(found) for found in by_label.values()]
    means = [sum(found) / len(found) for found in by_label.values()]
    assert max(spreads) < 8 * 0.8
    assert max(means) - min(means) > 3


def test_held_out_seeds_share_no_wording_and_no_scene_with_others() -> None:
    tuned = {note for notes in wordings.TUNED.values() for note in notes}
    held_out = {note for notes in wordings.HELD_OUT.values() for note in notes}
    assert not tuned & held_out
    assert len(tuned) == sum(map(len, wordings.TUNED.values()))
    scenes = [{name for scene in found for name in scene.fields} for found in (wordings.SCENES_TUNED, wordings.SCENES_HELD_OUT)]
    assert not scenes[0] & scenes[1]
    assert not dict(wordings.DISTRACTORS_TUNED).keys() & dict(wordings.DISTRACTORS_HELD_OUT).keys()


def test_notes_of_a_held_out_seed_are_held_out_wordings() -> None:
    for seed, known in ((3, wordings.TUNED), (HELD_OUT_FROM + 3, wordings.HELD_OUT)):
        data = learnable.learnable("paraphrased", seed)
        assert data.held_out == (seed >= HELD_OUT_FROM)
        wording = [note for notes in known.values() for note in notes]
        assert all(any(str(case.observation.values["note"]).startswith(text) for text in wording) for case in data.cases)


def test_twenty_fields_of_which_two_decide() -> None:
    data = learnable.learnable("many-fields", 1)
    assert {len(case.observation.values) for case in data.cases} == {20}
    assert data.configured().target.labels == learnable.LEVELS


@pytest.mark.parametrize(("family", "steps"), [("weather", 10), ("offset", 1)])
def test_what_is_not_there_is_refused(family, steps) -> None:
    with pytest.raises(DatasetError):
        learnable.learnable(family, 1, steps)
