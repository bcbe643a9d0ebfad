"""The plan of topics, what is said about a cluster that differs from it, and making what is missing on a real one."""

from dataclasses import replace

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic

from schemas.settings import Settings
from streams import topics
from streams.cluster import Span, TopicState, describe
from streams.errors import TopicsUnfit
from streams.findings import Finding, failed
from streams.kafka import admin, consumer, producer
from streams.topics import DAY, Survey, TopicSpec, judge, judge_inputs, judge_positions, topic_plan

KEYED = Settings(observations={"key": "entity"}, truths={"key": "entity"}, commands={"key": "entity"})


def by_role(settings: Settings, **about: object) -> dict[str, TopicSpec]:
    return {spec.role: spec for spec in topic_plan(settings, **about)}  # type: ignore[arg-type]


def as_planned(spec: TopicSpec, **changes: object) -> TopicState:
    defaults = {"min.insync.replicas": "1", "max.message.bytes": "1048588"}
    return replace(TopicState(spec.name, spec.partitions, spec.replication, {**defaults, **spec.configs}), **changes)  # type: ignore[arg-type]


def said(spec: TopicSpec, topic: TopicState | None, brokers: int = 1) -> list[Finding]:
    return judge(Survey((spec,), {} if topic is None else {spec.name: topic}, brokers))


def with_config(spec: TopicSpec, **configs: str) -> TopicState:
    topic = as_planned(spec)
    return replace(topic, configs={**topic.configs, **{key.replace("_", "."): value for key, value in configs.items()}})


# --- the plan


def test_truths_are_an_input_only_where_they_come_from_a_topic() -> None:
    assert "truths" in by_role(KEYED)
    for source in ("next-observation", "judge", "none"):
        settings = Settings(truths={"source": source}, target={"kind": "text"})
        assert not {"truths", "truths-by-entity"} & by_role(settings).keys()


def test_inputs_with_foreign_keys_have_an_internal_topic_by_entity_and_others_have_none() -> None:
    assert not [role for role in by_role(KEYED) if role.endswith("-by-entity")]
    internal = by_role(Settings(app="w"))["observations-by-entity"]
    assert internal.name == "w-observations-by-entity"


def test_a_topic_by_entity_takes_records_larger_than_its_source_and_stamps_them_itself() -> None:
    internal = by_role(Settings(), source_bytes={"observations": 5_000_000})["observations-by-entity"]
    assert int(internal.configs["max.message.bytes"]) == 5_000_000 + 65_536 == internal.least_message_bytes
    assert internal.configs["message.timestamp.type"] == "LogAppendTime"


def test_the_changelog_is_compacted_soon_and_takes_the_largest_record() -> None:
    changelog = by_role(Settings(app="w", bounds={"record": 900_000}))["changelog"]
    assert changelog.name == "w-state-changelog"
    assert changelog.configs["cleanup.policy"] == "compact"
    assert changelog.configs["max.compaction.lag.ms"] == str(DAY)
    assert int(changelog.configs["max.message.bytes"]) >= 900_000 + 65_536


def test_the_audit_log_is_kept_for_ever_and_dead_letters_for_a_month() -> None:
    plan = by_role(KEYED)
    assert plan["memories"].retention_ms is None
    assert plan["dead_letters"].retention_ms == 30 * DAY
    assert plan["predictions"].retention_ms == 7 * DAY


@pytest.mark.parametrize(("replication", "in_sync"), [(1, "1"), (2, "1"), (3, "2"), (5, "2")])
def test_one_broker_may_be_down_from_three_replicas_on(replication: int, in_sync: str) -> None:
    settings = Settings(topics={"replication": replication})
    assert {spec.configs["min.insync.replicas"] for spec in topic_plan(settings)} == {in_sync}


# --- what is said


@pytest.mark.parametrize("role", list(by_role(Settings())))
def test_a_topic_as_planned_is_ok(role: str) -> None:
    spec = by_role(Settings())[role]
    (finding,) = said(spec, as_planned(spec))
    assert finding.level == "ok"


