"""Rewriting the memory: when, what is asked, and what of the proposal becomes the next revision.

The model proposes, code disposes. In the evidence form the model picks conditions out of those the ledger offers and may write a note;
code measures what follows from the conditions (`agents.rules`), writes it down, and lets nothing in that the ledger or a guard speaks
against. In the free-text form (the paper) the model writes the whole page, and the guards weigh it sentence by sentence. A proposal that
brings nothing new leaves the memory as it was and is recorded with the reason.

Nothing here asks a model or reads a clock; `agents.asking` asks, the forecaster decides when.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from agents import answers, focus, themes
from agents.answers import ProposedRewrite
from agents.budget import TokenCounter
from agents.conditions import THEME, describe, holds, terms
from agents.errors import PromptTooLong
from agents.guards import check, ground_of, shrinks, within_words
from agents.ledger import Ledger
from agents.memory import FOCUS, FORMS, NOTES, RULES, kept_rejections, refusal, revise
from agents.prompt import Detail, Listing, Messages, fit, rewrite_messages
from agents.regression import was_taken_back
from agents.rules import PURE, Evidence, held, measure, promising, same_conclusion, select, statement_of
from schemas.messages import MemoryRevision, ModelCall, Rejection
from schemas.settings import Settings
from schemas.state import Condition, EntityState, FoldedFeedback, Memory, Rule, Statement

logger = logging.getLogger(__name__)

_LETTERS = re.compile(r"[\w ]+", re.ASCII)

#: Conditions that one proposal may choose from.
OFFERED = 16
#: What a condition must have won (bits, or usual errors), over how many cases, to be offered though its field is not thought to matter.
STRONG_GAIN, STRONG_CASES = 4.0, 6
#: Outcomes without which there is nothing to cut conditions from.
OFFERED_FROM = 3


@dataclass(frozen=True, slots=True)
class RewriteRequest:
    """What a model is asked, and what is needed to read its answer.

    Attributes
    ----------
    revision
        The memory's revision that the question was made from; a proposal for another one is not applied.
    shown
        Ledger numbers (`seq`) of the outcomes that are listed; applying the proposal consumes them and all before them.
    covered
        All outcomes that waited, listed or not; those that came later stay for the next rewrite.
    offered
        Conditions by their wording, as the schema lists them.
    tokens
        What the prompt was counted at, its answer's limit included.
    answer_tokens
        Limit of the answer.
    again
        The last proposal was refused: a remembered answer will not do, it would be refused again.
    """

    entity: str
    revision: int
    messages: Messages
    schema: Mapping[str, Any]
    shown: tuple[int, ...]
    covered: FoldedFeedback
    form: str = ""
    offered: Mapping[str, Condition] | None = None
    tokens: int = 0
    answer_tokens: int = 1
    again: bool = False


@dataclass(frozen=True, slots=True)
class Proposal:
    """A model's answer to a request. `parsed` is None where it gave none that can be used; `call.error` says why."""

    request: RewriteRequest
    text: str | None
    parsed: ProposedRewrite | None
    call: ModelCall


def wants_rewrite(state: EntityState, settings: Settings) -> bool:
    """Whether the memory should be rewritten now.

    By `rewrite.policy`: after every outcome; or after a miss once `gather` outcomes wait, and at the latest after `after` of them. A
    command (`rewrite_wanted`) goes before the policy. A frozen entity, and one without unconsumed outcomes, wants none. After a
    refused proposal the same question would get the same answer, so new outcomes must have come.
    """
    waiting = len(state.feedback) + state.folded.count
    if state.frozen or not state.feedback:
        return False
    if state.rewrite_wanted is not None:
        return True
    policy = settings.rewrite.policy
    if policy == "never":
        return False
    gather = 1 if policy == "every" else settings.rewrite.gather
    if state.rewrite_attempts and state.surprise.outcomes_since_rewrite < gather:
        return False
    if policy == "every":
        return True
    surprised = state.folded.misses > 0 or any(feedback.miss for feedback in state.feedback)
    return waiting >= settings.rewrite.after or (surprised and waiting >= gather)


