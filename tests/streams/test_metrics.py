"""The series, read as a scrape would read them."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from agents.budget import ChatSize
from agents.errors import ModelAway, ModelOverloaded, ModelTimeout
from agents.models.factory import build_model
from agents.models.gate import Account, HostAccount
from agents.models.protocol import Reply
from schemas.mapping import REASONS
from schemas.messages import Answer, Interval, MemoryRevision, ModelCall, Outcome, Prediction, Rejection
from schemas.settings import MetricSettings, ModelSettings, Settings, TargetSettings
from schemas.state import EntityState
from streams.metrics import COUNTS, Metrics

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)


class Step(NamedTuple):
    """The shape of `agents.forecaster.Step`."""

    state: EntityState
    events: tuple[object, ...] = ()
    counts: Mapping[str, int] = {}


def _settings(**target: object) -> Settings:
    return Settings(
        target=TargetSettings.model_validate(target),
        metrics=MetricSettings(entities=("seattle",)),
        model=ModelSettings(name="tiny", backend="ollama"),
    )


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry(), _settings())


def _step(metrics: Metrics, *events: object, now: datetime = NOW, **counts: int) -> None:
    metrics.step(Step(EntityState(entity="seattle"), events, counts), now)


def _value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def _prediction(entity: str = "seattle", **fields: object) -> Prediction:
    given = {
        "entity": entity, "id": "o1", "kind": "number", "time": NOW - timedelta(seconds=30), "made_at": NOW,
        "forecast": Answer(value=12.0), "interval": Interval(level=0.8, low=9.0, high=15.0), "source": "model", "memory_revision": 0,
    }  # fmt: skip
    return Prediction.model_validate(given | fields)


def _outcome(entity: str = "seattle", **fields: object) -> Outcome:
    given = {
        "entity": entity, "prediction_id": "o1", "kind": "number", "time": NOW, "truth": 14.0, "forecast": Answer(value=12.0),
        "source": "model", "result": "matched", "errors": {"published": 2.0, "model": -3.0, "persistence": 0.5},
        "interval": Interval(level=0.8, low=9.0, high=15.0), "verification_latency": 86_400.0, "resolved_at": NOW,
    }  # fmt: skip
    return Outcome.model_validate(given | fields)


def _samples(metrics: Metrics) -> Iterable[tuple[str, Mapping[str, str], float]]:
    for family in metrics.registry.collect():
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def test_rates_start_at_zero_because_known_label_values_exist_beforehand(metrics: Metrics) -> None:
    for reason in REASONS:
        assert _value(metrics, "palimpsest_dead_lettered_total", reason=reason) == 0
    for outcome in COUNTS["truth"]:
        assert _value(metrics, "palimpsest_truths_total", outcome=outcome) == 0
    assert _value(metrics, "palimpsest_model_calls_total", purpose="rewrite", outcome="timeout") == 0
    assert _value(metrics, "palimpsest_predictions_total", source="fallback") == 0
    assert _value(metrics, "palimpsest_fallback_predictions_total", error="invalid") == 0


def test_every_series_has_the_prefix_or_a_conventional_name_and_its_help(metrics: Metrics) -> None:
    for family in metrics.registry.collect():
        assert family.name.startswith(("palimpsest_", "gen_ai_client_", "process_", "python_")), family.name
        assert family.documentation, family.name


def test_no_entity_becomes_a_label_unless_it_is_named_in_the_settings(metrics: Metrics) -> None:
    _step(metrics, _prediction("elsewhere"), _outcome("elsewhere"), _prediction("seattle"), _outcome("seattle"))
    entities = {labels["entity"] for _, labels, _ in _samples(metrics) if "entity" in labels}
    assert entities == {"seattle"}
    assert "elsewhere" not in {value for _, labels, _ in _samples(metrics) for value in labels.values()}


def test_the_exposition_can_be_parsed_in_both_formats(metrics: Metrics) -> None:
    _step(metrics, _prediction(), _outcome(verification_latency=-5.0))
    assert list(text_string_to_metric_families(generate_latest(metrics.registry).decode()))
    openmetrics = generate_openmetrics(metrics.registry).decode()
    # prometheus_client writes the count of a histogram with negative buckets, and its own strict parser wants a sum beside it.
    without = re.sub(r"(?m)^palimpsest_verification_latency_seconds_count .*\n", "", openmetrics)
    assert list(parse_openmetrics(without))


def test_records_are_counted_by_input_and_outcome(metrics: Metrics) -> None:
    metrics.consumed("observations", 3, 1_690_000_000_123)
    metrics.processed("observations", "applied", seconds=2.0)
    metrics.processed("truths", "retention-lost", count=7)
    metrics.dead_lettered("not-json")
    assert _value(metrics, "palimpsest_consumed_total", input="observations", partition="3") == 1
    assert _value(metrics, "palimpsest_consumed_timestamp_seconds", input="observations", partition="3") == 1_690_000_000.123
    assert _value(metrics, "palimpsest_processed_total", input="observations", outcome="applied") == 1
    assert _value(metrics, "palimpsest_processing_seconds_sum", input="observations") == 2.0
    assert _value(metrics, "palimpsest_processed_total", input="truths", outcome="retention-lost") == 7
    assert _value(metrics, "palimpsest_dead_lettered_total", reason="not-json") == 1


def test_a_step_s_counts_become_series_by_family(metrics: Metrics) -> None:
    _step(metrics, **{f"{family}.{value}": 2 for family, values in COUNTS.items() for value in values})
    assert _value(metrics, "palimpsest_observations_total", outcome="conflated") == 2
    assert _value(metrics, "palimpsest_truths_total", outcome="early") == 2
    assert _value(metrics, "palimpsest_rewrites_total", outcome="conflict") == 2
    assert _value(metrics, "palimpsest_dropped_total", list="pending") == 2
    assert _value(metrics, "palimpsest_commands_total", outcome="refused") == 2


def test_a_count_without_a_series_is_said_once_and_stops_nothing(metrics: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        _step(metrics, **{"weather.fine": 1, "truth.matched": 1})
        _step(metrics, **{"weather.fine": 1})
    assert [record.getMessage() for record in caplog.records if "weather.fine" in record.getMessage()] == [
        "a step counted 'weather.fine', for which there is no series; a defect, please report it"
    ]
    assert _value(metrics, "palimpsest_truths_total", outcome="matched") == 1


def test_predictions_are_counted_by_source_and_fallbacks_by_what_went_wrong(metrics: Metrics) -> None:
    failed = ModelCall(name="tiny", error="timeout")
    _step(metrics, _prediction(), _prediction(source="fallback", model=failed))
    assert _value(metrics, "palimpsest_predictions_total", source="model") == 1
    assert _value(metrics, "palimpsest_predictions_total", source="fallback") == 1
    assert _value(metrics, "palimpsest_fallback_predictions_total", error="timeout") == 1


def test_freshness_is_the_newest_event_time_and_each_prediction_s_delay(metrics: Metrics) -> None:
    newest = "palimpsest_newest_prediction_event_timestamp_seconds"
    unknown = _value(metrics, newest)
    assert unknown is not None and math.isnan(unknown)
    _step(metrics, _prediction(time=NOW - timedelta(seconds=30)), _prediction(time=NOW - timedelta(hours=2)))
    assert _value(metrics, newest) == (NOW - timedelta(seconds=30)).timestamp()
    assert _value(metrics, "palimpsest_prediction_event_delay_seconds_sum") == 30 + 7200


def test_an_event_from_the_near_future_has_no_delay(metrics: Metrics) -> None:
    _step(metrics, _prediction(time=NOW + timedelta(minutes=1)))
    assert _value(metrics, "palimpsest_prediction_event_delay_seconds_bucket", le="0.0") == 1


def test_errors_of_numbers_are_summed_by_arm_without_their_sign(metrics: Metrics) -> None:
    _step(metrics, _outcome(), _outcome(errors={"published": -1.0, "drift": 4.0}))
    assert _value(metrics, "palimpsest_prediction_absolute_error_sum", arm="published") == 3.0
    assert _value(metrics, "palimpsest_prediction_absolute_error_count", arm="published") == 2
    assert _value(metrics, "palimpsest_prediction_absolute_error_sum", arm="model") == 3.0
    assert _value(metrics, "palimpsest_prediction_absolute_error_sum", arm="drift") == 4.0
    assert _value(metrics, "palimpsest_prediction_scored_total", arm="published") == 0


def test_numbers_are_right_or_wrong_only_where_the_settings_say_what_right_is() -> None:
    metrics = Metrics(CollectorRegistry(), _settings(hit_within=2.0))
    _step(metrics, _outcome())
    assert _value(metrics, "palimpsest_prediction_scored_total", arm="model") == 1
    assert _value(metrics, "palimpsest_prediction_hits_total", arm="model") == 0
    assert _value(metrics, "palimpsest_prediction_hits_total", arm="published") == 1


def test_labels_are_right_or_wrong_by_arm() -> None:
    metrics = Metrics(CollectorRegistry(), _settings(kind="category", labels=("rain", "sun")))
    labels = {"kind": "category", "forecast": Answer(value="rain"), "interval": Interval(level=0.8, labels=("rain",))}
    _step(metrics, _outcome(**labels, truth="rain", errors={"published": 0.0, "model": 1.0}))
    assert _value(metrics, "palimpsest_prediction_hits_total", arm="published") == 1
    assert _value(metrics, "palimpsest_prediction_hits_total", arm="model") == 0
    assert _value(metrics, "palimpsest_prediction_scored_total", arm="model") == 1
    assert _value(metrics, "palimpsest_prediction_absolute_error_count", arm="published") == 0
    assert _value(metrics, "palimpsest_interval_covered_total") == 1
    assert _value(metrics, "palimpsest_entity_error", entity="seattle") == 0.0
    assert _value(metrics, "palimpsest_entity_truth", entity="seattle") is None


@pytest.mark.parametrize(
    "fields",
    [{"result": "corrected"}, {"flags": ("hindsight",)}, {"result": "missing", "truth": None}, {"result": "judged", "truth": None}],
)
def test_only_first_truths_without_hindsight_are_scored(metrics: Metrics, fields: dict[str, object]) -> None:
    _step(metrics, _outcome(**fields))
    assert _value(metrics, "palimpsest_prediction_absolute_error_count", arm="published") == 0
    assert _value(metrics, "palimpsest_interval_scored_total") == 0


def test_a_judge_s_verdicts_stand_apart_from_scores_against_truth(metrics: Metrics) -> None:
    _step(metrics, _outcome(result="judged", truth=None, verdict=0.75))
    assert _value(metrics, "palimpsest_judge_verdict_ratio_sum") == 0.75
    assert _value(metrics, "palimpsest_judge_verdict_ratio_count") == 1


@pytest.mark.parametrize(("truth", "covered"), [(9.0, 1), (15.0, 1), (8.9, 0), (15.1, 0)])
def test_intervals_are_held_against_the_truth(metrics: Metrics, truth: float, covered: int) -> None:
    _step(metrics, _outcome(truth=truth))
    assert _value(metrics, "palimpsest_interval_scored_total") == 1
    assert _value(metrics, "palimpsest_interval_covered_total") == covered


def test_a_truth_before_its_observation_has_a_negative_verification_latency(metrics: Metrics) -> None:
    _step(metrics, _outcome(verification_latency=-30.0), _outcome(verification_latency=0.0))
    assert _value(metrics, "palimpsest_verification_latency_seconds_bucket", le="-60.0") == 0
    assert _value(metrics, "palimpsest_verification_latency_seconds_bucket", le="0.0") == 2


def test_revisions_are_counted_by_cause_and_only_accepted_ones_have_words(metrics: Metrics) -> None:
    accepted = MemoryRevision(entity="seattle", revision=1, cause="feedback", accepted=True, words=110, made_at=NOW)
    rejection = Rejection(guard="echo", statement="...")
    refused = MemoryRevision(
        entity="seattle", revision=1, cause="feedback", accepted=False, words=900, rejected=(rejection,), made_at=NOW
    )  # fmt: skip
    _step(metrics, accepted, refused)
    assert _value(metrics, "palimpsest_memory_revisions_total", cause="feedback", outcome="accepted") == 1
    assert _value(metrics, "palimpsest_memory_revisions_total", cause="feedback", outcome="refused") == 1
    assert _value(metrics, "palimpsest_memory_revisions_total", cause="rollback", outcome="accepted") == 0
    assert _value(metrics, "palimpsest_memory_statements_refused_total", guard="echo") == 1
    assert _value(metrics, "palimpsest_memory_words_count") == 1
    assert _value(metrics, "palimpsest_memory_words_sum") == 110


def test_a_named_entity_shows_its_newest_forecast_and_each_truth_beside_the_forecast_it_belongs_to(metrics: Metrics) -> None:
    _step(metrics, _outcome(), _prediction(forecast=Answer(value=20.0), interval=Interval(level=0.8, low=18.0, high=22.0)))
    shown = {name: value for name, labels, value in _samples(metrics) if labels.get("entity") == "seattle"}
    assert shown == {
        "palimpsest_entity_forecast": 20.0,
        "palimpsest_entity_forecast_low": 18.0,
        "palimpsest_entity_forecast_high": 22.0,
        "palimpsest_entity_truth": 14.0,
        "palimpsest_entity_matched_forecast": 12.0,
        "palimpsest_entity_matched_forecast_low": 9.0,
        "palimpsest_entity_matched_forecast_high": 15.0,
        "palimpsest_entity_error": 2.0,
        "palimpsest_entity_model_error": -3.0,
    }


def test_what_is_not_known_of_a_named_entity_is_not_drawn(metrics: Metrics) -> None:
    _step(metrics, _prediction(interval=None), _outcome(errors={"published": 1.0}, interval=None))
    for name in ("forecast_low", "forecast_high", "matched_forecast_low", "matched_forecast_high", "model_error"):
        value = _value(metrics, f"palimpsest_entity_{name}", entity="seattle")
        assert value is not None and math.isnan(value), name


def test_a_model_call_is_recorded_under_opentelemetry_s_names(metrics: Metrics) -> None:
    reply = Reply(
        "x", "stop", prompt_tokens=700, cached_tokens=600, output_tokens=40, seconds=2.0,
        load_seconds=0.25, prompt_seconds=0.5, generate_seconds=1.0,
    )  # fmt: skip
    metrics.model_call("predict", reply, ChatSize(characters=2000, tokens=800, answer_tokens=100))
    common = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "ollama", "gen_ai_request_model": "tiny"}
    assert _value(metrics, "gen_ai_client_operation_duration_seconds_sum", **common, error_type="") == 2.0
    assert _value(metrics, "gen_ai_client_token_usage_sum", **common, gen_ai_token_type="input") == 700
    assert _value(metrics, "gen_ai_client_token_usage_sum", **common, gen_ai_token_type="output") == 40
    assert _value(metrics, "palimpsest_model_calls_total", purpose="predict", outcome="stop") == 1
    assert _value(metrics, "palimpsest_model_counted_tokens_sum", purpose="predict") == 900
    assert _value(metrics, "palimpsest_model_cached_tokens_total", purpose="predict") == 600
    assert _value(metrics, "palimpsest_model_seconds_total", phase="queue") == 0.25
    assert _value(metrics, "palimpsest_model_seconds_total", phase="generate") == 1.0


def test_a_server_that_gives_no_account_of_its_time_has_no_queue(metrics: Metrics) -> None:
    metrics.model_call("predict", Reply("x", "length", seconds=2.0))
    assert _value(metrics, "palimpsest_model_seconds_total", phase="queue") == 0
    assert _value(metrics, "palimpsest_model_calls_total", purpose="predict", outcome="length") == 1


def test_a_failed_model_call_is_recorded_by_its_error(metrics: Metrics) -> None:
    metrics.model_call("rewrite", ModelTimeout("no answer within 60 s"), seconds=60.0)
    metrics.model_call("rewrite", ModelTimeout("no answer within 60 s"))
    common = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "ollama", "gen_ai_request_model": "tiny"}
    assert _value(metrics, "gen_ai_client_operation_duration_seconds_sum", **common, error_type="timeout") == 60.0
    assert _value(metrics, "palimpsest_model_calls_total", purpose="rewrite", outcome="timeout") == 2
    assert _value(metrics, "gen_ai_client_token_usage_count", **common, gen_ai_token_type="input") == 0


def test_lag_is_told_in_records_and_in_seconds(metrics: Metrics) -> None:
    at = {"input": "observations", "partition": "0"}
    metrics.position("observations", 0, position=90, committed=80, end=100, newest_ms=61_000, done_ms=1_000)
    assert _value(metrics, "palimpsest_lag_records", **at) == 20
    assert _value(metrics, "palimpsest_lag_seconds", **at) == 60
    assert _value(metrics, "palimpsest_position_offset", **at) == 90
    assert _value(metrics, "palimpsest_committed_offset", **at) == 80
    assert _value(metrics, "palimpsest_end_offset", **at) == 100


def test_an_idle_partition_that_is_all_done_has_no_lag(metrics: Metrics) -> None:
    metrics.position("observations", 0, position=100, committed=100, end=100, newest_ms=61_000, done_ms=1_000)
    assert _value(metrics, "palimpsest_lag_records", input="observations", partition="0") == 0
    assert _value(metrics, "palimpsest_lag_seconds", input="observations", partition="0") == 0


def test_an_unknown_position_is_not_taken_for_no_lag(metrics: Metrics) -> None:
    metrics.position("observations", 0, position=-1, committed=-1, end=100, newest_ms=-1, done_ms=-1)
    for name in ("lag_records", "lag_seconds", "position_offset", "committed_offset"):
        value = _value(metrics, f"palimpsest_{name}", input="observations", partition="0")
        assert value is not None and math.isnan(value), name


def test_a_partition_that_another_worker_owns_now_is_no_longer_exported(metrics: Metrics) -> None:
    for partition in (0, 1):
        metrics.consumed("observations", partition, 1_000)
        metrics.position("truths", partition, position=1, committed=1, end=1, newest_ms=1, done_ms=1)
        metrics.recovery_progress(partition, 5, 10)
        metrics.entities(partition, 3)
    metrics.forget_partitions({("observations", 1), ("truths", 1)})
    assert {labels["partition"] for _, labels, _ in _samples(metrics) if "partition" in labels} == {"1"}
    assert _value(metrics, "palimpsest_entities", partition="1") == 3
    assert _value(metrics, "palimpsest_recovery_goal_records", partition="1") == 10


def test_named_entities_are_shown_on_until_partitions_are_lost(metrics: Metrics) -> None:
    metrics.consumed("observations", 0, 1_000)
    _step(metrics, _outcome())
    metrics.forget_partitions({("observations", 0), ("observations", 1)})
    assert _value(metrics, "palimpsest_entity_truth", entity="seattle") == 14.0
    metrics.forget_partitions({("observations", 1)})
    value = _value(metrics, "palimpsest_entity_truth", entity="seattle")
    assert value is not None and math.isnan(value)


def test_in_flight_work_is_told_with_the_start_of_the_oldest(metrics: Metrics) -> None:
    metrics.in_flight(4, 1_700_000_000.5)
    metrics.lanes(3)
    assert _value(metrics, "palimpsest_in_flight") == 4
    assert _value(metrics, "palimpsest_oldest_in_flight_start_timestamp_seconds") == 1_700_000_000.5
    assert _value(metrics, "palimpsest_lanes") == 3
    metrics.in_flight(0, None)
    idle = _value(metrics, "palimpsest_oldest_in_flight_start_timestamp_seconds")
    assert idle is not None and math.isnan(idle)


def test_transactions_rebalances_and_recoveries_are_timed(metrics: Metrics) -> None:
    metrics.transaction(12, 0.02)
    metrics.rebalance(3.0)
    metrics.recovered(9.0)
    metrics.loop_delay(0.004)
    assert _value(metrics, "palimpsest_transaction_writes_sum") == 12
    assert _value(metrics, "palimpsest_transaction_seconds_count") == 1
    assert _value(metrics, "palimpsest_rebalance_seconds_sum") == 3.0
    assert _value(metrics, "palimpsest_recovery_seconds_sum") == 9.0
    assert _value(metrics, "palimpsest_event_loop_delay_seconds_sum") == 0.004


def test_restarts_are_set_to_what_the_supervisor_has_counted(metrics: Metrics) -> None:
    metrics.restarts(2)
    metrics.restarts(2)
    assert _value(metrics, "palimpsest_restarts_total") == 2


def test_a_changed_model_replaces_the_one_before(metrics: Metrics) -> None:
    metrics.model_info("tiny", "aa", "ollama 0.11.4")
    metrics.model_info("tiny", "bb", "ollama 0.11.4")
    metrics.build_info("0.1.0", "0.15.3", "0.14.0", "3.11.7")
    assert [labels["digest"] for name, labels, _ in _samples(metrics) if name == "palimpsest_model_info"] == ["bb"]
    assert _value(metrics, "palimpsest_build_info", version="0.1.0", faust="0.15.3", aiokafka="0.14.0", python="3.11.7") == 1


def test_what_stands_in_front_of_the_model_is_brought_to_its_totals(metrics: Metrics) -> None:
    place = "http://127.0.0.1:11434"
    assert _value(metrics, "palimpsest_model_slots", host=place) == 1
    assert _value(metrics, "palimpsest_model_busy_seconds_total", host=place, kind="rewrite") == 0
    first = HostAccount(place, "open", 1, 3, 2, 10.0, 4.0, 1)
    metrics.model_account(Account((first,), retries=2, retries_denied=1))
    metrics.model_account(Account((replace(first, breaker="half-open", prediction_seconds=12.5, waiting_rewrites=0),), 5, 1))
    assert _value(metrics, "palimpsest_model_busy_seconds_total", host=place, kind="prediction") == 12.5
    assert _value(metrics, "palimpsest_model_busy_seconds_total", host=place, kind="rewrite") == 4.0
    assert _value(metrics, "palimpsest_model_waiting", host=place, kind="prediction") == 3
    assert _value(metrics, "palimpsest_model_waiting", host=place, kind="rewrite") == 0
    assert _value(metrics, "palimpsest_model_breaker_state", host=place) == 1
    assert _value(metrics, "palimpsest_model_rewrites_cut_total", host=place) == 1
    assert _value(metrics, "palimpsest_model_retries_total", outcome="made") == 5
    assert _value(metrics, "palimpsest_model_retries_total", outcome="denied") == 1


def test_tokens_and_waits_are_told_apart_by_purpose(metrics: Metrics) -> None:
    metrics.model_call("predict", Reply("", "stop", prompt_tokens=900, cached_tokens=800, output_tokens=9, seconds=1.0, waited_seconds=2.5))
    metrics.model_call("rewrite", Reply("", "stop", output_tokens=90, seconds=9.0))
    assert _value(metrics, "palimpsest_model_input_tokens_total", purpose="predict") == 900
    assert _value(metrics, "palimpsest_model_cached_tokens_total", purpose="predict") == 800
    assert _value(metrics, "palimpsest_model_output_tokens_total", purpose="rewrite") == 90
    assert _value(metrics, "palimpsest_model_wait_seconds_sum", purpose="predict") == 2.5


def test_a_remembered_answer_is_counted_apart_and_as_nothing_else(metrics: Metrics) -> None:
    metrics.model_call("predict", Reply("", "stop", prompt_tokens=900, output_tokens=9, remembered=True), ChatSize(2000, 900, 9))
    assert _value(metrics, "palimpsest_model_remembered_total", purpose="predict") == 1
    assert _value(metrics, "palimpsest_model_calls_total", purpose="predict", outcome="stop") == 0
    assert _value(metrics, "palimpsest_model_input_tokens_total", purpose="predict") == 0


def test_calls_that_were_not_made_have_outcomes_of_their_own(metrics: Metrics) -> None:
    metrics.model_call("rewrite", ModelOverloaded("full"))
    metrics.model_call("predict", ModelAway("down"))
    assert _value(metrics, "palimpsest_model_calls_total", purpose="rewrite", outcome="shed") == 1
    assert _value(metrics, "palimpsest_model_calls_total", purpose="predict", outcome="away") == 1


async def test_the_books_of_a_model_made_from_the_settings_bring_no_series_that_was_not_there(metrics: Metrics) -> None:
    model = build_model(metrics._settings.model)
    before = {(name, tuple(labels.items())) for name, labels, _ in _samples(metrics) if name.startswith("palimpsest_")}
    metrics.model_account(model.account())
    await model.close()
    assert {(name, tuple(labels.items())) for name, labels, _ in _samples(metrics) if name.startswith("palimpsest_")} == before