def test_a_missing_input_may_be_a_misspelt_name_and_a_missing_output_is_made() -> None:
    plan = by_role(Settings())
    assert "Correct topics.observations" in said(plan["observations"], None)[0].advice
    assert "topics create" in said(plan["predictions"], None)[0].advice
    assert {said(spec, None)[0].level for spec in plan.values()} == {"fail"}


def assert_way_out(finding: Finding) -> None:
    assert "`palimpsest state export FILE`, `palimpsest state reset` and `palimpsest state import FILE`" in finding.advice


@pytest.mark.parametrize("role", ["observations", "observations-by-entity"])
def test_a_changed_partition_count_is_refused_with_the_way_out(role: str) -> None:
    plan = by_role(Settings())
    (finding,) = said(plan[role], as_planned(plan[role], partitions=8))
    assert (finding.level, finding.code) == ("fail", "partitions")
    assert "8 partitions" in finding.text
    assert_way_out(finding)


@pytest.mark.parametrize(("partitions", "advice"), [(2, "--alter --topic predictions --partitions 4"), (8, "topics create")])
def test_an_output_with_another_count_gets_more_partitions_or_is_made_anew(partitions: int, advice: str) -> None:
    plan = by_role(Settings())
    (finding,) = said(plan["predictions"], as_planned(plan["predictions"], partitions=partitions))
    assert (finding.level, finding.code) == ("fail", "partitions")
    assert advice in finding.advice


@pytest.mark.parametrize(
    ("role", "configs", "level", "code"),
    [
        ("changelog", {"cleanup_policy": "delete"}, "fail", "cleanup"),
        ("changelog", {"cleanup_policy": "compact,delete"}, "fail", "cleanup"),
        ("changelog", {"max_message_bytes": "300000"}, "fail", "message-bytes"),
        ("changelog", {"max_compaction_lag_ms": "9223372036854775807"}, "warn", "compaction-lag"),
        ("observations", {"cleanup_policy": "compact"}, "warn", "cleanup"),
        ("observations", {"retention_ms": "3600000"}, "warn", "retention"),
        ("observations", {"max_message_bytes": "10000"}, "ok", "topic"),
        ("observations-by-entity", {"max_message_bytes": "1048588"}, "fail", "message-bytes"),
        ("observations-by-entity", {"message_timestamp_type": "CreateTime"}, "fail", "timestamps"),
        ("memories", {"retention_ms": "604800000"}, "warn", "retention"),
        ("memories", {"cleanup_policy": "compact"}, "warn", "cleanup"),
        ("dead_letters", {"max_message_bytes": "70000"}, "fail", "message-bytes"),
        ("predictions", {"min_insync_replicas": "2"}, "fail", "in-sync"),
    ],
)
def test_a_setting_that_hurts_is_said_with_the_command_that_mends_it(role: str, configs: dict[str, str], level: str, code: str) -> None:
    spec = by_role(Settings())[role]
    (finding,) = said(spec, with_config(spec, **configs))
    assert (finding.level, finding.code) == (level, code)
    if level != "ok":
        assert f"kafka-configs --alter --topic {spec.name} --add-config" in finding.advice


def test_a_single_copy_is_no_fault_on_a_single_broker_and_one_on_three() -> None:
    spec = by_role(Settings())["changelog"]
    assert said(spec, as_planned(spec), brokers=1)[0].level == "ok"
    assert [finding.code for finding in said(spec, as_planned(spec), brokers=3)] == ["replication"]


def test_three_copies_of_which_one_suffices_can_lose_what_was_committed() -> None:
    spec = by_role(Settings(topics={"replication": 3}))["changelog"]
    (finding,) = said(spec, with_config(spec, min_insync_replicas="1"), brokers=3)
    assert (finding.level, finding.code) == ("warn", "in-sync")


def test_positions_beyond_the_end_mean_a_topic_made_anew() -> None:
    place = TopicPartition("readings", 0)
    assert judge_positions({place: 100}, {place: Span(0, 100)}) == []
    (finding,) = judge_positions({place: 101}, {place: Span(0, 100)})
    assert (finding.level, finding.code, finding.subject) == ("fail", "recreated", "readings/0")
    assert_way_out(finding)
    (gone,) = judge_positions({place: 5}, {})
    assert (gone.level, gone.code) == ("fail", "recreated")