def request_rewrite(state: EntityState, settings: Settings, counter: TokenCounter) -> RewriteRequest | None:
    """Make the question for a rewrite; None where there is nothing to learn from, or where λ has no room for it (logged)."""
    if not state.feedback:
        return None
    ledger = Ledger(state, settings)
    limit = answers.answer_tokens(settings, "rewrite")
    if settings.memory.form == "free-text":
        offer = _Offer()
        schema, form = answers.free_text_schema(), answers.free_text_form()
    else:
        offer = _offer(state, settings, ledger)
        if not (offer.first or offer.note or offer.fields):
            return None
        note = answers.ANY_NOTE if settings.target.kind == "text" else answers.words_schema(offer.beginnings)
        schema = answers.evidence_schema(
            offer.first,
            tuple(offer.conditions),
            note=note if offer.note else None,
            fields=offer.fields,
            most_fields=focus.NAMED,
        )
        form = answers.evidence_form(rules=bool(offer.first), note=offer.note, fields=bool(offer.fields))

    def build(detail: Detail) -> Messages:
        listing = Listing.of(state.feedback, state.folded, detail)
        return rewrite_messages(
            state,
            settings,
            ledger,
            listing,
            detail,
            conditions=offer.first,
            mixed=offer.mixed,
            note=offer.note,
            fields=offer.fields,
            form=form,
        )

    try:
        fitted = fit(build, counter, "rewrite", answer_tokens=limit, budget=settings.model.context_budget)
    except PromptTooLong as error:
        logger.warning("%s: no rewrite: %s", state.entity, error)
        return None
    return RewriteRequest(
        entity=state.entity,
        revision=state.memory.revision,
        messages=fitted.messages,
        schema=schema,
        shown=Listing.of(state.feedback, state.folded, fitted.detail).shown,
        covered=FoldedFeedback(
            count=state.folded.count + len(state.feedback),
            misses=state.folded.misses + sum(feedback.miss for feedback in state.feedback),
        ),
        form=form,
        offered=offer.conditions,
        tokens=fitted.tokens,
        answer_tokens=limit,
        again=state.rewrite_attempts > 0,
    )


def apply_proposal(state: EntityState, proposal: Proposal, settings: Settings, *, now: datetime) -> tuple[EntityState, MemoryRevision]:
    """Weigh a proposal against the ledger of now and make the next revision of it, or record why not.

    Accepted, it consumes the outcomes it was shown. Refused, the memory stays and so do the outcomes, until `rewrite.max_attempts`
    proposals in a row were refused; then they are consumed. A model that did not answer (`call.error` other than `invalid`) costs no
    attempt.

    Returns
    -------
    tuple
        The new state, and the entry for the audit log.
    """
    log: dict[str, Any] = {
        "proposal": (proposal.text or "")[: settings.bounds.text],
        "outcomes": len(proposal.request.shown),
        "model": proposal.call,
    }
    if proposal.parsed is None:
        reason = "the model's answer could not be used" if proposal.call.error == "invalid" else f"no answer: {proposal.call.error}"
        entry = refusal(state, cause="feedback", reason=reason, now=now, **log)
        return _refused(state, proposal, settings, counts=proposal.call.error == "invalid"), entry
    weighed = _weigh_page(state, proposal, settings) if settings.memory.form == "free-text" else _weigh_rules(state, proposal, settings)
    log["rejected"] = kept_rejections(weighed.rejected)
    if weighed.fault:
        return _refused(state, proposal, settings, counts=True), refusal(state, cause="feedback", reason=weighed.fault, now=now, **log)
    revised, entry = revise(_consumed(state, proposal), weighed.memory.sections, cause="feedback", now=now, **log)
    return revised, entry


@dataclass(frozen=True, slots=True)
class _Weighed:
    memory: Memory
    rejected: tuple[Rejection, ...]
    fault: str = ""


@dataclass(frozen=True, slots=True)
class _Offer:
    """Conditions to choose from: all by wording, those for `a_when`, held ones whose outcomes are mixed; what a note is to tell."""

    conditions: Mapping[str, Condition] = field(default_factory=dict)
    first: tuple[str, ...] = ()
    mixed: tuple[str, ...] = ()
    note: str = ""
    beginnings: tuple[str, ...] = ()
    #: Fields of which those that matter are to be named.
    fields: tuple[str, ...] = ()


