"""Asking the model: one question from the prompt within λ to an answer that can be used, or the reason why there is none.

`Asker` never raises for what a model or its server does: the slug of the error stands in the call's record, and the forecaster goes on
without an answer. Each question is asked once; an answer that came but cannot be used is sent back once with what is wrong with it.
Deadlines and retries against the server stand in front of the backend (`agents.models.gate`), not here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Generic, TypeVar

from agents import answers, themes
from agents.budget import ChatSize, TokenCounter
from agents.errors import NOT_ASKED, AnswerInvalid, ModelError, ModelTimeout, PromptTooLong
from agents.judge import Judged
from agents.ledger import Ledger
from agents.models.protocol import CallLimits, LanguageModel, ModelIdentity, Purpose, Reply
from agents.prompt import Detail, Messages, Reading, fit, judge_messages, predict_messages, prompt_hash, repair_messages, theme_messages
from agents.ranking import ranked
from agents.rewriting import Proposal, RewriteRequest
from schemas.messages import Answer, ModelCall, Observation, Scalar
from schemas.settings import Settings
from schemas.state import EntityState

T = TypeVar("T")
#: Told of every reply and every failure, with the size of what was asked; for metrics.
Observer = Callable[[Purpose, Reply | ModelError, ChatSize], None]

#: Error slug of a call whose prompt the server seems to have cut: its answer belongs to another question.
TRUNCATED = "truncated"


@dataclass(frozen=True, slots=True)
class Asked:
    """A forecast that was asked for.

    Attributes
    ----------
    answer
        The model's own answer; None where it gave none that can be used, and `call.error` says why.
    prompt_hash
        Of the system message it read; empty where nothing was sent.
    theme
        What the observation's text is about, where the model was asked; see `agents.themes`.
    """

    answer: Answer | None
    call: ModelCall
    prompt_hash: str = ""
    theme: str = ""


class Asker:
    """The model with everything in front of it that belongs to one question.

    Parameters
    ----------
    counter
        Shared by all entities: what it learns of one prompt serves the next.
    observer
        Called once for every reply and every failure.
    """

    def __init__(self, settings: Settings, model: LanguageModel, counter: TokenCounter, observer: Observer | None = None) -> None:
        self.counter = counter
        self._settings = settings
        self._model = model
        self._observer = observer
        self._identity: ModelIdentity | None = None

    async def predict(self, state: EntityState, observation: Observation, *, reference: float | None, now: datetime) -> Asked:
        """Ask for the forecast of one observation.

        Parameters
        ----------
        reference
            What a number's adjustment is added to; None: the value itself is asked for.
        now
            Not shown to the model: nothing in a prompt may depend on when it was made.

        Notes
        -----
        For a category the model gives the best label; the further ranks are filled by code (`agents.ranking`).
        """
        settings, target = self._settings, self._settings.target
        reference = reference if target.kind == "number" else None
        limit = answers.answer_tokens(settings, "predict")
        read = self.read(state, observation, reference=reference)
        theme, spent = await self.theme(state, observation)
        values = themes.with_theme(observation.values, theme, settings)

        def build(detail: Detail) -> Messages:
            return predict_messages(read, values, settings, reference=reference, detail=detail)

        try:
            fitted = fit(build, self.counter, "predict", answer_tokens=limit, budget=settings.model.context_budget)
        except PromptTooLong as error:
            return Asked(None, _together(spent, await self._no_call(error.slug)), theme=theme)
        found = await self._ask(
            fitted.messages,
            "predict",
            schema=answers.forecast_schema(target, reference),
            form=answers.forecast_form(target, reference),
            read=lambda reply: answers.read_forecast(reply, target, reference),
            limit=limit,
            seconds=settings.model.deadline.total_seconds(),
            entity=state.entity,
        )
        answer = found.value
        if answer is not None and target.kind == "category":
            answer = Answer(value=answer.value, top=ranked(str(answer.value), read.state.memory, values, read.ledger, target))
        return Asked(answer, _together(spent, found.call), prompt_hash(fitted.messages), theme)

    def read(self, state: EntityState, observation: Observation, *, reference: float | None) -> Reading:
        """What of a state a forecast reads: the memory, and the outcomes up to the observation's time."""
        return Reading(state, Ledger(state, self._settings, until=observation.time))

    async def theme(self, state: EntityState, observation: Observation) -> tuple[str, ModelCall | None]:
        """Ask what the observation's text is about, where it has one that is read for themes (`agents.themes`).

        Returns
        -------
        tuple
            The theme, empty where there is none or none was given; and the call, None where none was made.
        """
        settings, field = self._settings, themes.field_of(self._settings)
        text = None if field is None else observation.values.get(field)
        # Only rules make use of themes: neither the free-text form nor targets that are texts have any.
        if not isinstance(text, str) or not text.strip() or settings.memory.form != "evidence" or settings.target.kind == "text":
            return "", None
        messages = theme_messages(text, settings)
        limit = answers.answer_tokens(settings, "judge")
        if self.counter.count(messages, "predict") + limit > settings.model.context_budget:
            return "", None
        found = await self._ask(
            messages,
            "predict",
            schema=answers.about_schema(themes.PATTERN),
            form=answers.ABOUT_FORM,
            read=answers.read_about,
            limit=limit,
            seconds=settings.model.deadline.total_seconds(),
            entity=state.entity,
        )
        known = themes.remembered(state.memory, state.resolved, settings)
        return themes.settle(found.value, known, settings)[0] if found.value is not None else "", found.call

    async def judge(self, values: Mapping[str, Scalar], answer: Answer, *, criteria: Sequence[str]) -> Judged:
        """Ask how well an answer meets the criteria, where no truth will tell."""
        settings = self._settings
        limit = answers.answer_tokens(settings, "judge")
        try:
            fitted = fit(
                lambda detail: judge_messages(values, answer, settings, criteria, detail),
                self.counter,
                "judge",
                answer_tokens=limit,
                budget=settings.model.context_budget,
            )
        except PromptTooLong as error:
            return Judged(None, await self._no_call(error.slug))
        found = await self._ask(
            fitted.messages,
            "judge",
            schema=answers.JUDGE_SCHEMA,
            form=answers.JUDGE_FORM,
            read=answers.read_score,
            limit=limit,
            seconds=settings.model.deadline.total_seconds(),
        )
        return Judged(found.value, found.call)

    async def rewrite(self, request: RewriteRequest) -> Proposal:
        """Ask for a rewrite; what becomes of it is `agents.rewriting.apply_proposal`'s to say."""
        free = self._settings.memory.form == "free-text"
        found = await self._ask(
            request.messages,
            "rewrite",
            schema=request.schema,
            form=request.form,
            read=answers.read_free_text if free else lambda reply: answers.read_evidence(reply, request.schema),
            limit=request.answer_tokens,
            seconds=self._settings.model.rewrite_deadline.total_seconds(),
            entity=request.entity,
            fresh=request.again,
        )
        return Proposal(request, found.text, found.value, found.call)

    async def _ask(
        self,
        messages: Messages,
        purpose: Purpose,
        *,
        schema: answers.Schema,
        form: str,
        read: Callable[[Reply], T],
        limit: int,
        seconds: float,
        entity: str = "",
        fresh: bool = False,
    ) -> _Found[T]:
        """Ask, read, and where the answer cannot be used ask once more, within the same λ and deadline."""
        asked = _clock()
        call = await self._no_call("")
        if self._identity is None:
            # Asking in vain who it is was part of the same time: a host that hangs from the start must not take it twice.
            seconds -= _clock() - asked
            if seconds <= 0:
                return _Found(None, None, call.model_copy(update={"error": ModelTimeout.slug}))
        ask = partial(self._complete, schema=schema, limit=limit, entity=entity, fresh=fresh)
        reply, call = await ask(messages, purpose, call, seconds=seconds)
        if reply is None:
            return _Found(None, None, call)
        try:
            return _Found(read(reply), reply.text, call)
        except AnswerInvalid as error:
            again = repair_messages(messages, reply.text, str(error), form)
        if self.counter.count(again, "repair") + limit > self._settings.model.context_budget:
            return _Found(None, reply.text, call.model_copy(update={"error": AnswerInvalid.slug}))
        left = max(seconds - reply.waited_seconds - reply.seconds, 1.0)
        second, call = await ask(again, "repair", call, seconds=left)
        if second is None:
            return _Found(None, reply.text, call)
        try:
            return _Found(read(second), second.text, call)
        except AnswerInvalid:
            return _Found(None, second.text, call.model_copy(update={"error": AnswerInvalid.slug}))

    async def _complete(
        self,
        messages: Messages,
        purpose: Purpose,
        call: ModelCall,
        *,
        schema: answers.Schema,
        limit: int,
        seconds: float,
        entity: str,
        fresh: bool,
    ) -> tuple[Reply | None, ModelCall]:
        """One exchange with the backend; the call's record grows by it."""
        size = self.counter.size(messages, purpose, limit)
        limits = CallLimits(answer_tokens=limit, context_tokens=self._settings.model.context_budget, seconds=seconds)
        counted = {"budgeted_tokens": max(call.budgeted_tokens, size.tokens + limit)}
        try:
            reply = await self._model.complete(messages, schema=schema, limits=limits, purpose=purpose, entity=entity, fresh=fresh)
        except ModelError as error:
            self._tell(purpose, error, size)
            calls = call.calls + (error.slug not in NOT_ASKED)
            return None, call.model_copy(update={**counted, "calls": calls, "error": error.slug})
        self._tell(purpose, reply, size)
        call = call.model_copy(update={**counted, **_added(call, reply)})
        if not self.counter.learned(messages, purpose, reply, answer_tokens=limit):
            return None, call.model_copy(update={"error": TRUNCATED})
        return reply, call

    async def _no_call(self, error: str) -> ModelCall:
        """The record of a call that has not been made."""
        if self._identity is None:
            try:
                self._identity = await self._model.identify()
            except ModelError:
                return ModelCall(name=self._settings.model.name, calls=0, error=error)
        found = self._identity
        return ModelCall(name=found.name, digest=found.digest, backend=found.backend, calls=0, error=error)

    def _tell(self, purpose: Purpose, what: Reply | ModelError, size: ChatSize) -> None:
        if self._observer is not None:
            self._observer(purpose, what, size)


