"""Which partition a key belongs to, as the producers of the world decide it.

`murmur2` is what Java's, aiokafka's and kafka-python's producers do; `crc32` is librdkafka's `consistent` (its default,
`consistent_random`, does the same for records that have a key).
"""

from __future__ import annotations

import zlib
from typing import Literal

from aiokafka.partitioner import murmur2

from schemas.settings import Settings

Partitioner = Literal["murmur2", "crc32"]


def partition_of(key: bytes, partitions: int, partitioner: Partitioner = "murmur2") -> int:
    """The partition of a key.

    Parameters
    ----------
    key
        The record's key.
    partitions
        How many partitions the topic has, at least 1.

    Examples
    --------
    >>> [partition_of(key, 4) for key in (b"a", b"b", b"c")]
    [0, 0, 2]
    >>> partition_of(b"a", 4, "crc32")
    3
    """
    if partitioner == "crc32":
        return zlib.crc32(key) % partitions
    number: int = murmur2(key)
    # The sign bit goes, as in Java's Utils.toPositive; an absolute value would place some keys elsewhere.
    return (number & 0x7FFFFFFF) % partitions


def state_partitioner(settings: Settings) -> Partitioner:
    """What places entities: the partitioner of the inputs that are used as they are. Without any, murmur2."""
    truths = [settings.truths] if settings.truths.source == "topic" else []
    keyed = [mapping for mapping in (settings.observations, *truths, settings.commands) if mapping.key == "entity"]
    return keyed[0].partitioner if keyed else "murmur2"


def state_partition(settings: Settings, entity: str, partitions: int) -> int:
    """The partition that holds an entity's state and outputs, and that inputs with foreign keys are re-keyed to.

    It is where inputs that are used as they are have the entity; `doctor` sees to it that they agree. Without any, murmur2 decides.
    """
    return partition_of(entity.encode(), partitions, state_partitioner(settings))
