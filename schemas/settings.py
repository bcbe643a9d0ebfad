"""Settings: one TOML file, environment variables over it, one home and one default for each.

`PALIMPSEST__KAFKA__BOOTSTRAP_SERVERS=...` overrides `[kafka] bootstrap_servers`. Whatever is wrong is reported together, each
with file, key, and what is allowed (`SettingsError`).
"""

from __future__ import annotations

import os
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, HttpUrl, TypeAdapter, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from schemas.messages import Kind
from schemas.times import Duration, Time, format_duration

ENV_PREFIX = "PALIMPSEST__"
#: What handing partitions over takes beyond the drain: the last commits, each with its own wait for the broker.
HANDOVER = timedelta(seconds=25)


class SettingsError(ValueError):
    """The settings cannot be used; the text lists every fault with file, key and what is allowed."""


def _base_url(text: str) -> str:
    """A URL that paths are appended to."""
    url = TypeAdapter(HttpUrl).validate_python(text)
    if url.query is not None or url.fragment is not None:
        raise ValueError("a URL that paths are appended to has neither query nor fragment")
    return str(url).rstrip("/")


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class KafkaSettings(Section):
    """How to reach Kafka. TLS and SASL settings are passed through to the client."""

    bootstrap_servers: str = "127.0.0.1:9092"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    sasl_username: str | None = None
    sasl_password: str | None = Field(None, repr=False)
    ssl_cafile: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    ssl_check_hostname: bool = True

    @model_validator(mode="after")
    def _sasl_is_whole(self) -> KafkaSettings:
        if self.security_protocol.startswith("SASL") and not (self.sasl_username and self.sasl_password):
            raise ValueError("SASL needs sasl_username and sasl_password")
        return self


class TopicSettings(Section):
    """Topic names. Inputs that do not exist are an error; outputs are made by `palimpsest topics create`."""

    observations: str = "observations"
    truths: str = "truths"
    commands: str = "commands"
    predictions: str = "predictions"
    outcomes: str = "outcomes"
    memories: str = "memories"
    dead_letters: str = "dead-letters"
    #: The worker makes outputs and internal topics that do not exist; off where it has no right to (`topics create` makes them).
    auto_create: bool = True
    #: Replication factor of what `topics create` makes.
    replication: Annotated[int, Field(ge=1, le=10)] = 1
    #: Partitions of what `topics create` makes; inputs that exist decide for the rest.
    partitions: Annotated[int, Field(ge=1, le=10_000)] = 4

    @model_validator(mode="after")
    def _are_different(self) -> TopicSettings:
        names = [self.observations, self.truths, self.commands, self.predictions, self.outcomes, self.memories, self.dead_letters]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"each role needs a topic of its own; used twice: {', '.join(twice)}")
        return self


class InputSettings(Section):
    """How an input's records are read."""

    #: `entity`: the record's key is the entity, placed by `partitioner`; the topic is consumed as it is. `any`: records are
    #: first written by entity into an internal topic. A wrong `entity` sends records to the dead letters.
    key: Literal["entity", "any"] = "any"
    partitioner: Literal["murmur2", "crc32"] = "murmur2"
    #: Dotted path of the entity's id in the payload, such as `sensor.id`; `@key` takes the record's key.
    entity: str = "entity"
    #: Dotted path of the event's time; `@timestamp` takes the record's timestamp.
    time: str = "time"


class ObservationSettings(InputSettings):
    """The observations' payload."""

    #: Dotted path of the observation's id; a record without one gets an id from entity and time.
    id: str = "id"
    #: Name in the prompt = dotted path in the payload. Empty: everything below `values_at`, or for a flat payload everything else.
    values: dict[str, str] = Field(default_factory=dict)
    #: Dotted path of an object that holds all values.
    values_at: str = "values"
    #: Fields of free text that the model is shown, besides numbers and labels; texts not listed here stay in the record only.
    text_fields: tuple[str, ...] = ()


