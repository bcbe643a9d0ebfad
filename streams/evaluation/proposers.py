"""Who proposes rewrites in place of the model, to show what its proposals are worth. The model still reads the memory and answers."""

from __future__ import annotations

import random
import re

from agents import answers, themes
from agents.asking import Asker
from agents.rewriting import Proposal, RewriteRequest
from schemas.messages import ModelCall, Observation
from schemas.settings import Settings
from schemas.state import EntityState


class Enumerating(Asker):
    """Proposes every condition that is offered; which of them stand is the ledger's to say, as always."""

    async def rewrite(self, request: RewriteRequest) -> Proposal:
        """No model is asked. Of fields the first ones are taken."""
        parts = request.schema["properties"]
        conditions = tuple((text,) for text in parts["a_rules"]["items"]["properties"]["a_when"]["enum"]) if "a_rules" in parts else ()
        fields = tuple(parts["a_fields"]["items"]["enum"][: parts["a_fields"]["maxItems"]]) if "a_fields" in parts else ()
        return _proposal(request, answers.ProposedRewrite(conditions=conditions, focus=fields))

    async def theme(self, state: EntityState, observation: Observation) -> tuple[str, ModelCall | None]:
        """The longest word of the text."""
        return _settled(max(_words(observation, self._settings), key=len, default=""), state, self._settings), None


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
        return _proposal(request, answers.ProposedRewrite(conditions=tuple(dict.fromkeys(conditions)), focus=fields))

    async def theme(self, state: EntityState, observation: Observation) -> tuple[str, ModelCall | None]:
        """A word of the text."""
        draws = random.Random(f"{self._settings.model.seed}/{observation.id}")
        return _settled(draws.choice(_words(observation, self._settings) or [""]), state, self._settings), None


def _words(observation: Observation, settings: Settings) -> list[str]:
    """Words of an observation's text that can be a theme."""
    field = themes.field_of(settings)
    text = "" if field is None else observation.values.get(field, "")
    return re.findall(r"[a-z]{3,14}", text.lower()) if isinstance(text, str) else []


def _settled(word: str, state: EntityState, settings: Settings) -> str:
    return themes.settle(word, themes.remembered(state.memory, state.resolved, settings), settings)[0] if word else ""


def _proposal(request: RewriteRequest, proposed: answers.ProposedRewrite) -> Proposal:
    return Proposal(request, "", proposed, ModelCall(name="code", calls=0))
