"""Answers as bytes on a connection, whole or with the faults that are the connection's."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson
from aiohttp import web

from tests.emulator.faults import Fault

JSON = "application/json; charset=utf-8"
LINES = "application/x-ndjson"
#: Bytes of one piece of an answer that drips.
DROP = 8
#: `SO_LINGER` on, for no time: closing sends a reset.
_NO_LINGER = struct.pack("ii", 1, 0)


def answered(status: int, body: Any) -> web.Response:
    """Return an answer of one JSON value."""
    return web.Response(status=status, body=orjson.dumps(body), headers={"Content-Type": JSON})


def refused(status: int, text: str) -> web.Response:
    return answered(status, {"error": text})


def reset(request: web.Request) -> web.Response:
    """Reset the connection; what is returned reaches nobody."""
    if request.transport is not None:
        taken: socket.socket = request.transport.get_extra_info("socket")
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        request.transport.abort()
    return web.Response()


def closed(request: web.Request) -> web.Response:
    """Close the connection without an answer; what is returned reaches nobody."""
    if request.transport is not None:
        request.transport.close()
    return web.Response()


async def half(request: web.Request, whole: web.Response) -> web.StreamResponse:
    """Send a head that promises a whole answer, and half of it, and end the connection."""
    body = _body(whole)
    response = await _begun(request, whole, len(body))
    await response.write(body[: len(body) // 2])
    closed(request)
    return response


async def dripped(request: web.Request, whole: web.Response, pause: float) -> web.StreamResponse:
    """Send an answer in pieces of a few bytes, with so many seconds between two."""
    body = _body(whole)
    response = await _begun(request, whole, len(body))
    for start in range(0, len(body), DROP):
        await response.write(body[start : start + DROP])
        await asyncio.sleep(pause)
    return response


async def streamed(request: web.Request, values: AsyncGenerator[Any, None], fault: Fault | None, pause: float) -> web.StreamResponse:
    """Send JSON values as lines, each when it comes; the connection's faults cut off or delay them."""
    response = web.StreamResponse(headers={"Content-Type": LINES})
    response.enable_chunked_encoding()
    # Closed here and not whenever it is collected: it may hold a slot.
    async with aclosing(values):
        async for value in values:
            if not response.prepared:
                # Not before: until there is something to say, an error may still have a status of its own.
                await response.prepare(request)
            line = orjson.dumps(value) + b"\n"
            if fault is Fault.HALF_BODY:
                await response.write(line[: len(line) // 2])
                closed(request)
                return response
            await response.write(line)
            if fault is Fault.DRIP:
                await asyncio.sleep(pause)
    await response.write_eof()
    return response


def _body(whole: web.Response) -> bytes:
    assert isinstance(whole.body, bytes)
    return whole.body


async def _begun(request: web.Request, whole: web.Response, length: int) -> web.StreamResponse:
    headers = {"Content-Type": whole.headers["Content-Type"], "Content-Length": str(length)}
    response = web.StreamResponse(status=whole.status, headers=headers)
    await response.prepare(request)
    return response
