"""Counting tokens, so that λ holds before a call is made; and noticing servers that cut prompts without a word.

A backend with a tokeniser is asked. Ollama has none to ask, so there the highest tokens-per-byte ratio seen for this model and purpose
is taken, `START_RATIO` before the first answer, with a margin for prompts that are denser than any seen. Bytes of UTF-8, because they
say more of tokens than characters do: one of another script is often a token or more. The state of the counter is no part of an
entity's state; what a prompt was counted at is recorded with its call (`ModelCall.budgeted_tokens`).

A server that truncates reports the tokens it kept, so a report far below the count, or close to half the window (where servers from
0.30 on cut to) while the count nearly fills it, is no measurement but an alarm (ollama/ollama#17427). A prompt that leaves its answer
less room than that was promised is one too, but was read whole, so the ratio learns from it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

from agents.models.protocol import ChatMessage, LanguageModel, Purpose, Reply

logger = logging.getLogger(__name__)

#: Tokens per byte before anything was seen: dense for prose, right for digits (one token each in Qwen's and Gemma's vocabularies).
START_RATIO = 1 / 1.5
#: Counts by ratio are raised by this factor: the next prompt may be denser than the densest seen.
MARGIN = 1.05
#: Tokens that a chat template puts around one message (role, begin, end), and around the whole.
PER_MESSAGE = 6
PER_PROMPT = 8
#: Below this share of the least that the prompt can be, a report means that the prompt was cut.
FAR_BELOW = 0.6
#: No natural text has fewer tokens per character; it stands in until a ratio was seen.
SPARSEST = 0.12
#: How near half the window a report must be to be suspected.
NEAR_HALF = 0.02
#: Share of the window from which on a count lends weight to that suspicion; a prompt that just is as long as half the window is common.
NEARLY_FULL = 0.8


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
        Called with a text whenever a server is suspected of having cut a prompt, or a prompt was over λ; logged in any case.
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
        return ceil(_bytes(messages) * ratio * MARGIN) + PER_PROMPT

    def size(self, messages: Sequence[ChatMessage], purpose: Purpose, answer_tokens: int) -> ChatSize:
        return ChatSize(_characters(messages), self.count(messages, purpose), answer_tokens)

    def learned(self, messages: Sequence[ChatMessage], purpose: Purpose, reply: Reply, *, answer_tokens: int = 0) -> bool:
        """Learn from what the server reports of this prompt, whose answer was promised so many tokens.

        Returns
        -------
        bool
            False where the prompt seems to have been cut: the ratio learns nothing, the alarm is raised, and the answer belongs to
            another prompt than the one that was sent.
        """
        reported = reply.prompt_tokens
        characters, size = _characters(messages), _bytes(messages)
        if not reported or not characters:
            return True
        exact = self._exact(messages)
        sparsest = FAR_BELOW * size * self._lowest[purpose] if purpose in self._lowest else SPARSEST * characters
        count = exact if exact is not None else ceil(size * self._highest[purpose] if purpose in self._highest else sparsest)
        half = self._window / 2
        at_half = abs(reported - half) <= NEAR_HALF * half and count > NEARLY_FULL * self._window
        if reported < (0.9 * exact if exact is not None else sparsest) or at_half:
            self._raise(
                f"{self._name}: the server read {reported} tokens of a {purpose} prompt of {characters} characters, counted at {count}; "
                f"it seems to cut prompts: give it a context window of at least {self._window} tokens"
            )
            return False
        if reported + answer_tokens > self._window:
            self._raise(
                f"{self._name}: a {purpose} prompt took {reported} tokens, more than it was counted at; with {answer_tokens} for its "
                f"answer that is over the {self._window} of model.context_budget"
            )
        ratio = reported / size
        self._highest[purpose] = max(self._highest.get(purpose, 0.0), ratio)
        self._lowest[purpose] = min(self._lowest.get(purpose, ratio), ratio)
        return True

    def _raise(self, text: str) -> None:
        logger.error(text)
        if self._alarm is not None:
            self._alarm(text)

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


def _bytes(messages: Sequence[ChatMessage]) -> int:
    return sum(len(message.content.encode("utf-8", "surrogatepass")) for message in messages)
