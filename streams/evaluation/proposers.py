"""Who proposes rewrites in place of the model, to show what its proposals are worth. The model still reads the memory and answers."""

from __future__ import annotations

import random
import re

from agents import answers
from agents.asking import Asker
from agents.rewriting import Proposal, RewriteRequest
from agents.untrusted import OPEN
from schemas.messages import ModelCall


class Enumerating(Asker):
    """Proposes every condition that is offered; which of them stand is the ledger's to say, as always."""

    async def rewrite(self, request: RewriteRequest) -> Proposal:
        """No model is asked. A text is named by its longest word; of fields the first ones are taken."""
        parts = request.schema["properties"]
        conditions = tuple((text,) for text in parts["a_rules"]["items"]["properties"]["a_when"]["enum"]) if "a_rules" in parts else ()
        fields = tuple(parts["a_fields"]["items"]["enum"][: parts["a_fields"]["maxItems"]]) if "a_fields" in parts else ()
        theme = max(_words(request), key=len, default="")
        return _proposal(request, answers.ProposedRewrite(conditions=conditions, focus=fields, theme=theme))


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
        theme = draws.choice(_words(request) or [""])
        return _proposal(request, answers.ProposedRewrite(conditions=tuple(dict.fromkeys(conditions)), focus=fields, theme=theme))


def _words(request: RewriteRequest) -> list[str]:
    """Words of the text that is to be named that can be a theme; none where no text is."""
    if answers.ABOUT not in request.schema["properties"]:
        return []
    text = request.messages[-1].content.rpartition(OPEN)[2]
    return re.findall(r"[a-z]{3,14}", text.lower())


def _proposal(request: RewriteRequest, proposed: answers.ProposedRewrite) -> Proposal:
    return Proposal(request, "", proposed, ModelCall(name="code", calls=0))
