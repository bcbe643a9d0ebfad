"""What the doctor says about settings, keys, model and capacity, and its whole round on a real Kafka."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from agents.errors import ModelError, ModelMissing, ModelRefused, ModelUnreachable
from agents.models.protocol import CallLimits, ChatMessage, ModelIdentity, Purpose, Reply
from schemas.mapping import Record
from schemas.settings import ModelSettings, Settings
from streams import doctor, topics
from streams.cluster import BrokerLimits
from streams.doctor import (
    judge_brokers,
    judge_capacity,
    judge_context,
    judge_deadlines,
    judge_limits,
    judge_members,
    judge_records,
    judge_settings,
    judge_state_dir,
)
from streams.findings import Finding
from streams.kafka import producer
from streams.membership import Member
from streams.partitioner import Partitioner, partition_of
from streams.traffic import Traffic

NOW = datetime(2024, 1, 1, 12, tzinfo=UTC)


def only(findings: Sequence[Finding]) -> Finding:
    (finding,) = findings
    return finding


# --- settings


def test_the_defaults_undo_nothing_and_their_deadlines_nest() -> None:
    assert only(judge_settings(Settings())).level == "ok"
    assert only(judge_deadlines(Settings())).text == "call 1m <= drain 1m < rebalance 2m."


@pytest.mark.parametrize(
    ("settings", "subject"),
    [
        ({"publish": {"publish": "model"}}, "publish.publish"),
        ({"rewrite": {"policy": "never"}}, "rewrite.policy"),
        ({"backlog": "all"}, "backlog"),
        ({"time": "replay"}, "time"),
        ({"max_future": "30d"}, "max_future"),
        ({"truths": {"on_expiry": "judge"}}, "truths.on_expiry"),
        ({"truths": {"source": "next-observation"}, "target": {"horizon": "1h"}}, "truths.tolerance"),
        ({"model": {"keep_alive": "0"}}, "model.keep_alive"),
        ({"model": {"keep_alive": "0s"}}, "model.keep_alive"),
        ({"memory": {"words": 1500}}, "memory.words"),
        ({"worker": {"window": 4}, "model": {"slots": 8}}, "worker.window"),
        ({"target": {"kind": "category", "labels": [f"a label of some length, {i}" for i in range(100)]}}, "bounds.record"),
        ({"worker": {"window": 2000}}, "model.queue"),
        ({"kafka": {"security_protocol": "SASL_PLAINTEXT", "sasl_username": "u", "sasl_password": "p"}}, "kafka.security_protocol"),
        ({"kafka": {"security_protocol": "SSL", "ssl_check_hostname": False}}, "kafka.ssl_check_hostname"),
    ],
)
def test_a_setting_that_undoes_a_measure_is_warned_of(settings: dict[str, Any], subject: str) -> None:
    finding = only(judge_settings(Settings(**settings)))
    assert (finding.level, finding.subject) == ("warn", subject)
    assert finding.advice


def test_a_target_that_no_observation_carries_is_a_fault() -> None:
    values = {"observations": {"values": {"temperature": "t"}}, "truths": {"source": "next-observation"}}
    finding = only(judge_settings(Settings(**values, target={"field": "temprature"})))
    assert (finding.level, finding.subject) == ("fail", "target.field")
    assert only(judge_settings(Settings(**values, target={"field": "temperature"}))).level == "ok"
    finding = only(judge_settings(Settings(**values, target={"field": "temperature", "reference": "nwp"})))
    assert finding.subject == "target.reference"


def test_inputs_that_are_placed_by_different_partitioners_are_a_fault() -> None:
    keyed = {"key": "entity", "partitioner": "crc32"}
    finding = only(judge_settings(Settings(observations=keyed, truths={"key": "entity"})))
    assert (finding.level, finding.code) == ("fail", "scattered")
    assert only(judge_settings(Settings(observations=keyed, truths=keyed))).level == "ok"
    assert only(judge_settings(Settings(observations=keyed))).level == "ok"


@pytest.mark.parametrize(
    ("worker", "subject", "level"),
    [
        ({"drain_deadline": "30s"}, "worker.drain_deadline", "warn"),
        ({"session_timeout": "5m"}, "worker.session_timeout", "warn"),
        ({"rebalance_timeout": "30m"}, "worker.rebalance_timeout", "warn"),
        ({"commit_interval": "10m"}, "worker.commit_interval", "warn"),
        ({"transaction_timeout": "4s"}, "worker.transaction_timeout", "warn"),
    ],
)
def test_deadlines_that_do_not_nest_or_make_others_wait_are_said(worker: dict[str, str], subject: str, level: str) -> None:
    finding = only(judge_deadlines(Settings(worker=worker)))
    assert (finding.subject, finding.level) == (subject, level)
    assert finding.advice


@pytest.mark.parametrize(
    ("file_system", "level", "said"),
    [
        ("ext4", "ok", "is on ext4."),
        ("tmpfs", "warn", "takes memory"),
        ("nfs4", "warn", "waits for the network"),
        ("overlay", "ok", "a container's own layer"),
    ],
)
def test_a_state_directory_that_does_not_stay_or_is_not_near_is_warned_of(file_system: str, level: str, said: str) -> None:
    finding = judge_state_dir(Path("/var/lib/palimpsest"), file_system)
    assert (finding.level, finding.subject) == (level, "worker.state_dir")
    assert said in finding.text
    assert bool(finding.advice) == (file_system != "ext4")


def test_what_a_directory_that_is_yet_to_be_made_will_be_on_is_known(tmp_path: Path) -> None:
    assert doctor._file_system(tmp_path / "not" / "there") == doctor._file_system(tmp_path)
    assert doctor._file_system(Path("/proc/self")) == "proc"


# --- Kafka


def test_a_broker_too_old_and_a_cluster_too_small_are_said() -> None:
    assert judge_brokers(1, "4.1 or newer", Settings()).level == "ok"
    assert judge_brokers(1, "older than 2.3", Settings()).level == "fail"
    assert judge_brokers(1, "3.9", Settings(topics={"replication": 3})).level == "warn"


def limits_of(limits: BrokerLimits, **worker: str) -> Finding:
    return only(judge_limits(Settings(worker=worker), limits))


def test_sessions_and_transactions_that_the_brokers_refuse_are_faults() -> None:
    assert limits_of(BrokerLimits()).level == "ok"
    short = limits_of(BrokerLimits(), session_timeout="2s")
    assert (short.subject, short.level) == ("worker.session_timeout", "fail")
    assert "6s to 30m" in short.text
    assert short.advice == "Set 15s."
    tight = limits_of(BrokerLimits(longest_session=timedelta(seconds=10)))
    assert (tight.level, tight.advice) == ("fail", "Set 10s.")
    assert limits_of(BrokerLimits(shortest_session=timedelta(seconds=1)), session_timeout="2s").level == "ok"
    long = limits_of(BrokerLimits(), transaction_timeout="1h")
    assert (long.subject, long.level) == ("worker.transaction_timeout", "fail")
    assert "15m" in long.text
    assert limits_of(BrokerLimits(longest_transaction=timedelta(hours=2)), transaction_timeout="1h").level == "ok"


def test_brokers_that_let_a_lone_worker_wait_are_warned_of() -> None:
    assert limits_of(BrokerLimits(initial_rebalance_delay=timedelta(seconds=60))).level == "warn"


MEMBER_ID = "3f0f8f0e-2f4e-4b62-9a5e-5a1d8c3e0b11"


def member(name: str, url: str) -> Member:
    return Member(id=f"{name}-{MEMBER_ID}", host="10.0.0.1", url=url)


def test_more_standbys_than_there_are_other_workers_are_warned_of() -> None:
    settings = Settings(worker={"standby_replicas": 1})
    one, other = member("a", "http://a:1"), member("b", "http://b:1")
    assert judge_members(settings, []) == []
    assert only(judge_members(settings, [one])).subject == "worker.standby_replicas"
    assert judge_members(settings, [one, other]) == []


def test_a_static_name_that_a_worker_elsewhere_has_is_warned_of() -> None:
    settings = Settings(worker={"instance_id": "blue", "http_url": "http://here:1"})
    assert judge_members(settings, [member("blue", "http://here:1"), member("green", "http://there:1"), member("blue", "")]) == []
    finding = only(judge_members(settings, [member("blue", "http://there:1")]))
    assert (finding.level, finding.subject) == ("warn", "worker.instance_id")
    assert "http://there:1" in finding.text
    assert judge_members(Settings(), [member("blue", "http://there:1")]) == []


def reading(entity: str, key: bytes | None, partition: int, **fields: Any) -> Record:
    return Record("observations", partition, 0, 0, key, orjson.dumps({"entity": entity, "time": 1, "t": 1.5, **fields}))


def placed(entity: str, partitioner: Partitioner = "murmur2", partitions: int = 4) -> Record:
    return reading(entity, entity.encode(), partition_of(entity.encode(), partitions, partitioner))


SENSORS = [f"sensor-{n}" for n in range(20)]
KEYED = Settings(observations={"key": "entity"})


def keys_of(settings: Settings, records: Sequence[Record]) -> Finding:
    return only(judge_records(settings, "observations", records, 4, NOW))


def test_keys_that_keep_what_the_settings_say_are_ok() -> None:
    assert keys_of(KEYED, [placed(sensor) for sensor in SENSORS]).level == "ok"


@pytest.mark.parametrize(
    ("records", "found", "advice"),
    [
        ([reading(sensor, None, 0) for sensor in SENSORS], "no key", 'key = "any"'),
        ([reading(sensor, b"plant", partition_of(b"plant", 4)) for sensor in SENSORS], "not their entity", 'key = "any"'),
        ([placed(sensor, "crc32") for sensor in SENSORS], "placed by crc32", 'partitioner = "crc32"'),
        ([placed(sensor, partitions=3) for sensor in SENSORS], "not where murmur2 puts them", 'key = "any"'),
    ],
)
def test_keys_that_break_what_the_settings_say_would_be_dead_lettered(records: list[Record], found: str, advice: str) -> None:
    finding = keys_of(KEYED, records)
    assert finding.level == "fail"
    assert found in finding.text
    assert advice in finding.advice


def test_rekeying_that_could_be_saved_is_mentioned() -> None:
    assert "would save that" in keys_of(Settings(), [placed(sensor) for sensor in SENSORS]).advice
    assert keys_of(Settings(), [reading(sensor, None, 0) for sensor in SENSORS]).advice == ""


def test_records_that_cannot_be_read_are_counted_by_reason() -> None:
    good = [placed(sensor) for sensor in SENSORS]
    bad = [Record("observations", 0, 0, 0, b"a", b"{"), Record("observations", 0, 0, 0, b"a", b'{"entity":"a","time":"x"}')]
    found = {finding.code: finding for finding in judge_records(KEYED, "observations", good + bad, 4, NOW)}
    assert found["unreadable"].level == "warn"
    assert "2 of 22" in found["unreadable"].text
    assert "1 not-json" in found["unreadable"].text
    (all_bad,) = (f for f in judge_records(KEYED, "observations", bad, 4, NOW) if f.code == "unreadable")
    assert all_bad.level == "fail"


def test_an_input_without_records_is_no_fault() -> None:
    assert keys_of(KEYED, []).level == "ok"


# --- capacity


def by_subject(settings: Settings, **seen: float) -> dict[str, Finding]:
    return {finding.subject: finding for finding in judge_capacity(settings, Traffic(**seen))}


@pytest.mark.parametrize(
    ("rate", "backlog", "level"), [(0.5, "conflate", "ok"), (0.9, "all", "warn"), (3.0, "conflate", "warn"), (3.0, "all", "fail")]
)
def test_the_rate_is_held_against_what_the_model_serves(rate: float, backlog: str, level: str) -> None:
    settings = Settings(backlog=backlog, rewrite={"policy": "never"})
    assert by_subject(settings, rate=rate, prediction_seconds=1.0)["throughput"].level == level


def test_rewrites_cost_their_share_and_slots_multiply() -> None:
    seen = {"rate": 0.5, "prediction_seconds": 1.0, "rewrite_seconds": 8.0}
    assert "serves 0.111/s" in by_subject(Settings(rewrite={"policy": "every"}), **seen)["throughput"].text
    assert "serves 0.5/s" in by_subject(Settings(), **seen)["throughput"].text
    assert "serves 2/s" in by_subject(Settings(model={"slots": 4}), **seen)["throughput"].text


def test_without_traffic_nothing_is_claimed() -> None:
    assert by_subject(Settings()).keys() == {"throughput"}
    assert by_subject(Settings())["throughput"].level == "ok"


@pytest.mark.parametrize(("interval", "level"), [(60.0, "ok"), (25.0, "ok"), (15.0, "warn"), (10.0, "fail")])
def test_predictions_that_wait_for_their_truth_are_held_against_their_bound(interval: float, level: str) -> None:
    settings = Settings(target={"horizon": "1h"})
    finding = by_subject(settings, interval=interval)["bounds.pending"]
    assert finding.level == level
    assert (finding.advice == "") == (level == "ok")


def test_truths_later_than_the_horizon_make_predictions_wait_longer() -> None:
    finding = by_subject(Settings(), interval=60.0, truth_delay=86_400.0)["bounds.pending"]
    assert finding.level == "fail"
    assert "about 1440 predictions wait" in finding.text
    assert "2161" in finding.advice


# --- the model


class FakeModel:
    """Answers at once, or fails as told."""

    def __init__(self, error: ModelError | None = None) -> None:
        self._error = error
        self.limits: list[CallLimits] = []

    async def complete(
        self, messages: Sequence[ChatMessage], *, schema: Mapping[str, Any] | None, limits: CallLimits, purpose: Purpose
    ) -> Reply:
        self.limits.append(limits)
        return Reply("yes", "stop", seconds=0.5, load_seconds=2.0)

    async def identify(self) -> ModelIdentity:
        if self._error is not None:
            raise self._error
        return ModelIdentity("fake:1b", "abcdef0123456789", "scripted")

    def count_tokens(self, text: str) -> int | None:
        return None

    async def close(self) -> None: ...


IMPORTED = Settings(model={"backend": "import", "factory": "nowhere:nothing", "name": "fake:1b"})


async def asked(model: FakeModel) -> list[Finding]:
    return [finding async for finding in doctor.examine_model(IMPORTED, model)]


async def test_the_model_is_asked_for_one_word_within_the_settings_window() -> None:
    model = FakeModel()
    finding = only(await asked(model))
    assert finding.level == "ok"
    assert "fake:1b (abcdef012345, scripted) answers in 0.5 s, 2.0 s of it to load" in finding.text
    assert [limits.context_tokens for limits in model.limits] == [IMPORTED.model.context_budget]


@pytest.mark.parametrize(
    ("error", "code", "advice"),
    [
        (ModelMissing("no such model"), "missing", "`palimpsest models pull fake:1b`"),
        (ModelUnreachable("refused"), "unreachable", "services up"),
        (ModelRefused("has no chat template"), "refused", "naive forecasters"),
    ],
)
async def test_a_model_that_does_not_answer_is_a_fault_with_what_to_do(error: ModelError, code: str, advice: str) -> None:
    finding = only(await asked(FakeModel(error)))
    assert (finding.level, finding.code) == ("fail", code)
    assert str(error) in finding.text
    assert advice in finding.advice


@pytest.mark.parametrize(
    ("trained", "loaded", "level"), [(32_768, 4096, "ok"), (None, None, "ok"), (2048, 4096, "fail"), (32_768, 2048, "fail")]
)
def test_the_budget_is_held_against_the_models_window(trained: int | None, loaded: int | None, level: str) -> None:
    assert only(judge_context(4096, trained, loaded)).level == level


@pytest.mark.parametrize(
    ("model", "workers", "offered", "level"),
    [
        ({}, 0, None, "ok"),
        ({}, 1, None, "ok"),
        ({}, 3, None, "warn"),
        ({"slots": 4}, 1, None, "ok"),
        ({"backend": "openai", "slots": 4}, 2, 8, "ok"),
        ({"backend": "openai", "slots": 4}, 3, 8, "warn"),
        ({"backend": "openai", "slots": 64}, 3, None, "ok"),
    ],
)
def test_workers_that_together_ask_a_host_for_more_than_it_computes_are_warned_of(
    model: dict[str, Any], workers: int, offered: int | None, level: str
) -> None:
    finding = doctor.judge_slots(ModelSettings(**model), workers, offered)
    assert (finding.level, finding.code) == (level, "slots")
    assert str(max(1, workers) * ModelSettings(**model).slots) in finding.text
    assert bool(finding.advice) or level == "ok"


def test_hosts_that_have_different_models_under_one_name_are_a_fault() -> None:
    assert doctor.judge_digests({}) is None
    assert doctor.judge_digests({"http://a": "abc", "http://b": "abc"}) is None
    finding = doctor.judge_digests({"http://a": "abc", "http://b": "def"})
    assert finding is not None
    assert (finding.level, finding.subject) == ("fail", "model.hosts")
    assert "def at http://b" in finding.text


async def test_each_of_several_hosts_is_looked_at_by_itself() -> None:
    async def models(request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "tiny", "owned_by": "llamacpp"}]})

    async def chat(request: web.Request) -> web.Response:
        return web.json_response({"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]})

    application = web.Application()
    application.router.add_get("/v1/models", models)
    application.router.add_post("/v1/chat/completions", chat)
    async with TestServer(application) as server:
        hosts = (str(server.make_url("")), "http://127.0.0.1:1")
        settings = Settings(model={"backend": "openai", "name": "tiny", "hosts": hosts, "retry_share": 0.0})
        findings = [finding async for finding in doctor._look_at_model(settings)]
    assert [(finding.subject, finding.level) for finding in findings] == [(f"model at {hosts[0]}", "ok"), (f"model at {hosts[1]}", "fail")]


async def test_a_llama_server_tells_how_much_it_computes_at_once_and_others_do_not() -> None:
    async def props(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer k"
        return web.json_response({"total_slots": 2})

    application = web.Application()
    application.router.add_get("/props", props)
    async with TestServer(application) as server:
        told = ModelSettings(backend="openai", host=str(server.make_url("")), api_key="k")
        assert await doctor._slots_offered(told) == 2
        assert await doctor._slots_offered(told.model_copy(update={"host": str(server.make_url("/vllm"))})) is None
    assert await doctor._slots_offered(ModelSettings()) is None


def test_hosts_multiply_what_the_model_serves() -> None:
    hosts = {"hosts": ("http://a:1", "http://b:1", "http://c:1")}
    one, three = (judge_capacity(Settings(model=model), Traffic(rate=1.0, prediction_seconds=2.0))[0] for model in ({}, hosts))
    assert (one.level, three.level) == ("warn", "ok")


# --- the whole round


async def codes(settings: Settings) -> dict[str, str]:
    return {finding.code: finding.level async for finding in doctor.examine(settings)}


async def test_without_kafka_the_rest_is_still_looked_at() -> None:
    settings = IMPORTED.model_copy(update={"kafka": IMPORTED.kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})})
    levels = {finding.subject: finding.level async for finding in doctor.examine(settings)}
    assert levels == {"settings": "ok", "deadlines": "ok", "worker.state_dir": "ok", "kafka": "fail", "model": "fail"}


@pytest.mark.integration
async def test_a_sound_installation_gets_a_clean_bill_but_for_its_model(own_settings: Settings) -> None:
    settings = own_settings.model_copy(update={"observations": KEYED.observations, "model": IMPORTED.model})
    await topics.create(settings)
    async with producer(settings.kafka) as client:
        for sensor in SENSORS:
            await client.send_and_wait(settings.topics.observations, placed(sensor).value, key=sensor.encode())
    findings = [finding async for finding in doctor.examine(settings)]
    assert [finding.subject for finding in findings if finding.level == "fail"] == ["model"]
    assert not [finding for finding in findings if finding.level == "warn"]
    assert {"version", "limits", "topic", "keys", "throughput"} <= {finding.code for finding in findings}


@pytest.mark.integration
async def test_the_round_on_a_real_model_tells_its_window(own_settings: Settings, ollama: str) -> None:
    model = own_settings.model.model_copy(update={"host": ollama, "name": "smollm2:135m", "context_budget": 1024})
    findings = [finding async for finding in doctor._look_at_model(own_settings.model_copy(update={"model": model}))]
    assert [(finding.code, finding.level) for finding in findings] == [("answers", "ok"), ("context", "ok")]
    assert "1024 loaded, 8192 trained" in findings[1].text
