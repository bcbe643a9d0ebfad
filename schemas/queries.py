"""What a worker answers over HTTP: the state of an entity with how fresh it is, and how the worker itself stands.

Every field is written, empty or not. Whoever reads them passes over fields that it does not know: during a rolling upgrade workers of
two versions answer each other.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from schemas.messages import ArmScore, Cause
from schemas.state import Feedback, FoldedFeedback, Pending, Resolved, Statement
from schemas.times import Time

WORKER_PATH = "/v1/worker"


def entity_path(entity: str) -> str:
    """The path of an entity's state, whatever its id consists of.

    Examples
    --------
    >>> entity_path("a/b ü"), entity_path("..")
    ('/v1/entities/a%2Fb%20%C3%BC', '/v1/entities/%2E%2E')
    """
    # Dots alone are segments that clients take for directions.
    name = entity.replace(".", "%2E") if re.fullmatch(r"\.+", entity) else quote(entity, safe="")
    return f"/v1/entities/{name}"


class Report(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class InputProgress(Report):
    """How far one partition of one input is applied.

    Offsets count what is not delivered too (compacted records, ends of transactions), so an input that is written in transactions keeps a
    `lag` of 1.
    """

    #: `observations`, `truths` or `commands`; with `-source` the topic that a re-keyed input is read from first.
    input: str
    topic: str
    partition: Annotated[int, Field(ge=0)]
    #: Everything below this offset is in the state. None where the group has no position yet.
    position: int | None = None
    #: One past the last offset of the log, as of the latest fetch; None before the first.
    end: int | None = None
    #: Records up to `end` that are not applied.
    lag: int | None = None
    #: Kafka's timestamp of the newest record up to which all are applied; None before the first one under this assignment.
    newest: Time | None = None
    #: Seconds since `newest`. While `lag` is 0 it tells how quiet the input is, not how old the state.
    age: float | None = None


class Served(Report):
    """What an answer was read from, and how fresh that is."""

    #: URL of the worker that read it, which need not be the one that was asked.
    worker: str
    #: `owner`: the one worker that may write the partition, so that nothing newer is committed anywhere.
    role: Literal["owner"] = "owner"
    partition: Annotated[int, Field(ge=0)]
    #: The consumer group's generation under which the partition is held.
    generation: int
    changelog: str
    #: Offset of the last changelog record in what was read; None where the partition has none.
    changelog_offset: int | None = None
    at: Time
    #: Those of the partition; what still waits to be re-keyed into it is not counted (`WorkerReport.inputs` has it).
    inputs: tuple[InputProgress, ...] = ()


class MemoryReport(Report):
    """The memory as people read it (`text`), and as it is kept (`sections`)."""

    revision: Annotated[int, Field(ge=0)] = 0
    text: str = ""
    words: Annotated[int, Field(ge=0)] = 0
    #: Why there is this revision, and since when; None for the blank memory of revision 0.
    cause: Cause | None = None
    made_at: Time | None = None
    sections: dict[str, tuple[Statement, ...]] = Field(default_factory=dict)
    #: Revisions whose content can be brought back, oldest first; 0, the blank one, always can.
    kept: tuple[int, ...] = ()


class EntityReport(Report):
    """An entity's committed state."""

    entity: str
    memory: MemoryReport
    frozen: bool = False
    #: Forgotten by command; what is left is removed as soon as no input can bring it back.
    forgotten: bool = False
    #: Times of the newest observation, of the newest target time learned, and of the last change.
    newest: Time | None = None
    learned_to: Time | None = None
    touched_at: Time | None = None
    #: How many outcomes there were, and the running scores over them, by arm.
    outcomes: Annotated[int, Field(ge=0)] = 0
    scores: dict[str, ArmScore] = Field(default_factory=dict)
    #: The latest outcomes, oldest first, and how many the state holds.
    ledger: tuple[Resolved, ...] = ()
    ledger_rows: Annotated[int, Field(ge=0)] = 0
    #: Predictions that wait for their truth.
    pending: tuple[Pending, ...] = ()
    #: Truths that wait for their observation.
    early: Annotated[int, Field(ge=0)] = 0
    #: Outcomes that no rewrite of the memory has taken in yet, and what was folded of them.
    feedback: tuple[Feedback, ...] = ()
    folded: FoldedFeedback = FoldedFeedback()
    rewrite_wanted: Time | None = None
    rewrite_attempts: Annotated[int, Field(ge=0)] = 0
    #: When something happens to it without any input: an expiry, an orphan, a rewrite.
    due: Time | None = None
    #: What fell out of a bound, by list.
    dropped: dict[str, int] = Field(default_factory=dict)
    #: Last applied offset by input; `observations/3` for source partition 3 of a re-keyed one.
    applied: dict[str, int] = Field(default_factory=dict)
    served: Served


class Unanswered(Report):
    """Why there is no answer: the body of a 404, 421, 502 or 503."""

    status: Literal["unknown", "unavailable"]
    reasons: tuple[str, ...]
    #: Set with `unknown`: what was read, and how fresh that is.
    served: Served | None = None


#: starting: not a member of the group yet. restoring: state is read from the changelog. rebalancing: between two assignments. running:
#: works on its partitions. stopping: has handed them over, and ends.
WorkerState = Literal["starting", "restoring", "rebalancing", "running", "stopping"]


class RestoreProgress(Report):
    """How far the state of one partition is read from the changelog; offsets."""

    partition: Annotated[int, Field(ge=0)]
    #: `active`: it is worked on once this is done. `standby`: it is only kept up.
    role: Literal["active", "standby"]
    start: int
    position: int
    end: int


class WorkerReport(Report):
    """How a worker stands."""

    app: str
    #: Where other workers reach it.
    url: str
    #: Static membership's name; None without.
    instance: str | None = None
    version: str = ""
    state: WorkerState
    #: Why it is not running.
    reasons: tuple[str, ...] = ()
    generation: int | None = None
    #: Partitions assigned to it; it answers for them while it is running.
    partitions: tuple[int, ...] = ()
    #: Partitions whose state it keeps up for another worker.
    standby: tuple[int, ...] = ()
    inputs: tuple[InputProgress, ...] = ()
    #: Partitions whose state is not as far as the changelog yet.
    restoring: tuple[RestoreProgress, ...] = ()
    #: Entities by partition; partitions that are still being counted are left out.
    entities: dict[int, int] = Field(default_factory=dict)
    #: Items being worked on, and for how many seconds the oldest has been.
    in_flight: Annotated[int, Field(ge=0)] = 0
    oldest: float | None = None
    at: Time
