"""Your own stream: a CSV file, read by the mapping of a `palimpsest.toml` as a worker would read it from its topic.

The truth of a row is what the target's column says later: in the entity's next row, or with a duration as horizon in the row nearest to
that moment within `truths.tolerance`. Or it stands in a column of its own, which no arm sees.
"""

from __future__ import annotations

import csv
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from schemas.codec import DecodeError
from schemas.mapping import Record, check_value, read_observation
from schemas.messages import Observation, Value
from schemas.settings import Settings
from schemas.times import parse_time
from streams.errors import ReplayError
from streams.evaluation.dataset import Case, Dataset, DatasetError, first
from streams.replaying import Fields, Line, read_lines

SUFFIXES = (".csv", ".tsv")


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    observation: Observation
    #: The target's own value, which is the truth of rows before it.
    told: Value | None
    #: From columns of their own.
    truth: Value | None
    truth_time: datetime | None


def read(
    path: Path,
    *,
    settings: Settings,
    fields: Fields = Fields(),  # noqa: B008 - frozen
    truth: str | None = None,
    truth_time: str | None = None,
    steps: int | None = None,
) -> Dataset:
    """Read a CSV (`.csv`) or a tab-separated file (`.tsv`) with a header; an entity's rows may stand in any order.

    Cells that are numbers become numbers, empty ones and `NaN` are left out, everything else is a label or a text; so are the cells of a
    target that is none of numbers. Times without an offset are taken as UTC. Rows without a truth are left out.

    Parameters
    ----------
    path
        The file. A file without a column for the entity is about one, which is called as the file.
    settings
        Target and mapping: which column is the entity, the time, the id; which are shown, and which of those are free text.
    fields
        Entity and time where the file names them otherwise than the settings.
    truth
        A column with each row's truth. If None, the target's own column has it in a later row.
    truth_time
        A column with the time at which the truth was known; with `truth` alone. If None: the row's time and the horizon, or with
        `horizon = "next"` the time of the entity's next row.
    steps
        How many cases, in the order of their times; all if None.

    Raises
    ------
    DatasetError
        The file cannot be read, lacks a column, or has a line that cannot be used (the text names it); or no row has a truth.
    """
    header = _header(path)
    column = settings.observations.values.get(settings.target.field, settings.target.field)
    wanted = [name for name in (truth, truth_time) if name is not None]
    if truth is None:
        if truth_time is not None:
            raise DatasetError(f"{path}: a time of the truth ({truth_time}) needs a column of the truth")
        if settings.observations.values and settings.target.field not in settings.observations.values:
            raise DatasetError(f"{path}: observations.values maps no column to {settings.target.field!r}, the target (target.field)")
        wanted.append(column)
    absent = [name for name in wanted if name not in header]
    if absent:
        raise DatasetError(f"{path}: no column {', '.join(absent)}; there are {', '.join(header) or 'none'}")
    if fields.entity is None and fields.entity_field is None and settings.observations.entity not in ("@key", *header):
        fields = replace(fields, entity=path.stem)
    # The times of a file are those of the past, whatever a worker is set to.
    settings = settings.model_copy(update={"time": "replay"})
    try:
        rows = [_row(line, path, settings, column, truth, truth_time) for line in read_lines(path, "observations", settings, fields)]
    except ReplayError as error:
        raise DatasetError(str(error)) from error
    _check_ids(rows, path)
    entities: dict[str, list[_Row]] = {}
    for row in sorted(rows, key=lambda row: row.observation.time):
        entities.setdefault(row.observation.entity, []).append(row)
    found = [case for own in entities.values() for case in (_joined(own, settings) if truth is None else _stated(own, path, settings))]
    if not found:
        reason = f"column {truth} is empty" if truth else "no entity has a later row with the target at the horizon; see target.horizon"
        raise DatasetError(f"{path}: none of {len(rows)} rows has a truth: {reason}")
    found.sort(key=lambda case: case.observation.time)
    target, mapping = settings.target, settings.observations
    return Dataset(
        name=path.stem,
        title=f"{target.description or target.field}{f' ({target.unit})' if target.unit else ''}, from {path.name}",
        cases=first(found, steps, path.name),
        settings={
            "target": target.model_dump(exclude_unset=True),
            "observations": {"values": dict(mapping.values), "text_fields": mapping.text_fields},
            "memory": {"facts": settings.memory.facts},
        },
        notes=(
            f"{len(found)} of {len(rows)} rows of {len(entities)} entities have a truth; the others are left out.",
            "The data are a file of the user's own: whether the model has read them in its training is not known.",
        ),
    )