class TruthSettings(InputSettings):
    """Where the ground truth comes from, and how it is joined."""

    source: Literal["topic", "next-observation", "judge", "none"] = "topic"
    observation_id: str = "observation_id"
    target_time: str = "target_time"
    value: str = "value"
    note: str = "note"
    #: Matching by target time: how far a truth may lie from a prediction's target time.
    tolerance: Duration = timedelta(0)
    #: A truth without its observation waits this long, then it is dead-lettered as an orphan.
    orphan_after: Duration = timedelta(days=7)
    #: A prediction without truth expires this long after its target time; None: never.
    expire_after: Duration | None = None
    #: What becomes of an expired prediction.
    on_expiry: Literal["drop", "judge"] = "drop"
    #: `horizon = "next"`: a longer gap between two observations means that the truth is missing.
    max_gap: Duration | None = None


class TargetSettings(Section):
    """What is forecast. One target per configuration."""

    field: str = "value"
    kind: Kind = "number"
    #: What the target is, in words for the model: "maximum temperature of the next day".
    description: str = ""
    labels: tuple[str, ...] = ()
    unit: str = ""
    #: Lowest and highest possible number.
    range: tuple[float, float] | None = None
    #: Decimals of a number in prompts and answers.
    decimals: Annotated[int, Field(ge=0, le=6)] = 1
    #: How far ahead: a duration, or `next` for the entity's next observation.
    horizon: Literal["next"] | Duration = "next"
    #: Field of the observation with a reference forecast that the model adjusts; default: the target's own last value.
    reference: str | None = None
    #: An error up to this size (target's unit) is a hit; None: the usual error decides.
    hit_within: Annotated[float, Field(gt=0)] | None = None
    top_k: Annotated[int, Field(ge=1, le=20)] = 3
    #: Text: how an answer is compared: `exact`, `normalised`, `judge`, or `checker:package.module:function`.
    scorer: Annotated[str, Field(pattern=r"^(exact|normalised|judge|checker:[\w.]+:\w+)$")] = "normalised"
    #: Seasonal expert: length of a season in observations; 0: none.
    season: Annotated[int, Field(ge=0, le=2000)] = 0

    @model_validator(mode="after")
    def _fits_its_kind(self) -> TargetSettings:
        if self.kind == "category" and len(set(self.labels)) < 2:
            raise ValueError('kind = "category" needs labels, at least two different ones')
        if self.kind != "category" and self.labels:
            raise ValueError(f'labels belong to kind = "category", this is "{self.kind}"')
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError("range is [lowest, highest]")
        return self


class JudgeSettings(Section):
    """A model that stands in for the truth. Its verdicts never mix with scores against truth."""

    criteria: tuple[str, ...] = ("the answer fits the observation", "the answer is specific")
    #: Score from which on a judged answer counts as right, 0 to 1.
    passes_at: Annotated[float, Field(ge=0, le=1)] = 0.5


class MemorySettings(Section):
    """The memory and what may enter it."""

    #: `evidence`: rules that code measures, and notes. `free-text`: three free sections, as in the paper.
    form: Literal["evidence", "free-text"] = "evidence"
    words: Annotated[int, Field(ge=20, le=2000)] = 200
    max_rules: Annotated[int, Field(ge=1, le=30)] = 12
    max_notes: Annotated[int, Field(ge=0, le=30)] = 4
    #: Facts about the domain that every prompt carries, before the memory.
    facts: tuple[str, ...] = ()
    #: Ledger rows in the prompt grow from here to twice as many, then are cut in one block; None: 8 for labels and texts, 0 for numbers.
    ledger_rows: Annotated[int, Field(ge=0, le=200)] | None = None


class RewriteSettings(Section):
    """When and how the memory is rewritten."""

    #: `every`: after each outcome (the paper). `surprise`: after an unusual error or miss, or `after` outcomes. `never`.
    policy: Literal["every", "surprise", "never"] = "surprise"
    #: An error this many times its usual size is a surprise.
    factor: Annotated[float, Field(gt=0)] = 1.5
    #: Outcomes that must have gathered before a surprise may trigger; so bursts make one rewrite.
    gather: Annotated[int, Field(ge=1)] = 4
    #: At the latest after so many outcomes.
    after: Annotated[int, Field(ge=1)] = 8
    #: `inline`: the next prediction waits (the paper). `background`: asked outside the entity's lane.
    mode: Literal["inline", "background"] = "inline"
    max_attempts: Annotated[int, Field(ge=1, le=10)] = 3


