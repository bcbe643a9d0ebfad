"""Every topic of an application: what it is called, what it must be like, and whether it is.

The plan is a function of the settings; `check` holds the cluster against it, `create` makes what is missing. Topics that exist
are never changed: what is wrong with them is said, with the command that mends it.

| role | cleanup | retention | further |
| --- | --- | --- | --- |
| `observations`, `truths`, `commands` | delete | 7 d | yours where they exist |
| `<app>-<input>-by-entity` | delete | 7 d | for inputs with `key = "any"`; records 64 kB above its source's; broker's timestamps |
| `predictions`, `outcomes` | delete | 7 d | |
| `memories` | delete | for ever | the audit log |
| `dead-letters` | delete | 30 d | |
| `<app>-state-changelog` | compact | the latest record of each entity | at most 24 h uncompacted |

Inputs, changelog and outputs have one partition count: the changelog's where there is one, else that of the inputs.
`min.insync.replicas` is 2 from three replicas on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code
from aiokafka.structs import TopicPartition

from schemas.settings import Settings
from streams.cluster import Span, TopicState, committed, describe, describe_brokers, spans
from streams.errors import KafkaUnavailable, TopicsUnfit
from streams.findings import Finding
from streams.kafka import admin
from streams.topic_ids import topic_ids

InputRole = Literal["observations", "truths", "commands"]
Direction = Literal["in", "out", "internal"]

_HOUR = 3_600_000
DAY = 24 * _HOUR
#: Kafka's own default of `max.message.bytes`.
DEFAULT_MESSAGE_BYTES = 1_048_588
#: Room for keys, headers and the batch's frame beside a record's value.
MESSAGE_OVERHEAD = 65_536
#: What each output must take: the longest dead letter, with its headers.
OUTPUT_BYTES = 2 * MESSAGE_OVERHEAD
#: After this long a forgotten entity's text is gone from the changelog.
MAX_COMPACTION_LAG = DAY
#: Seconds for new topics to be known to all brokers.
SPREAD_LIMIT = 30.0

#: How states outlive a change of their inputs.
_MOVE = "With all workers stopped, `palimpsest state export FILE`, `palimpsest state reset` and `palimpsest state import FILE`"
_RECREATED = f"New records would pass for ones that were applied. {_MOVE} keep the states, and begin this topic at `start`."


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it should be.

    Attributes
    ----------
    role
        What it is for: a key of `[topics]`, `changelog`, or `<input>-by-entity`.
    direction
        in: read, written by others. out: written for others. internal: nobody else's business.
    configs
        Kafka's topic settings, as `create` sets them.
    least_message_bytes
        `max.message.bytes` must not be below this.
    """

    role: str
    name: str
    direction: Direction
    partitions: int
    replication: int
    configs: Mapping[str, str] = field(default_factory=dict)
    least_message_bytes: int = 0

    @property
    def cleanup(self) -> str:
        return self.configs["cleanup.policy"]

    @property
    def retention_ms(self) -> int | None:
        """How long it keeps records; None for ever, and for what is compacted."""
        kept = int(self.configs.get("retention.ms", -1))
        return None if kept < 0 else kept


def changelog_topic(settings: Settings) -> str:
    """Name of the topic that holds all states; Faust makes it from the application and the table."""
    return f"{settings.app}-state-changelog"


def writer_id(settings: Settings, partition: int) -> str:
    """Transactional id under which a partition's owner writes; whoever starts a producer with it fences the last one."""
    return f"{settings.app}-{changelog_topic(settings)}-{partition}"


def by_entity_topic(settings: Settings, role: InputRole) -> str:
    """Name of the internal topic into which an input with foreign keys is written by entity."""
    return f"{settings.app}-{role}-by-entity"


def input_roles(settings: Settings) -> tuple[InputRole, ...]:
    """Which inputs the application reads; `truths` only where truths come from a topic."""
    return ("observations", "truths", "commands") if settings.truths.source == "topic" else ("observations", "commands")


def input_topics(settings: Settings) -> dict[InputRole, str]:
    """The inputs' topic names by role."""
    return {role: getattr(settings.topics, role) for role in input_roles(settings)}


def rekeyed_roles(settings: Settings) -> tuple[InputRole, ...]:
    """Inputs whose records are first written by entity."""
    return tuple(role for role in input_roles(settings) if getattr(settings, role).key == "any")


