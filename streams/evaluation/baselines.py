"""The readers of the arms that are no setting of the loop: what else a forecast can be shown of an entity's past.

All show the same observations in the same words as the loop does. What grows drops its oldest quarter in one block where the prompt would
not fit λ, so that a server's prefix cache survives.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from rapidfuzz.distance import Levenshtein

from agents import answers
from agents.asking import Asker
from agents.errors import AnswerInvalid
from agents.ledger import Ledger
from agents.models.protocol import ChatMessage, Reply
from agents.observing import facts, shown_fields, truth_text
from agents.prompt import Detail, Reading, predict_messages, system_message
from schemas.messages import ModelCall, Observation, Scalar
from schemas.settings import Settings
from schemas.state import EntityState, Resolved

#: Words of a summary. The reproduction of LLM-as-RNN has 100; an outcome of these streams is said in far fewer.
SUMMARY_WORDS = 25
_SUMMARY_CHARACTERS = 200
#: MemPrompt retrieves a key within this many edits (of letters), or for records of facts with at most this share of the facts different.
EDITS = 6
DIFFERENT = 0.25


class Lines(Ledger):
    """A ledger that shows given lines and nothing else."""

    def __init__(self, state: EntityState, settings: Settings, lines: Sequence[str], *, heading: str) -> None:
        super().__init__(state, settings)
        self._heading = heading
        self._lines = lines

    def render(self, *, rows: int | None = None, statistics: bool = True) -> str:
        """All lines, however short of room: what does not fit was dropped before."""
        return "\n".join((self._heading, *(f"- {line}" for line in self._lines))) if self._lines else ""


class LedgerOnly(Asker):
    """Reads what the loop reads, but for what the model makes of texts: themes are the memory's."""

    async def theme(self, state: EntityState, observation: Observation) -> tuple[str, ModelCall | None]:
        """Nobody is asked."""
        return "", None


class ZeroShot(LedgerOnly):
    """Reads nothing of the past."""

    def read(self, state: EntityState, observation: Observation, *, reference: float | None) -> Reading:
        """A state of which nothing is known."""
        blank = EntityState(entity=state.entity)
        return Reading(blank, Ledger(blank, self._settings))


class Blank(Asker):
    """Reads what the loop reads, the memory emptied."""

    def read(self, state: EntityState, observation: Observation, *, reference: float | None) -> Reading:
        """The ledger stays."""
        return super().read(_without_memory(state), observation, reference=reference)