def _offer(state: EntityState, settings: Settings, ledger: Ledger) -> _Offer:
    """What the model may choose from.

    Offered are conditions that no rule has settled, all fields in turn, so that a field with many conditions crowds out none, and also
    those that hold where nothing was missed: what a model is not shown it cannot propose. Conditions that the ledger already speaks
    against come last, those that hold where the forecast missed come first: a small model tends to take what it reads first.

    A note is asked for once the rules leave nothing to propose, on one field that no note names yet, while there is room for notes: asked
    for a note on anything, a small model repeats the one it has just read, and each costs what ten predictions do. Targets that are texts
    have no conditions and always get a note.

    Where records are wide and nobody knows which of their fields matter, that is asked for, and alone: several questions at once confuse a
    small model (`agents.focus`). Of fields that are not thought to matter, conditions are offered only where the ledger speaks strongly.
    """
    notes = [statement.text for statement in state.memory.sections.get(NOTES, ())]
    if settings.target.kind == "text":
        return _Offer(note="what a right answer has that a wrong one lacks" if settings.memory.max_notes else "")
    if len(ledger.matched) < OFFERED_FROM:
        return _Offer()
    if fields := focus.choices(state.memory, ledger.cases, ledger.matched, settings):
        return _Offer(fields=fields)
    rules = held(state.memory)
    known = [condition for rule in rules for condition in rule.when]
    watched = focus.fields_of(state.memory)
    found = tuple(
        condition
        for condition in terms(ledger.matched, texts=settings.observations.text_fields, known=known)
        if not watched or condition.field in {*watched, *themes.names(settings)} or condition in known or _is_strong(condition, ledger)
    )
    missed = {feedback.seq for feedback in state.feedback if feedback.miss}
    lately = {feedback.seq for feedback in state.feedback}
    settled = {rule.when[0] for rule in rules if len(rule.when) == 1 and _is_settled(rule, measure(rule, ledger.cases), settings)}

    def weight(condition: Condition) -> tuple[bool, int, int]:
        rows = [row.seq for row in ledger.matched if row.seq in lately and holds(condition, row.values)]
        return not promising(condition, ledger.cases), -sum(seq in missed for seq in rows), -len(rows)

    weights = {condition: weight(condition) for condition in found}
    by_field: dict[str, list[Condition]] = {}
    for condition in sorted(found, key=lambda c: (*weights[c], describe(c))):
        by_field.setdefault(condition.field, []).append(condition)
    rounds = sorted(
        ((turn, weights[condition], condition) for conditions in by_field.values() for turn, condition in enumerate(conditions)),
        key=lambda item: (item[1][0], item[0], item[1], describe(item[2])),
    )
    chosen = [condition for _, _, condition in rounds][:OFFERED]
    first = tuple(describe(condition) for condition in chosen if condition not in settled)
    mixed = tuple(
        describe(rule.when[0]) for rule in rules if isinstance(rule.then, str) and len(rule.when) == 1 and rule.hits < PURE * rule.cases
    )
    offered = {describe(condition): condition for condition in chosen}
    topics = (name for name in by_field if not name.endswith(THEME) and not any(name.lower() in text.lower() for text in notes))
    topic = next(topics, None)
    unfinished = any(not weights[condition][0] and describe(condition) in first for condition in chosen)
    if topic is None or unfinished or len(notes) >= settings.memory.max_notes:
        return _Offer(offered, first, mixed)
    beginnings = _beginnings(by_field[topic])
    target = settings.target.description or settings.target.field
    note = f"whether {topic} makes the {target} rise or fall" if settings.target.kind == "number" else f"which {target} follows {topic}"
    note += ", and why"
    return _Offer(offered, first, mixed, note, beginnings)


def _is_strong(condition: Condition, ledger: Ledger) -> bool:
    """Whether the ledger speaks for a condition on a field that nobody thinks matters."""
    evidence = measure(Rule(when=(condition,), then=0.0), ledger.cases)
    return evidence.cases >= STRONG_CASES and evidence.gain >= STRONG_GAIN


