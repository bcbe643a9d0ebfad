"""Words for a report's figures: what arms are called, and how scores and lists of names are said in text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: What an arm is called in text, and what it is.
TITLES: Mapping[str, tuple[str, str]] = {
    "zero_shot": ("zero-shot", "the model reads the observation and nothing of the past"),
    "fhc": ("full history", "every past outcome verbatim in the prompt, the oldest dropped where it would not fit (FHC)"),
    "memprompt_summary_concat": ("MemPrompt (summaries)", "a summary of each outcome by the model, all of them in the prompt"),
    "memprompt_error_retrieval": ("MemPrompt (retrieval)", "of the outcomes of wrong answers, the closest one is shown"),
    "published_loop": ("loop as published", "a free text alone, written anew after every outcome: two calls a step"),
    "ledger_only": ("ledger only", "statistics and the newest outcomes, kept by code, without a text"),
    "llm_as_rnn": ("LLM-as-RNN", "a memory that the model rewrites after outcomes and reads before each prediction, beside the ledger"),
    "llm_as_rnn_free_text": ("LLM-as-RNN (free text)", "the same with the paper's form of memory: free sections"),
    "llm_as_rnn_blank": ("LLM-as-RNN (blanked)", "the same prompts, the memory emptied before each prediction"),
    "llm_as_rnn_enumerated": ("LLM-as-RNN (enumerated)", "what the memory is to hold is proposed by code that tries everything"),
    "llm_as_rnn_random": ("LLM-as-RNN (random)", "what the memory is to hold is drawn at random"),
    "rules_executed": ("rules by code", "the rules of LLM-as-RNN's memory followed by code, the model is not asked"),
}


def title_of(name: str) -> str:
    """What an arm is called in text: its own name where it is a naive forecaster."""
    return TITLES[name][0] if name in TITLES else name


@dataclass(frozen=True, slots=True)
class Measure:
    """What arms are scored by: accuracy, or the mean absolute error in the target's unit."""

    key: str
    unit: str = ""

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> Measure:
        """The measure of a report's target."""
        target = report["settings"].get("target", {})
        return cls("mae", target.get("unit", "")) if target.get("kind", "number") == "number" else cls("accuracy")

    @property
    def percent(self) -> bool:
        """Whether it is a share."""
        return self.key == "accuracy"

    @property
    def name(self) -> str:
        """For headings and axes."""
        unit = f" ({self.unit})" if self.unit else ""
        return "accuracy" if self.percent else f"mean absolute error{unit}"

    @property
    def direction(self) -> str:
        """Which way is good."""
        return "higher is better" if self.percent else "lower is better"

    def say(self, value: float | None, *, signed: bool = False) -> str:
        """A score in words; a difference of shares is in points."""
        if value is None:
            return "–"
        sign = "+" if signed and value > 0 else ""
        text = f"{sign}{value * 100:.1f}" if self.percent else sign + _three_digits(value)
        return text.replace("-", "−") + ("" if signed or not self.percent else " %")

    def span(self, low: float | None, high: float | None, *, signed: bool = False) -> str:
        """An interval in words."""
        if low is None or high is None:
            return "–"
        return f"{self.say(low, signed=signed).removesuffix(' %')} to {self.say(high, signed=signed)}"


def _three_digits(value: float) -> str:
    """A number with three digits that count, and never fewer than its whole ones.

    Examples
    --------
    >>> _three_digits(1.9), _three_digits(12345.6), _three_digits(-0.0123), _three_digits(0.0)
    ('1.90', '12,346', '-0.0123', '0')
    """
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}" if value else "0"


def listed(names: Sequence[str]) -> str:
    """Names in a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
