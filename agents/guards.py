"""Guards: what a proposed statement must pass before it may enter a memory.

They work on wording, statement by statement, so that one bad sentence does not cost the good ones beside it. Rules are not their
business: what a rule concludes is measured (`agents.rules`). Guards on wording alone do not see a statement that is well-formed and
wrong; `contradiction` asks the ledger where the sentence can be tested at all (`agents.claims`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rapidfuzz import fuzz

from agents.answers import NOTE_WORDS_CUT
from agents.claims import TESTED_FROM, Claim, claim_of, contradict, refuted
from agents.conditions import holds, number_text
from agents.ledger import Ledger
from agents.memory import HISTORY, MISTAKES, NOTES, RULES, WATCH, words
from agents.prompts import ROLES, source
from agents.untrusted import CLOSE, COPIED_RUN, OPEN, Outside, amounts, is_order, tokens
from schemas.messages import Rejection
from schemas.settings import Settings
from schemas.state import Memory, Statement

#: Similarity (0 to 100, rapidfuzz ratio) from which on two sentences are the same, or a sentence is copied from the prompt.
SAME = 88.0
#: A sentence has at least so many words, and not one of them more than so often.
FEWEST_WORDS = 3
MOST_REPEATS = 4
#: A whole rewrite that leaves less than this share of a memory of at least `SHRINK_FROM` words is a collapse, not an edit.
SHRINK_TO = 0.3
SHRINK_FROM = 40

#: Words that a target's description may hold and that name nothing.
_COMMON = frozenset(
    {"the", "and", "for", "with", "from", "that", "this", "which", "when", "then", "after", "before", "will", "next", "last", "latest"}
    | {"value", "values", "outcome", "time", "day", "hour", "week", "month", "one", "two", "case", "cases", "each", "all", "any"}
    | {"are", "was", "has", "have", "not", "its", "our", "their"}
)
#: Where an amount or a threshold stands, or should have stood: kept from digits, a model wrote `at least ouch`.
_AMOUNT = re.compile(r"\b(?:by (?:about|around|approximately|roughly|up to)|at least|at most)\b", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+", re.UNICODE)
_QUOTED = re.compile(f"{OPEN}([^{OPEN}{CLOSE}]*){CLOSE}")

#: The sentences of all prompt files, which a model that has nothing to say repeats.
INSTRUCTIONS = tuple(
    sentence.strip()
    for role in ROLES
    for line in re.sub(r"\{[%{].*?[%}]\}", " ", source(role)).splitlines()
    for sentence in re.split(r"(?<=[.:])\s", line)
    if len(sentence.strip()) > 15
)
#: The same, to find what was taken out of them with other words around it.
_PROMPTS = Outside.of([INSTRUCTIONS])


@dataclass(frozen=True, slots=True)
class Ground:
    """What a statement is held against.

    Attributes
    ----------
    vocabulary
        Words that a statement can be about: fields, labels, the target.
    copied
        Sentences that stand in the prompt: instructions, listed outcomes, the ledger, facts.
    held
        Statements beside which it would stand.
    numbers
        Whether it may hold digits; numbers belong to the ledger.
    outside
        Texts from outside that the model was shown: listed text fields and notes on truths.
    """

    ledger: Ledger
    settings: Settings
    vocabulary: frozenset[str]
    copied: tuple[str, ...]
    held: tuple[str, ...] = ()
    numbers: bool = False
    claims: tuple[Claim, ...] = field(default=())
    outside: Outside = field(default_factory=Outside)


def ground_of(ledger: Ledger, settings: Settings, outcomes: Sequence[str], held: Sequence[str], *, numbers: bool) -> Ground:
    """Gather what statements are held against.

    Parameters
    ----------
    outcomes
        Lines of the prompt that the statement answers: its listed outcomes, and the task as it was put.
    """
    target = settings.target
    said = [target.field, target.description, target.unit, *target.labels, *settings.memory.facts]
    for row in ledger.rows:
        said += row.values
        said += [value for value in row.values.values() if isinstance(value, str)]
        if isinstance(row.truth, str):
            said.append(row.truth)
    vocabulary = frozenset(word for text in dict.fromkeys(said) for word in _words(text) if len(word) > 2 and word not in _COMMON)
    claims = tuple(claim for text in held if (claim := claim_of(text, ledger.rows, settings)) is not None)
    copied = (*INSTRUCTIONS, *outcomes, *ledger.render().splitlines(), *settings.memory.facts, target.description)
    outside = _outside(ledger, settings, outcomes)
    return Ground(ledger, settings, vocabulary, copied, tuple(held), numbers, claims, outside)


def check(statement: str, ground: Ground) -> Rejection | None:
    """The first guard that refuses a statement, or None."""
    for name, guard in GUARDS:
        fault = guard(statement, ground)
        if fault:
            return Rejection(guard=name, statement=statement, detail=fault)
    return None


def shrinks(before: Memory, after: Memory) -> bool:
    """Whether a whole rewrite would drop most of a memory (context collapse)."""
    return words(before) >= SHRINK_FROM and words(after) < SHRINK_TO * words(before)


def within_words(memory: Memory, limit: int) -> tuple[Memory, tuple[Rejection, ...]]:
    """Drop whole statements until the memory is within its words.

    First the oldest notes (or of the free sections the first statement of the longest), at last the rules from the end.
    """
    sections = {name: list(statements) for name, statements in memory.sections.items()}
    dropped: list[Rejection] = []

    def page() -> Memory:
        return Memory(revision=memory.revision, sections={name: tuple(statements) for name, statements in sections.items()})

    while words(page()) > limit:
        free = [name for name in (NOTES, HISTORY, MISTAKES, WATCH) if sections.get(name)]
        if free:
            gone: Statement = sections[max(free, key=lambda name: sum(len(s.text) for s in sections[name]))].pop(0)
        elif sections.get(RULES):
            gone = sections[RULES].pop()
        else:
            break
        dropped.append(Rejection(guard="over-budget", statement=gone.text, detail=f"the memory has at most {limit} words"))
    return page(), tuple(dropped)


def same(one: str, other: str) -> bool:
    """Whether two sentences say the same in nearly the same words."""
    return fuzz.ratio(one.lower(), other.lower()) >= SAME or fuzz.token_sort_ratio(one.lower(), other.lower()) >= SAME


def _empty(statement: str, ground: Ground) -> str:
    said = _words(statement)
    if len(said) < FEWEST_WORDS:
        return f"fewer than {FEWEST_WORDS} words"
    most = max(said, key=said.count)
    if len(most) > 3 and said.count(most) > MOST_REPEATS:
        return f"says {most!r} {said.count(most)} times"
    return ""


def _long(statement: str, ground: Ground) -> str:
    said = len(statement.split())
    return f"{said} words, at most {NOTE_WORDS_CUT - 1}" if said >= NOTE_WORDS_CUT else ""


def _order(statement: str, ground: Ground) -> str:
    return "reads like an instruction" if is_order(statement) else ""


def _number(statement: str, ground: Ground) -> str:
    said = any(c.isdigit() for c in statement) or _AMOUNT.search(statement) is not None
    return "numbers and amounts belong to the ledger" if said and not ground.numbers else ""


def _echo(statement: str, ground: Ground) -> str:
    lowered = statement.lower()
    if "<" in lowered and ">" in lowered:
        return "copies a placeholder of the prompt"
    said = f" {' '.join(tokens(statement))} "
    for sentence in ground.copied:
        if fuzz.ratio(lowered, sentence.lower()) >= SAME or said in f" {' '.join(tokens(sentence))} ":
            return f"copies the prompt: {sentence[:80]!r}"
    run = _PROMPTS.copied(statement)
    return f"copies the prompt: {run[:80]!r}" if run else ""


def _copied(statement: str, ground: Ground) -> str:
    """Words that came from outside, and values that only outside text speaks of: whoever writes observations would write the memory."""
    outside, said = ground.outside, statement
    if ground.held:
        # A sentence may go on where the one before it ends.
        said = f"{' '.join(ground.held[-1].split()[-COPIED_RUN:])} {statement}"
    run = outside.copied(statement) or outside.copied(said)
    if run:
        return f"copies outside text: {run[:80]!r}"
    if any(unicodedata.category(c) in ("Cf", "Co") for c in statement):
        return "holds characters that cannot be seen"
    if not outside.texts:
        return ""
    if foreign := amounts(statement) - _known_numbers(ground):
        return f"a number that was not measured: {min(foreign)}"
    return next((fault for label in ground.settings.target.labels if (fault := _hearsay(label, statement, ground))), "")


def _hearsay(label: str, statement: str, ground: Ground) -> str:
    """What is wrong with naming a label that outside text may have put there: the ledger must bear it out."""
    came = [row.truth for row in ground.ledger.matched].count(label)
    if (came and not ground.outside.names(label)) or f" {' '.join(tokens(label))} " not in f" {' '.join(tokens(statement))} ":
        return ""
    claim = claim_of(statement, ground.ledger.rows, ground.settings)
    if not came or claim is None or claim.then != label:
        return f"{label} never came true" if not came else f"outside text speaks of {label}, and nothing here can be tested"
    seen = [row.truth for row in ground.ledger.matched if all(holds(condition, row.values) for condition in claim.when)]
    if len(seen) < TESTED_FROM or 2 * seen.count(label) < len(seen):
        return f"outside text speaks of {label}, and {seen.count(label)} of {len(seen)} such cases came to it"
    return ""


def _known_numbers(ground: Ground) -> frozenset[str]:
    """Numbers that code has put before the model, and counts of outcomes; what outside text says too must have been measured."""
    rows = ground.ledger.rows
    found = [value for row in rows for value in (*row.values.values(), row.truth)]
    known = {number for value in found if isinstance(value, int | float) for number in amounts(number_text(value))}
    if ground.settings.target.kind == "text":
        known |= {number for row in rows if isinstance(row.truth, str) for number in amounts(row.truth)}
    told = {number for text in ground.copied for number in amounts(_QUOTED.sub(" ", text))}
    counts = {str(count) for count in range(len(rows) + 1)}
    return frozenset(known | ((told | counts) - ground.outside.numbers))


def _outside(ledger: Ledger, settings: Settings, outcomes: Sequence[str]) -> Outside:
    names = settings.observations.text_fields
    fields = [[text for row in ledger.rows if isinstance(text := row.values.get(name), str)] for name in names]
    fields.append([row.note for row in ledger.rows if row.note])
    if settings.target.kind != "text":
        # Outcomes may wait longer than the ledger holds their rows. A text target's own truths are what is learned.
        fields.append([quoted for text in outcomes for quoted in _QUOTED.findall(text)])
    return Outside.of(fields)


def _ungrounded(statement: str, ground: Ground) -> str:
    for word in _words(statement):
        if len(word) > 2 and (
            word in ground.vocabulary or any(_same_stem(word, known) for known in ground.vocabulary if known[:3] == word[:3])
        ):
            return ""
    return "names no field, label or target"


def _duplicate(statement: str, ground: Ground) -> str:
    claim = claim_of(statement, ground.ledger.rows, ground.settings)

    def is_twin(held: str) -> bool:
        if not same(statement, held):
            return False
        # `High wind leads to ...` and `Low rain leads to ...` are nearly the same words and not at all the same claim.
        other = claim_of(held, ground.ledger.rows, ground.settings) if claim is not None else None
        return claim is None or other is None or set(claim.when) == set(other.when)

    twin = next((held for held in ground.held if is_twin(held)), None)
    return f"is held already: {twin[:80]!r}" if twin is not None else ""


def _contradiction(statement: str, ground: Ground) -> str:
    claim = claim_of(statement, ground.ledger.rows, ground.settings)
    if claim is None:
        return ""
    fault = refuted(claim, ground.ledger)
    if fault:
        return fault
    return "contradicts a statement that is held" if any(contradict(claim, held) for held in ground.claims) else ""


#: In the order in which they are asked; the names are what `Rejection.guard` says.
GUARDS: tuple[tuple[str, Callable[[str, Ground], str]], ...] = (
    ("empty", _empty),
    ("too-long", _long),
    ("instruction", _order),
    ("number", _number),
    ("echo", _echo),
    ("copied", _copied),
    ("ungrounded", _ungrounded),
    ("duplicate", _duplicate),
    ("contradiction", _contradiction),
)


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _same_stem(one: str, other: str) -> bool:
    """`temp` in `temperature`, `rain` in `rainy`: one is the other's beginning, or they share all but their ends."""
    shorter, longer = sorted((one, other), key=len)
    return longer.startswith(shorter) or (len(shorter) > 4 and longer.startswith(shorter[:-1]))
