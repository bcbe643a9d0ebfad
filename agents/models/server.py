"""One HTTP server that a backend asks: a request of JSON goes out whole, and its answer comes back whole.

What it promises: whatever goes wrong between here and an answer is a `ModelError`; `seconds` bound the whole of a request, its connection
and a body that drips included; cancelling a request closes its connection; no prompt is sent a second time, neither upon a connection
that broke nor to where a redirect points, which may be another's server.

What it leaves to others: what a status or a body means.

It stands on aiohttp, not on httpx, upon which the official client of Ollama is built: with 16 calls under way httpx takes 1.5 ms of
processor time for each, which a worker with a fast model does not have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx
import orjson

from agents.errors import ModelRefused, ModelTimeout, ModelUnreachable
from agents.models.addresses import proxy_of

#: Seconds after which an idle connection is closed, before a load balancer does so at the other end in the midst of a request.
IDLE_SECONDS = 5.0
#: Seconds in which a question about the model itself (no inference) must be answered.
IDENTIFY_SECONDS = 10.0
#: Status codes that a load balancer or a busy server uses for "not now".
NOT_NOW = frozenset({408, 425, 429, 499})
#: How much of an error's text stands in ours.
SHOWN = 300
#: Connections beyond the calls at once: for questions about the model.
SPARE = 2


@dataclass(frozen=True, slots=True)
class Response:
    """What the server said. `headers` go by names of any case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        return self.content.decode(errors="replace")


class Server:
    """A server at an address. Connects to nothing before it is asked; from then on it belongs to that event loop.

    Parameters
    ----------
    host
        `http://host:port`, with a path before the protocol's own if need be. The environment's proxies are asked for other machines only.
    where
        What errors call it: the model and its place.
    connect_timeout
        Within which it must take a connection.
    connections
        Requests at once; a few more are allowed, others wait.
    headers
        Of every request.

    Raises
    ------
    ModelRefused
        The host is no address, or its proxy none of HTTP.
    """

    def __init__(
        self, host: str, where: str, *, connect_timeout: timedelta, connections: int, headers: Mapping[str, str] | None = None
    ) -> None:
        try:
            parts = urlsplit(host)
            if parts.scheme not in ("http", "https"):
                raise ValueError("it begins with neither http:// nor https://")
            if not parts.hostname:
                raise ValueError("it names no host")
            _ = parts.port  # raises ValueError where it is no number
        except ValueError as error:
            raise ModelRefused(f"the model's host {host!r} is no address such as http://127.0.0.1:11434: {error}") from error
        self.where = where
        self._base = host.rstrip("/")
        self._is_secure = parts.scheme == "https"
        self._proxy = proxy_of(host)
        if self._proxy is not None and not self._proxy.startswith(("http://", "https://")):
            raise ModelRefused(f"the environment's proxy for {host} is none of HTTP; NO_PROXY excepts a host from it")
        self._connect_seconds = connect_timeout.total_seconds()
        self._connections = connections + SPARE
        self._headers = {"Content-Type": "application/json", "Accept": "application/json", **(headers or {})}
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def ask(self, method: str, path: str, seconds: float, body: Any = None) -> Response:
        """Make one request.

        Parameters
        ----------
        path
            From the protocol's own root on: `/api/chat`.
        seconds
            Until the whole answer must be there.
        body
            Sent as JSON; None: no body.

        Raises
        ------
        ModelRefused
            It cannot be sent: no text in Unicode, no way to the address, or closed on this side.
        ModelUnreachable
            No connection, or one that broke.
        ModelTimeout
            No answer in time.
        """
        if self._closed:
            raise ModelRefused(f"{self.where} was closed on this side")
        connect = min(self._connect_seconds, seconds)
        # The library would round times above its threshold up to whole seconds.
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=connect, ceil_threshold=seconds)
        try:
            content = None if body is None else orjson.dumps(body)
        except TypeError as error:
            raise ModelRefused(f"{self.where} cannot be sent this: {named(error)}") from error
        try:
            async with self._open().request(
                method, self._base + path, data=content, timeout=timeout, proxy=self._proxy, allow_redirects=False
            ) as response:
                return Response(response.status, response.headers, await response.read())
        except aiohttp.ConnectionTimeoutError as error:
            raise ModelUnreachable(f"{self.where} took no connection within {connect} s") from error
        except TimeoutError as error:
            raise ModelTimeout(f"{self.where} gave no answer within {seconds:.1f} s") from error
        except aiohttp.InvalidURL as error:
            raise ModelRefused(f"{self.where} is at no address: {named(error)}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ModelUnreachable(f"{self.where} cannot be reached: {named(error)}") from error
        except ValueError as error:  # a key that is no header, for one
            raise ModelRefused(f"{self.where} cannot be asked: {named(error)}") from error
        except RuntimeError as error:
            if not self._closed:
                raise
            raise ModelRefused(f"{self.where} was closed on this side while it was asked") from error

    async def close(self) -> None:
        """Let go of all connections; requests under way end, as `ModelError`."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=self._connections,
                keepalive_timeout=IDLE_SECONDS,
                # The authorities that httpx trusts: those of certifi, or of SSL_CERT_FILE; a slim container has none of its own.
                ssl=httpx.create_ssl_context() if self._is_secure else True,
            )
            self._session = aiohttp.ClientSession(connector=connector, headers=self._headers)
        return self._session


def named(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:SHOWN]}"
