"""What is used, what is started, what is refused; and the real thing, up and down."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from deploy.services import KafkaCluster, ServiceError, ServiceState, StartFailed, Unreachable, addresses, down, gguf_path, status, up
from deploy.services import stack as module
from deploy.services.broker_version import broker_version, release_of
from deploy.services.ports import free_ports, split_address
from deploy.services.supervisor import birth_of

TINY = "smollm2:135m"


@pytest.fixture(autouse=True)
async def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    """A state directory of its own, and nothing left running in it."""
    monkeypatch.setenv("PALIMPSEST_STATE", str(tmp_path))
    yield tmp_path
    await down()


async def test_a_named_kafka_elsewhere_that_does_not_answer_is_an_error(state: Path) -> None:
    with pytest.raises(Unreachable, match=r"Kafka is not to be reached.*kafka\.invalid:9092"):
        await up("kafka.invalid:9092", None)
    assert await status() == []


async def test_plain_kafka_is_not_started_where_the_settings_ask_for_tls() -> None:
    [port] = free_ports(1)
    with pytest.raises(Unreachable, match="TLS or SASL"):
        await up(f"127.0.0.1:{port}", None, kafka_options={"security_protocol": "SSL"})


async def test_nothing_to_stop_is_no_error() -> None:
    assert await down() == []
    assert addresses() == {}


def test_a_release_is_told_by_the_newest_metadata_format_it_knows() -> None:
    assert [release_of(level) for level in (6, 25, 26, 27, 28)] == ["3.3", "4.0", "4.1", "4.1", "newer than 4.1"]


@pytest.mark.integration
async def test_up_again_finds_what_runs_and_down_stops_exactly_that(state: Path) -> None:
    kafka_port, ollama_port = free_ports(2)
    named = (f"127.0.0.1:{kafka_port}", f"http://127.0.0.1:{ollama_port}")
    first = await up(*named, models=[TINY])
    assert (first.kafka, first.ollama, first.started) == (*named, ("kafka", "ollama"))
    assert first.kafka_version == "4.1.0"
    assert addresses() == {"kafka": first.kafka, "ollama": first.ollama}

    second = await up(*named, models=[TINY])
    assert (second.kafka, second.ollama, second.started) == (*named, ())
    by_nobody_named = await up(None, None)
    assert (by_nobody_named.kafka, by_nobody_named.ollama, by_nobody_named.started) == (*named, ())

    running = await status()
    assert {service.name: service.state for service in running} == {"kafka-1": ServiceState.RUNNING, "ollama": ServiceState.RUNNING}
    assert all(service.version and service.log.exists() for service in running)

    stopped = await down()
    assert {service.name: service.state for service in stopped} == {"kafka-1": ServiceState.STOPPED, "ollama": ServiceState.STOPPED}
    assert [birth_of(service.pid) for service in stopped] == [None, None]
    assert await status() == []


@pytest.mark.integration
async def test_a_foreign_kafka_is_used_and_survives_down(state: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    async with KafkaCluster(root=tmp_path_factory.mktemp("foreign")) as foreign:
        stack = await up(foreign.bootstrap, None, models=[TINY], embedded=True)
        assert (stack.kafka, stack.kafka_version, stack.started) == (foreign.bootstrap, "4.1", ())
        assert (stack.ollama, stack.gguf) == (None, {TINY: gguf_path(TINY)})
        assert await asyncio.to_thread(stack.gguf[TINY].exists)
        assert await down() == []
        assert await broker_version(*split_address(foreign.bootstrap, 9092)) == "4.1"


@pytest.mark.integration
async def test_a_service_that_was_killed_is_seen_and_started_again_with_its_data(state: Path) -> None:
    first = await up(None, None, embedded=True)
    async with AIOKafkaProducer(bootstrap_servers=first.kafka) as producer:
        partitions = await producer.client.fetch_all_metadata()
        assert partitions.brokers()
    [node] = await status()
    os.kill(node.pid, signal.SIGKILL)
    while birth_of(node.pid) is not None:  # noqa: ASYNC110 - not our child
        await asyncio.sleep(0.01)
    assert [service.state for service in await status()] == [ServiceState.DEAD]
    assert addresses() == {}
    again = await up(None, None, embedded=True)
    assert (again.kafka, again.started) == (first.kafka, ("kafka",))
    with pytest.raises(StartFailed, match="services down"):
        await up(None, None, embedded=True, nodes=3)


@pytest.mark.integration
async def test_a_failed_up_stops_what_it_had_started(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        assert addresses().keys() == {"kafka"}
        raise ServiceError("no model to be had")

    monkeypatch.setattr(module, "_model_backend", fail)
    with pytest.raises(ServiceError, match="no model to be had"):
        await up(None, None)
    assert addresses() == {}
    assert await status() == []
