"""A Kafka cluster of one or more nodes on this machine, without containers.

Every node is broker and controller at once (KRaft). The cluster is of use in two ways: detached, for ``palimpsest services up``, which
passes its own supervisor and leaves without stopping; and as a context manager for tests, which own it and may kill its nodes::

    async with KafkaCluster(nodes=3, root=tmp_path) as cluster:
        await cluster.stop_node(2, signal.SIGKILL)
        await cluster.start_node(2)
"""

import asyncio
import base64
import contextlib
import logging
import secrets
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from deploy.services.errors import StartFailed, Unreachable, log_tail
from deploy.services.kafka_distribution import KAFKA_VERSION, STEP, kafka_jars
from deploy.services.ports import LOOPBACK, free_ports, split_address
from deploy.services.progress import Progress, silent
from deploy.services.supervisor import GRACE, Supervisor, is_alive
from deploy.services.tool import require, run_tool

READY_LIMIT = 120.0
"""Seconds until a node must answer. It takes 3 on an idle machine; beside a compiler on two cores it was seen to take 30."""

POLL = 0.1
"""Seconds between two tries to reach a node that is starting."""

DEFAULT_PORT = 9092

HEAP = {1: "512m"}
HEAP_OF_MANY = "320m"
"""A node's heap; three of them fit beside a model on a machine of 4 GB."""

LOGGING = {
    "org.slf4j.simpleLogger.defaultLogLevel": "info",
    "org.slf4j.simpleLogger.showDateTime": "true",
    "org.slf4j.simpleLogger.dateTimeFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
    # At info it prints all 200 settings at each start, and buries the reason of a failure.
    "org.slf4j.simpleLogger.log.kafka.server.KafkaConfig": "warn",
    "org.slf4j.simpleLogger.log.org.apache.kafka.common.config.AbstractConfig": "warn",
}