def consumed_topics(settings: Settings) -> dict[str, str]:
    """What a worker reads, by name: each input from where its records stand by entity, and as `<input>-source` where it is re-keyed from.

    Examples
    --------
    >>> list(consumed_topics(Settings(truths={"source": "none"}, observations={"key": "entity"})).items())[:3]
    [('observations', 'observations'), ('commands', 'palimpsest-commands-by-entity'), ('commands-source', 'commands')]
    """
    topics = input_topics(settings)
    rekeyed = rekeyed_roles(settings)
    by_entity: dict[str, str] = {role: by_entity_topic(settings, role) if role in rekeyed else name for role, name in topics.items()}
    return by_entity | {f"{role}-source": topics[role] for role in rekeyed}


def topic_plan(
    settings: Settings, *, partitions: int | None = None, source_bytes: Mapping[InputRole, int] | None = None
) -> list[TopicSpec]:
    """Every topic that the application needs.

    Parameters
    ----------
    partitions
        The one count; `topics.partitions` if None.
    source_bytes
        `max.message.bytes` of inputs that exist; Kafka's default for the others.

    Examples
    --------
    >>> [spec.name for spec in topic_plan(Settings()) if spec.direction == "internal"][-1]
    'palimpsest-state-changelog'
    """
    count, copies = partitions or settings.topics.partitions, settings.topics.replication
    safe = {"min.insync.replicas": str(_least_in_sync(copies))}
    week = {"cleanup.policy": "delete", "retention.ms": str(7 * DAY), **safe}
    plan = [TopicSpec(role, name, "in", count, copies, week) for role, name in input_topics(settings).items()]
    for role in rekeyed_roles(settings):
        size = (source_bytes or {}).get(role, DEFAULT_MESSAGE_BYTES) + MESSAGE_OVERHEAD
        # The broker's clock, not the source's: old records would fall to retention before they are read, and records from the
        # future would be refused. The source's timestamp travels in a header.
        configs = {**week, "max.message.bytes": str(size), "message.timestamp.type": "LogAppendTime"}
        plan.append(TopicSpec(f"{role}-by-entity", by_entity_topic(settings, role), "internal", count, copies, configs, size))
    least = settings.bounds.record + MESSAGE_OVERHEAD
    changelog = {
        "cleanup.policy": "compact",
        "max.message.bytes": str(max(DEFAULT_MESSAGE_BYTES, least)),
        "max.compaction.lag.ms": str(MAX_COMPACTION_LAG),
        # A worker that was away for longer than this cannot trust its disk: it may have missed a tombstone.
        "delete.retention.ms": str(DAY),
        # Recovery reads what is not compacted yet; by default that is up to half of the log and a segment of 1 GB.
        "min.cleanable.dirty.ratio": "0.2",
        "segment.bytes": str(128 * 1024 * 1024),
        **safe,
    }
    plan.append(TopicSpec("changelog", changelog_topic(settings), "internal", count, copies, changelog, least))
    kept = {"predictions": 7 * DAY, "outcomes": 7 * DAY, "memories": -1, "dead_letters": 30 * DAY}
    for output, retention in kept.items():
        configs = {"cleanup.policy": "delete", "retention.ms": str(retention), **safe}
        plan.append(TopicSpec(output, getattr(settings.topics, output), "out", count, copies, configs, OUTPUT_BYTES))
    return plan


@dataclass(frozen=True, slots=True)
class Survey:
    """The plan beside what the cluster has: specs, and by name the topics that exist, and how many brokers there are."""

    plan: tuple[TopicSpec, ...]
    found: Mapping[str, TopicState]
    brokers: int = 1
    #: Ids of the topics by name; none where the brokers give none.
    ids: Mapping[str, str] = field(default_factory=dict)

    @property
    def partitions(self) -> int:
        """The one partition count."""
        return self.plan[0].partitions

    @property
    def message_bytes(self) -> dict[str, int]:
        """`max.message.bytes` of the topics that exist."""
        return {name: topic.number("max.message.bytes", DEFAULT_MESSAGE_BYTES) for name, topic in self.found.items()}


def input_ids(settings: Settings, seen: Survey) -> dict[str, str]:
    """Ids of the inputs' topics by role, as `PartitionState.inputs` keeps them."""
    return {role: seen.ids[name] for role, name in input_topics(settings).items() if name in seen.ids}


