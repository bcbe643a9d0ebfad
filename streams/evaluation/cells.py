"""A cell: one arm on one stream, by delayed progressive validation.

Observations and truths are taken in the order in which they arrive. At an observation's time the arm first learns from every truth that
has arrived by then, then forecasts; what is scored is the forecast that was made then. Truths still to come at the end are learned last.
The semantics are river's (`river.evaluate.progressive_val_score` with `moment` and `delay`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agents.models.protocol import LanguageModel, ModelIdentity
from schemas.settings import Settings
from streams.evaluation.arms import Arm
from streams.evaluation.dataset import Case, Dataset
from streams.evaluation.records import Record
from streams.evaluation.results import CaseResult, MemoryEntry

#: Told after each case: its index, and the answers recorded so far.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Cell:
    """What came of one arm on one stream. `seconds` are those of this run; answers from the record take none."""

    settings: Settings
    model: ModelIdentity
    results: tuple[CaseResult, ...]
    memories: tuple[MemoryEntry, ...]
    seconds: float


async def run(name: str, dataset: Dataset, settings: Settings, model: LanguageModel | None, record: Path, progress: Progress) -> Cell:
    """Run a cell, or go on with it where it was cut short.

    Parameters
    ----------
    settings
        The arm's.
    model
        None: answers come from the record alone.
    record
        Where the answers are kept; see `Record`.

    Raises
    ------
    DatasetError
        The record is none, or another model's.
    ModelError
        The model cannot be identified.
    AnswerMissing
        The model cannot be reached, or not in time; or an answer is missing in the record and there is no model.
    """
    began = time.monotonic()
    with Record(record, model) as kept:
        identity = await kept.identify()
        arm = Arm(name, settings, kept)
        results: dict[int, CaseResult] = {}
        memories: list[MemoryEntry] = []
        waiting: list[tuple[Case, int]] = []

        async def learn(upto: Case | None) -> None:
            """Learn from the truths that have arrived by a case's time; None: from all."""
            due = [item for item in waiting if upto is None or item[0].known_at <= upto.observation.time]
            for case, index in sorted(due, key=lambda item: (item[0].known_at, item[1])):
                waiting.remove((case, index))
                results[index], entries = await arm.learn(case, results[index])
                memories.extend(entries)

        for index, case in enumerate(dataset.cases):
            await learn(case)
            results[index] = await arm.predict(index, case)
            waiting.append((case, index))
            progress(index, kept.recorded)
        await learn(None)
        kept.finish()
    return Cell(settings, identity, tuple(results[index] for index in sorted(results)), tuple(memories), time.monotonic() - began)