@dataclass(frozen=True, slots=True)
class _Found(Generic[T]):
    value: T | None
    text: str | None
    call: ModelCall


def _together(first: ModelCall | None, second: ModelCall) -> ModelCall:
    """Two calls of one forecast as one; why it failed is the second one's to say."""
    if first is None:
        return second
    known = [call.cached_tokens for call in (first, second) if call.calls]
    return second.model_copy(
        update={
            "calls": first.calls + second.calls,
            "remembered": first.remembered + second.remembered,
            "prompt_tokens": first.prompt_tokens + second.prompt_tokens,
            "cached_tokens": None if None in known or not known else sum(tokens for tokens in known if tokens is not None),
            "output_tokens": first.output_tokens + second.output_tokens,
            "seconds": first.seconds + second.seconds,
            "budgeted_tokens": max(first.budgeted_tokens, second.budgeted_tokens),
        }
    )


def _added(call: ModelCall, reply: Reply) -> dict[str, Any]:
    if reply.remembered:
        return {"remembered": call.remembered + 1}
    cached = call.cached_tokens
    if reply.cached_tokens is not None:
        cached = (cached or 0) + reply.cached_tokens
    return {
        "calls": call.calls + 1,
        "prompt_tokens": call.prompt_tokens + (reply.prompt_tokens or 0),
        "cached_tokens": cached,
        "output_tokens": call.output_tokens + reply.output_tokens,
        "seconds": call.seconds + reply.seconds,
    }


def _clock() -> float:
    return asyncio.get_running_loop().time()
