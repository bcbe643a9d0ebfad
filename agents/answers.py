"""What a model may answer, as JSON Schemas that constrain it, and the strict reading of what it did answer.

Grammar-valid is not value-valid, and not every server enforces a grammar, so everything is checked again here: the answer came to an
end by itself, is one JSON object with exactly the fields asked for, finite, in range, a known label. Nothing is repaired by guessing;
what cannot be used raises `AnswerInvalid`, whose text is what the repair prompt says.

Schemas stay within what llama.cpp's grammars keep: flat, anchored patterns, enums, lengths; a field's name sorts where it should stand,
because some servers write fields alphabetically (research: llm_serving §1.7, §6). A number is a string with a pattern: as a bare JSON
number the model wrote sixteen digits, and `1e999` was valid.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.errors import AnswerInvalid
from agents.models.protocol import Purpose, Reply
from schemas.messages import Answer
from schemas.settings import Settings, TargetSettings

Schema = Mapping[str, Any]

#: Characters of a text answer.
TEXT_LENGTH = 400
#: Characters of a proposed note or statement: some 25 words.
NOTE_LENGTH = 160
#: Statements of one section in the free-text form.
SECTION_STATEMENTS = 4
#: Rules that one proposal may hold.
PROPOSED_RULES = 2
NONE = "none"
SECTIONS = ("a_history", "b_mistakes", "c_watch")

#: Words that a note is asked to keep to, and where the grammar ends it: one that long was cut off and is refused by a guard.
NOTE_WORDS = 25
NOTE_WORDS_CUT = 30
#: What a note may be made of where numbers belong to the ledger: one sentence of words in Latin letters with one space between. Whatever is
#: left open, a model that may not write the number it wants to write fills: with spaces, brackets, digits of another script. A word has no
#: upper length, because bounds within bounds multiply in llama.cpp's grammars.
_WORD = r"[A-Za-zÀ-ž]+([_'-][A-Za-zÀ-ž]+)*[,;]?"


@dataclass(frozen=True, slots=True)
class ProposedRewrite:
    """A rewrite as it was proposed, nothing weighed yet: sets of condition texts and notes, or the statements of each section."""

    conditions: tuple[tuple[str, ...], ...] = ()
    #: Fields that matter, best first.
    focus: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sections: tuple[tuple[str, tuple[str, ...]], ...] = ()


def answer_tokens(settings: Settings, purpose: Purpose) -> int:
    """Tokens that an answer may take: what the largest valid one needs, with room for a wordy tokeniser."""
    if purpose == "judge":
        return 16
    if purpose == "rewrite":
        # Two tokens a word and the JSON around it, for the whole page; a proposal of rules and a note is short.
        return 3 * min(settings.memory.words, 25 * 3 * SECTION_STATEMENTS) if settings.memory.form == "free-text" else 200
    match settings.target.kind:
        case "number":
            return 32
        case "category":
            return 16 + max(len(label.encode()) for label in settings.target.labels)
        case "text":
            return 16 + TEXT_LENGTH // 2


def forecast_schema(target: TargetSettings, reference: float | None) -> Schema:
    """The schema of a forecast: an adjustment where there is a reference, the value itself where there is none."""
    if target.kind == "number":
        name = "value" if reference is None else "adjust"
        return _object({name: {"type": "string", "pattern": _number_pattern(target, reference)}})
    if target.kind == "category":
        return _object({"answer": {"type": "string", "enum": list(target.labels)}})
    return _object({"answer": {"type": "string", "minLength": 1, "maxLength": TEXT_LENGTH}})


def forecast_form(target: TargetSettings, reference: float | None) -> str:
    """The form of a forecast in words, for the prompt and for its repair."""
    if target.kind == "number":
        name, said = ("value", "number") if reference is None else ("adjust", "signed number")
        return f'{{"{name}":"<{said} with {_decimals(target)}>"}}'
    return f'{{"answer":"<{"|".join(target.labels) or "text"}>"}}'


def read_forecast(reply: Reply, target: TargetSettings, reference: float | None) -> Answer:
    """Read a forecast.

    Parameters
    ----------
    reference
        What an adjustment is added to.

    Raises
    ------
    AnswerInvalid
        Whatever is wrong with it.
    """
    name = ("value" if reference is None else "adjust") if target.kind == "number" else "answer"
    said = _text(read_object(reply, {name})[name], name)
    if target.kind == "number":
        if not re.fullmatch(_number_pattern(target, reference), said):
            raise AnswerInvalid(f"{name} is {said[:40]!r}, not a{' signed' if name == 'adjust' else ''} number with {_decimals(target)}")
        number = float(said) + (reference or 0.0)
        if not math.isfinite(number):
            raise AnswerInvalid(f"{name} is not finite")
        if target.range is not None and not target.range[0] <= number <= target.range[1]:
            raise AnswerInvalid(
                f"the forecast would be {number:.{target.decimals}f}, allowed is {target.range[0]:g} to {target.range[1]:g}"
            )
        return Answer(value=round(number, 6) + 0.0)
    if target.kind == "category":
        if said not in target.labels:
            raise AnswerInvalid(f"answer is {said[:40]!r}, not one of {', '.join(target.labels)}")
        return Answer(value=said)
    said = " ".join(said.split())
    if not said:
        raise AnswerInvalid("answer is empty")
    if len(said) > TEXT_LENGTH:
        raise AnswerInvalid(f"answer has {len(said)} characters, at most {TEXT_LENGTH}")
    return Answer(value=said)


#: The key of what a text is about.
ABOUT = "about"
ABOUT_FORM = f'{{"{ABOUT}":"<one-or-two-words>"}}'


def about_schema(pattern: str) -> Schema:
    """The schema of what a text is about; `pattern` is that of a theme."""
    return _object({ABOUT: {"type": "string", "pattern": pattern}})


def read_about(reply: Reply) -> str:
    """Read what a text is about; whether it can be a theme is not said. Raises `AnswerInvalid`."""
    return _text(read_object(reply, {ABOUT})[ABOUT], ABOUT)


def evidence_schema(
    first: Sequence[str],
    second: Sequence[str],
    *,
    note: Schema | None,
    fields: Sequence[str] = (),
    most_fields: int = 1,
) -> Schema:
    """The schema of a proposal of rules and a note.

    Parameters
    ----------
    fields, most_fields
        Fields of which those that matter are to be named, and how many may be.
    first, second
        Condition texts for `a_when` and, beside `none`, for `b_and`; no rules are asked for where `first` is empty.
    note
        The schema of a note (`words_schema`, `ANY_NOTE`); None: none is asked for.
    """
    parts: dict[str, Schema] = {}
    if fields:
        named = {"type": "string", "enum": list(fields)}
        parts["a_fields"] = {"type": "array", "minItems": 1, "maxItems": most_fields, "items": named}
    if first:
        rule = _object({"a_when": {"type": "string", "enum": list(first)}, "b_and": {"type": "string", "enum": [NONE, *second]}})
        parts["a_rules"] = {"type": "array", "minItems": 1, "maxItems": PROPOSED_RULES, "items": rule}
    if note is not None:
        parts["b_note"] = note
    return _object(parts)


#: A note of any characters, where numbers are what the target is made of.
ANY_NOTE: Schema = {"type": "string", "maxLength": NOTE_LENGTH}


def words_schema(beginnings: Sequence[str]) -> Schema:
    """The schema of a note in words: one of the beginnings, more words, a full stop; or nothing at all.

    The beginning names the condition (`High wind`, `With sky clear`): left to itself a small model begins with a threshold, and what it
    writes instead of the number it may not write is noise. So begun, a note can also be tested (`agents.claims`).
    """
    begun = "|".join(beginnings) if beginnings else _WORD
    return {"type": "string", "pattern": rf"^(({begun})( {_WORD}){{2,{NOTE_WORDS_CUT - 2}}}\.)?$"}


def evidence_form(*, rules: bool, note: str, fields: bool = False) -> str:
    """The form of such a proposal in words; `note` says what the note is to tell, empty for none."""
    parts = []
    if fields:
        parts.append('"a_fields":["<field>"]')
    if rules:
        parts.append('"a_rules":[{"a_when":"<condition>","b_and":"<none or a second condition>"}]')
    if note:
        parts.append(f'"b_note":"<{note}, in at most {NOTE_WORDS} words>"')
    return "{" + ",".join(parts) + "}"


def read_evidence(reply: Reply, schema: Schema) -> ProposedRewrite:
    """Read a proposal of rules and a note. Raises `AnswerInvalid`."""
    found = read_object(reply, set(schema["properties"]))
    named: tuple[str, ...] = ()
    if "a_fields" in found:
        part = schema["properties"]["a_fields"]
        listed = _list(found["a_fields"], "a_fields", part["maxItems"])
        if wrong := [name for name in listed if name not in part["items"]["enum"]]:
            raise AnswerInvalid(f"{str(wrong[0])[:60]!r} is not one of the fields listed")
        named = tuple(dict.fromkeys(listed))
    proposed: list[tuple[str, ...]] = []
    if "a_rules" in found:
        allowed = schema["properties"]["a_rules"]["items"]["properties"]
        for item in _list(found["a_rules"], "a_rules", PROPOSED_RULES):
            if not isinstance(item, dict) or set(item) != {"a_when", "b_and"}:
                raise AnswerInvalid("each of a_rules has exactly a_when and b_and")
            for name in ("a_when", "b_and"):
                if item[name] not in allowed[name]["enum"]:
                    raise AnswerInvalid(f"{name} is {str(item[name])[:60]!r}, not one of the conditions listed")
            proposed.append((item["a_when"],) if item["b_and"] in (NONE, item["a_when"]) else (item["a_when"], item["b_and"]))
    note = whole_sentence(_text(found["b_note"], "b_note"), NOTE_LENGTH) if "b_note" in found else ""
    return ProposedRewrite(conditions=tuple(dict.fromkeys(proposed)), focus=named, notes=(note,) if note else ())


def free_text_schema() -> Schema:
    """The schema of the paper's full rewrite: three sections of short statements."""
    statements = {
        "type": "array",
        "minItems": 1,
        "maxItems": SECTION_STATEMENTS,
        "items": {"type": "string", "minLength": 1, "maxLength": NOTE_LENGTH},
    }
    return _object(dict.fromkeys(SECTIONS, statements))


