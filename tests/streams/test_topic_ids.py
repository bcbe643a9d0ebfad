"""Topics made anew under their names have other ids."""

import pytest
from aiokafka.admin import NewTopic

from schemas.settings import Settings
from streams import topics
from streams.cluster import describe
from streams.kafka import admin
from streams.topic_ids import topic_ids

pytestmark = pytest.mark.integration


async def test_a_topic_that_is_made_anew_gets_another_id_and_one_that_is_not_there_has_none(own_settings: Settings) -> None:
    name, other = own_settings.topics.observations, own_settings.topics.truths
    async with admin(own_settings.kafka) as client:
        await client.create_topics([NewTopic(name, 3, 1), NewTopic(other, 1, 1)])
        await topics.wait_until_known(client, [name, other])
        before = await topic_ids(client, [name, other, own_settings.topics.commands])
        assert before.keys() == {name, other}
        assert all(len(one) == 22 for one in before.values())
        await client.delete_topics([name])
        assert await topic_ids(client, [name]) == {}
        await client.create_topics([NewTopic(name, 3, 1)])
        await topics.wait_until_known(client, [name])
        after = await topic_ids(client, [name, other])
        # Asking for topics makes none.
        assert own_settings.topics.commands not in await describe(client, [own_settings.topics.commands])
    assert after[name] != before[name]
    assert after[other] == before[other]
