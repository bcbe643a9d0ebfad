"""The arms: what forecasts the same stream in different ways, through the same core.

All arms that ask a model are the forecaster of `agents` with its settings turned and, where the arm is no setting, with another reader of
the state (`agents.asking.Asker`). So observations, answers, budgets, joins and scores are the same code in all of them. What an arm is:

zero_shot
    Nothing but the observation.
fhc
    Full-history concatenation: every past outcome verbatim, up to λ.
memprompt_summary_concat
    MemPrompt as a reproduction of LLM-as-RNN reads it: a summary by the model of each outcome, all of them in the prompt, up to λ.
memprompt_error_retrieval
    MemPrompt as published (arXiv 2201.06009): outcomes of wrong answers by a key of their facts; the closest one is shown if it is close.
published_loop
    The loop as published: a free text alone, written anew after every outcome.
ledger_only
    The loop without a text: statistics and the latest outcomes.
llm_as_rnn
    The loop: memory with evidence, rewritten by the settings' policy.
llm_as_rnn_free_text
    The loop with the paper's form of memory.
llm_as_rnn_blank
    The loop, its memory emptied before each prediction.
llm_as_rnn_enumerated, llm_as_rnn_random
    The loop, its rewrites proposed by code: all that is offered, or drawn at random from it. The model reads and answers.
llm_as_rnn_judged
    The loop without truths: a judge's verdicts stand in for them. Truths are hidden from it, not from its scores. Labels and texts only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agents.asking import Asker
from agents.budget import TokenCounter
from agents.forecaster import Forecaster
from agents.memory import render
from agents.models.protocol import LanguageModel
from schemas.messages import Answer, MemoryRevision, ModelCall, Prediction, Truth
from schemas.settings import Settings
from schemas.state import EntityState
from streams.evaluation import baselines, proposers
from streams.evaluation.dataset import Case, DatasetError
from streams.evaluation.results import CaseResult, MemoryEntry, Spent

#: By name, the settings that make the arm and who reads the state.
ReaderOf = Callable[[Settings, LanguageModel, TokenCounter], Asker]
_NEVER: Mapping[str, Any] = {"rewrite": {"policy": "never"}}
ARMS: Mapping[str, tuple[Mapping[str, Any], ReaderOf]] = {
    "zero_shot": (_NEVER, baselines.ZeroShot),
    "fhc": ({**_NEVER, "bounds": {"resolved": 1000, "record": 900_000}}, baselines.FullHistory),
    "memprompt_summary_concat": (_NEVER, baselines.Summaries),
    "memprompt_error_retrieval": (_NEVER, baselines.ErrorRetrieval),
    "published_loop": (_NEVER, baselines.PublishedLoop),
    "ledger_only": (_NEVER, baselines.LedgerOnly),
    "llm_as_rnn": ({}, Asker),
    "llm_as_rnn_free_text": ({"memory": {"form": "free-text"}}, Asker),
    "llm_as_rnn_blank": ({}, baselines.Blank),
    "llm_as_rnn_enumerated": ({}, proposers.Enumerating),
    "llm_as_rnn_random": ({}, proposers.Drawing),
    "llm_as_rnn_judged": ({"truths": {"source": "judge"}}, Asker),
}


class Arm:
    """One arm on one stream, over all of its entities.

    Parameters
    ----------
    settings
        Of the run, with the arm's own turns in them.
    model
        Asked by this arm alone: its record.
    """

    def __init__(self, name: str, settings: Settings, model: LanguageModel) -> None:
        reader = ARMS[name][1]
        self._settings = settings
        self._asker = reader(settings, model, TokenCounter(model, settings.model.name, window=settings.model.context_budget))
        self._forecaster = Forecaster(settings, self._asker)
        self._states: dict[str, EntityState] = {}
        self._is_judged = settings.truths.source == "judge"
        self._logged: list[MemoryRevision] = []

    async def predict(self, index: int, case: Case) -> CaseResult:
        """Forecast one case; its truth is in the result and nowhere else."""
        entity = case.observation.entity
        state = self._states.get(entity, EntityState(entity=entity))
        step = await self._forecaster.observe(state, case.observation, now=case.observation.time, offset=index)
        self._states[entity] = step.state
        self._logged += [event for event in step.events if isinstance(event, MemoryRevision)]
        made = next(event for event in step.events if isinstance(event, Prediction))
        failed = "" if made.model_answer is not None else (made.model.error if made.model is not None else "") or "no answer"
        naive = {name: value for name, value in made.experts.items() if name != "rules"}
        if self._is_judged:
            # What never hears of truths has no naive forecasters to speak of.
            naive = {}
        elif (reference := step.state.pending[-1].reference) is not None and self._settings.target.reference is not None:
            naive["reference"] = reference
        return CaseResult(
            index=index,
            entity=entity,
            id=made.id,
            time=made.time,
            truth=case.truth,
            answer=made.model_answer or Answer(value=naive.get("persistence", made.forecast.value)),
            failed=failed,
            interval=made.interval,
            published=made.forecast,
            naive=naive,
            executed=made.experts.get("rules"),
            revision=state.memory.revision,
            words=len(render(state.memory).split()),
            spent=_spent({}, "predict", made.model),
        )

    async def learn(self, case: Case, result: CaseResult) -> tuple[CaseResult, tuple[MemoryEntry, ...]]:
        """Give the truth of a case to the arm; what learning cost is added to the case's result."""
        entity = case.observation.entity
        if self._is_judged:
            return self._told(result, self._states[entity])
        truth = Truth(entity=entity, observation_id=case.observation.id, value=case.truth, time=case.known_at)
        step = await self._forecaster.learn(self._states[entity], truth, now=case.known_at)
        self._states[entity] = step.state
        self._logged += [event for event in step.events if isinstance(event, MemoryRevision)]
        if isinstance(self._asker, baselines.Writing):
            spent = _spent(result.spent, "write", await self._asker.write(step.state))
            result = result.model_copy(update={"spent": spent})
        return self._told(result, step.state)

    def _told(self, result: CaseResult, state: EntityState) -> tuple[CaseResult, tuple[MemoryEntry, ...]]:
        """The result with what learning cost, and the entries of the audit log since the last one."""
        spent = dict(result.spent)
        for revision in self._logged:
            spent = _spent(spent, "rewrite", revision.model)
        entries = tuple(MemoryEntry(index=result.index, revision=revision) for revision in self._logged)
        self._logged = []
        verdict = next((row.verdict for row in state.resolved if row.id == result.id), None)
        return result.model_copy(update={"spent": spent, "verdict": verdict}), entries


