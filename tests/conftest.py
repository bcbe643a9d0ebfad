"""Fixtures that start real services: once per session, on free ports, in throw-away directories."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from deploy.services import KafkaCluster, OllamaServer, lines

#: The smallest model that answers a schema; quality is not what tests are about.
TEST_MODEL = "smollm2:135m"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kafka(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Bootstrap servers of a real one-node Kafka."""
    async with KafkaCluster(root=tmp_path_factory.mktemp("kafka"), progress=lines()) as cluster:
        yield cluster.bootstrap


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def ollama(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Address of a real Ollama that has `TEST_MODEL`."""
    async with OllamaServer(root=tmp_path_factory.mktemp("ollama"), models=[TEST_MODEL], progress=lines()) as server:
        yield server.host