def judge_inputs(settings: Settings, noted: Mapping[str, str], ids: Mapping[str, str]) -> list[Finding]:
    """What is to be said about inputs that are not the topics that states were made from; pure.

    Parameters
    ----------
    noted, ids
        Topic ids by role: as a partition's record has them, and as they are.
    """
    text = "is not the topic that the states were made from: it was made anew, or the settings name another one."
    names = input_topics(settings)
    wrong = [name for role, name in names.items() if role in ids and noted.get(role, ids[role]) != ids[role]]
    return [Finding("fail", name, "recreated", text, _RECREATED) for name in wrong]


def holders(seen: Survey) -> tuple[str, ...]:
    """Which topics go on holding text of an entity that was forgotten, and for how long.

    Examples
    --------
    >>> from schemas.settings import Settings
    >>> plan = topic_plan(Settings())
    >>> found = {spec.name: TopicState(spec.name, 4, 1, spec.configs) for spec in plan}
    >>> [holder for holder in holders(Survey(tuple(plan), found)) if "memories" in holder or "changelog" in holder]
    ['palimpsest-state-changelog (2 d at most)', 'memories (for ever)']
    """
    return tuple(f"{spec.name} ({_held(seen.found[spec.name])})" for spec in seen.plan if spec.name in seen.found)


def _held(topic: TopicState) -> str:
    policy = topic.configs.get("cleanup.policy", "delete")
    if "delete" in policy:
        return period(topic.number("retention.ms", 7 * DAY))
    lag = topic.number("max.compaction.lag.ms", 2**63 - 1)
    # The record goes when its deletion is compacted in; the deletion itself goes after `delete.retention.ms` more.
    return "until it is compacted" if lag > 365 * DAY else f"{period(lag + topic.number('delete.retention.ms', DAY))} at most"


async def survey(settings: Settings) -> Survey:
    """Look at the cluster, and fit the plan to what is there.

    Raises
    ------
    KafkaUnavailable
        Kafka does not answer.
    """
    async with admin(settings.kafka) as client:
        return await _survey(client, settings)


async def _survey(client: AIOKafkaAdminClient, settings: Settings) -> Survey:
    found = await describe(client, [spec.name for spec in topic_plan(settings)])
    inputs = input_topics(settings)
    sizes = {role: found[name].number("max.message.bytes", DEFAULT_MESSAGE_BYTES) for role, name in inputs.items() if name in found}
    deciding = [changelog_topic(settings), *inputs.values()]
    count = next((found[name].partitions for name in deciding if name in found), None)
    plan = topic_plan(settings, partitions=count, source_bytes=sizes)
    return Survey(tuple(plan), found, (await describe_brokers(client)).number, await topic_ids(client, found))


async def check(settings: Settings) -> list[Finding]:
    """Hold the cluster against the plan, and the group's positions against the topics.

    Returns
    -------
    list
        At least one finding for every topic of the plan, in its order. The worker starts only if none is a `fail`.

    Raises
    ------
    KafkaUnavailable
        Kafka does not answer.
    """
    async with admin(settings.kafka) as client:
        seen = await _survey(client, settings)
        positions = await committed(client, settings.app)
    read = {spec.name for spec in seen.plan if spec.direction == "in" or spec.role.endswith("-by-entity")}
    positions = {place: offset for place, offset in positions.items() if place.topic in read and place.topic in seen.found}
    lasting = [place for place in positions if place.partition < seen.found[place.topic].partitions]
    return judge(seen) + judge_positions(positions, await spans(settings.kafka, lasting))


def judge(seen: Survey) -> list[Finding]:
    """What is to be said about each topic; pure."""
    findings: list[Finding] = []
    for spec in seen.plan:
        topic = seen.found.get(spec.name)
        if topic is None:
            findings.append(_missing(spec))
        else:
            findings += [*_faults(spec, topic, seen.brokers)] or [Finding("ok", spec.name, "topic", summary(topic))]
    return findings