class ModelSettings(Section):
    """The language model."""

    #: `openai`: any server that speaks the chat completions of OpenAI: vLLM, llama-server, SGLang.
    backend: Literal["ollama", "openai", "embedded", "import"] = "ollama"
    #: As the server lists it.
    name: str = "qwen2.5-coder:1.5b"
    #: Without `/v1` and the like.
    host: str = "http://127.0.0.1:11434"
    #: Several servers with the same model, in place of `host`: each entity has one of its own, where its prompts are warm.
    hosts: tuple[str, ...] = ()
    #: `openai`: sent as a bearer token. Better set as PALIMPSEST__MODEL__API_KEY.
    api_key: str | None = Field(None, repr=False)
    #: `embedded`: the GGUF file; default: the cached file of `name`.
    path: Path | None = None
    #: `import`: `package.module:function`, called with these settings; returns a `LanguageModel`.
    factory: Annotated[str, Field(pattern=r"^([\w.]+:\w+)?$")] = ""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    seed: int = 0
    threads: Annotated[int, Field(ge=1)] | None = None
    #: λ: bounds every whole prompt together with its answer, in tokens.
    context_budget: Annotated[int, Field(ge=512, le=131_072)] = 4096
    #: Calls at once at each host, from this worker. 1 per CPU host: its cores compute one call no slower than two at once.
    slots: Annotated[int, Field(ge=1, le=1024)] = 1
    #: Calls that may wait at each host. Beyond, rewrites are put off, then predictions come from the fallback at once. At least
    #: `worker.window`, where a backlog is to wait for the model instead.
    queue: Annotated[int, Field(ge=1, le=100_000)] = 1024
    #: Share of the slots' time that rewrites get while predictions wait; what is left over they get besides. A stream that never rewrites
    #: never learns, and a rewrite takes as long as some ten predictions: 0.2 is one rewrite to about forty.
    rewrite_share: Annotated[float, Field(ge=0, le=0.9)] = 0.2
    #: A rewrite that has waited so long may take its share. About what a rewrite takes on a CPU.
    rewrite_max_wait: Duration = timedelta(seconds=10)
    #: With several hosts: calls ahead, for each slot, up to which an entity's calls wait at its own host. Elsewhere its prompt is cold, and
    #: computing 1200 tokens of it anew takes a CPU as long as some four predictions; on a GPU 1 will do.
    spill: Annotated[int, Field(ge=0, le=1000)] = 4
    #: Seconds a call may take, its wait for a slot included.
    deadline: Duration = timedelta(seconds=60)
    rewrite_deadline: Duration = timedelta(seconds=120)
    connect_timeout: Duration = timedelta(seconds=2)
    #: Retries over all calls, as a share of them (and ten besides); 0: none. Enough for what is lost by chance, and a load that a server
    #: in trouble does not notice.
    retry_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    #: Calls that fail at a host in a row (no connection, 5xx, deadline passed) upon which it is left alone. Each may take its deadline, and
    #: three are no chance.
    breaker_failures: Annotated[int, Field(ge=1, le=1000)] = 3
    #: How long at first; twice as long after each failed try, up to twelve times. A restarted server is found again soon.
    breaker_pause: Annotated[Duration, Field(gt=timedelta(0))] = timedelta(seconds=5)
    #: Answers kept for equal prompts at temperature 0, about 1 kB each; 0: none. Imported models need a digest for it.
    answer_cache: Annotated[int, Field(ge=0, le=1_000_000)] = 1024
    keep_alive: str = "-1"

    @model_validator(mode="after")
    def _import_names_a_factory(self) -> ModelSettings:
        if self.backend == "import" and not self.factory:
            raise ValueError('backend = "import" needs factory = "package.module:function"')
        return self

    @model_validator(mode="before")
    @classmethod
    def _host_is_the_first(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("hosts") and "host" not in given and isinstance(given["hosts"], list | tuple):
            return {**given, "host": given["hosts"][0]}
        return given

    @model_validator(mode="after")
    def _hosts_are_several(self) -> ModelSettings:
        if self.hosts and self.backend not in ("ollama", "openai"):
            raise ValueError(f'hosts belong to servers, backend = "{self.backend}" has none')
        if self.hosts and self.host not in self.hosts:
            raise ValueError("either host or hosts")
        twice = sorted({host for host in self.hosts if self.hosts.count(host) > 1})
        if twice:
            raise ValueError(f"named twice in hosts: {', '.join(twice)}")
        return self

    @model_validator(mode="after")
    def _rewrites_can_wait(self) -> ModelSettings:
        if self.rewrite_max_wait >= self.rewrite_deadline:
            raise ValueError("rewrite_max_wait must be shorter than rewrite_deadline: its turn would come too late")
        return self

    @property
    def places(self) -> tuple[str, ...]:
        """What computes the model: the addresses of its servers, or the name of a backend that is none."""
        return self.hosts or ((self.host,) if self.backend in ("ollama", "openai") else (self.backend,))


class PublishSettings(Section):
    """What a prediction's `forecast` is."""

    #: `guarded`: an online mixture of the naive experts, the memory's rules executed by code, and the model. `model`: the
    #: model's own answer.
    publish: Literal["guarded", "model"] = "guarded"
    #: Nominal coverage of the prediction interval.
    level: Annotated[float, Field(gt=0, lt=1)] = 0.8
    #: Fading factor of the running scores.
    fading: Annotated[float, Field(gt=0, le=1)] = 0.98


class BoundSettings(Section):
    """Bounds of one entity's record. What falls out is counted, logged and never silent."""

    pending: Annotated[int, Field(ge=1, le=10_000)] = 256
    early: Annotated[int, Field(ge=1, le=10_000)] = 64
    resolved: Annotated[int, Field(ge=16, le=10_000)] = 256
    feedback: Annotated[int, Field(ge=1, le=1_000)] = 32
    revisions: Annotated[int, Field(ge=1, le=100)] = 5
    #: Characters of one text field in the record.
    text: Annotated[int, Field(ge=50, le=20_000)] = 2_000
    #: Bytes of the whole record; well under the topic's `max.message.bytes`.
    record: Annotated[int, Field(ge=16_384, le=900_000)] = 262_144


class WorkerSettings(Section):
    """The running worker."""

    #: Records being worked on at once, over all entities.
    window: Annotated[int, Field(ge=1, le=10_000)] = 64
    #: Seconds that running work may take to finish at shutdown or rebalance; above `model.deadline` nothing is cut short.
    drain_deadline: Duration = timedelta(seconds=60)
    #: At least `HANDOVER` above `drain_deadline`, else the group throws the worker out while it hands over.
    rebalance_timeout: Duration = timedelta(seconds=120)
    session_timeout: Duration = timedelta(seconds=15)
    standby_replicas: Annotated[int, Field(ge=0, le=10)] = 0
    #: Static membership: a name that stays over restarts (a StatefulSet's pod name).
    instance_id: str | None = None
    state_dir: Path | None = None
    commit_interval: Duration = timedelta(seconds=1)
    transaction_timeout: Duration = timedelta(seconds=60)
    http_host: str = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, le=65535)] = 9464
    #: Where other workers reach this one's port, such as `http://pod-0.palimpsest:9464`; default: `http_host` (where that is every address,
    #: the machine's name) and `http_port`. Of its own for each worker.
    http_url: Annotated[str, AfterValidator(_base_url)] | None = None
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


