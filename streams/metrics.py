"""What the worker tells Prometheus.

`Metrics` is the one place where series are named. It promises base units, `_total` on counters, and label values that are
known beforehand created beforehand, so that a rate starts at 0 instead of at the first failure. No entity's id and no observed
text becomes a label, except the entities listed in `metrics.entities`. It is told what happened and measures nothing itself;
serving the registry is `streams.http`'s.

Model calls use the names of OpenTelemetry's semantic conventions for generative AI (`gen_ai.client.*`) in their Prometheus form.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    Summary,
    disable_created_metrics,
)

from agents.budget import ChatSize
from agents.errors import AnswerInvalid, ModelError, PromptTooLong
from agents.models.breaker import BreakerState
from agents.models.protocol import Purpose, Reply
from schemas.mapping import REASONS
from schemas.messages import Interval, MemoryRevision, Outcome, Prediction, Value
from schemas.settings import Settings
from streams.entity_gauges import NOT_KNOWN, EntityGauges

if TYPE_CHECKING:
    from agents.forecaster import Step
    from agents.models.gate import Account

_log = logging.getLogger(__name__)

# A `_created` sample beside every counter and histogram doubles what is scraped and is read by nobody here.
disable_created_metrics()  # type: ignore[no-untyped-call]

INPUTS: Final = ("observations", "truths", "commands")
PROCESSED: Final = ("applied", "duplicate", "dead-lettered", "tombstone", "retention-lost")
SOURCES: Final = ("model", "fallback")
PURPOSES: Final = ("predict", "rewrite", "judge", "repair")
#: What holds the model's slots.
KINDS: Final = ("prediction", "rewrite")
#: In the order of the numbers they are exported as.
BREAKER_STATES: Final[tuple[BreakerState, ...]] = ("closed", "half-open", "open")
CAUSES: Final = ("feedback", "command", "rollback", "rule-dropped", "forget")
#: Arms every configuration has; the other experts' appear with their first score.
ARMS: Final = ("published", "model", "persistence")

#: `agents.forecaster.Step.counts`, as series: the part before the dot names the counter, the part after it the label's value.
COUNTS: Final[Mapping[str, tuple[str, ...]]] = {
    "observation": ("predicted", "duplicate", "conflated", "truth-only", "renamed"),
    "truth": ("matched", "early", "duplicate", "corrected", "orphan", "missing", "judged", "late"),
    "rewrite": ("accepted", "rejected", "failed", "shed", "conflict", "rule-dropped", "taken-back"),
    "dropped": ("pending", "early", "resolved", "feedback", "revisions", "text", "entity"),
    "command": ("applied", "refused"),
}

#: OpenTelemetry's advice for `gen_ai.client.operation.duration` and `gen_ai.client.token.usage`.
_CALL_SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
_CALL_TOKENS: Final = (256, 512, 1024, 1536, 2048, 2560, 3072, 3584, 4096, 6144, 8192, 16384, 32768, 131072)
_WORK_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)
_SHORT_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LONG_SECONDS: Final = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
#: From a truth that came a day before its observation to one that came a month after it.
_VERIFICATION_SECONDS: Final = (
    -86_400, -3_600, -60, 0, 1, 10, 60, 600, 3_600, 21_600, 86_400, 172_800, 604_800, 2_592_000,
)  # fmt: skip
#: An event time may lie `max_future` ahead, hence the bucket for 0 and below.
_DELAY_SECONDS: Final = (0, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3_600, 21_600, 86_400, 604_800)
_WORDS: Final = (0, 25, 50, 75, 100, 125, 150, 175, 200, 250, 300, 500, 1000, 2000)
_WRITES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


def _slugs(error: type[ModelError]) -> Iterable[str]:
    yield error.slug
    for kind in error.__subclasses__():
        yield from _slugs(kind)


#: What a call of the model can fail with, and what can make an answer unusable besides.
CALL_ERRORS: Final = tuple(dict.fromkeys(_slugs(ModelError)))
ANSWER_ERRORS: Final = (*CALL_ERRORS, AnswerInvalid.slug, PromptTooLong.slug)


class Metrics:
    """The worker's series, on a registry of its own.

    Parameters
    ----------
    registry
        Where the series are registered; one `Metrics` to a registry.
    settings
        Names the model, the window, the target's kind and the entities that are exported by name.

    Notes
    -----
    A method called with what it does not know (another count, another reason) records it under that name or says so in the log;
    none raises, because a worker does not end for the sake of its metrics.
    """

    def __init__(self, registry: CollectorRegistry, settings: Settings) -> None:
        self.registry = registry
        self._settings = settings
        self._provider = settings.model.backend
        self._model = settings.model.name
        self._kept: set[tuple[str, int]] = set()
        self._tables: set[int] = set()
        self._unknown: set[str] = set()
        self._newest_event = -math.inf
        self._restarts_told = 0
        self._totals: dict[Counter, float] = {}
        self._pipeline_series()
        self._forecast_series()
        self._model_series()
        self._kafka_series()
        self._runtime_series()
        self._named = EntityGauges(registry, settings)

    # --- what the series are -------------------------------------------------------------------------------------------------

    def _pipeline_series(self) -> None:
        self._consumed = self._counter("consumed", "Records read from an input.", "input", "partition")
        self._consumed_at = self._gauge("consumed_timestamp_seconds", "Timestamp of the newest record read.", "input", "partition")
        self._processed = self._counter("processed", "Records finished, by what became of them.", "input", "outcome")
        self._processing = self._histogram(
            "processing_seconds", "From a record's read to the commit of its effects.", _WORK_SECONDS, "input"
        )
        self._dead_lettered = self._counter("dead_lettered", "Records that could not be used, by reason.", "reason")
        self._in_flight = self._gauge("in_flight", "Records being worked on.")
        self._window = self._gauge("window", "Records that may be worked on at once (worker.window).")
        self._oldest = self._gauge("oldest_in_flight_start_timestamp_seconds", "When work on the oldest unfinished record began.")
        self._lanes = self._gauge("lanes", "Entities with work going on or queued.")
        self._entities = self._gauge("entities", "Entities in the state, by partition.", "partition")
        self._window.set(self._settings.worker.window)
        self._oldest.set(NOT_KNOWN)
        for name in INPUTS:
            self._processing.labels(name)
            for outcome in PROCESSED:
                self._processed.labels(name, outcome)
        for reason in REASONS:
            self._dead_lettered.labels(reason)

    def _forecast_series(self) -> None:
        self._counts = {
            "observation": self._counter("observations", "Observations, by what became of them.", "outcome"),
            "truth": self._counter("truths", "Truths and their absence, by how they were joined.", "outcome"),
            "rewrite": self._counter("rewrites", "Rewrites of a memory, by outcome.", "outcome"),
            "dropped": self._counter("dropped", "What fell out of a bound: entries of lists, and entities idle for entity_ttl.", "list"),
            "command": self._counter("commands", "Commands, by outcome.", "outcome"),
        }
        for family, values in COUNTS.items():
            for value in values:
                self._counts[family].labels(value)
        self._predictions = self._counter("predictions", "Predictions published, by who answered.", "source")
        self._fallbacks = self._counter("fallback_predictions", "Predictions without the model's answer, by the error.", "error")
        for source in SOURCES:
            self._predictions.labels(source)
        for error in ANSWER_ERRORS:
            self._fallbacks.labels(error)
        self._event_delay = self._histogram(
            "prediction_event_delay_seconds", "From an observation's event time to its prediction.", _DELAY_SECONDS
        )
        self._newest_event_at = self._gauge("newest_prediction_event_timestamp_seconds", "Event time of the newest observation predicted.")
        self._newest_event_at.set(NOT_KNOWN)
        self._absolute_error = Summary(
            "prediction_absolute_error",
            "Absolute errors of numbers in the target's unit, by arm; first truths only, none in hindsight.",
            ("arm",), namespace="palimpsest", registry=self.registry,
        )  # fmt: skip
        self._scored = self._counter("prediction_scored", "Forecasts held against a truth as right or wrong, by arm.", "arm")
        self._hits = self._counter("prediction_hits", "Forecasts that were right, by arm.", "arm")
        for arm in ARMS:
            self._absolute_error.labels(arm)
            self._scored.labels(arm)
            self._hits.labels(arm)
        self._interval_scored = self._counter("interval_scored", "Prediction intervals and sets held against a truth.")
        self._interval_covered = self._counter("interval_covered", "Prediction intervals and sets that held the truth.")
        self._interval_level = self._gauge("interval_level_ratio", "The coverage that is aimed at (publish.level).")
        self._interval_level.set(self._settings.publish.level)
        self._verdicts = Summary(
            "judge_verdict_ratio", "Verdicts of the judge, 0 to 1; never mixed into scores against truth.",
            namespace="palimpsest", registry=self.registry,
        )  # fmt: skip
        self._verification = self._histogram(
            "verification_latency_seconds",
            "From an observation's arrival to its truth's; negative where the truth came first.",
            _VERIFICATION_SECONDS,
        )
        self._revisions = self._counter("memory_revisions", "Changes of memories, made and refused, by cause.", "cause", "outcome")
        for cause in CAUSES:
            self._revisions.labels(cause, "accepted")
            self._revisions.labels(cause, "refused")
        self._refused_statements = self._counter("memory_statements_refused", "Proposed statements a guard refused.", "guard")
        self._words = self._histogram("memory_words", "Words of a memory's new revision.", _WORDS)
        self._words_limit = self._gauge("memory_words_limit", "Words a memory may have (memory.words).")
        self._words_limit.set(self._settings.memory.words)

    def _model_series(self) -> None:
        self._calls = self._counter(
            "model_calls", "Calls of the model, by purpose and outcome; those shed or away were not made.", "purpose", "outcome"
        )
        self._remembered = self._counter("model_remembered", "Answers to equal questions, for which no call was made.", "purpose")
        self._waits = self._histogram("model_wait_seconds", "From a call's arrival until it was sent for good.", _WORK_SECONDS, "purpose")
        self._counted = self._histogram(
            "model_counted_tokens", "A call's prompt and answer limit, as counted before it, by purpose.", _CALL_TOKENS, "purpose"
        )
        self._budget = self._gauge("context_budget_tokens", "What a call's prompt and answer may come to (model.context_budget).")
        self._budget.set(self._settings.model.context_budget)
        self._input = self._counter("model_input_tokens", "Prompt tokens, cached ones included.", "purpose")
        self._cached = self._counter("model_cached_tokens", "Prompt tokens that came from the server's prefix cache.", "purpose")
        self._output = self._counter("model_output_tokens", "Tokens generated.", "purpose")
        self._phases = self._counter("model_seconds", "Time of answered calls: queue, load, prompt, generate.", "phase")
        for purpose in PURPOSES:
            for series in (self._remembered, self._waits, self._input, self._cached, self._output, self._counted):
                series.labels(purpose)
            for outcome in ("stop", "length", *CALL_ERRORS):
                self._calls.labels(purpose, outcome)
        for phase in ("queue", "load", "prompt", "generate"):
            self._phases.labels(phase)
        self._model_info = self._gauge("model_info", "The model that answers.", "name", "digest", "backend")
        common = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
        self._duration = Histogram(
            "gen_ai_client_operation_duration_seconds", "Duration of calls of the model (gen_ai.client.operation.duration).",
            (*common, "error_type"), buckets=_CALL_SECONDS, registry=self.registry,
        )  # fmt: skip
        self._tokens = Histogram(
            "gen_ai_client_token_usage", "Tokens of a call (gen_ai.client.token.usage).",
            (*common, "gen_ai_token_type"), buckets=_TOKENS, registry=self.registry,
        )  # fmt: skip
        for error in ("", *CALL_ERRORS):
            self._duration.labels("chat", self._provider, self._model, error)
        for kind in ("input", "output"):
            self._tokens.labels("chat", self._provider, self._model, kind)
        self._admission_series()
        self._prompt_alarms = self._counter(
            "prompt_alarms", "Prompts that the server seems to have cut, or that left no room for an answer."
        )

    def _admission_series(self) -> None:
        self._slots = self._gauge("model_slots", "Calls at once that a host gets from this worker (model.slots).", "host")
        self._busy = self._counter("model_busy_seconds", "Time that slots were held, by what held them.", "host", "kind")
        self._waiting = self._gauge("model_waiting", "Calls that wait for a slot.", "host", "kind")
        self._cut = self._counter("model_rewrites_cut", "Rewrites that were stopped for a prediction and made again.", "host")
        self._breaker = self._gauge("model_breaker_state", "Of a host: 0 closed, 1 half-open, 2 open (it is left alone).", "host")
        self._retries = self._counter("model_retries", "Calls made again after a failure, and those that the budget denied.", "outcome")
        for host in self._settings.model.places:
            self._slots.labels(host).set(self._settings.model.slots)
            self._breaker.labels(host)
            self._cut.labels(host)
            for kind in KINDS:
                self._busy.labels(host, kind)
                self._waiting.labels(host, kind)
        for outcome in ("made", "denied"):
            self._retries.labels(outcome)

    def _kafka_series(self) -> None:
        where = ("input", "partition")
        self._position = self._gauge("position_offset", "Next offset to be read.", *where)
        self._committed = self._gauge("committed_offset", "Offset up to which everything is done and committed.", *where)
        self._end = self._gauge("end_offset", "End of the partition.", *where)
        self._lag = self._gauge("lag_records", "Records not done: end less committed offset.", *where)
        self._lag_seconds = self._gauge(
            "lag_seconds", "Newest record's timestamp less that of the newest one done; 0 when all is done.", *where
        )
        self._transaction = self._histogram("transaction_seconds", "Duration of a Kafka transaction.", _SHORT_SECONDS)
        self._writes = self._histogram("transaction_writes", "Records written in one transaction.", _WRITES)
        self._rebalance = self._histogram("rebalance_seconds", "From a rebalance's start to its new assignment.", _LONG_SECONDS)

    def _runtime_series(self) -> None:
        self._recovery_done = self._gauge("recovery_done_records", "Changelog records read back so far.", "partition")
        self._recovery_goal = self._gauge("recovery_goal_records", "Changelog records to read back.", "partition")
        self._recovery = self._histogram("recovery_seconds", "Duration of restoring the state.", _LONG_SECONDS)
        self._loop_delay = self._histogram("event_loop_delay_seconds", "How much too late the event loop woke a timer.", _SHORT_SECONDS)
        self._restarts = self._counter("restarts", "Times that the supervisor has restarted this worker.")
        self._build_info = self._gauge("build_info", "Versions.", "version", "faust", "aiokafka", "python")
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, namespace="palimpsest", registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, namespace="palimpsest", registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, text, labels, namespace="palimpsest", registry=self.registry, buckets=buckets)

    # --- the pipeline --------------------------------------------------------------------------------------------------------

    def consumed(self, input: str, partition: int, timestamp_ms: int) -> None:  # noqa: A002
        """A record was read; `timestamp_ms` is Kafka's, since the epoch."""
        self._kept.add((input, partition))
        self._consumed.labels(input, partition).inc()
        self._consumed_at.labels(input, partition).set(timestamp_ms / 1000)

    def processed(self, input: str, outcome: str, *, seconds: float | None = None, count: int = 1) -> None:  # noqa: A002
        """Records are done, with all their effects committed; one record, `seconds` after it was read."""
        self._processed.labels(input, outcome).inc(count)
        if seconds is not None:
            self._processing.labels(input).observe(seconds)

    def dead_lettered(self, reason: str) -> None:
        """A record went to the dead letters; `reason` is one of `schemas.mapping.REASONS`."""
        self._dead_lettered.labels(reason).inc()

    def in_flight(self, count: int, oldest_start: float | None) -> None:
        """How many records are being worked on, and since when the oldest (seconds since the epoch; None: there is none)."""
        self._in_flight.set(count)
        self._oldest.set(NOT_KNOWN if oldest_start is None else oldest_start)

    def lanes(self, count: int) -> None:
        self._lanes.set(count)

    def entities(self, partition: int, count: int) -> None:
        """How many entities a partition's state holds."""
        self._tables.add(partition)
        self._entities.labels(partition).set(count)

    # --- the forecaster ------------------------------------------------------------------------------------------------------

    def step(self, step: Step, now: datetime) -> None:
        """What one step of the forecaster did; to be told once, after its commit. `now` is the clock the step was given."""
        for key, count in step.counts.items():
            self._count(key, count)
        for event in step.events:
            if isinstance(event, Prediction):
                self._predicted(event, now)
            elif isinstance(event, Outcome):
                self._resolved(event)
            elif isinstance(event, MemoryRevision):
                self._revised(event)

    def _count(self, key: str, count: int) -> None:
        family, _, value = key.partition(".")
        counter = self._counts.get(family)
        if counter is not None and value:
            counter.labels(value).inc(count)
        elif key not in self._unknown:
            self._unknown.add(key)
            _log.error("a step counted %r, for which there is no series; a defect, please report it", key)

    def _predicted(self, prediction: Prediction, now: datetime) -> None:
        self._predictions.labels(prediction.source).inc()
        if prediction.source == "fallback" and prediction.model is not None and prediction.model.error:
            self._fallbacks.labels(prediction.model.error).inc()
        self._event_delay.observe((now - prediction.time).total_seconds())
        self._newest_event = max(self._newest_event, prediction.time.timestamp())
        self._newest_event_at.set(self._newest_event)
        self._named.predicted(prediction)

    def _resolved(self, outcome: Outcome) -> None:
        if outcome.result == "judged":
            if outcome.verdict is not None:
                self._verdicts.observe(outcome.verdict)
            return
        if outcome.truth is None:
            return
        self._named.resolved(outcome)
        # A counter cannot take back what a correction replaces, so the first truth counts; the exact scores are the entity's own.
        if outcome.result != "matched":
            return
        if outcome.verification_latency is not None:
            self._verification.observe(outcome.verification_latency)
        if "hindsight" in outcome.flags:
            return
        for arm, error in outcome.errors.items():
            self._score(arm, error, number=outcome.kind == "number")
        if outcome.interval is not None:
            self._interval_scored.inc()
            self._interval_covered.inc(_holds(outcome.interval, outcome.truth))

    def _score(self, arm: str, error: float, *, number: bool) -> None:
        within: float | None = 0.0
        if number:
            self._absolute_error.labels(arm).observe(abs(error))
            within = self._settings.target.hit_within
        if within is not None:
            self._scored.labels(arm).inc()
            self._hits.labels(arm).inc(abs(error) <= within)

    def _revised(self, revision: MemoryRevision) -> None:
        self._revisions.labels(revision.cause, "accepted" if revision.accepted else "refused").inc()
        for rejection in revision.rejected:
            self._refused_statements.labels(rejection.guard).inc()
        if revision.accepted:
            self._words.observe(revision.words)

    # --- the model -----------------------------------------------------------------------------------------------------------

    def model_call(
        self, purpose: Purpose, result: Reply | ModelError, size: ChatSize | None = None, *, seconds: float | None = None
    ) -> None:
        """A call of the model ended; the first three make it an observer of `agents.asking.Asker`.

        `size` is what the call was counted at beforehand; `seconds` its duration where `result` is an error, which carries none.
        """
        if isinstance(result, Reply) and result.remembered:
            self._remembered.labels(purpose).inc()
            return
        if size is not None:
            self._counted.labels(purpose).observe(size.tokens + size.answer_tokens)
        error = "" if isinstance(result, Reply) else result.slug
        duration = result.seconds if isinstance(result, Reply) else seconds
        if duration is not None:
            self._duration.labels("chat", self._provider, self._model, error).observe(duration)
        self._calls.labels(purpose, result.finish if isinstance(result, Reply) else error).inc()
        if not isinstance(result, Reply):
            return
        self._waits.labels(purpose).observe(result.waited_seconds)
        self._input.labels(purpose).inc(result.prompt_tokens or 0)
        self._output.labels(purpose).inc(result.output_tokens)
        if result.prompt_tokens is not None:
            self._tokens.labels("chat", self._provider, self._model, "input").observe(result.prompt_tokens)
        self._tokens.labels("chat", self._provider, self._model, "output").observe(result.output_tokens)
        self._cached.labels(purpose).inc(result.cached_tokens or 0)
        told = result.load_seconds + result.prompt_seconds + result.generate_seconds
        self._phases.labels("load").inc(result.load_seconds)
        self._phases.labels("prompt").inc(result.prompt_seconds)
        self._phases.labels("generate").inc(result.generate_seconds)
        if told:
            self._phases.labels("queue").inc(max(0.0, result.seconds - told))

    def model_account(self, account: Account) -> None:
        """What stands in front of the model has done so far; each account replaces the one before."""
        for host in account.hosts:
            self._breaker.labels(host.name).set(BREAKER_STATES.index(host.breaker))
            self._waiting.labels(host.name, "prediction").set(host.waiting_predictions)
            self._waiting.labels(host.name, "rewrite").set(host.waiting_rewrites)
            self._grown(self._busy.labels(host.name, "prediction"), host.prediction_seconds)
            self._grown(self._busy.labels(host.name, "rewrite"), host.rewrite_seconds)
            self._grown(self._cut.labels(host.name), host.cut)
        self._grown(self._retries.labels("made"), account.retries)
        self._grown(self._retries.labels("denied"), account.retries_denied)

    def _grown(self, counter: Counter, total: float) -> None:
        """Bring a counter to a total that never falls."""
        before = self._totals.get(counter, 0.0)
        counter.inc(max(0.0, total - before))
        self._totals[counter] = max(total, before)

    def prompt_alarm(self, text: str) -> None:
        """The server seems to have cut a prompt, or one did not leave room for its answer; `text` is logged by who raises it."""
        self._prompt_alarms.inc()

    def model_info(self, name: str, digest: str, backend: str) -> None:
        """Which model answers now; replaces the one before."""
        self._model_info.clear()
        self._model_info.labels(name, digest, backend).set(1)

    # --- Kafka ---------------------------------------------------------------------------------------------------------------

    def position(
        self,
        input: str,  # noqa: A002
        partition: int,
        *,
        position: int,
        committed: int,
        end: int,
        newest_ms: int,
        done_ms: int,
    ) -> None:
        """How far an input's partition is read and done.

        Parameters
        ----------
        position, committed, end
            Next offset to be read, offset up to which everything is committed, end of the partition; negative: not known.
        newest_ms, done_ms
            Timestamps of the newest record there is (or was read) and of the newest one done, in milliseconds since the epoch;
            negative: not known.
        """
        self._kept.add((input, partition))
        labels = (input, str(partition))
        for gauge, offset in ((self._position, position), (self._committed, committed), (self._end, end)):
            gauge.labels(*labels).set(offset if offset >= 0 else NOT_KNOWN)
        known = committed >= 0 and end >= 0
        self._lag.labels(*labels).set(max(0, end - committed) if known else NOT_KNOWN)
        if known and end <= committed:
            behind = 0.0
        elif newest_ms >= 0 and done_ms >= 0:
            behind = max(0, newest_ms - done_ms) / 1000
        else:
            behind = NOT_KNOWN
        self._lag_seconds.labels(*labels).set(behind)

    def transaction(self, writes: int, seconds: float) -> None:
        """A Kafka transaction with so many records was committed in so many seconds."""
        self._writes.observe(writes)
        self._transaction.observe(seconds)

    def rebalance(self, seconds: float) -> None:
        self._rebalance.observe(seconds)

    def forget_partitions(self, assigned: Collection[tuple[str, int]]) -> None:
        """Remove the series of every (input, partition) that is not in `assigned`: another worker exports them now."""
        by_input = (self._consumed, self._consumed_at, self._position, self._committed, self._end, self._lag, self._lag_seconds)
        lost = self._kept - set(assigned)
        if lost:
            self._named.forget()
        for pair in lost:
            for series in by_input:
                series.remove(*pair)
            self._kept.discard(pair)
        for partition in self._tables - {partition for _, partition in assigned}:
            for table in (self._entities, self._recovery_done, self._recovery_goal):
                table.remove(partition)
            self._tables.discard(partition)

    # --- the process ---------------------------------------------------------------------------------------------------------

    def recovery_progress(self, partition: int, done: int, total: int) -> None:
        """`done` of `total` changelog records of a partition are read back."""
        self._tables.add(partition)
        self._recovery_done.labels(partition).set(done)
        self._recovery_goal.labels(partition).set(total)

    def recovered(self, seconds: float) -> None:
        self._recovery.observe(seconds)

    def loop_delay(self, seconds: float) -> None:
        """How much too late a timer of the event loop fired (`streams.http.HttpServer` measures it)."""
        self._loop_delay.observe(seconds)

    def restarts(self, count: int) -> None:
        """How often the supervisor has restarted this worker so far."""
        self._restarts.inc(max(0, count - self._restarts_told))
        self._restarts_told = max(count, self._restarts_told)

    def build_info(self, version: str, faust: str, aiokafka: str, python: str) -> None:
        self._build_info.labels(version, faust, aiokafka, python).set(1)


def _holds(interval: Interval, truth: Value) -> bool:
    if isinstance(truth, str):
        return truth in interval.labels
    low, high = interval.low, interval.high
    return (low is None or low <= truth) and (high is None or truth <= high)
