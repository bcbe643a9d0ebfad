"""Who proposes rewrites in place of the model, to show what its proposals are worth. The model still reads the memory and answers."""

from __future__ import annotations

import random
import re
from collections import Counter

from agents import answers
from agents.asking import Asker
from agents.rewriting import Proposal, RewriteRequest
from agents.untrusted import OPEN
from schemas.messages import ModelCall


class Enumerating(Asker):
    """Proposes every condition that is offered; which of them stand is the ledger's to say, as always."""

    async def rewrite(self, request: RewriteRequest) -> Proposal:
        """No model is asked. Texts are named by their most frequent word, of fields the first ones that are listed."""
        parts = request.schema["properties"]
        conditions = tuple((text,) for text in parts["a_rules"]["items"]["properties"]["a_when"]["enum"]) if "a_rules" in parts else ()
        fields = tuple(parts["a_fields"]["items"]["enum"][: parts["a_fields"]["maxItems"]]) if "a_fields" in parts else ()
        texts = _texts(request)
        everything = Counter(word for text in texts for word in set(_words(text)))
        named = tuple(max(_words(text), key=lambda word: (everything[word], len(word)), default="untold") for text in texts)
        return _proposal(request, answers.ProposedRewrite(conditions=conditions, focus=fields, themes=named))


class Drawing(Asker):
    """Proposes as many conditions as a model may, drawn evenly from those offered; pairs as often as singles."""

    async def rewrite(self, request: RewriteRequest) -> Proposal:
        """No model is asked. The draw is fixed by the question."""
        draws = random.Random(f"{self._settings.model.seed}/{request.messages[-1].content}")
        conditions: list[tuple[str, ...]] = []
        if "a_rules" in request.schema["properties"]:
            allowed = request.schema["properties"]["a_rules"]["items"]["properties"]
            for _ in range(answers.PROPOSED_RULES):
                first = draws.choice(allowed["a_when"]["enum"])
                second = draws.choice(allowed["b_and"]["enum"]) if draws.random() < 0.5 else answers.NONE
                conditions.append((first,) if second in (answers.NONE, first) else (first, second))
        fields: tuple[str, ...] = ()
        if (part := request.schema["properties"].get("a_fields")) is not None:
            fields = tuple(draws.sample(part["items"]["enum"], part["maxItems"]))
        named = tuple(draws.choice(_words(text) or ["untold"]) for text in _texts(request))
        return _proposal(request, answers.ProposedRewrite(conditions=tuple(dict.fromkeys(conditions)), focus=fields, themes=named))


def _texts(request: RewriteRequest) -> list[str]:
    """The texts that are to be named, as the question lists them."""
    count = sum(name.startswith("a_about_") for name in request.schema["properties"])
    lines = request.messages[-1].content.splitlines()
    found = {number: line for line in lines for number in range(1, count + 1) if line.startswith(f"{number} {OPEN}")}
    return [found.get(number, "") for number in range(1, count + 1)]


def _words(text: str) -> list[str]:
    """Words that can be a theme."""
    return re.findall(r"[a-z]{3,14}", text.lower())


def _proposal(request: RewriteRequest, proposed: answers.ProposedRewrite) -> Proposal:
    return Proposal(request, "", proposed, ModelCall(name="code", calls=0))
