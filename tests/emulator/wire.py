"""Chats to send to an emulator, and a client that shows what comes back byte by byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson

#: Seconds after which a test gives up; no assertion is about time.
PATIENCE = 60.0
MODEL = "qwen2.5-coder:1.5b"
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string", "enum": ["low", "medium", "high"]}},
    "required": ["answer"],
    "additionalProperties": False,
}


def chat(content: str = "predict: wind north", *, stream: bool = False, **more: Any) -> dict[str, Any]:
    """The body of a request."""
    options = {"temperature": 0.0, "seed": 0, "num_ctx": 4096, "num_predict": 32, **more.pop("options", {})}
    messages = [{"role": "system", "content": "You forecast."}, {"role": "user", "content": content}]
    return {"model": MODEL, "messages": messages, "stream": stream, "format": SCHEMA, "options": options, **more}


@dataclass
class Connection:
    """One connection, with nothing between the test and its bytes."""

    #: As the `Host` header has it; the real server refuses one that is not its own.
    host: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, body: dict[str, Any], path: str = "/api/chat") -> None:
        data = json.dumps(body).encode()
        self.writer.write(f"POST {path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of an answer."""
        lines = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE)).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split()[1]), headers

    async def rest(self) -> bytes:
        """Whatever comes until the other side ends the connection."""
        return await asyncio.wait_for(self.reader.read(), PATIENCE)


@asynccontextmanager
async def connected(host: str) -> AsyncIterator[Connection]:
    address = urlsplit(host)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        yield Connection(address.netloc, reader, writer)
    finally:
        writer.close()
        # One that the other side has reset says so once more.
        with suppress(ConnectionError):
            await writer.wait_closed()


async def post(host: str, body: Any, path: str = "/api/chat") -> httpx.Response:
    async with httpx.AsyncClient(base_url=host, trust_env=False, timeout=PATIENCE) as client:
        return await client.post(path, json=body)


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    """The records of a stream."""
    return [orjson.loads(line) for line in answer.text.splitlines()]
