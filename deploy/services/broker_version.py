"""Finds out which release of Kafka a broker is.

Brokers do not tell their release, only what they understand. Since 3.3 they also tell the newest format of cluster metadata they know,
and each release brought a new one. Client libraries drop that field, so this is the one request written out by hand.
"""

import asyncio
import struct

from deploy.services.errors import Unreachable

NEWEST_FORMAT = {7: "3.3", 8: "3.4", 11: "3.5", 14: "3.6", 19: "3.7", 20: "3.8", 21: "3.9", 25: "4.0", 27: "4.1"}
"""Newest metadata format of each release (Kafka's ``MetadataVersion.java``)."""

API_VERSIONS = 18
REQUEST_VERSION = 3
SUPPORTED_FEATURES = 0
ANSWER_LIMIT = 1 << 20


async def broker_version(host: str, port: int, timeout: float = 5.0) -> str:
    """Ask a broker (without TLS) which release it is.

    Parameters
    ----------
    host, port
        Its address.
    timeout
        Seconds for the whole conversation.

    Returns
    -------
    str
        ``"4.1"``, ``"newer than 4.1"``, or ``"unknown"`` for one that does not tell (before 3.3, or not of Apache's make).

    Raises
    ------
    Unreachable
        It cannot be reached, or breaks the conversation off.
    """
    name = b"\x0bpalimpsest"
    message = struct.pack(">hhih", API_VERSIONS, REQUEST_VERSION, 1, -1) + b"\x00" + name + b"\x021" + b"\x00"
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(struct.pack(">i", len(message)) + message)
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                if not 4 <= size <= ANSWER_LIMIT:
                    raise Unreachable(f"{host}:{port} does not speak Kafka's protocol")
                answer = await reader.readexactly(size)
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        raise Unreachable(f"{host}:{port} did not answer ({type(error).__name__})") from error
    try:
        return release_of(newest_format(answer))
    except (IndexError, struct.error):
        return "unknown"


def release_of(metadata_format: int | None) -> str:
    """Return the release whose newest metadata format this is.

    Examples
    --------
    >>> release_of(26), release_of(99), release_of(None)
    ('4.1', 'newer than 4.1', 'unknown')
    """
    if metadata_format is None:
        return "unknown"
    for newest, release in NEWEST_FORMAT.items():
        if metadata_format <= newest:
            return release
    return f"newer than {list(NEWEST_FORMAT.values())[-1]}"


def newest_format(answer: bytes) -> int | None:
    """Return the newest metadata format from the answer to an ApiVersions request of version 3."""
    fields = _Fields(answer)
    fields.skip(4 + 2)  # correlation id, error code
    for _ in range(fields.varint() - 1):  # what it understands: three numbers each
        fields.skip(6)
        fields.skip_tags()
    fields.skip(4)  # throttle time
    for _ in range(fields.varint()):
        tag, size = fields.varint(), fields.varint()
        if tag != SUPPORTED_FEATURES:
            fields.skip(size)
            continue
        for _ in range(fields.varint() - 1):
            name = fields.take(fields.varint() - 1)
            _, newest = struct.unpack(">hh", fields.take(4))
            fields.skip_tags()
            if name == b"metadata.version":
                return int(newest)
    return None


class _Fields:
    """Reads Kafka's compact encoding front to back."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) != count:
            raise IndexError("the answer ends early")
        self._at += count
        return taken

    def skip(self, count: int) -> None:
        self.take(count)

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def skip_tags(self) -> None:
        for _ in range(self.varint()):
            self.varint()
            self.skip(self.varint())