def judge_positions(positions: Mapping[TopicPartition, int], held: Mapping[TopicPartition, Span]) -> list[Finding]:
    """What is to be said about where the group stands in its inputs; pure. `held` lacks partitions that do not exist any more."""
    findings: list[Finding] = []
    for place, offset in sorted(positions.items()):
        span, where = held.get(place), f"{place.topic}/{place.partition}"
        if span is None or offset > span.end:
            end = "does not exist any more" if span is None else f"ends at offset {span.end}"
            text = f"read to offset {offset} before, and now it {end}: the topic was made anew, or has lost records."
            findings.append(Finding("fail", where, "recreated", text, _RECREATED))
        elif offset < span.start:
            text = f"retention deleted {span.start - offset} records (offsets {offset} to {span.start - 1}) before they were read."
            findings.append(Finding("warn", where, "overtaken", text, "They are lost. Raise retention.ms, or give the worker less to do."))
    return findings


async def create(settings: Settings, *, inputs: bool = True) -> list[TopicSpec]:
    """Make the topics that do not exist, and return them when all brokers know them.

    Parameters
    ----------
    inputs
        Whether to make missing observation and truth topics too. Without, a misspelt name stays an error instead of becoming an
        empty topic; commands are ours, and always made.

    Raises
    ------
    KafkaUnavailable
        Kafka does not answer.
    TopicsUnfit
        The brokers refused a topic.
    """
    async with admin(settings.kafka) as client:
        seen = await _survey(client, settings)
        missing = [spec for spec in seen.plan if spec.name not in seen.found]
        if not inputs:
            missing = [spec for spec in missing if spec.role not in ("observations", "truths")]
        if not missing:
            return []
        wanted = [NewTopic(spec.name, spec.partitions, spec.replication, topic_configs=dict(spec.configs)) for spec in missing]
        answer = await client.create_topics(wanted)
        refused = []
        for name, code, *rest in answer.topic_errors:
            if code and code != TopicAlreadyExistsError.errno:
                text = f"the brokers refuse to make the topic: {(rest[0] if rest else None) or for_code(code).__name__}."
                advice = f"There are {seen.brokers} brokers; topics.replication is {settings.topics.replication}."
                refused.append(Finding("fail", name, "refused", text, advice))
        if refused:
            raise TopicsUnfit(refused)
        await wait_until_known(client, [spec.name for spec in missing])
    return missing


async def wait_until_known(client: AIOKafkaAdminClient, names: Sequence[str]) -> None:
    """Return when new topics are known; brokers answer for a moment as if they did not exist.

    Raises
    ------
    KafkaUnavailable
        They are not known within 30 s.
    """
    deadline = time.monotonic() + SPREAD_LIMIT
    while len(await describe(client, names)) < len(names):
        if time.monotonic() > deadline:
            raise KafkaUnavailable(
                f"the brokers made {', '.join(names)}, and do not list them {SPREAD_LIMIT:.0f} s later: is one of them down?"
            )
        await asyncio.sleep(0.1)


def summary(topic: TopicState) -> str:
    """A topic in a line.

    Examples
    --------
    >>> summary(TopicState("t", 4, 1, {"cleanup.policy": "delete", "retention.ms": "604800000"}))
    '4 partitions, 1 replica, delete, kept 7 d'
    """
    policy = topic.configs.get("cleanup.policy", "delete")
    kept = f", kept {period(topic.number('retention.ms', 7 * DAY))}" if "delete" in policy else ""
    partitions = "partition" if topic.partitions == 1 else "partitions"
    replicas = "replica" if topic.replication == 1 else "replicas"
    return f"{topic.partitions} {partitions}, {topic.replication} {replicas}, {policy}{kept}"


def period(milliseconds: int | None) -> str:
    """A retention for people.

    Examples
    --------
    >>> period(604_800_000), period(5_400_000), period(-1)
    ('7 d', '1.5 h', 'for ever')
    """
    if milliseconds is None or milliseconds < 0:
        return "for ever"
    return f"{milliseconds / DAY:g} d" if milliseconds >= DAY else f"{milliseconds / _HOUR:.3g} h"


def _missing(spec: TopicSpec) -> Finding:
    advice = "`palimpsest topics create` makes it."
    if spec.role in ("observations", "truths"):
        advice = f"Correct topics.{spec.role} in the settings, or let `palimpsest topics create --inputs` make it."
    return Finding("fail", spec.name, "missing", "the topic does not exist.", advice)