def _header(path: Path) -> list[str]:
    if path.suffix.lower() not in SUFFIXES:
        raise DatasetError(f"{path}: the name of a table ends with {' or '.join(SUFFIXES)}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ","), [])
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: not a CSV file in UTF-8 ({error})") from error


def _row(line: Line, path: Path, settings: Settings, column: str, truth: str | None, truth_time: str | None) -> _Row:
    payload = line.payload
    stated, when = (None if name is None else payload.pop(name, None) for name in (truth, truth_time))
    if column in payload:
        payload[column] = _of_kind(payload[column], settings)
    record = Record("", 0, 0, int(line.time.timestamp() * 1000), line.entity.encode(), orjson.dumps(payload))
    try:
        observation = read_observation(record, settings, line.time)
        told = observation.values.get(settings.target.field) if truth is None else None
        return _Row(line.number, observation, _checked(told, settings), _checked(stated, settings), None if when is None else _moment(when))
    except (DecodeError, ValueError) as error:
        raise DatasetError(f"{path}, line {line.number}: {error}") from None


def _of_kind(cell: Any, settings: Settings) -> Any:
    """A cell of the target: classes may be called 0 and 1, and are labels all the same."""
    return cell if settings.target.kind == "number" else str(cell)


def _checked(value: Any, settings: Settings) -> Value | None:
    return None if value is None else check_value(_of_kind(value, settings), settings.target, settings.bounds.text)


def _moment(cell: Any) -> datetime:
    if isinstance(cell, str):
        try:
            moment = datetime.fromisoformat(cell)
        except ValueError:
            return parse_time(cell)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else parse_time(moment)
    return parse_time(cell)


def _check_ids(rows: Sequence[_Row], path: Path) -> None:
    lines: dict[str, int] = {}
    for row in rows:
        before = lines.setdefault(row.observation.id, row.line)
        if before != row.line:
            raise DatasetError(f"{path}, line {row.line}: the id {row.observation.id!r} is that of line {before} as well")


def _joined(rows: Sequence[_Row], settings: Settings) -> list[Case]:
    """Cases of one entity, oldest row first; the truth of each is the target in a later row."""
    times = [row.observation.time for row in rows]
    cases = []
    for at, row in enumerate(rows):
        later = _answering(times, at, settings)
        told = None if later is None else rows[later].told
        if later is not None and told is not None:
            cases.append(Case(row.observation, told, times[later]))
    return cases


def _answering(times: Sequence[datetime], at: int, settings: Settings) -> int | None:
    """The row that has the truth of the row at a place; None where there is none."""
    horizon, truths = settings.target.horizon, settings.truths
    if not isinstance(horizon, timedelta):
        following = bisect_right(times, times[at])
        if following == len(times) or (truths.max_gap is not None and times[following] - times[at] > truths.max_gap):
            return None
        return following
    moment = times[at] + horizon
    place = bisect_left(times, moment)
    near = [found for found in (place - 1, place) if at < found < len(times) and abs(times[found] - moment) <= truths.tolerance]
    return min(near, key=lambda found: abs(times[found] - moment), default=None)


def _stated(rows: Sequence[_Row], path: Path, settings: Settings) -> list[Case]:
    """Cases of one entity, oldest row first; the truth of each stands in the row itself."""
    horizon = settings.target.horizon
    cases = []
    for at, row in enumerate(rows):
        if row.truth is None:
            continue
        time = row.observation.time
        known_at = row.truth_time
        if known_at is None:
            # After the last row nothing of the entity is predicted, so its truth may come at once.
            following = rows[min(at + 1, len(rows) - 1)].observation.time
            known_at = time + horizon if isinstance(horizon, timedelta) else following
        if known_at < time:
            raise DatasetError(f"{path}, line {row.line}: the truth was known at {known_at.isoformat()}, before {time.isoformat()}")
        cases.append(Case(row.observation, row.truth, known_at))
    return cases
