"""What one arm did on one dataset: a row for each case, as it is written to the cell's file and read by scores, tests and reports."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from schemas.messages import Answer, Frozen, Interval, MemoryRevision, Rejection, Value
from schemas.times import Time


class Spent(Frozen):
    """Calls of one purpose and what they cost. Calls that were answered from the record count as they did when they were made."""

    calls: Annotated[int, Field(ge=0)] = 0
    #: Answers to equal questions: no call was made.
    remembered: Annotated[int, Field(ge=0)] = 0
    prompt_tokens: Annotated[int, Field(ge=0)] = 0
    #: Of the prompt's tokens, those that came from the server's prefix cache; None where it does not say.
    cached_tokens: Annotated[int, Field(ge=0)] | None = None
    output_tokens: Annotated[int, Field(ge=0)] = 0
    seconds: Annotated[float, Field(ge=0)] = 0.0


class CaseResult(Frozen):
    """One case of one arm.

    `answer` is the arm's own answer, never guarded: a label, or a number in the target's unit. Where a model gave none that can be used,
    `answer` is the fallback's (the last value; before any, 0 or the first label) and `failed` says why.
    """

    index: Annotated[int, Field(ge=0)]
    entity: str
    id: str
    time: Time
    truth: Value
    answer: Answer
    failed: str = ""
    #: Published with it, where the arm publishes one: `low`..`high` for numbers, a set of labels for categories.
    interval: Interval | None = None
    #: What the arm's guarded mixture would have published, where it has one.
    published: Answer | None = None
    #: The naive forecasters' answers at the time, by name; equal in every arm.
    naive: dict[str, Value] = Field(default_factory=dict)
    #: What the memory's rules say when code follows them; None where none applies.
    executed: Value | None = None
    #: A judge's verdict (0 to 1), where the dataset is judged.
    verdict: float | None = None
    #: The memory that was read, and its words.
    revision: Annotated[int, Field(ge=0)] = 0
    words: Annotated[int, Field(ge=0)] = 0
    #: By purpose (`predict`, `rewrite`, `judge`, `write`), the learning from this case's truth included.
    spent: dict[str, Spent] = Field(default_factory=dict)


class MemoryEntry(Frozen):
    """One entry of the arm's audit log: after which case it was made."""

    index: Annotated[int, Field(ge=0)]
    revision: MemoryRevision


__all__ = ["CaseResult", "MemoryEntry", "Rejection", "Spent"]