def _beginnings(conditions: Sequence[Condition]) -> tuple[str, ...]:
    """How a note on a field may begin; nothing where its name or labels are more than letters, digits and spaces."""
    labels = [f"With {condition.field} {condition.value}" for condition in conditions if condition.op == "is"]
    begun = labels or [f"High {conditions[0].field}", f"Low {conditions[0].field}"]
    return tuple(begun) if all(_LETTERS.fullmatch(beginning) for beginning in begun) else ()


def _is_settled(rule: Rule, evidence: Evidence, settings: Settings) -> bool:
    """Whether a rule needs no new proposal: enough cases, mostly alike, and what it says is what they say."""
    if evidence.cases < 3 or evidence.then is None:
        return False
    if isinstance(evidence.then, str):
        return evidence.then == rule.then and evidence.hits >= PURE * evidence.cases
    live = rule.model_copy(update={"then": evidence.then, "spread": evidence.spread})
    return same_conclusion(rule, live, settings.target.decimals)


def _weigh_rules(state: EntityState, proposal: Proposal, settings: Settings) -> _Weighed:
    ledger = Ledger(state, settings)
    decimals = settings.target.decimals
    before = {frozenset(rule.when): rule for rule in held(state.memory)}
    proposed, wider = _conditions_of(proposal)
    watched = _focus(state.memory, proposal)
    # Of what the model itself has named, fields and themes, code tries every condition.
    named = {*watched, *themes.names(settings)}
    wider += [(c,) for c in terms(ledger.matched, texts=settings.observations.text_fields) if c.field in named and (c,) not in wider]
    selection = select(state.memory, proposed, ledger.rows, settings, wider=wider)
    notes, refused = _weigh_notes(state, proposal, settings, ledger)
    sections = {
        FOCUS: (focus.statement_of(watched),) if watched else (),
        RULES: tuple(statement_of(rule, decimals) for rule in selection.rules),
        NOTES: notes,
    }
    page, dropped = within_words(Memory(sections=sections), settings.memory.words)
    rejected = (*selection.rejected, *refused, *dropped)
    if watched != focus.fields_of(state.memory):
        return _Weighed(page, rejected)
    wanted = {frozenset(when) for when in (*proposed, *wider)}
    old_notes = {statement.text for statement in state.memory.sections.get(NOTES, ())}
    for rule in held(page):
        earlier = before.get(frozenset(rule.when))
        if earlier is None or (frozenset(rule.when) in wanted and not same_conclusion(earlier, rule, decimals)):
            return _Weighed(page, rejected)
    if any(statement.text not in old_notes for statement in page.sections[NOTES]):
        return _Weighed(page, rejected)
    why = "; ".join(dict.fromkeys(rejection.guard for rejection in rejected))
    return _Weighed(page, rejected, f"nothing new in it that stands ({why})" if why else "nothing new in it")


def _focus(memory: Memory, proposal: Proposal) -> tuple[str, ...]:
    """The fields that matter: those proposed, else those that were named before."""
    proposed = proposal.parsed.focus if proposal.parsed is not None else ()
    return proposed or focus.fields_of(memory)


def _conditions_of(proposal: Proposal) -> tuple[list[tuple[Condition, ...]], list[tuple[Condition, ...]]]:
    """The proposed sets of conditions, and the single conditions of the proposed pairs: small models propose pairs where one decides."""
    offered = proposal.request.offered or {}
    parsed = proposal.parsed or ProposedRewrite()
    proposed = [tuple(offered[text] for text in texts) for texts in parsed.conditions if all(text in offered for text in texts)]
    wider = [(condition,) for when in proposed if len(when) > 1 for condition in when]
    return proposed, [when for when in dict.fromkeys(wider) if when not in proposed]


