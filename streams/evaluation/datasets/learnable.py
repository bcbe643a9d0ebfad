"""Streams with a hidden rule that changes half-way: what a memory can learn where there is something to learn.

Everything is drawn from the seed, rules and wordings included. Seeds from `HELD_OUT_FROM` on are for reports and nothing is tuned on them;
the families whose words matter (`paraphrased`, `many-fields`) draw there from words and settings that no other seed uses.

offset
    A reference forecast errs by a constant that one of three label fields decides.
mapping
    A station's code decides the class; some codes come back less often than a ledger's window holds.
paraphrased
    A short note decides the class by what it is about, in varied wording; no two notes need be alike.
many-fields
    Twenty label fields, of which two decide the class; their names are a hint.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from schemas.messages import Observation, Scalar, Value
from streams.evaluation.dataset import Case, Dataset, DatasetError
from streams.evaluation.datasets import wordings

HELD_OUT_FROM = 1000
FAMILIES = ("offset", "mapping", "paraphrased", "many-fields")
#: Labelled steps where none are asked for; the rule changes after half of them.
STEPS = 100
LEVELS = ("low", "medium", "high")
#: Share of class labels that are drawn anew, whatever the rule says.
NOISE = 0.06
_BEGIN = datetime(2026, 3, 2, 6, tzinfo=UTC)
_STEP = timedelta(hours=1)


class _Stream(NamedTuple):
    title: str
    settings: Mapping[str, Any]
    #: One observation's values and its truth, by the regime (0 before the change, 1 after it).
    draw: Callable[[int], tuple[dict[str, Scalar], Value]]
    rules: tuple[str, ...]


def learnable(family: str, seed: int, steps: int = STEPS) -> Dataset:
    """A stream of one family.

    Raises
    ------
    DatasetError
        There is no such family, or fewer than 2 steps are asked for.
    """
    makers = {"offset": _offset, "mapping": _mapping, "paraphrased": _paraphrased, "many-fields": _many_fields}
    if family not in makers:
        raise DatasetError(f"there is no learnable family {family!r}; one of {', '.join(FAMILIES)}")
    if steps < 2:
        raise DatasetError(f"a learnable stream changes half-way: at least 2 steps, not {steps}")
    held_out = seed >= HELD_OUT_FROM
    draws = random.Random(f"{family}/{seed}")
    stream = makers[family](draws, held_out)
    cases = []
    for step in range(steps):
        values, truth = stream.draw(int(step >= steps // 2))
        time = _BEGIN + step * _STEP
        observation = Observation(entity="plant", id=f"{family}-{seed}-{step:04}", time=time, values=values)
        cases.append(Case(observation, truth, time + _STEP))
    return Dataset(
        name=f"learnable-{family}",
        title=stream.title,
        cases=tuple(cases),
        settings=stream.settings,
        learnable=True,
        seed=seed,
        held_out=held_out,
        rules=stream.rules,
    )


def _offset(draws: random.Random, held_out: bool) -> _Stream:
    fields = {"sky": ("clear", "cloudy", "rain"), "valve": ("open", "shut"), "wind": ("north", "south", "calm")}
    deciding = draws.choice(sorted(fields))
    labels = fields[deciding]

    def offsets() -> dict[str, float]:
        chosen = draws.sample((-5.0, -4.0, -3.0, 3.0, 4.0, 5.0), len(labels))
        if all(offset > 0 for offset in chosen) or all(offset < 0 for offset in chosen):
            chosen[0] = -chosen[0]
        return dict(zip(labels, chosen, strict=True))

    regimes = (offsets(), offsets())
    level = [18.0]

    def draw(regime: int) -> tuple[dict[str, Scalar], Value]:
        level[0] += 0.2 * (18.0 - level[0]) + draws.gauss(0, 2.5)
        values: dict[str, Scalar] = {name: draws.choice(found) for name, found in fields.items()}
        forecast = round(level[0], 1)
        truth = forecast + regimes[regime][str(values[deciding])] + draws.gauss(0, 0.8)
        return {"forecast": forecast, **values}, round(truth, 1)

    return _Stream(
        "a forecast that errs by a constant which one field decides (°C)",
        {
            "target": {
                "kind": "number",
                "field": "temperature",
                "description": "the temperature at the outlet in an hour",
                "unit": "°C",
                "decimals": 1,
                "range": (-40.0, 80.0),
                "reference": "forecast",
            },
            "memory": {"facts": ["forecast is another program's forecast of the temperature at the outlet; it errs."]},
        },
        draw,
        tuple(f"{when}: {deciding} {label}: {offset:+.1f}" for when, found in _named(regimes) for label, offset in found.items()),
    )


def _mapping(draws: random.Random, held_out: bool) -> _Stream:
    codes = draws.sample(("K1", "K2", "M4", "M7", "R3", "R8", "T5", "T9", "V2", "V6"), 7)
    frequent = codes[:3]
    weights = [0.24 if code in frequent else 0.07 for code in codes]
    before = _assigned(draws, codes)
    after = _changed(draws, before, (frequent, 1), (codes[3:], 2))
    regimes = (before, after)

    def draw(regime: int) -> tuple[dict[str, Scalar], Value]:
        code = draws.choices(codes, weights)[0]
        values: dict[str, Scalar] = {
            "station": code,
            "shift": draws.choice(("early", "late", "night")),
            "wind": draws.choice(("north", "south", "calm")),
        }
        return values, _noisy(draws, regimes[regime][code])

    return _Stream(
        "a station's code decides the class",
        _classes("the load of the line in an hour"),
        draw,
        tuple(f"{when}: station {code}: {label}" for when, found in _named(regimes) for code, label in found.items()),
    )


def _paraphrased(draws: random.Random, held_out: bool) -> _Stream:
    known = wordings.HELD_OUT if held_out else wordings.TUNED
    subjects = draws.sample(sorted(known), 5)
    before = _assigned(draws, subjects)
    after = _changed(draws, before, (subjects, 2))
    regimes = (before, after)
    used: dict[str, list[str]] = {subject: [] for subject in subjects}

    def draw(regime: int) -> tuple[dict[str, Scalar], Value]:
        subject = draws.choice(subjects)
        if not used[subject]:
            used[subject] = draws.sample(known[subject], len(known[subject]))
        note = " ".join(part for part in (used[subject].pop(), draws.choice(wordings.REMARKS)) if part)
        values: dict[str, Scalar] = {"note": note, "load": draws.randint(20, 95), "shift": draws.choice(("early", "late", "night"))}
        return values, _noisy(draws, regimes[regime][subject])

    return _Stream(
        "a note decides the class by what it is about, in varied wording",
        {**_classes("the vibration of the machine in an hour"), "observations": {"text_fields": ["note"]}},
        draw,
        tuple(f"{when}: note about {subject}: {label}" for when, found in _named(regimes) for subject, label in found.items()),
    )


def _many_fields(draws: random.Random, held_out: bool) -> _Stream:
    scene = draws.choice(wordings.SCENES_HELD_OUT if held_out else wordings.SCENES_TUNED)
    first, second = scene.fields
    noise = draws.sample(wordings.DISTRACTORS_HELD_OUT if held_out else wordings.DISTRACTORS_TUNED, 18)
    before = dict(zip(scene.labels[first], draws.sample(LEVELS, 3), strict=True))
    one, other = draws.sample(scene.labels[first], 2)
    after = {**before, one: before[other], other: before[one]}
    regimes = (before, after)
    excepted = draws.choice(scene.labels[first])
    exception = draws.choice(scene.labels[second])

    def draw(regime: int) -> tuple[dict[str, Scalar], Value]:
        values: dict[str, Scalar] = {name: draws.choice(labels) for name, labels in noise}
        values |= {name: draws.choice(scene.labels[name]) for name in scene.fields}
        label = regimes[regime][str(values[first])]
        if values[first] == excepted and values[second] == exception:
            label = LEVELS[(LEVELS.index(label) + 1) % 3]
        return values, _noisy(draws, label)

    rules = [f"{when}: {first} {label}: {level}" for when, found in _named(regimes) for label, level in found.items()]
    rules.append(f"always: {first} {excepted} and {second} {exception}: one level further (after high comes low)")
    return _Stream("twenty fields, of which two decide the class", _classes(scene.target), draw, tuple(rules))


def _classes(description: str) -> dict[str, Any]:
    return {"target": {"kind": "category", "field": "level", "description": description, "labels": LEVELS, "top_k": 2}}


def _assigned(draws: random.Random, cues: Sequence[str]) -> dict[str, str]:
    """Give each cue a level, each level at least once."""
    levels = [*LEVELS, *(draws.choice(LEVELS) for _ in cues[len(LEVELS) :])]
    draws.shuffle(levels)
    return dict(zip(cues, levels, strict=True))


def _changed(draws: random.Random, before: Mapping[str, str], *pools: tuple[Sequence[str], int]) -> dict[str, str]:
    """Give some cues of each pool another level. Each level is left at least once, or there would be less to learn than before."""
    while True:
        cues = [cue for pool, count in pools for cue in draws.sample(pool, count)]
        after = {**before, **{cue: draws.choice([level for level in LEVELS if level != before[cue]]) for cue in cues}}
        if set(after.values()) == set(LEVELS):
            return after


def _noisy(draws: random.Random, label: str) -> str:
    return draws.choice(LEVELS) if draws.random() < NOISE else label


def _named(regimes: Sequence[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    return list(zip(("first half", "second half"), regimes, strict=True))
