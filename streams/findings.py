"""What a check found: how bad it is, what is wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

#: ok: as it should be. warn: works, but something will hurt. fail: the worker refuses to start, or loses data.
Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    level
        How bad it is.
    subject
        What was looked at: a topic, `kafka`, `model`, a settings key.
    code
        A slug that programs tell findings apart by (`missing`, `partitions`, `recreated`, ...).
    text
        What was found, one sentence.
    advice
        What to do; empty where nothing is to be done.
    """

    level: Level
    subject: str
    code: str
    text: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.level}: {self.subject}: {self.text}" + (f" {self.advice}" if self.advice else "")


def failed(findings: Iterable[Finding]) -> list[Finding]:
    """Those that stand in the way."""
    return [finding for finding in findings if finding.level == "fail"]