def test_positions_before_the_start_mean_records_that_retention_took() -> None:
    place = TopicPartition("readings", 0)
    (finding,) = judge_positions({place: 100}, {place: Span(130, 200)})
    assert (finding.level, finding.code) == ("warn", "overtaken")
    assert "30 records" in finding.text


# --- on a real Kafka


@pytest.mark.integration
async def test_what_is_missing_is_made_as_planned_and_then_nothing_is_left_to_say(own_settings: Settings) -> None:
    assert {finding.code for finding in await topics.check(own_settings)} == {"missing"}
    made = await topics.create(own_settings)
    assert [spec.name for spec in made] == [spec.name for spec in topic_plan(own_settings)]
    assert {finding.level for finding in await topics.check(own_settings)} == {"ok"}
    assert await topics.create(own_settings) == []
    async with admin(own_settings.kafka) as client:
        found = await describe(client, [spec.name for spec in made])
    for spec in made:
        assert found[spec.name].partitions == spec.partitions
        assert spec.configs.items() <= found[spec.name].configs.items()


@pytest.mark.integration
async def test_an_existing_input_decides_the_partitions_of_the_rest(own_settings: Settings) -> None:
    name = own_settings.topics.observations
    async with admin(own_settings.kafka) as client:
        await client.create_topics([NewTopic(name, 3, 1, topic_configs={"max.message.bytes": "2000000"})])
        await topics.wait_until_known(client, [name])
    with_inputs = await topics.survey(own_settings)
    made = await topics.create(own_settings, inputs=False)
    assert {spec.partitions for spec in made} == {3} == {spec.partitions for spec in with_inputs.plan}
    assert own_settings.topics.truths not in [spec.name for spec in made]
    internal = next(spec for spec in made if spec.role == "observations-by-entity")
    assert internal.least_message_bytes == 2_000_000 + 65_536
    assert [finding.subject for finding in failed(await topics.check(own_settings))] == [own_settings.topics.truths]


@pytest.mark.integration
async def test_a_replication_that_the_brokers_cannot_give_is_refused_with_its_cause(own_settings: Settings) -> None:
    settings = own_settings.model_copy(update={"topics": own_settings.topics.model_copy(update={"replication": 3})})
    with pytest.raises(TopicsUnfit, match=r"There are 1 brokers; topics\.replication is 3"):
        await topics.create(settings)


@pytest.mark.integration
async def test_a_topic_that_was_made_anew_under_its_readers_is_noticed(own_settings: Settings) -> None:
    await topics.create(own_settings)
    name, place = own_settings.topics.observations, TopicPartition(own_settings.topics.observations, 0)
    async with producer(own_settings.kafka) as client:
        for _ in range(5):
            await client.send_and_wait(name, b"{}", partition=0)
    async with consumer(own_settings.kafka, group_id=own_settings.app) as reader:
        reader.assign([place])
        await reader.commit({place: 4})
    assert failed(await topics.check(own_settings)) == []
    async with consumer(own_settings.kafka, group_id=own_settings.app) as reader:
        reader.assign([place])
        await reader.commit({place: 9})
    (finding,) = failed(await topics.check(own_settings))
    assert (finding.code, finding.subject) == ("recreated", f"{name}/0")


def test_an_input_that_is_another_topic_than_the_states_were_made_from_is_refused_with_the_way_out() -> None:
    settings = Settings()
    noted = {"observations": "one", "truths": "two"}
    assert judge_inputs(settings, noted, {**noted, "commands": "new"}) == []
    assert judge_inputs(settings, noted, {}) == []
    (finding,) = judge_inputs(settings, noted, {"observations": "one", "truths": "other"})
    assert (finding.level, finding.subject, finding.code) == ("fail", "truths", "recreated")
    assert "palimpsest state export" in finding.advice