class MetricSettings(Section):
    """Prometheus."""

    #: Entities whose value, interval, truth and error are exported under their name.
    entities: Annotated[tuple[str, ...], Field(max_length=20)] = ()


class Settings(BaseSettings):
    """Everything a worker needs to know."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", validate_default=True, env_prefix=ENV_PREFIX, env_nested_delimiter="__", toml_file=None
    )

    #: Application id: names the consumer group, the changelog, internal topics and transactional ids.
    app: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,100}$")] = "palimpsest"
    #: `live`: the wall clock. `replay`: stream time is the clock, nothing is stale and nothing too far ahead.
    time: Literal["live", "replay"] = "live"
    #: Where a new application begins to read.
    start: Literal["latest", "earliest"] | Time = "earliest"
    #: Observations not worth a call any more: `conflate` feeds them to ledger and experts, `all` predicts them as `stale`.
    backlog: Literal["conflate", "all"] = "conflate"
    #: Inputs are read in timestamp order up to this much.
    alignment: Duration = timedelta(minutes=1)
    #: Entities without a record for so long are forgotten, from their next record on; unset: never.
    entity_ttl: Annotated[Duration, Field(gt=timedelta(0))] | None = None
    #: Times further ahead than this are refused.
    max_future: Duration = timedelta(hours=1)
    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()
    observations: ObservationSettings = ObservationSettings()
    truths: TruthSettings = TruthSettings()
    commands: InputSettings = InputSettings()
    target: TargetSettings = TargetSettings()
    judge: JudgeSettings = JudgeSettings()
    memory: MemorySettings = MemorySettings()
    rewrite: RewriteSettings = RewriteSettings()
    model: ModelSettings = ModelSettings()
    publish: PublishSettings = PublishSettings()
    bounds: BoundSettings = BoundSettings()
    worker: WorkerSettings = WorkerSettings()
    metrics: MetricSettings = MetricSettings()

    @model_validator(mode="after")
    def _deadlines_nest(self) -> Settings:
        if self.worker.rebalance_timeout - self.worker.drain_deadline < HANDOVER:
            raise ValueError(
                f"worker.rebalance_timeout must be at least {format_duration(HANDOVER)} above worker.drain_deadline: "
                "what was drained is committed before partitions are handed over"
            )
        if self.entity_ttl is not None and self.truths.expire_after is not None and self.entity_ttl <= self.truths.expire_after:
            raise ValueError("entity_ttl must be longer than truths.expire_after: predictions that still wait would be forgotten")
        if self.commands.entity not in ("entity", "@key"):
            raise ValueError('commands.entity is "entity" or "@key": commands have a form of their own, not a foreign payload')
        if self.truths.source == "judge" and self.target.kind == "number":
            raise ValueError('truths.source = "judge" judges labels and texts; a number needs a truth')
        return self

    @property
    def state_dir(self) -> Path:
        """Where RocksDB lives; two workers of one application on one machine need different ones."""
        return self.worker.state_dir or Path(platformdirs.user_state_dir("palimpsest")) / "tables" / self.app

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls))


def load_settings(path: Path | None = None, **overrides: Any) -> Settings:
    """Read settings from a TOML file, environment variables over it, and `overrides` over both.

    Raises
    ------
    SettingsError
        The file is missing or no TOML, a key is unknown, or a value is not allowed; all faults in one text.
    """
    if path is not None:
        try:
            tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise SettingsError(f"{path}: no such file") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path}: not TOML: {error}") from None
    loader = type("LoadedSettings", (Settings,), {"model_config": {"toml_file": path}, "__module__": __name__})
    try:
        loaded = loader(**overrides)
    except ValidationError as error:
        where = str(path) if path is not None else "settings"
        raise SettingsError("\n".join(_explain(where, fault) for fault in error.errors())) from None
    settings: Settings = Settings.model_construct(**{name: getattr(loaded, name) for name in Settings.model_fields})
    return settings


def _explain(where: str, fault: Any) -> str:
    key = ".".join(str(part) for part in fault["loc"]) or "(top level)"
    variable = ENV_PREFIX + key.upper().replace(".", "__")
    source = variable if variable in os.environ else where
    if fault["type"] == "extra_forbidden":
        return f"{source}: {key}: unknown key"
    message = fault["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(fault["input"], dict) or "password" in key or "api_key" in key else f" (got {fault['input']!r})"
    return f"{source}: {key}: {message}{shown}"
