"""Ids of topics: what tells a topic from one that was made anew under its name.

Brokers give every topic an id (Kafka 2.8 and newer). aiokafka 0.14.0 speaks an older version of the Metadata request, whose answer does
not carry it; the version that first did is spelt out here, over aiokafka's own building blocks.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterable
from io import BytesIO
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

_NO_ID = bytes(16)


class _Uuid(Int32):
    """16 bytes as they are."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)


class _MetadataResponse(Response):
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(("node_id", Int32), ("host", CompactString()), ("port", Int32), ("rack", CompactString()), ("tags", TaggedFields)),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString()),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("topic_authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _MetadataRequestStruct(RequestStruct):
    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", CompactString()), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _MetadataRequest(Request[_MetadataRequestStruct]):
    """Asks for all topics: asking for one by name could create it."""

    API_KEY = 3

    def build(self, request_struct_class: type[_MetadataRequestStruct]) -> _MetadataRequestStruct:
        return request_struct_class(None, False, False, False, {})


async def topic_ids(client: AIOKafkaAdminClient, names: Iterable[str]) -> dict[str, str]:
    """Ids of topics by name, as Kafka's own tools show them; topics that do not exist are left out, and all where brokers give no ids.

    Raises
    ------
    KafkaError
        Kafka does not answer.
    """
    wanted = set(names)
    try:
        answer: Any = await client._send_request(_MetadataRequest())
    except NotImplementedError:
        return {}  # the broker does not speak this version
    return {
        name: urlsafe_b64encode(id_).rstrip(b"=").decode()
        for code, name, id_, *_ in answer.topics
        if name in wanted and not code and id_ != _NO_ID
    }