def free_text_form() -> str:
    return "{" + ",".join(f'"{name}":["<sentence>"]' for name in SECTIONS) + "}"


def read_free_text(reply: Reply) -> ProposedRewrite:
    """Read a full rewrite. Raises `AnswerInvalid`."""
    found = read_object(reply, set(SECTIONS))
    sections = []
    for name in SECTIONS:
        lines = [whole_sentence(_text(item, name), NOTE_LENGTH) for item in _list(found[name], name, SECTION_STATEMENTS)]
        sections.append((name[2:], tuple(line for line in lines if line)))
    return ProposedRewrite(sections=tuple(sections))


JUDGE_SCHEMA: Schema = {
    "type": "object",
    "properties": {"a_score": {"type": "integer", "minimum": 0, "maximum": 10}},
    "required": ["a_score"],
    "additionalProperties": False,
}
JUDGE_FORM = '{"a_score":<0 to 10>}'


def read_score(reply: Reply) -> float:
    """Read a judge's score as a share, 0 to 1. Raises `AnswerInvalid`."""
    score = read_object(reply, {"a_score"})["a_score"]
    if isinstance(score, bool) or not isinstance(score, int) or not 0 <= score <= 10:
        raise AnswerInvalid(f"a_score is {str(score)[:40]!r}, not a whole number from 0 to 10")
    return score / 10


