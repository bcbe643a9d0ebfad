"""What a run has seen so far: each day with its prediction and outcome, every memory revision, every dead letter.

Views, scores and the summary read it; only the driver and the reader of the outputs write it. It decides nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from schemas.messages import DeadLetter, MemoryRevision, ModelCall, Outcome, Prediction
from streams.demo.dataset import Question, Target
from streams.demo.transport import Received


@dataclass(slots=True)
class Step:
    """One replayed day. `sent` and `answered` are monotonic seconds: when the observation went out, when its prediction came."""

    question: Question
    sent: float | None = None
    answered: float | None = None
    truth_sent: bool = False
    prediction: Prediction | None = None
    outcome: Outcome | None = None

    @property
    def labelled(self) -> bool:
        """Whether the prediction met its truth."""
        return self.outcome is not None and self.outcome.result in ("matched", "corrected")


@dataclass(slots=True)
class Record:
    """A run.

    Parameters
    ----------
    target
        What is forecast.
    questions
        All days of the replay.
    clock
        Monotonic seconds.
    """

    target: Target
    questions: Sequence[Question]
    clock: Callable[[], float] = time.monotonic
    steps: list[Step] = field(init=False)
    revisions: list[MemoryRevision] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    #: Things that went wrong without ending the run, for people.
    notes: list[str] = field(default_factory=list)
    began: float = field(init=False)
    _by_id: dict[str, Step] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.steps = [Step(question) for question in self.questions]
        self._by_id = {step.question.id: step for step in self.steps}
        self.began = self.clock()

    def take(self, received: Received) -> None:
        """Enter what a worker published. Predictions and outcomes of other runs' observations are passed over."""
        match received:
            case Prediction():
                step = self._by_id.get(received.id)
                if step is not None and step.prediction is None:
                    step.prediction, step.answered = received, self.clock()
            case Outcome():
                step = self._by_id.get(received.prediction_id)
                if step is not None:
                    step.outcome = received
            case MemoryRevision():
                self.revisions.append(received)
            case DeadLetter():
                self.dead_letters.append(received)

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return self.clock() - self.began

    @property
    def predicted(self) -> list[Step]:
        return [step for step in self.steps if step.prediction is not None]

    @property
    def labelled(self) -> list[Step]:
        return [step for step in self.steps if step.labelled]

    @property
    def accepted(self) -> list[MemoryRevision]:
        return [revision for revision in self.revisions if revision.accepted]

    @property
    def refused(self) -> list[MemoryRevision]:
        return [revision for revision in self.revisions if not revision.accepted]

    @property
    def memory(self) -> str:
        """The memory as it stands."""
        return self.accepted[-1].after if self.accepted else ""

    def prediction_calls(self) -> list[ModelCall]:
        """What predictions cost, one entry a prediction for which the model was asked."""
        return [step.prediction.model for step in self.steps if step.prediction is not None and step.prediction.model is not None]

    def rewriting_calls(self) -> list[ModelCall]:
        """What rewrites cost, accepted or not."""
        return [revision.model for revision in self.revisions if revision.model is not None]
