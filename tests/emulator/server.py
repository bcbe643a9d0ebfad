"""An emulator of Ollama 0.11.4: its protocol on a real port, with times, faults and counts that a test chooses.

In a test it is a context manager, and whatever can be done to it is a method::

    async with Emulator(slots=2, latency=Latency(seconds=0.5)) as emulator:
        emulator.faults.on(Fault.BUSY, times=1)
        ...
        assert emulator.journal.statistics().busy_share > 0.9

For a benchmark it is a process (`python -m tests.emulator`), and the same can be done over HTTP (`tests.emulator.control`).

What it promises: what the program's client uses of the protocol looks as it does from the real server, which
`tests/agents/models/test_contract.py` keeps true. What it does not have: a model. What it says obeys the request's schema and means
nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

from aiohttp import web

from tests.emulator import connections, control
from tests.emulator.answers import Answering, Answers
from tests.emulator.chat import Chat, unloaded
from tests.emulator.faults import Fault, Faults
from tests.emulator.journal import Call, Journal
from tests.emulator.kinds import Kind, kind_of
from tests.emulator.latency import Latency
from tests.emulator.questions import Model
from tests.emulator.requests import ChatRequest, NotGenerated, Refused, check_options, read_chat, read_object
from tests.emulator.runner import BUSY, Runner
from tests.emulator.slots import Slots

STOPPED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check ollama server logs for details"
)
#: Bytes of the largest request that is read.
LARGEST = 2**26

Answer = Callable[[Call, Fault | None], Awaitable[web.StreamResponse]]


class Emulator:
    """A server on a loopback port.

    Parameters
    ----------
    model
        The one that it has.
    slots
        Calls that compute at once (`OLLAMA_NUM_PARALLEL`).
    latency
        Of each call.
    rewrites
        Of calls that rewrite a memory; `latency` if None.
    load_seconds
        How long the model takes to load.
    max_queue
        Calls that may wait for that (`OLLAMA_MAX_QUEUE`).
    keep_alive
        Seconds for which an idle model stays loaded where no call says otherwise (`OLLAMA_KEEP_ALIVE`).
    answer
        Makes the text of an answer; `Answers(seed)` if None.
    seed
        Repeats latencies, answers and the choice of faulty calls of another run.
    version
        What it says it is; it behaves the same whatever that is.
    cached_counts
        Whether answers tell the prompt tokens from the cache, as servers from about 0.34 on do.
    drip_seconds
        Between two pieces of an answer that drips.
    port
        Any free one if 0.

    Attributes
    ----------
    host
        Its address (`http://127.0.0.1:PORT`) while it runs.
    faults, journal
        What is wrong with it, and what it did.
    """

    def __init__(
        self,
        *,
        model: str = "qwen2.5-coder:1.5b",
        slots: int = 1,
        latency: Latency = Latency(),  # noqa: B008 - frozen
        rewrites: Latency | None = None,
        load_seconds: float = 0.0,
        max_queue: int = 512,
        keep_alive: float = 300.0,
        answer: Answering | None = None,
        seed: int = 0,
        version: str = "0.11.4",
        cached_counts: bool = False,
        drip_seconds: float = 0.5,
        port: int = 0,
    ) -> None:
        self.host = ""
        self.journal = Journal(slots)
        self.faults = Faults(random.Random(f"faults {seed}"))
        self._model = Model(model)
        self._version = version
        self._drip_seconds = drip_seconds
        self._port = port
        held = Slots(slots, self.journal, random.Random(f"latencies {seed}"))
        self._runner = Runner(self.journal, load_seconds=load_seconds, max_queue=max_queue, keep_alive=keep_alive, on_load=held.forget)
        self._chat = Chat(
            self.journal,
            self._runner,
            held,
            answer=answer or Answers(seed),
            latency=latency,
            rewrites=rewrites or latency,
            cached_counts=cached_counts,
        )
        self._used: WeakSet[asyncio.Transport] = WeakSet()
        self._web: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        application = web.Application(middlewares=[_in_its_words], client_max_size=LARGEST)
        application.add_routes(
            [
                web.get("/", _is_running),
                web.get("/api/version", self._on_version),
                web.get("/api/tags", self._on_tags),
                web.get("/api/ps", self._on_processes),
                web.post("/api/show", self._on_show),
                web.post("/api/chat", self._on_chat),
                *control.routes(self.faults, self.journal),
            ]
        )
        # A handler whose caller hangs up is cancelled: that is how Ollama sees it too.
        self._web = web.AppRunner(application, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._web.setup()
        await web.TCPSite(self._web, "127.0.0.1", self._port).start()
        self._port = self._web.addresses[0][1]
        self.host = f"http://127.0.0.1:{self._port}"
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._web is not None
        await self._web.cleanup()
        self._runner.close()

    async def _on_version(self, request: web.Request) -> web.StreamResponse:
        return await self._question("version", request, lambda body: {"version": self._version})

    async def _on_tags(self, request: web.Request) -> web.StreamResponse:
        return await self._question("tags", request, lambda body: self._model.tags())

    async def _on_processes(self, request: web.Request) -> web.StreamResponse:
        return await self._question("ps", request, lambda body: self._model.processes(self._runner))

    async def _on_show(self, request: web.Request) -> web.StreamResponse:
        return await self._question("show", request, lambda body: self._model.show(read_object(body, "ShowRequest")))

    async def _question(self, kind: Kind, request: web.Request, answer: Callable[[bytes], Any]) -> web.StreamResponse:
        body = await request.read()

        async def tell(call: Call, fault: Fault | None) -> web.StreamResponse:
            return await self._deliver(request, connections.answered(200, answer(body)), fault)

        return await self._serve(kind, request, tell)

    async def _on_chat(self, request: web.Request) -> web.StreamResponse:
        try:
            chat = read_chat(await request.read())
        except Refused as error:
            return connections.refused(error.status, str(error))

        async def tell(call: Call, fault: Fault | None) -> web.StreamResponse:
            self._accept(chat)
            if not chat.messages and chat.keep_alive == 0:
                self._runner.unload()
                return connections.answered(200, unloaded(chat))
            if chat.stream and chat.messages:
                return await connections.streamed(request, self._lines(chat, call, fault), fault, self._drip_seconds)
            try:
                record = await self._chat.whole(chat, call, fault)
            except NotGenerated as error:
                raise Refused(500, str(error)) from error
            return await self._deliver(request, connections.answered(200, record), fault)

        return await self._serve(kind_of(chat.messages), request, tell)

    async def _lines(self, chat: ChatRequest, call: Call, fault: Fault | None) -> AsyncGenerator[Any, None]:
        try:
            async with aclosing(self._chat.records(chat, call, fault)) as records:
                async for record in records:
                    yield record
        except NotGenerated as error:
            self.journal.ended(call, "failed")
            yield {"error": str(error)}

    def _accept(self, chat: ChatRequest) -> None:
        """Look at a chat before it is scheduled. Raises `Refused`."""
        if not self._model.answers_to(chat.model):
            raise Refused(404, _not_found(chat.model))
        if chat.think:
            raise Refused(400, f"registry.ollama.ai/library/{self._model.name} does not support thinking")
        check_options(chat.options)

    async def _serve(self, kind: Kind, request: web.Request, answer: Answer) -> web.StreamResponse:
        """Answer a call, or do to it what the fault that it meets does; and write down which."""
        call = self.journal.arrived(kind)
        fault = self.faults.meet(kind, used_before=self._was_used(request.transport))
        try:
            if fault is not None:
                self.journal.met(call, fault)
            match fault:
                case Fault.HANG:
                    await self.faults.until_off()
                case Fault.MISSING:
                    raise Refused(404, _not_found(self._model.name))
                case Fault.ERROR:
                    raise Refused(500, STOPPED)
                case Fault.BUSY:
                    raise Refused(503, BUSY)
                case Fault.RESET:
                    self.journal.ended(call, "failed")
                    return connections.reset(request)
                case Fault.STALE:
                    self.journal.ended(call, "failed")
                    return connections.closed(request)
            response = await answer(call, fault)
        except Refused as error:
            self.journal.ended(call, "failed")
            return connections.refused(error.status, str(error))
        except (asyncio.CancelledError, ConnectionError):
            # The caller left: while it waited, or while the answer was written to it.
            self.journal.ended(call, "cancelled")
            raise
        except Exception:
            self.journal.ended(call, "failed")
            raise
        self.journal.ended(call, "failed" if fault is Fault.HALF_BODY else "answered")
        return response

    def _was_used(self, connection: asyncio.Transport | None) -> bool:
        """Whether a connection carried a call before; from now on it did."""
        if connection is None:
            return False
        was_used = connection in self._used
        self._used.add(connection)
        return was_used

    async def _deliver(self, request: web.Request, whole: web.Response, fault: Fault | None) -> web.StreamResponse:
        match fault:
            case Fault.HALF_BODY:
                return await connections.half(request, whole)
            case Fault.DRIP:
                return await connections.dripped(request, whole, self._drip_seconds)
        return whole


async def _is_running(request: web.Request) -> web.Response:
    return web.Response(text="Ollama is running")


@web.middleware
async def _in_its_words(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """Say of paths and methods that are not there what Ollama says of them."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return web.Response(status=404, body=b"404 page not found", headers={"Content-Type": "text/plain"})
    except web.HTTPMethodNotAllowed as error:
        headers = {"Content-Type": "text/plain", "Allow": ", ".join(sorted(error.allowed_methods))}
        return web.Response(status=405, body=b"405 method not allowed", headers=headers)


def _not_found(name: str) -> str:
    return f'model "{name}" not found, try pulling it first'
