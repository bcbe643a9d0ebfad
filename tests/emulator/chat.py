"""Answering a chat: from the request to the records of its answer, through loading, the queue and a slot."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.emulator.answers import PHRASE, Answering, damaged
from tests.emulator.faults import Fault
from tests.emulator.journal import Call, Journal
from tests.emulator.latency import Latency
from tests.emulator.prompts import CHARACTERS, KEPT, fit, tokens
from tests.emulator.requests import ChatRequest, NotGenerated, check_format
from tests.emulator.runner import Runner
from tests.emulator.slots import Seat, Slots
from tests.emulator.values import BadSchema

#: What the server says where the model's process ends in the middle of an answer.
BROKEN = "an error was encountered while running the model: unexpected EOF"
#: Equal tokens in a row after which the server breaks an answer off.
EQUAL_TOKENS = 31


@dataclass(frozen=True, slots=True)
class Written:
    """An answer as the model writes it.

    Attributes
    ----------
    tokens
        That were computed, the one that ends the answer included.
    reason
        `stop` or `length`; None where the server breaks the answer off without a word.
    """

    text: str
    tokens: int
    reason: str | None


class Chat:
    """Answers chats of one model.

    Parameters
    ----------
    latency, rewrites
        Of all calls, and of rewrites.
    cached_counts
        Whether answers tell how many prompt tokens the cache had, as servers from about 0.34 on do.
    """

    def __init__(
        self,
        journal: Journal,
        runner: Runner,
        slots: Slots,
        *,
        answer: Answering,
        latency: Latency,
        rewrites: Latency,
        cached_counts: bool,
    ) -> None:
        self._journal = journal
        self._runner = runner
        self._slots = slots
        self._answer = answer
        self._latency = latency
        self._rewrites = rewrites
        self._cached_counts = cached_counts

    async def whole(self, request: ChatRequest, call: Call, fault: Fault | None) -> dict[str, Any]:
        """Return the one record of an answer that is not streamed. Raises `Refused` and `NotGenerated`."""
        said, last = [], {}
        async for last in self.records(request, call, fault, pieces=False):
            said.append(last["message"]["content"])
        return {**last, "message": {"role": "assistant", "content": "".join(said)}}

    async def records(
        self, request: ChatRequest, call: Call, fault: Fault | None, *, pieces: bool = True
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the records of an answer, each when its token is written; raises `Refused` before the first, `NotGenerated` at any.

        Parameters
        ----------
        pieces
            Whether each token comes when it is written. Otherwise all of them come in the end, at the price of one timer.
        """
        async with self._runner.use(request.loading, request.keep_alive):
            loaded = self._journal.now()
            if not request.messages:
                yield _record(request, "", done_reason="load", done=True)
                return
            prompt = fit(request.messages, request.window)
            if fault is Fault.TRUNCATE:
                prompt = _cut(prompt)
            written = self._write(request, fault)
            latency = self._rewrites if call.kind == "rewrite" else self._latency
            async with self._slots.hold(call, prompt=prompt, answer=written.text, answer_tokens=written.tokens, latency=latency) as seat:
                end = max(1, written.tokens // 2) if fault is Fault.ERROR_LINE else written.tokens
                for number, piece in enumerate(_pieces(written.text)[:end] if pieces else (), 1):
                    await self._slots.until(seat.written(number))
                    yield _record(request, piece, done=False)
                await self._slots.until(seat.written(end))
                if fault is Fault.ERROR_LINE:
                    raise NotGenerated(BROKEN)
            if not pieces:
                yield _record(request, written.text, done=False)
            if written.reason is not None:
                yield _record(
                    request, "", done_reason=written.reason, done=True, **self._account(call, seat, loaded=loaded, written=written)
                )

    def _write(self, request: ChatRequest, fault: Fault | None) -> Written:
        check_format(request.format)
        try:
            text = damaged(self._answer(request), fault, request)
        except BadSchema as error:
            raise NotGenerated("invalid JSON schema in format") from error
        most = request.most_tokens
        if fault is Fault.REPEAT:
            return Written(text + "0" * CHARACTERS * EQUAL_TOKENS, tokens(text) + EQUAL_TOKENS, None)
        if fault is Fault.LOOP:
            most = most or 10 * request.window
            text += PHRASE * (most * CHARACTERS // len(PHRASE) + 1)
        if most is not None and tokens(text) >= most:
            return Written(text[: most * CHARACTERS], most, "length")
        return Written(text, tokens(text) + 1, "stop")

    def _account(self, call: Call, seat: Seat, *, loaded: float, written: Written) -> dict[str, int]:
        account = {
            "total_duration": _nanoseconds(self._journal.now() - call.arrived),
            "load_duration": _nanoseconds(loaded - call.arrived),
            "prompt_eval_count": call.prompt_tokens,
            "prompt_eval_duration": _nanoseconds(seat.first - seat.began),
            "eval_count": written.tokens,
            "eval_duration": _nanoseconds(seat.end - seat.first),
        }
        if self._cached_counts:
            account["prompt_eval_cached_count"] = call.cached_tokens
        return account


def _record(request: ChatRequest, content: str, **more: Any) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return {"model": request.model, "created_at": now, "message": {"role": "assistant", "content": content}, **more}


def unloaded(request: ChatRequest) -> dict[str, Any]:
    """Return the record of a model that was asked to leave memory."""
    return _record(request, "", done_reason="unload", done=True)


def _pieces(text: str) -> list[str]:
    return [text[start : start + CHARACTERS] for start in range(0, len(text), CHARACTERS)]


def _cut(prompt: str) -> str:
    """Half of a prompt: its first tokens and its end."""
    keep = min(KEPT * CHARACTERS, len(prompt) // 4)
    return prompt[:keep] + prompt[-(len(prompt) // 2 - keep) :]


def _nanoseconds(seconds: float) -> int:
    """At least 1: the server leaves out a field that is 0, and nothing takes no time."""
    return max(1, round(seconds * 1e9))
