"""The group's members as its coordinator knows them: where each is reached, and which partitions it was given.

A worker tells the group its URL when it joins, Faust's assignor hands every member the URLs of all, with their partitions, at every
rebalance (`PartitionAssignor.changelog_distribution`), and the coordinator shows both to whoever asks. So the URL

- must be **its own**: of two workers with one URL the routing table keeps one, and entities of the other are found at no worker but itself
  (`judge`, `unrouted`). Partitions are assigned by member all the same; nothing is lost or done twice;
- must **stay over restarts** with static membership (`worker.instance_id`): a member that returns within its session gets the assignment
  that was made for its old URL, and Faust refuses it (`streams.upstream.RoamingAssignor`).
"""

from __future__ import annotations

import socket
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.errors import KafkaError, for_code
from tenacity import AsyncRetrying, retry_if_exception, retry_if_result, stop_after_delay, wait_fixed

from schemas.settings import WorkerSettings
from streams.findings import Finding

#: Addresses that mean "all of this machine's", and those that no other machine reaches.
_ANY, _LOOPBACK = ("", "0.0.0.0", "::"), ("localhost", "127.0.0.1", "::1")
#: Seconds for the coordinator to be there, and for a rebalance to end: until then it shows neither URLs nor partitions.
PATIENCE = 5.0
#: DescribeGroups says so (from version 6 on) instead of describing an empty group.
_NO_SUCH_GROUP = 69


def advertised_url(worker: WorkerSettings, port: int) -> str:
    """Where other workers reach this one: `worker.http_url`, else where it listens, by the machine's name if that is everywhere.

    Parameters
    ----------
    port
        What it listens on, `worker.http_port` being 0 or not.

    Examples
    --------
    >>> advertised_url(WorkerSettings(http_host="10.0.0.7"), 9464), advertised_url(WorkerSettings(http_host="fd00::7"), 9464)
    ('http://10.0.0.7:9464', 'http://[fd00::7]:9464')
    """
    if worker.http_url is not None:
        return worker.http_url
    host = socket.gethostname() if worker.http_host in _ANY else worker.http_host
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@dataclass(frozen=True, slots=True)
class Member:
    """A member of the group.

    Attributes
    ----------
    id
        The coordinator's name for it; begins with the static name where it has one.
    host
        Where it connected from.
    url
        Where it says it is reached; empty during a rebalance, and for a program that is no worker of ours.
    partitions, standby
        Of the changelog: worked on, and only kept up. Empty during a rebalance.
    """

    id: str
    host: str
    url: str = ""
    partitions: frozenset[int] = frozenset()
    standby: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Group:
    """A consumer group. `state` is Kafka's word: `Stable`, `PreparingRebalance`, `CompletingRebalance`, `Empty`, `Dead` (there is none)."""

    name: str
    state: str
    members: tuple[Member, ...]

    @property
    def rebalancing(self) -> bool:
        return self.state.endswith("Rebalance")


async def describe_group(client: AIOKafkaAdminClient, name: str, changelog: str) -> Group:
    """Ask the coordinator for the members; while they rebalance it is asked again for some seconds.

    Raises
    ------
    KafkaError
        The group cannot be described: no coordinator, no right to.
    """
    attempts = AsyncRetrying(
        retry=retry_if_exception(_passes) | retry_if_result(lambda group: group.rebalancing),
        stop=stop_after_delay(PATIENCE),
        wait=wait_fixed(0.25),
        # When patience ends: what was found, or the error that was raised, as they are.
        retry_error_callback=lambda state: state.outcome.result() if state.outcome is not None else None,
    )
    return await attempts(_describe_once, client, name, changelog)


def _passes(error: BaseException) -> bool:
    return isinstance(error, KafkaError) and error.retriable


async def _describe_once(client: AIOKafkaAdminClient, name: str, changelog: str) -> Group:
    (response,) = await client.describe_consumer_groups([name])
    ((code, _, state, _, _, members, *_),) = response.groups
    if code == _NO_SUCH_GROUP:
        return Group(name, "Dead", ())
    if code:
        raise for_code(code)(f"the group {name} cannot be described")
    found = [_member(member_id, host, metadata, assignment, changelog) for member_id, _, host, metadata, assignment in members]
    return Group(name, state, tuple(sorted(found, key=lambda member: (member.url, member.id))))


def _member(member_id: str, host: str, metadata: bytes, assignment: bytes, changelog: str) -> Member:
    joined = _user_data(ConsumerProtocol.METADATA, metadata)
    given = _user_data(ConsumerProtocol.ASSIGNMENT, assignment, zlib.decompress).get("assignment", {})
    return Member(
        id=member_id,
        host=host.removeprefix("/"),
        url=str(joined.get("url", "")),
        partitions=frozenset(given.get("actives", {}).get(changelog, ())),
        standby=frozenset(given.get("standbys", {}).get(changelog, ())),
    )


def _user_data(kind: Any, raw: bytes, unpack: Callable[[bytes], bytes] = bytes) -> dict[str, Any]:
    """What Faust's assignor put beside the protocol's own fields; nothing during a rebalance, and for other programs."""
    try:
        found = orjson.loads(unpack(kind.decode(raw).user_data))
    except (ValueError, TypeError, struct.error, zlib.error):
        return {}
    return found if isinstance(found, dict) else {}


def judge(members: Sequence[Member]) -> list[Finding]:
    """What is wrong with the URLs that members gave; pure."""
    findings = []
    for url, number in sorted(Counter(member.url for member in members if member.url).items()):
        if number > 1:
            text = f"{number} workers say that they are reached at {url}: requests for the entities of all but one of them end nowhere."
            findings.append(Finding("warn", "worker.http_url", "shared-url", text, "Give each worker a URL of its own."))
    hosts = {member.host for member in members}
    for member in members:
        if len(hosts) > 1 and urlsplit(member.url).hostname in _LOOPBACK:
            text = f"the worker on {member.host} says that it is reached at {member.url}, which no other machine can."
            advice = "Set worker.http_host to an address that the others reach, or worker.http_url if they reach it at another one."
            findings.append(Finding("warn", "worker.http_url", "unreachable-url", text, advice))
    return findings


def unrouted(distribution: Mapping[str, Mapping[str, Iterable[int]]], changelog: str, partitions: int) -> list[int]:
    """Partitions that no URL leads to, though somebody has them: the mark of two workers with one URL.

    Parameters
    ----------
    distribution
        Faust's: partitions by topic by URL. The assignor gives every partition to somebody, but of two with one URL it keeps the last.

    Examples
    --------
    >>> unrouted({"http://a:1": {"c": [0, 2]}, "http://b:1": {"c": [3]}}, "c", 4)
    [1]
    """
    led = {partition for topics in distribution.values() for partition in topics.get(changelog, ())}
    return [partition for partition in range(partitions) if partition not in led]