def _weigh_notes(
    state: EntityState, proposal: Proposal, settings: Settings, ledger: Ledger
) -> tuple[tuple[Statement, ...], tuple[Rejection, ...]]:
    rejected: list[Rejection] = []
    numbers = settings.target.kind == "text"
    rules = (statement.text for statement in state.memory.sections.get(RULES, ()))
    outcomes = [*_lines(state, proposal), *rules]
    kept: list[Statement] = []
    for statement in state.memory.sections.get(NOTES, ()):
        # What was let in while the ledger had nothing against it may be refuted by now; a person's note may hold numbers.
        refusal_now = check(statement.text, ground_of(ledger, settings, (), (), numbers=True))
        if refusal_now is not None and refusal_now.guard == "contradiction":
            rejected.append(refusal_now)
        else:
            kept.append(statement)
    for text in proposal.parsed.notes if proposal.parsed is not None else ():
        refused = check(text, ground_of(ledger, settings, outcomes, [statement.text for statement in kept], numbers=numbers))
        if refused is not None:
            rejected.append(refused)
        else:
            kept.append(Statement(text=text))
    while len(kept) > settings.memory.max_notes:
        rejected.append(
            Rejection(guard="capacity", statement=kept.pop(0).text, detail=f"the oldest of more than {settings.memory.max_notes}")
        )
    return tuple(kept), tuple(rejected)


def _lines(state: EntityState, proposal: Proposal) -> list[str]:
    """What the model may have copied: outcomes, and the task as it was put."""
    task = [line for message in proposal.request.messages[-1:] for line in message.content.splitlines()]
    return [*(feedback.text for feedback in state.feedback), *task]


def _weigh_page(state: EntityState, proposal: Proposal, settings: Settings) -> _Weighed:
    ledger = Ledger(state, settings)
    outcomes = _lines(state, proposal)
    old = {statement.text for statements in state.memory.sections.values() for statement in statements}
    sections: dict[str, tuple[Statement, ...]] = {}
    rejected: list[Rejection] = []
    taken: list[str] = []
    for name, lines in (proposal.parsed or ProposedRewrite()).sections:
        kept: list[Statement] = []
        for text in lines:
            refused = check(text, ground_of(ledger, settings, outcomes, taken, numbers=True))
            if refused is not None:
                rejected.append(refused)
                continue
            taken.append(text)
            kept.append(Statement(text=text))
        sections[name] = tuple(kept)
    page, dropped = within_words(Memory(sections={name: sections.get(name, ()) for name in FORMS["free-text"]}), settings.memory.words)
    rejected += dropped
    left = {statement.text for statements in page.sections.values() for statement in statements}
    if not left:
        return _Weighed(page, tuple(rejected), "no statement passed the guards")
    if was_taken_back(state, page):
        return _Weighed(page, tuple(rejected), "this text was taken back before")
    if shrinks(state.memory, page):
        rejected.append(Rejection(guard="shrink", statement=" ".join(sorted(left))[:200], detail="most of the memory would be lost"))
        return _Weighed(page, tuple(rejected), "most of the memory would be lost")
    return _Weighed(page, tuple(rejected), "nothing new in it" if left == old else "")


def _consumed(state: EntityState, proposal: Proposal) -> EntityState:
    newest, covered = max(proposal.request.shown, default=0), proposal.request.covered
    seen = [feedback for feedback in state.feedback if feedback.seq <= newest]
    # What was folded is known by number only: all that waited then and is not listed any more has been folded since.
    count = max(state.folded.count + len(seen) - covered.count, 0)
    misses = max(state.folded.misses + sum(feedback.miss for feedback in seen) - covered.misses, 0)
    return state.model_copy(
        update={
            "feedback": tuple(feedback for feedback in state.feedback if feedback.seq > newest),
            "folded": FoldedFeedback(count=count, misses=min(misses, count)),
            "rewrite_wanted": None,
            "rewrite_attempts": 0,
            "surprise": state.surprise.model_copy(update={"outcomes_since_rewrite": 0}),
        }
    )


def _refused(state: EntityState, proposal: Proposal, settings: Settings, *, counts: bool) -> EntityState:
    if not counts:
        return state.model_copy(update={"rewrite_wanted": None})
    attempts = state.rewrite_attempts + 1
    if attempts >= settings.rewrite.max_attempts:
        return _consumed(state, proposal)
    since = state.surprise.model_copy(update={"outcomes_since_rewrite": 0})
    return state.model_copy(update={"rewrite_wanted": None, "rewrite_attempts": attempts, "surprise": since})
