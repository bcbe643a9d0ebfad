"""JSON Schemas of everything that crosses a boundary, made from the models, for those who are not Python.

They are committed in `schemas/json`; a test holds them against the models.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from schemas.messages import INPUTS, OUTPUTS, DeadLetter
from schemas.queries import EntityReport, WorkerReport
from schemas.settings import Settings
from schemas.state import EntityState
from schemas.times import format_duration

#: Where the repository keeps them.
COMMITTED = Path(__file__).parent / "json"

#: File name and model. Inputs are our own form of them; a foreign payload is mapped (`[observations]`, `[truths]`).
MODELS: dict[str, type[BaseModel]] = {
    **{model.__name__.lower(): model for model in INPUTS.values()},
    "prediction": OUTPUTS["predictions"],
    "outcome": OUTPUTS["outcomes"],
    "memory-revision": OUTPUTS["memories"],
    "dead-letter-headers": DeadLetter,
    "entity-state": EntityState,
    "entity-report": EntityReport,
    "worker-report": WorkerReport,
    "settings": Settings,
}


class _Generator(GenerateJsonSchema):
    """Writes defaults as our settings files would."""

    def encode_default(self, dft: Any) -> Any:
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


def export_schemas() -> dict[str, bytes]:
    """Every schema, by file name, as JSON with sorted keys.

    They say what is accepted. What the program writes is accepted too, with fields left out that have their default.
    """
    files = {}
    for name, model in MODELS.items():
        schema = model.model_json_schema(schema_generator=_Generator)
        schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
        files[f"{name}.json"] = orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)
    return files


def write_schemas(directory: Path) -> list[Path]:
    """Write every schema into a directory, which is made if it is missing."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, content in export_schemas().items():
        (directory / name).write_bytes(content)
        paths.append(directory / name)
    return paths


def differing(directory: Path) -> list[str]:
    """Names of schema files in a directory that are not what the models say: other content, missing, or of no model any more."""
    wanted = export_schemas()
    found = {path.name: path.read_bytes() for path in directory.glob("*.json")} if directory.is_dir() else {}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