class KafkaCluster:
    """Kafka nodes on free loopback ports.

    Topics are never created by being named (``auto.create.topics.enable=false``): a misspelt topic is an error, not an empty topic.
    Data stay in `root`; a second cluster on the same root finds the topics of the first.

    Parameters
    ----------
    nodes
        How many. Internal topics are replicated ``min(3, nodes)`` times.
    root
        Directory of the data, logs, settings and process records.
    ports
        The nodes' client ports to take where they are free; those of the last run otherwise, else any.
    cache
        Where the jars are kept; the default cache if None.
    supervisor
        Who starts the processes; one with its records in `root` if None.
    logs
        Directory of the log files; ``root/logs`` if None.
    properties
        Broker settings on top of ours.
    progress
        Whom to tell.

    Attributes
    ----------
    version
        The version of Kafka.
    """

    version = KAFKA_VERSION

    def __init__(
        self,
        *,
        nodes: int = 1,
        root: Path,
        ports: Sequence[int] = (),
        cache: Path | None = None,
        supervisor: Supervisor | None = None,
        logs: Path | None = None,
        properties: Mapping[str, str] | None = None,
        progress: Progress = silent,
    ) -> None:
        if nodes < 1:
            raise ValueError(f"a Kafka cluster needs at least one node, not {nodes}")
        self.nodes = nodes
        self.root = root
        self._preferred = tuple(ports)
        self._cache = cache
        self._supervisor = supervisor or Supervisor(root / "processes.json")
        self._logs = logs or root / "logs"
        self._properties = dict(properties or {})
        self._progress = progress
        self._cluster_id = ""
        self._client_ports: list[int] = []
        self._controller_ports: list[int] = []

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop(signal.SIGKILL)
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # Whoever uses it as a context manager throws it away: closing the logs in good order would cost seconds and serve nobody.
        await self.stop(signal.SIGKILL)

    @property
    def bootstrap(self) -> str:
        """Addresses of all nodes, for a client's ``bootstrap_servers``."""
        return ",".join(f"{LOOPBACK}:{port}" for port in self._client_ports)

    @property
    def ids(self) -> range:
        """The nodes' ids: 1, 2, …"""
        return range(1, self.nodes + 1)

    def log_path(self, node: int) -> Path:
        """Return the log file of a node."""
        return self._logs / f"{self.record_name(node)}.log"

    def record_name(self, node: int) -> str:
        """Return the name under which the supervisor knows a node."""
        return f"kafka-{node}"

    async def start(self) -> None:
        """Start the nodes that do not run, and return when the cluster answers with all of them.

        Raises
        ------
        MissingTool, ToolFailed, ChecksumMismatch
            Kafka could not be fetched, or its data directory not be formatted.
        StartFailed
            A node ended or did not answer in time.
        """
        jars = await kafka_jars(self._cache, self._progress)
        self._choose_identity()
        missing = [node for node in self.ids if not self._alive(node)]
        if missing:
            self._progress(STEP, f"starting Kafka {self.version}" + (f", {self.nodes} nodes" if self.nodes > 1 else ""))
            await asyncio.gather(*(self._prepare(node, jars) for node in missing))
            for node in missing:
                self._launch(node, jars)
        await self._wait_until_ready(set(self.ids))
        self._progress(STEP, f"Kafka {self.version} answers at {self.bootstrap}", 1.0)

    async def stop(self, first: signal.Signals = signal.SIGTERM, grace: float = GRACE) -> None:
        """Stop all nodes; SIGKILL follows the first signal after `grace` seconds."""
        await self._supervisor.stop([self.record_name(node) for node in self.ids], first=first, grace=grace)

    async def start_node(self, node: int) -> None:
        """Start one node again, on its old ports and data; return when the cluster counts it in.

        Raises
        ------
        StartFailed
            It ended or did not answer in time.
        """
        jars = await kafka_jars(self._cache, self._progress)
        if not self._alive(node):
            await self._prepare(node, jars)
            self._launch(node, jars)
        await self._wait_until_ready({node})

    async def stop_node(self, node: int, first: signal.Signals = signal.SIGTERM, grace: float = GRACE) -> None:
        """End one node by a signal; return when it is gone."""
        await self._supervisor.stop([self.record_name(node)], first=first, grace=grace)

    def _alive(self, node: int) -> bool:
        record = self._supervisor.records().get(self.record_name(node))
        return record is not None and is_alive(record)

    def _choose_identity(self) -> None:
        """Take the cluster's id and ports from the last run where there was one, and write down those of this one."""
        file = self.root / "cluster.json"
        known: dict[str, Any] = orjson.loads(file.read_bytes()) if file.exists() else {}
        self._cluster_id = known.get("cluster_id") or new_cluster_id()
        if known and any(self._alive(node) for node in self.ids):
            self._client_ports, self._controller_ports = known["client_ports"], known["controller_ports"]
            return
        wanted = [*self._preferred[: self.nodes], *known.get("client_ports", [])]
        chosen = free_ports(2 * self.nodes, wanted if len(wanted) <= self.nodes else wanted[: self.nodes])
        self._client_ports, self._controller_ports = chosen[: self.nodes], chosen[self.nodes :]
        self.root.mkdir(parents=True, exist_ok=True)
        file.write_bytes(
            orjson.dumps(
                {
                    "cluster_id": self._cluster_id,
                    "client_ports": self._client_ports,
                    "controller_ports": self._controller_ports,
                }
            )
        )

    def node_properties(self, node: int) -> dict[str, str]:
        """Return a node's settings, as they are written to its ``server.properties``."""
        copies, quorum = str(min(3, self.nodes)), str(min(2, self.nodes))
        voters = ",".join(f"{other}@{LOOPBACK}:{port}" for other, port in zip(self.ids, self._controller_ports, strict=True))
        client = f"PLAINTEXT://{LOOPBACK}:{self._client_ports[node - 1]}"
        return {
            "process.roles": "broker,controller",
            "node.id": str(node),
            "controller.quorum.voters": voters,
            "controller.listener.names": "CONTROLLER",
            "listeners": f"{client},CONTROLLER://{LOOPBACK}:{self._controller_ports[node - 1]}",
            "advertised.listeners": client,
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": str(self.root / f"node-{node}" / "data"),
            "auto.create.topics.enable": "false",
            "default.replication.factor": copies,
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": quorum,
            "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": quorum,
            # 50 partitions each by default, for clusters with thousands of groups: creating them delays the first commit by a second.
            "offsets.topic.num.partitions": "8",
            "transaction.state.log.num.partitions": "8",
            # By default the first member of a group waits 3 s for others.
            "group.initial.rebalance.delay.ms": "0",
            # A node that was killed is let in again only when its last session has ended: 9 s by default. Below 6 s, a node that gets no
            # processor beside a busy model would be taken for dead.
            "broker.session.timeout.ms": "6000",
            "broker.heartbeat.interval.ms": "1000",
            # 128 MB of a 512 MB heap by default.
            "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
            "num.network.threads": "2",
            "num.io.threads": "4",
            **self._properties,
        }

    async def _prepare(self, node: int, jars: Path) -> None:
        """Write a node's settings, and format its data directory if it is new."""
        directory = self.root / f"node-{node}"
        directory.mkdir(parents=True, exist_ok=True)
        settings = directory / "server.properties"
        settings.write_text("".join(f"{key}={value}\n" for key, value in self.node_properties(node).items()))
        if (directory / "data" / "meta.properties").exists():
            return
        await run_tool(
            [*self._java(jars), "kafka.tools.StorageTool", "format", "-t", self._cluster_id, "-c", str(settings)],
            log=self.log_path(node),
            what=f"formatting the data directory of Kafka node {node}",
            advice=f"Check that {directory} can be written to and the disk is not full.",
            step=STEP,
            progress=self._progress,
        )

    def _launch(self, node: int, jars: Path) -> None:
        self._supervisor.start(
            self.record_name(node),
            [*self._java(jars), "kafka.Kafka", str(self.root / f"node-{node}" / "server.properties")],
            log=self.log_path(node),
            details={
                "service": "kafka",
                "address": f"{LOOPBACK}:{self._client_ports[node - 1]}",
                "version": self.version,
                "data": str(self.root),
                "nodes": str(self.nodes),
            },
        )

    def _java(self, jars: Path) -> list[str]:
        settings = [f"-D{key}={value}" for key, value in LOGGING.items()]
        # Serial collector and C1 only: half the memory and a faster start, for a broker that has one user.
        tuning = [f"-Xmx{HEAP.get(self.nodes, HEAP_OF_MANY)}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        return [require("java", "Running Kafka"), *tuning, *settings, "-cp", f"{jars}/*"]

    async def _wait_until_ready(self, expected: set[int]) -> None:
        """Wait until the cluster's metadata name all expected nodes."""
        deadline = time.monotonic() + READY_LIMIT
        while True:
            dead = [node for node in expected if not self._alive(node)]
            if dead:
                raise StartFailed(
                    f"Kafka node {dead[0]} ended while it was starting. The log tells why; a port taken by another program in the same "
                    f"moment is cured by trying again, damaged data by deleting {self.root}.\n{log_tail(self.log_path(dead[0]))}"
                )
            with contextlib.suppress(Unreachable):
                # By an expected node's own port: it answers only when it serves.
                seen = [await broker_ids(f"{LOOPBACK}:{self._client_ports[node - 1]}") for node in sorted(expected)]
                if all(expected <= ids for ids in seen):
                    return
            if time.monotonic() > deadline:
                node = min(expected)
                raise StartFailed(
                    f"Kafka did not become ready within {READY_LIMIT:.0f} s at {self.bootstrap}. On a busy machine, try again when it is "
                    f"idle.\n{log_tail(self.log_path(node))}"
                )
            await asyncio.sleep(POLL)


async def broker_ids(bootstrap: str, *, timeout: float = 5.0, options: Mapping[str, Any] | None = None) -> set[int]:
    """Ask a Kafka cluster for its brokers, by a real request of the Kafka protocol.

    Parameters
    ----------
    bootstrap
        Addresses, separated by commas.
    timeout
        Seconds for the whole conversation.
    options
        Client settings of aiokafka for TLS and SASL.

    Raises
    ------
    Unreachable
        Nothing answers there, or something that does not speak Kafka.
    """
    addresses = [address.strip() for address in bootstrap.split(",") if address.strip()]
    # aiokafka logs each refused connection as an error, and it is none while a node starts: so first see whether anything listens.
    if not any([await listens(*split_address(address, DEFAULT_PORT)) for address in addresses]):
        raise Unreachable(f"nothing listens at {bootstrap}")
    with _quiet_aiokafka():
        client: Any = AIOKafkaAdminClient(bootstrap_servers=addresses, request_timeout_ms=int(timeout * 1000), **(options or {}))
        try:
            async with asyncio.timeout(timeout):
                await client.start()
                return {broker["node_id"] for broker in (await client.describe_cluster())["brokers"]}
        except (KafkaError, TimeoutError, OSError) as error:
            raise Unreachable(f"{bootstrap} does not answer as a Kafka broker ({type(error).__name__}: {error})") from error
        finally:
            with contextlib.suppress(KafkaError, OSError):
                await client.close()


async def listens(host: str, port: int, timeout: float = 2.0) -> bool:
    """Tell whether a TCP connection to an address can be made."""
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


@contextlib.contextmanager
def _quiet_aiokafka() -> Iterator[None]:
    """Silence aiokafka's log while it is used to find out whether a broker is there: what it finds is told by an exception."""
    logger = logging.getLogger("aiokafka")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def new_cluster_id() -> str:
    """Return a random cluster id as Kafka spells it: 16 bytes in URL-safe base64 without padding.

    Examples
    --------
    >>> len(new_cluster_id())
    22
    """
    while True:
        identifier = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        if not identifier.startswith("-"):  # would be read as an option by the format tool
            return identifier
