"""Real Kafka, of one node and of three."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.services import KafkaCluster, StartFailed, Unreachable
from deploy.services.kafka import broker_ids
from deploy.services.ports import free_ports
from deploy.services.supervisor import Supervisor, birth_of

pytestmark = pytest.mark.integration


async def create_topic(cluster: KafkaCluster, name: str, copies: int) -> None:
    admin: Any = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, copies, topic_configs={"min.insync.replicas": str(min(2, copies))})])
    finally:
        await admin.close()


async def produce(cluster: KafkaCluster, topic: str, *values: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=cluster.bootstrap, acks="all", enable_idempotence=True) as producer:
        for value in values:
            await producer.send_and_wait(topic, value)


async def consume(cluster: KafkaCluster, topic: str, count: int) -> list[bytes]:
    """Read through a consumer group, so that the group coordinator is tried as well."""
    async with AIOKafkaConsumer(
        topic, bootstrap_servers=cluster.bootstrap, group_id="readers", auto_offset_reset="earliest", enable_auto_commit=False
    ) as consumer:
        return [(await consumer.getone()).value for _ in range(count)]


async def test_one_node_keeps_messages_over_a_kill_and_leaves_no_process(tmp_path: Path) -> None:
    async with KafkaCluster(root=tmp_path) as cluster:
        records = Supervisor(tmp_path / "processes.json").records()
        await create_topic(cluster, "letters", 1)
        await produce(cluster, "letters", b"a", b"b")
        bootstrap = cluster.bootstrap
        await cluster.stop_node(1, signal.SIGKILL)
        with pytest.raises(Unreachable):
            await broker_ids(bootstrap)
        await cluster.start_node(1)
        assert cluster.bootstrap == bootstrap
        await produce(cluster, "letters", b"c")
        assert await consume(cluster, "letters", 3) == [b"a", b"b", b"c"]
        records |= {f"{name} again": record for name, record in Supervisor(tmp_path / "processes.json").records().items()}
    assert len(records) == 2
    assert [birth_of(record.pid) for record in records.values()] == [None, None]


async def test_three_nodes_go_on_without_one_and_take_it_back(tmp_path: Path) -> None:
    async with KafkaCluster(nodes=3, root=tmp_path) as cluster:
        assert await broker_ids(cluster.bootstrap) == {1, 2, 3}
        await create_topic(cluster, "letters", 3)
        await produce(cluster, "letters", b"a")
        await cluster.stop_node(2, signal.SIGKILL)
        await produce(cluster, "letters", b"b")
        assert await consume(cluster, "letters", 2) == [b"a", b"b"]
        await cluster.start_node(2)
        assert await broker_ids(f"127.0.0.1:{cluster.bootstrap.split(',')[1].split(':')[1]}") == {1, 2, 3}
        pids = [record.pid for record in Supervisor(tmp_path / "processes.json").records().values()]
        assert len(pids) == 3
    assert [birth_of(pid) for pid in pids] == [None, None, None]


async def test_given_ports_are_taken_and_a_second_cluster_finds_the_data_of_the_first(tmp_path: Path) -> None:
    ports = free_ports(1)
    async with KafkaCluster(root=tmp_path, ports=ports) as cluster:
        assert cluster.bootstrap == f"127.0.0.1:{ports[0]}"
        await create_topic(cluster, "letters", 1)
        await produce(cluster, "letters", b"a")
        await cluster.stop()
    async with KafkaCluster(root=tmp_path) as cluster:
        assert await consume(cluster, "letters", 1) == [b"a"]


async def test_a_node_that_cannot_start_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    cluster = KafkaCluster(root=tmp_path, properties={"num.io.threads": "none"})
    with pytest.raises(Exception, match=r"(?s)num\.io\.threads") as failure:
        async with cluster:
            pass
    assert str(cluster.log_path(1)) in str(failure.value)
    assert Supervisor(tmp_path / "processes.json").records() == {}


async def test_a_node_that_dies_while_starting_is_told_at_once(tmp_path: Path) -> None:
    first = KafkaCluster(root=tmp_path)
    async with first:
        pass
    await asyncio.to_thread((tmp_path / "node-1" / "data" / "meta.properties").write_text, "version=1\nnode.id=7\ncluster.id=x\n")
    with pytest.raises(StartFailed, match=r"(?s)Kafka node 1 ended while it was starting.*Log: "):
        async with KafkaCluster(root=tmp_path):
            pass