def _faults(spec: TopicSpec, topic: TopicState, brokers: int) -> Iterable[Finding]:
    if topic.partitions != spec.partitions:
        text = f"{topic.partitions} partitions, where the application's other topics have {spec.partitions}."
        if spec.direction != "out":
            advice = f"States are kept by partition. {_MOVE} place them anew, when all inputs and outputs have one count."
        elif topic.partitions < spec.partitions:
            advice = f"`kafka-topics --alter --topic {spec.name} --partitions {spec.partitions}`; what is in it stays."
        else:
            advice = "Delete it and let `palimpsest topics create` make it anew, or name another topic."
        yield Finding("fail", spec.name, "partitions", text, advice)
    yield from _policy_faults(spec, topic)
    yield from _replica_faults(spec, topic, brokers)
    size = topic.number("max.message.bytes", DEFAULT_MESSAGE_BYTES)
    if size < spec.least_message_bytes:
        text = f"max.message.bytes is {size}, and records may need {spec.least_message_bytes}."
        yield Finding("fail", spec.name, "message-bytes", text, _alter(spec, "max.message.bytes", spec.least_message_bytes))


def _policy_faults(spec: TopicSpec, topic: TopicState) -> Iterable[Finding]:
    policy = topic.configs.get("cleanup.policy", "delete")
    policies = {part.strip() for part in policy.split(",")}
    if spec.cleanup == "compact":
        if policies != {"compact"}:
            text = f"cleanup.policy is {policy}: states of entities that are quiet for longer than the retention are deleted."
            yield Finding("fail", spec.name, "cleanup", text, _alter(spec, "cleanup.policy", "compact"))
        lag = topic.number("max.compaction.lag.ms", 2**63 - 1)
        if lag > MAX_COMPACTION_LAG:
            text = "max.compaction.lag.ms is not set: what is forgotten may stay on disk for ever."
            yield Finding("warn", spec.name, "compaction-lag", text, _alter(spec, "max.compaction.lag.ms", MAX_COMPACTION_LAG))
    elif "compact" in policies:
        what = "readings disappear before they are read" if spec.direction == "in" else "only the latest record of each key stays"
        yield Finding("warn", spec.name, "cleanup", f"cleanup.policy is {policy}: {what}.", _alter(spec, "cleanup.policy", "delete"))
    kept = topic.number("retention.ms", 7 * DAY)
    if spec.role == "memories" and "delete" in policies and kept >= 0:
        text = f"the audit log of all memories is kept for {period(kept)} only."
        yield Finding("warn", spec.name, "retention", text, _alter(spec, "retention.ms", -1))
    elif spec.direction != "out" and "delete" in policies and 0 <= kept < DAY:
        text = f"retention.ms is {period(kept)}: an outage as long as that loses records unread."
        yield Finding("warn", spec.name, "retention", text, _alter(spec, "retention.ms", 7 * DAY))
    if spec.role.endswith("-by-entity") and topic.configs.get("message.timestamp.type", "LogAppendTime") != "LogAppendTime":
        text = "message.timestamp.type is CreateTime: retention deletes records with old timestamps at once."
        yield Finding("fail", spec.name, "timestamps", text, _alter(spec, "message.timestamp.type", "LogAppendTime"))


def _replica_faults(spec: TopicSpec, topic: TopicState, brokers: int) -> Iterable[Finding]:
    in_sync = topic.number("min.insync.replicas", 1)
    if in_sync > topic.replication:
        text = f"min.insync.replicas is {in_sync} with {topic.replication} replicas: nothing can be written."
        yield Finding("fail", spec.name, "in-sync", text, _alter(spec, "min.insync.replicas", _least_in_sync(topic.replication)))
    elif spec.direction != "in" and in_sync < _least_in_sync(topic.replication):
        text = f"min.insync.replicas is {in_sync} with {topic.replication} replicas: a broker's death can lose committed records."
        yield Finding("warn", spec.name, "in-sync", text, _alter(spec, "min.insync.replicas", _least_in_sync(topic.replication)))
    if topic.replication < spec.replication or (topic.replication == 1 and brokers > 1):
        have = f"{topic.replication} replicas on {brokers} brokers (topics.replication is {spec.replication})"
        text = f"{have}: a broker's death stops or loses it."
        yield Finding("warn", spec.name, "replication", text, "Reassign its partitions with `kafka-reassign-partitions`.")


def _alter(spec: TopicSpec, key: str, value: object) -> str:
    return f"`kafka-configs --alter --topic {spec.name} --add-config {key}={value}`"


def _least_in_sync(replication: int) -> int:
    """Two from three replicas on: one broker may be down and nothing acknowledged is lost. With two it would stop writing."""
    return 2 if replication >= 3 else 1
