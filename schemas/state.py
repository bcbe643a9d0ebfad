"""The state of one entity: one record, read and written whole.

The record in the changelog is a fixed header (`Header`) followed by JSON. A take-over scan reads the header alone. All
lists and texts are bounded by `BoundSettings`; `agents.bounds` keeps a state within them.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, NamedTuple

import orjson
from pydantic import Field

from schemas.codec import encode
from schemas.messages import Answer, Cause, Flag, Frozen, Interval, Scalar, Source, Value
from schemas.times import Time

STATE_SCHEMA = 1

#: First byte of a changelog key: what kind of record follows. The rest is the entity's id, or nothing.
ENTITY_KEY = b"e"
PARTITION_KEY = b"p"


def entity_key(entity: str) -> bytes:
    return ENTITY_KEY + entity.encode()


class Condition(Frozen):
    """A test on one field of an observation; numbers are cut at a threshold, labels compared."""

    field: str
    op: Literal["is", "below", "at-least"]
    value: Scalar


class Rule(Frozen):
    """When all conditions hold, this outcome: a label, or for numbers an adjustment to the reference forecast.

    `hits` of `cases` are the record when the rule's revision was made; the live record is measured from the ledger.
    """

    when: Annotated[tuple[Condition, ...], Field(min_length=1, max_length=3)]
    then: Value
    hits: Annotated[int, Field(ge=0)] = 0
    cases: Annotated[int, Field(ge=0)] = 0
    #: For numbers: mean absolute deviation of the cases around `then`, in the target's unit.
    spread: float | None = None
    tentative: bool = False


class Statement(Frozen):
    """One line of the memory: a rule that code tests, or a note it cannot."""

    text: str
    rule: Rule | None = None


class Memory(Frozen):
    """The page that is scraped and written again. Section names are fixed by the memory's form (`agents.memory`)."""

    revision: Annotated[int, Field(ge=0)] = 0
    sections: dict[str, tuple[Statement, ...]] = Field(default_factory=dict)


class Revision(Frozen):
    """A past memory, kept for rollback, with how the published forecasts did while it stood."""

    memory: Memory
    cause: Cause
    made_at: Time
    outcomes: Annotated[int, Field(ge=0)] = 0
    loss: float = 0.0


class Origin(Frozen):
    """Where a record came from, so that it can be dead-lettered later under its own coordinates."""

    topic: str
    partition: Annotated[int, Field(ge=0)]
    offset: Annotated[int, Field(ge=0)]
    #: Kafka's record timestamp, milliseconds since the epoch.
    timestamp: int = 0


class Pending(Frozen):
    """A prediction that waits for its truth, with all that scoring it will need."""

    id: str
    time: Time
    target_time: Time | None = None
    made_at: Time
    values: dict[str, Scalar] = Field(default_factory=dict)
    #: Short digest of the observation's content: same id and same digest is a duplicate.
    digest: str = ""
    forecast: Answer
    model_answer: Answer | None = None
    experts: dict[str, Value] = Field(default_factory=dict)
    #: The reference forecast that an adjustment is added to (numbers only).
    reference: float | None = None
    interval: Interval | None = None
    source: Source = "model"
    flags: tuple[Flag, ...] = ()
    memory_revision: Annotated[int, Field(ge=0)] = 0
    #: When it expires without a truth; None: never (`truths.expire_after` unset).
    due: Time | None = None


class Resolved(Frozen):
    """A ledger row: a prediction and what came of it. `seq` counts the entity's outcomes from 1."""

    seq: Annotated[int, Field(ge=1)]
    id: str
    time: Time
    target_time: Time | None = None
    made_at: Time
    values: dict[str, Scalar] = Field(default_factory=dict)
    digest: str = ""
    truth: Value | None = None
    forecast: Answer
    model_answer: Answer | None = None
    experts: dict[str, Value] = Field(default_factory=dict)
    reference: float | None = None
    interval: Interval | None = None
    source: Source = "model"
    flags: tuple[Flag, ...] = ()
    memory_revision: Annotated[int, Field(ge=0)] = 0
    result: Literal["matched", "judged", "missing"] = "matched"
    miss: bool = False
    verdict: float | None = None
    note: str = ""


class EarlyTruth(Frozen):
    """A truth whose observation has not come. Kept with its raw bytes (Latin-1) so that an orphan is dead-lettered as it was."""

    observation_id: str | None = None
    target_time: Time | None = None
    value: Value
    note: str = ""
    arrived: Time
    #: Dead-lettered as an orphan from then on.
    due: Time
    origin: Origin | None = None
    raw: str = ""


class Feedback(Frozen):
    """An outcome that no rewrite has consumed yet. `seq` is the ledger row's."""

    seq: Annotated[int, Field(ge=1)]
    text: str
    miss: bool = False
    judged: bool = False


class FoldedFeedback(Frozen):
    """Feedback that fell out of its bound, as a summary: nothing about an outcome is dropped without a trace."""

    count: Annotated[int, Field(ge=0)] = 0
    misses: Annotated[int, Field(ge=0)] = 0


class ArmTotals(Frozen):
    """Sums behind `messages.ArmScore`, exact under corrections. `faded` and `faded_n` fade by `publish.fading`."""

    n: Annotated[int, Field(ge=0)] = 0
    abs_sum: float = 0.0
    square_sum: float = 0.0
    hits: Annotated[int, Field(ge=0)] = 0
    top_hits: Annotated[int, Field(ge=0)] = 0
    faded: float = 0.0
    faded_n: float = 0.0