class _Growing(LedgerOnly, ABC):
    """Shows as many of an entity's lines as fit."""

    heading = ""

    def __init__(self, *given: object, **named: object) -> None:
        super().__init__(*given, **named)  # type: ignore[arg-type]
        self._dropped: dict[str, int] = defaultdict(int)

    @abstractmethod
    def lines(self, state: EntityState, until: datetime) -> Sequence[str]:
        """All lines of the entity, oldest first; only ever appended to."""

    def read(self, state: EntityState, observation: Observation, *, reference: float | None) -> Reading:
        """The newest lines, from where the last block was dropped."""
        settings, lines = self._settings, self.lines(state, observation.time)
        room = settings.model.context_budget - answers.answer_tokens(settings, "predict")
        while True:
            shown = lines[self._dropped[state.entity] :]
            read = Reading(_without_memory(state), Lines(state, settings, shown, heading=self.heading))
            messages = predict_messages(read, observation.values, settings, reference=reference, detail=Detail())
            if not shown or self.counter.count(messages, "predict") <= room:
                return read
            self._dropped[state.entity] += max(1, len(shown) // 4)


class FullHistory(_Growing):
    """Shows every outcome verbatim."""

    heading = "All outcomes (oldest first):"

    def lines(self, state: EntityState, until: datetime) -> Sequence[str]:
        """One line for each outcome."""
        return [_outcome(row, self._settings) for row in Ledger(state, self._settings, until=until).matched]


class Writing(LedgerOnly, ABC):
    """What has the model write down something about every outcome, in a call of its own."""

    #: Of the answer's one field.
    key = ""

    @abstractmethod
    async def write(self, state: EntityState) -> ModelCall:
        """Ask about the newest outcome, and keep what is said."""

    async def _text(self, state: EntityState, task: str, *, characters: int, tokens: int) -> tuple[str | None, ModelCall]:
        settings, blank = self._settings, EntityState(entity=state.entity)
        form = '{"' + self.key + '":"<text>"}'
        schema: answers.Schema = {
            "type": "object",
            "properties": {self.key: {"type": "string", "minLength": 1, "maxLength": characters}},
            "required": [self.key],
            "additionalProperties": False,
        }
        found = await self._ask(
            (
                system_message(blank, settings, Ledger(blank, settings), Detail()),
                ChatMessage("user", f"{task}\nAnswer as compact JSON {form}."),
            ),
            "rewrite",
            schema=schema,
            form=form,
            read=lambda reply: _read_text(reply, self.key, characters),
            limit=tokens,
            seconds=settings.model.rewrite_deadline.total_seconds(),
            entity=state.entity,
        )
        return found.value, found.call


class Summaries(Writing, _Growing):
    """Shows the model's own summary of every outcome."""

    key = "summary"

    heading = "Summaries of what happened (oldest first):"

    def __init__(self, *given: object, **named: object) -> None:
        super().__init__(*given, **named)
        self._summaries: dict[str, list[str]] = defaultdict(list)

    def lines(self, state: EntityState, until: datetime) -> Sequence[str]:
        """One summary for each outcome."""
        return self._summaries[state.entity]

    async def write(self, state: EntityState) -> ModelCall:
        """Ask for the summary of the newest outcome; one that cannot be used is replaced by the outcome itself, and the call says so."""
        outcome = _outcome(state.resolved[-1], self._settings)
        task = (
            f"Task: sum up this case and its outcome in one sentence of at most {SUMMARY_WORDS} words, for forecasting later cases.\n"
            f"{outcome}"
        )
        said, call = await self._text(state, task, characters=_SUMMARY_CHARACTERS, tokens=24 + 2 * SUMMARY_WORDS)
        self._summaries[state.entity].append(said or outcome)
        return call


class PublishedLoop(Writing):
    """Shows the text that the model wrote after the last outcome, and has it written anew after each: two calls a step.

    As published (arXiv 2601.13352), without what was added here: ledger, measured statements, guards, and the choice of when to rewrite.
    """

    key = "memory"

    def __init__(self, *given: object, **named: object) -> None:
        super().__init__(*given, **named)  # type: ignore[arg-type]
        self._memories: dict[str, str] = {}

    def read(self, state: EntityState, observation: Observation, *, reference: float | None) -> Reading:
        """The text."""
        blank = EntityState(entity=state.entity)
        said = self._memories.get(state.entity)
        return Reading(blank, Lines(blank, self._settings, (said,) if said else (), heading="Memory:"))

    async def write(self, state: EntityState) -> ModelCall:
        """Ask for the whole memory anew; without a usable answer it stays as it is, and the call says so."""
        settings, row = self._settings, state.resolved[-1]
        answer = row.model_answer or row.forecast
        task = (
            f"Task: rewrite the memory that later cases are forecast from, in at most {settings.memory.words} words: correct what was"
            f" wrong, reinforce what was right.\nMemory: {self._memories.get(state.entity, 'empty')}\n"
            f"The latest case: {_outcome(row, settings)}; forecast was {truth_text(answer.value, settings)}."
        )
        said, call = await self._text(state, task, characters=8 * settings.memory.words, tokens=2 * settings.memory.words)
        if said is not None:
            self._memories[state.entity] = said
        return call


class ErrorRetrieval(LedgerOnly):
    """Shows the outcome of the wrong answer whose key is closest, if it is close.

    A key is the observation without its numbers' digits: labels as they are, numbers by the third of those seen so far that they fall in.
    Two keys are close with at most `DIFFERENT` of the facts different, texts counting as alike within `EDITS` edits. As published, a wrong
    answer with an equal key overwrites the older one, and of equally close ones the newest counts.
    """

    def read(self, state: EntityState, observation: Observation, *, reference: float | None) -> Reading:
        """Nothing of the past but the closest error."""
        settings, blank = self._settings, EntityState(entity=state.entity)
        known = Ledger(state, settings, until=observation.time).matched
        wrong = {tuple(sorted(_key(row.values, known, settings).items())): row for row in known if _is_wrong(row)}
        wanted = _key(observation.values, known, settings)
        found = [(distance, -row.seq, row) for key, row in wrong.items() if (distance := _distance(dict(key), wanted)) <= DIFFERENT]
        recalled: tuple[str, ...] = ()
        if found:
            row = min(found, key=lambda item: item[:2])[2]
            recalled = (f"A case like this was answered wrongly before; right was: {_outcome(row, settings)}",)
        return Reading(blank, Ledger(blank, settings), recalled)


def _without_memory(state: EntityState) -> EntityState:
    return state.model_copy(update={"memory": EntityState(entity=state.entity).memory})


def _outcome(row: Resolved, settings: Settings) -> str:
    """A matched row in the words that a forecast is asked with, and what came."""
    assert row.truth is not None, "a matched row has its truth"
    reference = "" if row.reference is None else f"; reference {row.reference:.{settings.target.decimals}f}"
    return f"{facts(row.values, settings)}{reference} -> {truth_text(row.truth, settings)}"


def _read_text(reply: Reply, key: str, characters: int) -> str:
    found = answers.read_object(reply, {key})[key]
    if not isinstance(found, str) or not (said := answers.whole_sentence(found, characters)):
        raise AnswerInvalid(f"the {key} is empty")
    return said


def _is_wrong(row: Resolved) -> bool:
    answer = row.model_answer or row.forecast
    return answer.value != row.truth if isinstance(row.truth, str) else row.miss


def _key(values: dict[str, Scalar], known: Sequence[Resolved], settings: Settings) -> dict[str, str]:
    key = {}
    for name in shown_fields(values, settings):
        value = values[name]
        if isinstance(value, int | float) and not isinstance(value, bool):
            seen = sorted(float(v) for row in known if isinstance(v := row.values.get(name), int | float) and not isinstance(v, bool))
            key[name] = str(sum(value >= seen[len(seen) * third // 3] for third in (1, 2))) if len(seen) >= 3 else ""
        else:
            key[name] = re.sub(r"[^\w ]", "", str(value).lower())
    return key


def _distance(one: dict[str, str], other: dict[str, str]) -> float:
    names = one.keys() | other.keys()
    different = sum(
        Levenshtein.distance(one.get(name, ""), other.get(name, ""), score_cutoff=EDITS) >= EDITS
        if " " in one.get(name, "")
        else one.get(name) != other.get(name)
        for name in names
    )
    return different / max(len(names), 1)
