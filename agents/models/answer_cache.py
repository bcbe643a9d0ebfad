"""Equal questions are answered once.

At temperature 0 an equal prompt, schema and bound of the answer get an equal answer from one model, so the call can be saved: streams that
repeat themselves, entities in an equal state, a prediction made again after a rebalance. Calls that are equal and under way at the same
time share one. Which model it is belongs to the question, by digest; the deadline does not.

It holds for what is asked for the first time. A rewrite whose last proposal a guard has refused asks `fresh`: a remembered answer would be
refused again, as often as it is tried, while the server, whose answers depend on its cache and on what else it computes, may well give
another. And a cut answer is not remembered.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from agents.errors import ModelError, ModelOverloaded, ModelTimeout
from agents.models.protocol import CallLimits, ChatMessage, ModelIdentity, Reply

Key = bytes


def question(messages: Sequence[ChatMessage], schema: Mapping[str, Any] | None, limits: CallLimits, model: ModelIdentity) -> Key:
    """Name a question, and who is asked, by a digest."""
    asked = [
        [model.name, model.digest, model.backend],
        [[message.role, message.content] for message in messages],
        # The order of a schema's keys is the order in which the model writes, so it makes another question.
        schema,
        [limits.answer_tokens, limits.context_tokens],
    ]
    return hashlib.sha256(json.dumps(asked).encode()).digest()


class AnswerCache:
    """The last answers, and the questions under way.

    Parameters
    ----------
    size
        Answers that are kept; the least recently used goes first.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._answers: OrderedDict[Key, Reply] = OrderedDict()
        self._asking: dict[Key, asyncio.Future[Reply | None]] = {}

    def __len__(self) -> int:
        return len(self._answers)

    async def answer(self, key: Key, ask: Callable[[], Awaitable[Reply]], *, seconds: float, fresh: bool = False) -> Reply:
        """Answer from what is remembered, or wait for the call that is under way, or make one.

        Parameters
        ----------
        ask
            Makes the call; within `seconds`.
        fresh
            Make a call in any case; its answer takes the place of the remembered one.

        Raises
        ------
        ModelTimeout
            The call that was shared was not done within `seconds`.
        ModelError
            As `ask` does. A failure is shared as an answer is, unless it was the other caller's own: cancelled, too late, or sent away.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not fresh:
            if (known := self._answers.get(key)) is not None:
                self._answers.move_to_end(key)
                return _remembered(known, loop.time() - began)
            if (shared := self._asking.get(key)) is None:
                break
            try:
                async with asyncio.timeout_at(began + seconds):
                    reply = await asyncio.shield(shared)
            except TimeoutError as error:
                raise ModelTimeout(f"no answer within {seconds:.1f} s to a call that another one shares") from error
            if reply is not None:
                return _remembered(reply, loop.time() - began)
        return await self._ask(key, ask)

    async def _ask(self, key: Key, ask: Callable[[], Awaitable[Reply]]) -> Reply:
        mine = asyncio.get_running_loop().create_future()
        self._asking.setdefault(key, mine)
        try:
            reply = await ask()
        except (ModelTimeout, ModelOverloaded):
            mine.set_result(None)
            raise
        except ModelError as error:
            mine.set_exception(error)
            mine.exception()  # there need not be anybody who waits for it
            raise
        except BaseException:
            mine.set_result(None)
            raise
        else:
            mine.set_result(reply)
        finally:
            if self._asking.get(key) is mine:
                del self._asking[key]
        if reply.finish == "stop":
            self._answers[key] = reply
            self._answers.move_to_end(key)
            if len(self._answers) > self._size:
                self._answers.popitem(last=False)
        return reply


def _remembered(reply: Reply, waited: float) -> Reply:
    return replace(reply, remembered=True, waited_seconds=waited, seconds=0.0, load_seconds=0.0, prompt_seconds=0.0, generate_seconds=0.0)
