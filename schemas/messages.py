"""What crosses Kafka: observations, truths and commands in; predictions, outcomes and memory revisions out.

Every message carries `schema_version`. Times are UTC; numbers are finite. A message that is written is frozen, and empty
fields are left out on the wire (`schemas.codec.encode`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, model_validator

from schemas.times import Time

#: A text field's length in characters; longer texts are cut when they enter a state, and refused as ids.
TEXT_LIMIT = 2_000
ENTITY_LIMIT = 256

EntityId = Annotated[str, StringConstraints(min_length=1, max_length=ENTITY_LIMIT)]
ObservationId = Annotated[str, StringConstraints(min_length=1, max_length=ENTITY_LIMIT)]

#: One measured or stated thing: a number, a label or short text, or a flag.
Scalar = bool | int | FiniteFloat | str
#: What is forecast: a number for `kind = "number"`, a label or a text otherwise.
Value = FiniteFloat | str

Kind = Literal["number", "category", "text"]
#: Who answered: the model, or a naive forecaster because the model could not (`fallback`).
Source = Literal["model", "fallback"]
#: late: after its deadline; early: before its observation; corrected: replaces an earlier truth; hindsight: predicted after
#: its own or a later truth was learned; stale: predicted when its target time had passed; judged: no truth, a judge's verdict.
#: conflated (in states only): the model was not asked and nothing was published; the truth feeds ledger and experts alone.
Flag = Literal["late", "early", "corrected", "hindsight", "stale", "judged", "conflated"]
Cause = Literal["feedback", "command", "rollback", "rule-dropped", "forget"]
Op = Literal["edit", "rollback", "freeze", "thaw", "forget", "rewrite"]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants", populate_by_name=True)


class Message(Frozen):
    schema_version: Literal[1] = 1
    entity: EntityId


class Observation(Message):
    """One reading of one entity.

    `values` holds what the settings map; `extra` keeps every other field as it came.
    """

    id: ObservationId
    time: Time
    values: dict[str, Scalar] = Field(default_factory=dict)
    extra: dict[str, Any] = Field(default_factory=dict)


class Truth(Message):
    """What really happened, for the prediction of one observation.

    It names the observation by `observation_id`, or the moment by `target_time`; `time` is when it became known.
    """

    observation_id: ObservationId | None = None
    target_time: Time | None = None
    value: Value
    note: Annotated[str, StringConstraints(max_length=TEXT_LIMIT)] = ""
    time: Time | None = None

    @model_validator(mode="after")
    def _names_its_prediction(self) -> Truth:
        if self.observation_id is None and self.target_time is None:
            raise ValueError("a truth names its prediction by observation_id or by target_time; both are missing")
        return self


class Command(Message):
    """A person's change to one entity; it goes through the same log and lane as everything else."""

    op: Op
    #: The sender's own name for it, such as a UUID; the answer repeats it. Without one an answer is told by entity, op and who alone.
    id: Annotated[str, StringConstraints(max_length=ENTITY_LIMIT)] = ""
    by: Annotated[str, StringConstraints(min_length=1, max_length=ENTITY_LIMIT)]
    why: Annotated[str, StringConstraints(max_length=TEXT_LIMIT)] = ""
    #: The revision the person looked at; where it has moved on the command is refused. None: whatever is there.
    revision: Annotated[int, Field(ge=0)] | None = None
    #: `edit`: the new memory, as a revision's `after` has it.
    text: Annotated[str, StringConstraints(max_length=4 * TEXT_LIMIT)] | None = None
    #: `rollback`: the revision whose content comes back.
    to_revision: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _has_what_its_op_needs(self) -> Command:
        if self.op == "edit" and self.text is None:
            raise ValueError("edit needs text")
        if self.op == "rollback" and self.to_revision is None:
            raise ValueError("rollback needs to_revision")
        return self


class Answer(Frozen):
    """One forecaster's answer: a number, label or text; for a category the ranked labels in `top`, best first."""

    value: Value
    top: tuple[str, ...] = ()


class Interval(Frozen):
    """A prediction interval for a number, or a prediction set for a category, meant to hold the truth at `level`."""

    level: Annotated[float, Field(gt=0, lt=1)]
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    labels: tuple[str, ...] = ()


