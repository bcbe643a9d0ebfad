"""Counting tokens, so that λ holds before a call is made; and noticing servers that cut prompts without a word.

A backend with a tokeniser is asked. Ollama has none to ask, so there the highest tokens-per-character ratio seen for this model and purpose
is taken, `START_RATIO` before the first answer, with a margin for prompts that are denser than any seen. The state of the counter is no part
of an entity's state; what a prompt was counted at is recorded with its call (`ModelCall.budgeted_tokens`).

A server that truncates reports the tokens it kept, so a report far below the count, or close to half the window (where servers from 0.30 on
cut to) while the count says more, is no measurement but an alarm (ollama/ollama#17427).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

from agents.models.protocol import ChatMessage, LanguageModel, Purpose, Reply

logger = logging.getLogger(__name__)

#: Tokens per character before anything was seen: dense for prose, right for digits (one token each in Qwen's and Gemma's vocabularies).
START_RATIO = 1 / 1.5
#: Counts by ratio are raised by this factor: the next prompt may be denser than the densest seen.
MARGIN = 1.05
#: Tokens that a chat template puts around one message (role, begin, end), and around the whole.
PER_MESSAGE = 6
PER_PROMPT = 8
#: Below this share of the least that the prompt can be, a report means that the prompt was cut.
FAR_BELOW = 0.6
#: No natural text is sparser than this; it stands in until a ratio was seen.
SPARSEST = 0.12
#: How near half the window a report must be to be suspected.
NEAR_HALF = 0.02


@dataclass(frozen=True, slots=True)
class ChatSize:
    """How large a call was meant to be: characters and counted tokens of the prompt, and the answer's limit in tokens."""

    characters: int
    tokens: int
    answer_tokens: int


class TokenCounter:
    """Counts prompts for one model.

    Parameters
    ----------
    window
        Tokens of the context window asked of the server (λ).
    alarm
        Called with a text whenever a server is suspected of having cut a prompt; logged in any case.
    """

    def __init__(self, model: LanguageModel, name: str, *, window: int, alarm: Callable[[str], None] | None = None) -> None:
        self._model = model
        self._name = name
        self._window = window
        self._alarm = alarm
        self._highest: dict[Purpose, float] = {}
        self._lowest: dict[Purpose, float] = {}

    def count(self, messages: Sequence[ChatMessage], purpose: Purpose) -> int:
        """Tokens of a prompt: exact where the backend has a tokeniser, else an upper estimate."""
        exact = self._exact(messages)
        if exact is not None:
            return exact
        ratio = self._highest.get(purpose, START_RATIO)
        return ceil(_characters(messages) * ratio * MARGIN) + PER_PROMPT

    def size(self, messages: Sequence[ChatMessage], purpose: Purpose, answer_tokens: int) -> ChatSize:
        return ChatSize(_characters(messages), self.count(messages, purpose), answer_tokens)

    def learned(self, messages: Sequence[ChatMessage], purpose: Purpose, reply: Reply) -> bool:
        """Learn from what the server reports of this prompt.

        Returns
        -------
        bool
            False where the prompt seems to have been cut: the ratio learns nothing, the alarm is raised, and the answer belongs to
            another prompt than the one that was sent.
        """
        reported = reply.prompt_tokens
        characters = _characters(messages)
        if not reported or not characters:
            return True
        exact = self._exact(messages)
        least = 0.9 * exact if exact is not None else FAR_BELOW * characters * self._lowest.get(purpose, SPARSEST / FAR_BELOW)
        count = exact if exact is not None else ceil(characters * self._highest.get(purpose, SPARSEST))
        half = self._window / 2
        if reported < least or (abs(reported - half) <= NEAR_HALF * half and count > (1 + 2 * NEAR_HALF) * reported):
            text = (
                f"{self._name}: the server read {reported} tokens of a {purpose} prompt of {characters} characters, counted at {count}; "
                f"it seems to cut prompts: give it a context window of at least {self._window} tokens"
            )
            logger.error(text)
            if self._alarm is not None:
                self._alarm(text)
            return False
        ratio = reported / characters
        self._highest[purpose] = max(self._highest.get(purpose, 0.0), ratio)
        self._lowest[purpose] = min(self._lowest.get(purpose, ratio), ratio)
        return True

    def _exact(self, messages: Sequence[ChatMessage]) -> int | None:
        total = PER_PROMPT
        for message in messages:
            tokens = self._model.count_tokens(message.content)
            if tokens is None:
                return None
            total += tokens + PER_MESSAGE
        return total


def _characters(messages: Sequence[ChatMessage]) -> int:
    return sum(len(message.content) for message in messages)
