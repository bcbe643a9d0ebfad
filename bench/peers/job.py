"""The job, as a program that is not ours would have it: its configuration, its prompt, its state, its output.

Only the standard library is used here: one of the programs runs in an environment of its own. The configuration is the worker's file, of
which every program takes what concerns it.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Readings that a state keeps, newest last.
KEPT = 8
SYSTEM = "You forecast a weather station's next temperature from its latest readings. Answer in JSON."
SCHEMA = {"type": "object", "properties": {"forecast": {"type": "number"}}, "required": ["forecast"]}

State = dict[str, Any]
Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """Where a program reads, asks and writes.

    Attributes
    ----------
    app
        Names the consumer group and what else must be a program's own.
    slots
        Calls that the model computes at once.
    state_dir
        A directory of its own on the disk.
    """

    app: str
    kafka: str
    observations: str
    predictions: str
    host: str
    model: str
    slots: int
    state_dir: Path

    @property
    def states(self) -> str:
        """The topic for states, where a program keeps its own."""
        return f"{self.app}.states"


def read(config: Path) -> Job:
    """Read a job from a worker's configuration."""
    found = tomllib.loads(config.read_text())
    model, topics = found["model"], found["topics"]
    return Job(
        app=found["app"],
        kafka=found["kafka"]["bootstrap_servers"],
        observations=topics["observations"],
        predictions=topics["predictions"],
        host=model["host"],
        model=model["name"],
        slots=model["slots"],
        state_dir=Path(found["worker"]["state_dir"]),
    )


def question(job: Job, state: State | None, observation: Message) -> dict[str, Any]:
    """Return the arguments of `chat` of an ollama client."""
    recent = ", ".join(str(value) for value in (state or {}).get("recent", ()))
    values = ", ".join(f"{name} {value}" for name, value in observation["values"].items())
    return {
        "model": job.model,
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": f"predict: {observation['entity']}\nlatest: {recent or 'none'}\nnow: {values}"},
        ],
        "format": SCHEMA,
        "options": {"temperature": 0.0, "num_ctx": 4096, "num_predict": 64},
    }


def advanced(state: State | None, observation: Message) -> State:
    """Return the state after an observation: how many there were, and the latest readings.

    Examples
    --------
    >>> advanced({"count": 1, "recent": [3.0]}, {"values": {"temperature": 4.0}})
    {'count': 2, 'recent': [3.0, 4.0]}
    """
    before = state or {"count": 0, "recent": []}
    return {"count": before["count"] + 1, "recent": [*before["recent"], observation["values"]["temperature"]][-KEPT:]}


def prediction(observation: Message, answer: str) -> Message:
    """Return the output for an observation; `answer` is the model's text."""
    return {"entity": observation["entity"], "id": observation["id"], "answer": answer}
