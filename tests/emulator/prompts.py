"""From messages to the text that a model reads, and its length in tokens, cut as Ollama 0.11.4 cuts.

A token here is a fixed number of characters. So counts are exact and cheap, a longer text never has fewer tokens, and equal beginnings
of two prompts are equal tokens, which is all that a prefix cache looks at.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.emulator.kinds import Said

#: Characters of a token; about what English has.
CHARACTERS = 4
#: Tokens at the beginning that survive when a prompt is cut: `num_keep` of the server's default options.
KEPT = 4


def tokens(text: str) -> int:
    """Return how many tokens a text has."""
    return -(-len(text) // CHARACTERS)


def render(messages: Sequence[Said]) -> str:
    """Return the prompt of a conversation, by the template that the server shows."""
    return "".join(f"<|im_start|>{said.role}\n{said.content}<|im_end|>\n" for said in messages) + "<|im_start|>assistant\n"


def fit(messages: Sequence[Said], window: int) -> str:
    """Return the prompt within a window of so many tokens; what does not fit goes without a word.

    Oldest messages go first. System messages stay, unless the first one that is left out is a system message itself: then they go too, and
    of a system and a user message that together are too long only the user's is read. What is still too long loses its middle,
    right after its first `KEPT` tokens.
    """
    first = len(messages) - 1
    system: list[Said] = []
    for index in range(first - 1, -1, -1):
        system = [said for said in messages[:index] if said.role == "system"]
        if tokens(render([*system, *messages[index:]])) > window:
            break
        first = index
    text = render([*system, *messages[first:]])
    beyond = tokens(text) - window
    if beyond <= 0:
        return text
    kept = min(KEPT, window - 1)
    return text[: kept * CHARACTERS] + text[(kept + beyond) * CHARACTERS :]


def shared(text: str, other: str) -> int:
    """Return how many tokens two texts have in common from their beginnings.

    Examples
    --------
    >>> shared("one two three", "one two four"), shared("", "one")
    (2, 0)
    """
    low, high = 0, min(len(text), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if text[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low // CHARACTERS
