"""How every client of this program reaches Kafka: one translation of `[kafka]` into aiokafka's settings.

TLS and SASL settings are passed through as they are. This module opens and closes connections; it knows no topic.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.helpers import create_ssl_context

from schemas.settings import KafkaSettings, SettingsError
from streams.errors import KafkaUnavailable

#: Seconds for a request of the command line; a broker that needs longer is not usable.
REQUEST_TIMEOUT = 20.0


def ssl_context(settings: KafkaSettings) -> ssl.SSLContext | None:
    """The TLS context that the settings ask for, or None without TLS.

    Raises
    ------
    SettingsError
        A certificate file is missing or none; the text names the key.
    """
    if not settings.security_protocol.endswith("SSL"):
        return None
    for key in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
        path = getattr(settings, key)
        if path is not None and not path.is_file():
            raise SettingsError(f"kafka.{key}: {path}: no such file")
    try:
        context = create_ssl_context(cafile=settings.ssl_cafile, certfile=settings.ssl_certfile, keyfile=settings.ssl_keyfile)
    except (ssl.SSLError, OSError) as error:
        files = ", ".join(str(path) for path in (settings.ssl_cafile, settings.ssl_certfile, settings.ssl_keyfile) if path)
        raise SettingsError(f"kafka.ssl_*: {files}: not usable certificates or keys in PEM form ({error})") from None
    # The chain is verified either way; this alone lets a certificate stand for another name.
    context.check_hostname = settings.ssl_check_hostname
    return context


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """Settings that aiokafka's consumer, producer and admin client take alike.

    Examples
    --------
    >>> client_options(KafkaSettings(bootstrap_servers="kafka:9092"))
    {'bootstrap_servers': ['kafka:9092'], 'security_protocol': 'PLAINTEXT'}
    """
    servers = [server.strip() for server in settings.bootstrap_servers.split(",") if server.strip()]
    options: dict[str, Any] = {"bootstrap_servers": servers, "security_protocol": settings.security_protocol}
    if settings.security_protocol.endswith("SSL"):
        options["ssl_context"] = ssl_context(settings)
    if settings.security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = settings.sasl_password
    return options


@asynccontextmanager
async def admin(settings: KafkaSettings, *, timeout: float = REQUEST_TIMEOUT) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected admin client.

    Parameters
    ----------
    timeout
        Seconds for one request.

    Raises
    ------
    KafkaUnavailable
        No broker answers, or it refuses the credentials.
    """
    client = AIOKafkaAdminClient(**client_options(settings), request_timeout_ms=int(timeout * 1000))
    try:
        with _named(settings):
            await client.start()
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def consumer(settings: KafkaSettings, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """A connected consumer outside of any group, for reading and for asking offsets; `options` are aiokafka's.

    Raises
    ------
    KafkaUnavailable
        As `admin`.
    """
    reader = AIOKafkaConsumer(**{**client_options(settings), "enable_auto_commit": False, **options})
    try:
        with _named(settings):
            await reader.start()
        yield reader
    finally:
        await reader.stop()


@asynccontextmanager
async def producer(settings: KafkaSettings, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    """A connected producer that waits for all in-sync replicas; `options` are aiokafka's. Leaving it flushes.

    Raises
    ------
    KafkaUnavailable
        As `admin`.
    """
    writer = AIOKafkaProducer(**{**client_options(settings), "acks": "all", "enable_idempotence": True, **options})
    try:
        with _named(settings):
            await writer.start()
        yield writer
    finally:
        await writer.stop()


@contextmanager
def _named(settings: KafkaSettings) -> Iterator[None]:
    """Turn what a failed connection raises into an error that says where, and what to look at."""
    try:
        yield
    except (KafkaConnectionError, OSError, TimeoutError) as error:
        raise KafkaUnavailable(
            f"Kafka does not answer at {settings.bootstrap_servers}: is it running, and do kafka.bootstrap_servers and "
            f"kafka.security_protocol ({settings.security_protocol}) fit it?"
        ) from error
    except KafkaError as error:
        where = settings.bootstrap_servers
        raise KafkaUnavailable(f"Kafka at {where} refuses the connection: do kafka.sasl_* fit it? ({error})") from error