class ExpertsState(Frozen):
    """What the cheap forecasters remember. All O(1) or bounded."""

    n: Annotated[int, Field(ge=0)] = 0
    first: float | None = None
    last: Value | None = None
    mean: float = 0.0
    #: Latest values, oldest first; as long as the longest moving window or season.
    recent: tuple[Value, ...] = ()
    #: Time of the last value that was taken in; older ones are not.
    last_time: Time | None = None
    counts: dict[str, int] = Field(default_factory=dict)
    #: Counts of label followed by label.
    transitions: dict[str, dict[str, int]] = Field(default_factory=dict)


class MixtureState(Frozen):
    """Weights of the published mixture: what each arm's past losses earned it. See `agents.mixture`."""

    regret: dict[str, float] = Field(default_factory=dict)
    square: dict[str, float] = Field(default_factory=dict)
    scale: float = 0.0


class IntervalState(Frozen):
    """Adaptive conformal inference: the working miscoverage and the latest absolute residuals, oldest first."""

    alpha: float | None = None
    residuals: tuple[float, ...] = ()


class Surprise(Frozen):
    """What a usual error is, so that an unusual one can be told."""

    n: Annotated[int, Field(ge=0)] = 0
    usual: float = 0.0
    outcomes_since_rewrite: Annotated[int, Field(ge=0)] = 0


class EntityState(Frozen):
    """Everything the worker knows of one entity. A new entity is `EntityState(entity=...)`."""

    schema_version: Literal[1] = 1
    entity: str
    #: Last applied offset by input; a re-keyed input counts per source partition (`observations/3`).
    applied: dict[str, int] = Field(default_factory=dict)
    frozen: bool = False
    forgotten: bool = False
    #: Time of the newest observation, by the entity's own clock.
    newest: Time | None = None
    #: Newest target time whose truth has been learned; what came before it is hindsight.
    learned_to: Time | None = None
    touched_at: Time | None = None
    memory: Memory = Memory()
    revisions: tuple[Revision, ...] = ()
    pending: tuple[Pending, ...] = ()
    resolved: tuple[Resolved, ...] = ()
    early: tuple[EarlyTruth, ...] = ()
    feedback: tuple[Feedback, ...] = ()
    folded: FoldedFeedback = FoldedFeedback()
    #: A rewrite is wanted (by policy or command) since then.
    rewrite_wanted: Time | None = None
    rewrite_attempts: Annotated[int, Field(ge=0)] = 0
    #: Calls for the wanted rewrite that the model failed, in a row; they set the backoff.
    rewrite_failures: Annotated[int, Field(ge=0)] = 0
    outcomes: Annotated[int, Field(ge=0)] = 0
    scores: dict[str, ArmTotals] = Field(default_factory=dict)
    experts: ExpertsState = ExpertsState()
    mixture: MixtureState = MixtureState()
    interval: IntervalState = IntervalState()
    surprise: Surprise = Surprise()
    #: What fell out of a bound, by list.
    dropped: dict[str, int] = Field(default_factory=dict)


class PartitionState(Frozen):
    """A partition's own record: what is remembered of records that belong to no entity. Offsets by input, as in `EntityState.applied`."""

    schema_version: Literal[1] = 1
    #: Last record that was dead-lettered.
    dead_lettered: dict[str, int] = Field(default_factory=dict)
    #: Ids of the inputs' topics by role: offsets mean nothing in a topic that was made anew, or in another one.
    inputs: dict[str, str] = Field(default_factory=dict)
    #: Last record of which everything up to it was done when an entity's record was deleted: a replay of them must not bring it back.
    settled: dict[str, int] = Field(default_factory=dict)


class Header(NamedTuple):
    """The fixed front of a state record, 12 bytes: schema, pending feedback, next due time (ms since the epoch, or None)."""

    schema: int
    feedback: int
    due: int | None


_HEADER = struct.Struct(">BxHq")
_NEVER = -(2**63)
HEADER_SIZE = _HEADER.size


class UnknownSchema(ValueError):
    """A state record written by a newer or foreign program; reading it on would lose what it holds."""


def next_due(state: EntityState, ttl: timedelta | None = None) -> datetime | None:
    """The next moment at which something must happen to this entity without any input: expiry, an orphan, a rewrite, its end.

    Parameters
    ----------
    ttl
        Idle time after which an entity is forgotten (`entity_ttl`); None: never.
    """
    if state.forgotten:
        # Its record is to be deleted as soon as may be.
        return datetime.fromtimestamp(0, UTC)
    times = [p.due for p in state.pending if p.due is not None]
    times += [e.due for e in state.early]
    if state.rewrite_wanted is not None:
        times.append(state.rewrite_wanted)
    if ttl is not None and state.touched_at is not None:
        times.append(state.touched_at + ttl)
    return min(times, default=None)


def encode_state(state: EntityState, ttl: timedelta | None = None) -> bytes:
    """The record of a state: header and JSON; `ttl` as in `next_due`."""
    due = next_due(state, ttl)
    millis = _NEVER if due is None else int(due.timestamp() * 1000)
    waiting = len(state.feedback) + state.folded.count
    return _HEADER.pack(STATE_SCHEMA, min(waiting, 0xFFFF), millis) + encode(state)


def read_header(record: bytes) -> Header:
    """Read a record's header alone.

    Raises
    ------
    UnknownSchema
        The record is too short or of another schema.
    """
    if len(record) < HEADER_SIZE or record[0] != STATE_SCHEMA:
        found = record[0] if record else None
        raise UnknownSchema(f"state record of schema {found}, this program reads schema {STATE_SCHEMA}")
    schema, feedback, millis = _HEADER.unpack_from(record)
    return Header(schema, feedback, None if millis == _NEVER else millis)


def decode_state(record: bytes) -> EntityState:
    read_header(record)
    return EntityState.model_validate(orjson.loads(record[HEADER_SIZE:]))