def settings_for(name: str, configured: Callable[..., Settings], sections: Mapping[str, Mapping[str, Any]]) -> Settings:
    """The settings of an arm: the run's sections, with the arm's own turns over them. Raises `DatasetError` where an arm cannot be."""
    merged = {**sections}
    if name == "llm_as_rnn_judged" and configured().target.kind == "number":
        raise DatasetError("llm_as_rnn_judged: a judge judges labels and texts; this stream's target is a number. Leave the arm out")
    for section, turns in ARMS[name][0].items():
        merged[section] = {**merged.get(section, {}), **turns}
    return configured(**merged)


def _spent(before: Mapping[str, Spent], purpose: str, call: ModelCall | None) -> dict[str, Spent]:
    if call is None or not (call.calls or call.remembered):
        return dict(before)
    old = before.get(purpose, Spent())
    # One call of which nothing is known makes the sum unknown.
    known = [tokens for counted, tokens in ((old.calls, old.cached_tokens), (call.calls, call.cached_tokens)) if counted]
    added = Spent(
        calls=old.calls + call.calls,
        remembered=old.remembered + call.remembered,
        prompt_tokens=old.prompt_tokens + call.prompt_tokens,
        cached_tokens=None if None in known else sum(tokens for tokens in known if tokens is not None),
        output_tokens=old.output_tokens + call.output_tokens,
        seconds=round(old.seconds + call.seconds, 4),
    )
    return {**before, purpose: added}
