"""What an evaluation runs over: observations in the order of their times, each with its truth and when that becomes known."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from schemas.codec import encode
from schemas.messages import Observation, Value
from schemas.settings import Settings, load_settings
from streams import exits
from streams.errors import StreamError


class DatasetError(StreamError):
    """A dataset is not there, is not of the form that was expected, or does not reach as far as was asked."""

    exit_code = exits.USAGE


@dataclass(frozen=True, slots=True)
class Case:
    """One observation and what came of it.

    Attributes
    ----------
    known_at
        When the truth arrives; at the earliest the observation's own time. Truths that arrive at the time of a later observation are
        learned before it is predicted.
    """

    observation: Observation
    truth: Value
    known_at: datetime


@dataclass(frozen=True, slots=True)
class Dataset:
    """A stream with its truths.

    Attributes
    ----------
    name
        As `palimpsest evaluate` takes it: `seattle-class`, `learnable-mapping`.
    title
        For people, one line, with units.
    cases
        In the order of the observations' times. One or several entities.
    settings
        What the stream says of `Settings`, as in a `palimpsest.toml`: sections `target`, `observations`, `memory` (its `facts`).
    learnable
        Whether there is a rule to be learned, because somebody put it there.
    seed
        Of a synthetic stream; None for recorded data.
    held_out
        Whether nothing was ever tuned on these cases.
    notes
        Warnings for readers of a report: above all, that the data are older than the model and may have been in its training.
    rules
        Synthetic streams: the hidden rules in words, for the report; no arm sees them.
    """

    name: str
    title: str
    cases: tuple[Case, ...]
    settings: Mapping[str, Any]
    learnable: bool = False
    seed: int | None = None
    held_out: bool = False
    notes: tuple[str, ...] = ()
    rules: tuple[str, ...] = field(default=())

    @property
    def digest(self) -> str:
        """SHA-256 over all cases, as they are."""
        found = hashlib.sha256()
        for case in self.cases:
            found.update(encode(case.observation))
            found.update(repr((case.truth, case.known_at.isoformat())).encode())
        return found.hexdigest()

    def configured(self, **sections: Mapping[str, Any]) -> Settings:
        """The settings of a run: the stream's own, with further keys over them, section by section."""
        merged: dict[str, Any] = {"app": "evaluation", "time": "replay"}
        for given in (self.settings, sections):
            for name, section in given.items():
                merged[name] = {**merged.get(name, {}), **section} if isinstance(section, Mapping) else section
        return load_settings(None, **merged)


def first(cases: Sequence[Case], steps: int | None, name: str) -> tuple[Case, ...]:
    """The first `steps` cases; all of them for None.

    Raises
    ------
    DatasetError
        There are not as many.
    """
    if steps is None:
        return tuple(cases)
    if steps < 1 or steps > len(cases):
        raise DatasetError(f"{name} has {len(cases)} cases; {steps} cannot be taken of them")
    return tuple(cases[:steps])
