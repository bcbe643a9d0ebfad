"""What a call is for, told by its prompt: nothing in the protocol says it.

The marks are those of `agents.prompts`; a prompt of another program is of the kind `other`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, get_args

#: Calls that take a slot.
Inference = Literal["predict", "rewrite", "judge", "repair", "other"]
#: Questions about the server and its model; they take none.
Question = Literal["show", "tags", "ps", "version"]
Kind = Inference | Question

INFERENCE: frozenset[Kind] = frozenset(get_args(Inference))
KINDS: frozenset[Kind] = INFERENCE | frozenset(get_args(Question))

REPAIR = "That answer cannot be used"
REWRITE = "Task:"
JUDGE = "You judge answers"
PREDICT = "predict:"
#: What a text is about is asked as a part of a forecast.
THEME = "You say in one or two words"


class Said(Protocol):
    """A message of a chat."""

    @property
    def role(self) -> str: ...
    @property
    def content(self) -> str: ...


def kind_of(messages: Sequence[Said]) -> Inference:
    """Return what a chat is for."""
    if not messages:
        return "other"
    last = messages[-1].content
    if last.startswith(REPAIR):
        return "repair"
    if last.startswith(REWRITE):
        return "rewrite"
    if messages[0].content.startswith(JUDGE):
        return "judge"
    if last.startswith(PREDICT) or f"\n{PREDICT}" in last or messages[0].content.startswith(THEME):
        return "predict"
    return "other"
