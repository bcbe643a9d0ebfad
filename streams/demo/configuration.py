"""The settings of a run, as a file that a person can read, change and give to `palimpsest worker` again."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from schemas.settings import ENV_PREFIX, Settings, load_settings
from streams.demo.dataset import FIELD, LABELS, UNIT, Target

#: Settings of the environment that hold for a run as well: how services are reached. All others are the run's own; above all, an
#: environment made for production names production's topics.
KEPT_SECTIONS = ("KAFKA", "MODEL")

_TARGETS: dict[Target, str] = {
    "temperature": """\
kind = "number"
description = "maximum temperature of the next day"
unit = "{unit}"
decimals = 1
range = [-40, 60]
""",
    "class": """\
kind = "category"
description = "weather class of the next day"
labels = {labels}
top_k = 2
""",
}

_TEMPLATE = """\
# A run of `palimpsest demo`: the weather of Seattle, {what}.
# Run this worker again: palimpsest worker -c {path}

app = {app}
time = "replay"                 # stream time is the clock: the days of 2014 are not late
start = "earliest"

[kafka]
bootstrap_servers = {kafka}

[topics]                        # of this run alone
observations = "{prefix}-observations"
truths = "{prefix}-truths"
commands = "{prefix}-commands"
predictions = "{prefix}-predictions"
outcomes = "{prefix}-outcomes"
memories = "{prefix}-memories"
dead_letters = "{prefix}-dead-letters"
partitions = 1                  # one entity

[observations]
key = "entity"                  # the record's key is the entity, so the topic is consumed as it is

[truths]
key = "entity"
source = "topic"                # the next day's value, one stream-day later

[commands]
key = "entity"

[target]
field = "{field}"
{target}horizon = "1d"

[memory]
form = "evidence"               # rules that code measures, and notes
facts = [
    "One observation a day from Seattle, at sea level by the Pacific.",
    "precipitation is in mm, temperatures in °C, wind in m/s.",
]

[rewrite]
policy = "surprise"             # after unusual errors, several at once
mode = "inline"                 # the next prediction waits, as in the paper

[model]
backend = "{backend}"
name = {model}
{where}

[publish]
publish = "guarded"             # a mixture of naive forecasts, the memory's rules and the model

[worker]
http_port = {port}              # /metrics, /healthz, /readyz
session_timeout = "6s"          # a worker that was killed is replaced soon
drain_deadline = "10s"
state_dir = {state}
"""


@dataclass(frozen=True, slots=True)
class Backend:
    """Where the model runs: an Ollama server's address, or the file for llama.cpp in the worker's own process."""

    model: str
    host: str | None = None
    path: Path | None = None


def configuration(*, path: Path, name: str, target: Target, kafka: str, backend: Backend, port: int, state: Path) -> str:
    """Write out a run's settings as TOML.

    Parameters
    ----------
    path
        Where the file will be, for its first lines.
    name
        The run's name: application and topics are called after it.
    target
        What is forecast.
    kafka
        Bootstrap servers.
    backend
        Where the model runs.
    port
        The worker's HTTP port.
    state
        Directory of the worker's tables.
    """
    field = FIELD[target]
    return _TEMPLATE.format(
        what={"temperature": "next-day maximum temperature", "class": "next-day weather class"}[target],
        path=path,
        app=_quoted(f"demo-{name}"),
        prefix=f"demo-{name}",
        kafka=_quoted(kafka),
        field=field,
        target=_TARGETS[target].format(unit=UNIT[target], labels=json.dumps(LABELS)),
        backend="embedded" if backend.host is None else "ollama",
        model=_quoted(backend.model),
        where=f"path = {_quoted(str(backend.path))}" if backend.host is None else f"host = {_quoted(backend.host)}",
        port=port,
        state=_quoted(str(state)),
    )


def load(path: Path) -> Settings:
    """Read a run's settings; what stands in the file wins over the environment."""
    return load_settings(path, **tomllib.loads(path.read_text(encoding="utf-8")))


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a run's worker: without settings that are not for the demo."""
    kept = tuple(f"{ENV_PREFIX}{section}__" for section in KEPT_SECTIONS)
    return {name: value for name, value in environment.items() if not name.upper().startswith(ENV_PREFIX) or name.upper().startswith(kept)}


def _quoted(text: str) -> str:
    # A JSON string is a TOML basic string.
    return json.dumps(text, ensure_ascii=False)
