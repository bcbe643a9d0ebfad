"""The datasets of the evaluation, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from schemas.settings import Settings
from streams.evaluation.dataset import Dataset, DatasetError
from streams.evaluation.datasets import airports, learnable, mimic, poisoned, stocks, table, weather


class Choice(NamedTuple):
    """What of a dataset is run.

    Attributes
    ----------
    seed
        Of a learnable stream.
    steps
        Labelled steps; None: all there are, of a learnable stream `learnable.STEPS`.
    settings
        A file's target and mapping.
    """

    seed: int = 1
    steps: int | None = None
    settings: Settings | None = None


#: Recorded streams by name, each taken from its beginning.
RECORDED: Mapping[str, Callable[[Choice], Dataset]] = {
    "seattle-class": lambda choice: weather.seattle("class", steps=choice.steps),
    "seattle-temperature": lambda choice: weather.seattle("temperature", steps=choice.steps),
    "sp500-index": lambda choice: stocks.sp500_index(steps=choice.steps),
    "sp500-stocks": lambda choice: stocks.sp500_stocks(steps=choice.steps),
    "newyork-temperature": lambda choice: airports.newyork(steps=choice.steps),
}
LEARNABLE = tuple(f"learnable-{family}" for family in learnable.FAMILIES)
#: Streams that are drawn from a seed.
SEEDED = (*LEARNABLE, poisoned.POISONED, poisoned.NEUTRAL)
#: A folder with the credentialed release's CSV files: `mimic:FOLDER`.
MIMIC = "mimic:"


def load(name: str, choice: Choice) -> Dataset:
    """A dataset by name, or a file's. May fetch a data file, and blocks until it is there.

    Raises
    ------
    DatasetError
        There is none of that name, its file is of another form, or it has fewer steps.
    ServiceError
        A data file could not be fetched.
    """
    if name in LEARNABLE:
        return learnable.learnable(name.removeprefix("learnable-"), choice.seed, choice.steps or learnable.STEPS)
    if name in (poisoned.POISONED, poisoned.NEUTRAL):
        return poisoned.poisoned(name, choice.seed, choice.steps or learnable.STEPS)
    if name in RECORDED:
        return RECORDED[name](choice)
    if name.startswith(MIMIC):
        return mimic.next_diagnosis(Path(name.removeprefix(MIMIC)), steps=choice.steps)
    if Path(name).suffix in table.SUFFIXES:
        if choice.settings is None:
            raise DatasetError(f"{name}: a file needs settings that say what its columns are: give a palimpsest.toml with -c")
        return table.read(Path(name), settings=choice.settings, steps=choice.steps)
    known = ", ".join((*SEEDED, *RECORDED))
    raise DatasetError(f"there is no dataset {name!r}; there are {known}, mimic:FOLDER, and files ({', '.join(table.SUFFIXES)})")
