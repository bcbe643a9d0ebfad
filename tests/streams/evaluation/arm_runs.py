"""Runs of arms on made-up streams, without a model: what reports and pages are made of in tests."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from agents.models.protocol import ModelIdentity
from schemas.messages import Answer, Interval, MemoryRevision, Observation, Rejection, Value
from schemas.settings import Settings
from streams.evaluation.dataset import Case, Dataset
from streams.evaluation.report import ArmRun, Evaluation
from streams.evaluation.results import CaseResult, MemoryEntry, Spent

MODEL = ModelIdentity("tiny:1b", "sha256:feed", "scripted 1")
BEGIN = datetime(2024, 3, 1, tzinfo=UTC)
LABELS = ("calm", "gusty", "storm")
CATEGORY: Mapping[str, Any] = {"target": {"field": "wind", "kind": "category", "labels": LABELS}}
NUMBER: Mapping[str, Any] = {"target": {"field": "flow", "kind": "number", "unit": "l/s", "range": (-100.0, 100.0)}}
#: How often an arm is right, or how far a number is off; prompt tokens at the first step, and how many more at each.
SKILL = {
    "zero_shot": (0.40, 380, 0),
    "fhc": (0.62, 420, 31),
    "memprompt_summary_concat": (0.45, 900, 26),
    "memprompt_error_retrieval": (0.47, 450, 0),
    "ledger_only": (0.63, 610, 0),
    "llm_as_rnn": (0.86, 790, 0),
    "llm_as_rnn_free_text": (0.5, 1010, 0),
    "llm_as_rnn_blank": (0.66, 620, 0),
    "llm_as_rnn_enumerated": (0.84, 760, 0),
    "llm_as_rnn_random": (0.78, 770, 0),
}


def dataset(kind: str, *, seed: int | None = 3, steps: int = 60, entities: int = 1, **turns: Any) -> Dataset:
    """A stream whose truths are drawn, but always the same ones for a seed."""
    chance = random.Random(f"{kind} {seed}")
    cases = []
    for index in range(steps):
        time = BEGIN + timedelta(hours=index)
        truth: Value = chance.choice(LABELS) if kind == "category" else round(20 + 8 * math.sin(index / 5) + chance.gauss(0, 2), 1)
        seen = Observation(entity=f"buoy {index % entities}", id=f"o{index}", time=time, values={"cue": index % 4})
        cases.append(Case(seen, truth, time + timedelta(minutes=30)))
    said = {"title": f"Made-up {kind} stream", "learnable": True, "held_out": True, "rules": ("cue 1 -> storm",), **turns}
    return Dataset(f"made-up-{kind}", cases=tuple(cases), settings=CATEGORY if kind == "category" else NUMBER, seed=seed, **said)


def arm_run(name: str, data: Dataset, settings: Settings) -> ArmRun:
    """An arm that is as good as `SKILL` says."""
    right, first, growth = SKILL[name]
    chance = random.Random(f"{name} {data.seed}")
    results, memories = [], []
    before: dict[str, Value] = {}
    text = ""
    remembers = name.startswith("llm_as_rnn") and name != "llm_as_rnn_blank"
    for index, case in enumerate(data.cases):
        entity, truth = case.observation.entity, case.truth
        spent = {
            "predict": Spent(calls=1, prompt_tokens=min(first + growth * index, 4000), cached_tokens=200, output_tokens=9, seconds=1.5)
        }
        if isinstance(truth, str):
            value: Value = truth if chance.random() < right else chance.choice([label for label in LABELS if label != truth])
            answer = Answer(value=value, top=(str(value), *(label for label in LABELS if label != value)))
            interval = None
        else:
            answer = Answer(value=round(truth + chance.gauss(0, 14 * (1 - right)), 2))
            interval = Interval(level=0.8, low=float(answer.value) - 3, high=float(answer.value) + 3)
        if remembers and index % 9 == 8:
            accepted = index % 2 == 0
            proposed = f"- When cue is {index % 4}: {LABELS[index % 3]}."
            spent["rewrite"] = Spent(calls=1, prompt_tokens=900, output_tokens=60, seconds=9.0)
            after = "\n".join(["Rules:", *text.splitlines()[1:][-2:], proposed]) if accepted else text
            rejected = () if accepted else (Rejection(guard="echo", statement="Say what follows.", detail="stands in the prompt"),)
            revision = MemoryRevision(
                entity=entity, revision=index // 9, cause="feedback", accepted=accepted, reason="" if accepted else "nothing new in it",
                before=text, after=after, words=len(after.split()), rejected=rejected, outcomes=9, made_at=case.known_at,
            )  # fmt: skip
            text = after
            memories.append(MemoryEntry(index=index, revision=revision))
        naive = {"persistence": before[entity]} if entity in before else {}
        if index > 3:
            naive["most-frequent" if isinstance(truth, str) else "mean"] = LABELS[0] if isinstance(truth, str) else 20.0
        results.append(
            CaseResult(
                index=index,
                entity=entity,
                id=case.observation.id,
                time=case.observation.time,
                truth=truth,
                answer=answer,
                interval=interval,
                naive=naive,
                executed=truth if remembers and index > 20 and index % 5 else None,
                revision=len(memories),
                words=len(text.split()),
                spent=spent,
            )
        )
        before[entity] = truth
    turned = {"rewrite": {"policy": "never"}} if not name.startswith("llm") else {}
    arm_settings = data.configured(**turned) if turned else settings
    return ArmRun(tuple(results), tuple(memories), arm_settings, 2.5)


def evaluation(kind: str = "category", *, names: tuple[str, ...] = tuple(SKILL), **of: Any) -> Evaluation:
    """Arms on a stream."""
    data = dataset(kind, **of)
    settings = data.configured()
    return Evaluation(data, settings, {name: arm_run(name, data, settings) for name in names})
