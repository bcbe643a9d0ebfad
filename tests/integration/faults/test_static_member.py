"""A static member that comes back within its session gets the assignment that was made for it before, with the URL it had then."""

from __future__ import annotations

from typing import Any

import pytest

from streams.kafka import admin
from streams.membership import describe_group
from streams.topics import changelog_topic
from tests.integration.faults.conftest import Scene, until
from tests.integration.undone import fails_without

pytestmark = pytest.mark.integration


@fails_without("roaming-member", "the worker ended with 75")
async def test_a_static_member_that_comes_back_at_another_url_gets_its_partitions_and_is_found_there(scene: Scene) -> None:
    static: dict[str, Any] = {"PALIMPSEST__WORKER__INSTANCE_ID": "pod-0", "PALIMPSEST__WORKER__SESSION_TIMEOUT": "5m"}
    before, after = (f"http://{host}:{scene.bench.settings.worker.http_port}" for host in ("127.0.0.1", "localhost"))
    await scene.start(**static)
    assert await urls(scene) == [before]
    await scene.worker.kill()
    await scene.start(**static, PALIMPSEST__WORKER__HTTP_URL=after)

    async def is_found() -> bool:
        return await urls(scene) == [after]

    await until(scene.worker, is_found)
    await scene.observe(("a", "a0"))
    await scene.until_predicted("a0")


async def urls(scene: Scene) -> list[str]:
    """Where the group says that each member with partitions is reached."""
    settings = scene.bench.settings
    async with admin(settings.kafka) as client:
        group = await describe_group(client, settings.app, changelog_topic(settings))
    return [member.url for member in group.members if member.partitions]