def whole_sentence(text: str, limit: int) -> str:
    """One line of text, cut back to its last whole sentence, or else its last whole word, where the length limit cut it off.

    Examples
    --------
    >>> whole_sentence("Rain brings cold. Then it sn", 28), whole_sentence("it falls by 12", 14), whole_sentence("Short", 28)
    ('Rain brings cold.', 'it falls by', 'Short')
    """
    line = " ".join(text.split())
    if len(text) < limit:
        return line
    if line.endswith((".", "!", "?")):
        return line
    head, dot, _ = line.rpartition(". ")
    return f"{head}." if dot else line.rpartition(" ")[0]


def _object(fields: Mapping[str, Schema]) -> Schema:
    return {"type": "object", "properties": dict(fields), "required": list(fields), "additionalProperties": False}


def _decimals(target: TargetSettings) -> str:
    return f"{target.decimals} decimal{'s' * (target.decimals != 1)}"


def _number_pattern(target: TargetSettings, reference: float | None) -> str:
    """Digits before the point: three, or what the range or the reference needs."""
    largest = max(abs(bound) for bound in target.range) if target.range is not None else abs(reference or 0.0)
    digits = max(3, len(str(int(largest)))) if reference is not None or target.range is not None else 7
    fraction = rf"\.[0-9]{{{target.decimals}}}" if target.decimals > 1 else (r"\.[0-9]" if target.decimals else "")
    return rf"^{'-?' if reference is None else '[+-]'}[0-9]{{1,{digits}}}{fraction}$"


def read_object(reply: Reply, fields: set[str]) -> dict[str, Any]:
    """Read a whole JSON object with exactly these fields, whatever they hold. Raises `AnswerInvalid`."""
    if reply.finish != "stop":
        raise AnswerInvalid("it was cut off before its end")
    try:
        found = json.loads(reply.text, object_pairs_hook=_no_twins, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise AnswerInvalid(f"it is not JSON ({str(error)[:80]})") from None
    if not isinstance(found, dict):
        raise AnswerInvalid("it is not a JSON object")
    if set(found) != fields:
        raise AnswerInvalid(
            f"it must have exactly the fields {', '.join(sorted(fields))}, it has {', '.join(sorted(found))[:80] or 'none'}"
        )
    return found


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field stands there twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise AnswerInvalid(f"{name} is not a text")
    return value


def _list(value: Any, name: str, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise AnswerInvalid(f"{name} is not a list of at most {most}")
    return value
