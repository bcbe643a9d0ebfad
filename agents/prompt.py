"""Whole prompts, within λ.

The system message is the same for predicting and rewriting: role, rules of answering, facts of the domain, the memory's text, then the
ledger. It changes only with a new revision, a block of outcomes, or a new row where rows are shown; what changes with each call comes
last, in the user message. So a server's prefix cache holds nearly all of it.

λ bounds a prompt together with its answer. Where a whole prompt is too long, optional parts go in the order of `LADDER`: first what the
user message lists, then the ledger's rows, its statistics, the length of free text, fields of the observation, the repeated rules. The
role, the facts and the memory are never cut: if they alone are too long, `PromptTooLong`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agents import answers, focus
from agents.budget import TokenCounter
from agents.errors import PromptTooLong
from agents.ledger import Ledger
from agents.memory import render
from agents.models.protocol import ChatMessage, Purpose
from agents.observing import SHOWN_FIELDS, facts, truth_text, with_unit
from agents.prompts import fill
from agents.rules import applicable, execute
from agents.sentences import rule_line, signed
from agents.untrusted import SHOWN_TEXT, delimit
from schemas.messages import Answer, Scalar
from schemas.settings import Settings, TargetSettings
from schemas.state import EntityState, Feedback, FoldedFeedback

Messages = tuple[ChatMessage, ...]

#: Outcomes that a rewrite lists; those before them are counted in a line.
LISTED_OUTCOMES = 12
#: Characters of one listed outcome.
LISTED_LENGTH = 600
#: Rules repeated beside an observation.
REPEATED_RULES = 3


@dataclass(frozen=True, slots=True)
class Reading:
    """What a forecast reads besides the observation.

    Attributes
    ----------
    recalled
        Lines that are put before the observation, last in the prompt.
    """

    state: EntityState
    ledger: Ledger
    recalled: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Detail:
    """How much of the optional parts a prompt holds."""

    outcomes: int = LISTED_OUTCOMES
    line: int = LISTED_LENGTH
    rows: int | None = None
    statistics: bool = True
    text: int = SHOWN_TEXT
    fields: int = SHOWN_FIELDS
    repeated: bool = True


def _ladder() -> tuple[Detail, ...]:
    fewer_rows: list[dict[str, Any]] = [{"rows": rows} for rows in (192, 128, 96, 64, 48, 32, 24, 16, 12, 8, 4, 0)]
    steps = [Detail()]
    for less in (
        {"outcomes": 6},
        {"outcomes": 3},
        *fewer_rows,
        {"statistics": False},
        {"line": 200},
        {"text": 80},
        {"outcomes": 1},
        {"fields": 12},
        {"repeated": False},
        {"fields": 4},
    ):
        steps.append(replace(steps[-1], **less))
    return tuple(steps)


#: What is left out, step by step, until a prompt fits.
LADDER = _ladder()


@dataclass(frozen=True, slots=True)
class Fitted:
    """A prompt that fits: its messages, what they were counted at with the answer's limit, and how much was left out."""

    messages: Messages
    tokens: int
    detail: Detail


def fit(build: Callable[[Detail], Messages], counter: TokenCounter, purpose: Purpose, *, answer_tokens: int, budget: int) -> Fitted:
    """Build the fullest prompt that fits λ.

    Parameters
    ----------
    answer_tokens, budget
        Tokens kept for the answer, and λ.

    Raises
    ------
    PromptTooLong
        Even with everything optional left out.
    """
    tokens = 0
    for detail in LADDER:
        messages = build(detail)
        tokens = counter.count(messages, purpose) + answer_tokens
        if tokens <= budget:
            return Fitted(messages, tokens, detail)
    raise PromptTooLong(
        f"the smallest {purpose} prompt takes {tokens} tokens with its answer, model.context_budget allows {budget}; "
        "raise it, or shorten memory.words or memory.facts"
    )


def prompt_hash(messages: Sequence[ChatMessage]) -> str:
    """First 16 hex digits of the SHA-256 of the system message: which page the model read."""
    return hashlib.sha256(messages[0].content.encode()).hexdigest()[:16]


def target_text(target: TargetSettings) -> str:
    """The target in words."""
    said = target.description or f"the next value of {target.field}"
    return f"{said} ({target.unit})" if target.unit else said


def system_message(state: EntityState, settings: Settings, ledger: Ledger, detail: Detail) -> ChatMessage:
    """The system message: for equal states and ledgers equal to the byte, whatever is asked."""
    target = settings.target
    content = fill(
        "system",
        target=target_text(target),
        kind=target.kind,
        form=answers.forecast_form(target, 0.0),
        has_texts=bool(settings.observations.text_fields) or target.kind == "text",
        facts=settings.memory.facts,
        memory=render(state.memory),
        ledger=ledger.render(rows=detail.rows, statistics=detail.statistics),
    )
    return ChatMessage("system", content)


