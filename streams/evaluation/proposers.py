"""Who proposes rewrites in place of the model, to show what its proposals are worth. The model still reads the memory and answers."""

from __future__ import annotations

import random

from agents import answers
from agents.asking import Asker
from agents.rewriting import Proposal, RewriteRequest
from schemas.messages import ModelCall


class Enumerating(Asker):
    """Proposes every condition that is offered; which of them stand is the ledger's to say, as always."""

    async def rewrite(self, request: RewriteRequest) -> Proposal:
        """No model is asked."""
        offered = request.schema["properties"].get("a_rules", {}).get("items", {}).get("properties", {}).get("a_when", {}).get("enum", ())
        return _proposal(request, answers.ProposedRewrite(conditions=tuple((text,) for text in offered)))


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
        return _proposal(request, answers.ProposedRewrite(conditions=tuple(dict.fromkeys(conditions))))


def _proposal(request: RewriteRequest, proposed: answers.ProposedRewrite) -> Proposal:
    return Proposal(request, "", proposed, ModelCall(name="code", calls=0))