class ModelCall(Frozen):
    """What one or more calls of the model for one purpose cost, and which model it was."""

    name: str
    digest: str = ""
    backend: str = ""
    calls: Annotated[int, Field(ge=0)] = 1
    #: Answers to equal questions, asked before or at the same time: not among the calls, and no cost.
    remembered: Annotated[int, Field(ge=0)] = 0
    prompt_tokens: Annotated[int, Field(ge=0)] = 0
    #: None where the server does not say.
    cached_tokens: Annotated[int, Field(ge=0)] | None = None
    output_tokens: Annotated[int, Field(ge=0)] = 0
    seconds: Annotated[float, Field(ge=0)] = 0.0
    #: Why it gave no usable answer, as a slug (`timeout`, `unreachable`, `invalid`, ...); empty when it did.
    error: str = ""
    #: Tokens the longest whole prompt of these calls was counted at before it was sent, its answer's limit included.
    budgeted_tokens: Annotated[int, Field(ge=0)] = 0


class Prediction(Message):
    """The forecast for one observation."""

    id: ObservationId
    kind: Kind
    time: Time
    #: None with `horizon = "next"`: whenever the next observation comes.
    target_time: Time | None = None
    made_at: Time
    forecast: Answer
    #: The model's own answer; None where it gave none.
    model_answer: Answer | None = None
    experts: dict[str, Value] = Field(default_factory=dict)
    interval: Interval | None = None
    source: Source
    flags: tuple[Flag, ...] = ()
    memory_revision: Annotated[int, Field(ge=0)]
    #: SHA-256 (first 16 hex digits) of the system message the model read.
    prompt_hash: str = ""
    model: ModelCall | None = None
    trace: str = ""


class ArmScore(Frozen):
    """Running scores of one arm over one entity's stream.

    Number: `mae`, `mse`. Category and text: `accuracy`, `top_k`. `faded` is the exponentially faded absolute error or accuracy.
    """

    n: Annotated[int, Field(ge=0)] = 0
    mae: float | None = None
    mse: float | None = None
    accuracy: float | None = None
    top_k: float | None = None
    faded: float | None = None


class Outcome(Message):
    """A prediction met its truth (or its judge, or its deadline).

    `errors` holds truth minus forecast (target's unit) by arm for a number, 0 or 1 (miss) otherwise; the arms are `published`,
    `model` and the naive ones.
    """

    prediction_id: ObservationId
    kind: Kind
    time: Time
    target_time: Time | None = None
    truth: Value | None = None
    forecast: Answer
    model_answer: Answer | None = None
    source: Source
    #: matched: by a truth; corrected: a second truth with another value; judged: by the judge; missing: no truth came.
    result: Literal["matched", "corrected", "judged", "missing"]
    #: The interval that was published with the forecast.
    interval: Interval | None = None
    errors: dict[str, float] = Field(default_factory=dict)
    hit: bool | None = None
    verdict: Annotated[float, Field(ge=0, le=1)] | None = None
    note: str = ""
    #: Seconds from the observation's arrival to the truth's; negative where the truth came first.
    verification_latency: float | None = None
    flags: tuple[Flag, ...] = ()
    memory_revision: Annotated[int, Field(ge=0)] = 0
    scores: dict[str, ArmScore] = Field(default_factory=dict)
    resolved_at: Time


class Rejection(Frozen):
    """A proposed statement that a guard refused."""

    guard: str
    statement: str
    detail: str = ""


class MemoryRevision(Message):
    """One entry of the audit log: a revision that was made, a proposal that was refused, or the answer to a command.

    `revision` is the memory's number after it. A command that does not change the memory (`freeze`) is answered with the number as it is.
    """

    revision: Annotated[int, Field(ge=0)]
    cause: Cause
    accepted: bool
    reason: str = ""
    before: str = ""
    after: str = ""
    words: Annotated[int, Field(ge=0)] = 0
    rejected: tuple[Rejection, ...] = ()
    #: The model's raw proposal, cut to the text limit.
    proposal: str = ""
    #: How many outcomes the rewrite was shown.
    outcomes: Annotated[int, Field(ge=0)] = 0
    #: What a command asked for, and its `id`: set in the entry that answers it, and in no other.
    op: Op | None = None
    command: str = ""
    by: str = ""
    why: str = ""
    #: `forget`: topics whose retention still holds text of the entity, each with how long.
    held_by: tuple[str, ...] = ()
    model: ModelCall | None = None
    made_at: Time


class DeadLetter(Frozen):
    """The headers of a record in `dead-letters`; its value is the raw bytes that could not be used."""

    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    timestamp: datetime | None = None
    #: Size of the original value in bytes; above the limit only the first 64 kB are kept, and the digest tells which.
    size: int
    sha256: str = ""
    truncated: bool = False


#: Everything a worker publishes as JSON, by topic role.
OUTPUTS: dict[str, type[Message]] = {"predictions": Prediction, "outcomes": Outcome, "memories": MemoryRevision}
INPUTS: dict[str, type[Message]] = {"observations": Observation, "truths": Truth, "commands": Command}