def predict_messages(
    read: Reading, values: Mapping[str, Scalar], settings: Settings, *, reference: float | None, detail: Detail
) -> Messages:
    """The prompt of a forecast. Rules that match are repeated with their live record, best first."""
    target, state, ledger = settings.target, read.state, read.ledger
    rules: list[str] = []
    together = ""
    if detail.repeated:
        for rule, evidence in applicable(state.memory, values, ledger.cases)[:REPEATED_RULES]:
            live = rule.model_copy(
                update={
                    "then": evidence.then,
                    "hits": evidence.hits,
                    "cases": evidence.cases,
                    "spread": evidence.spread,
                    "tentative": evidence.cases < 3,
                }
            )
            rules.append(rule_line(live, target.decimals))
        followed = execute(state.memory, values, reference, ledger.cases) if rules else None
        if isinstance(followed, float) and reference is not None:
            together = signed(followed - reference, target.decimals)
    content = fill(
        "predict",
        kind=target.kind,
        decimals=target.decimals,
        rules=rules,
        together=together,
        recalled=read.recalled,
        facts=facts(values, settings, text_limit=detail.text, fields=detail.fields, only=focus.shown(state.memory, values, settings)),
        reference=None if reference is None else with_unit(reference, settings),
    )
    return system_message(state, settings, ledger, detail), ChatMessage("user", content)


def repair_messages(messages: Messages, answer: str, fault: str, form: str) -> Messages:
    """The prompt of the one attempt to repair an answer: the same chat, the answer, what is wrong with it."""
    return (*messages, ChatMessage("assistant", answer[:LISTED_LENGTH]), ChatMessage("user", fill("repair", fault=fault, form=form)))


def theme_messages(text: str, settings: Settings) -> Messages:
    """The prompt that asks what a text is about; it shows nothing else, so equal texts make equal questions."""
    return ChatMessage("system", fill("theme", form=answers.ABOUT_FORM)), ChatMessage("user", delimit(text))


def judge_messages(values: Mapping[str, Scalar], answer: Answer, settings: Settings, criteria: Sequence[str], detail: Detail) -> Messages:
    """The prompt of a judge; it sees the observation, the answer and the criteria, and no memory."""
    system = fill("judge", target=target_text(settings.target), criteria=criteria)
    case = fill(
        "judge-case",
        facts=facts(values, settings, text_limit=detail.text, fields=detail.fields),
        answer=truth_text(answer.value, settings, text_limit=max(detail.text, answers.TEXT_LENGTH)),
    )
    return ChatMessage("system", system), ChatMessage("user", case)


@dataclass(frozen=True, slots=True)
class Listing:
    """The outcomes a rewrite lists, oldest first, and how many stand behind them unlisted."""

    missed: tuple[str, ...]
    right: tuple[str, ...]
    shown: tuple[int, ...]
    unlisted: int
    unlisted_misses: int

    @classmethod
    def of(cls, feedback: Sequence[Feedback], folded: FoldedFeedback, detail: Detail) -> Listing:
        first = max(len(feedback) - detail.outcomes, 0)
        listed, earlier = feedback[first:], feedback[:first]
        return cls(
            tuple(_shortened(one.text, detail.line) for one in listed if one.miss),
            tuple(_shortened(one.text, detail.line) for one in listed if not one.miss),
            tuple(one.seq for one in listed),
            folded.count + len(earlier),
            folded.misses + sum(one.miss for one in earlier),
        )


def rewrite_messages(
    state: EntityState,
    settings: Settings,
    ledger: Ledger,
    listing: Listing,
    detail: Detail,
    *,
    conditions: Sequence[str] = (),
    mixed: Sequence[str] = (),
    note: str = "",
    fields: Sequence[str] = (),
    form: str,
) -> Messages:
    """The prompt of a rewrite, in the memory's form.

    Parameters
    ----------
    note
        What the note is to tell; empty for none.
    fields
        Fields of which those that matter are to be named; that is asked for alone.
    """
    outcomes = {
        "missed": listing.missed,
        "right": listing.right,
        "unlisted": listing.unlisted,
        "unlisted_misses": listing.unlisted_misses,
    }
    if settings.memory.form == "free-text":
        # A third is kept back: a page that a model thinks is 200 words long is often longer.
        content = fill("rewrite-free-text", words=max(settings.memory.words * 2 // 3, 20), form=form, **outcomes)
    else:
        content = fill(
            "rewrite",
            kind=settings.target.kind,
            conditions=conditions,
            mixed=mixed,
            most_rules=answers.PROPOSED_RULES,
            note=note,
            fields=fields,
            most_fields=focus.NAMED,
            target=target_text(settings.target),
            form=form,
            **outcomes,
        )
    return system_message(state, settings, ledger, detail), ChatMessage("user", content)


def _shortened(text: str, limit: int) -> str:
    """Cut the facts of an outcome, never what came of them."""
    if len(text) <= limit:
        return text
    said, arrow, came = text.rpartition(" -> ")
    room = max(limit - len(came) - len(arrow) - 5, 0)
    return f"{said[:room].rpartition(', ')[0]}, ...{arrow}{came}"[: 2 * limit]
