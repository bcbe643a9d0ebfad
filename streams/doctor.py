"""Looks an installation over: settings, Kafka, topics, keys, model, and whether all of it can keep up.

Every finding says what was seen and what to do. Nothing is changed, and nothing is written. Parts that need something that is not
there (topics without Kafka) are left out; what is missing has been said by then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import ollama
import psutil
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from agents.errors import ModelError, ModelMissing
from agents.models.factory import build_model
from agents.models.protocol import CallLimits, ChatMessage, LanguageModel
from schemas.codec import DecodeError
from schemas.mapping import Record, read_command, read_entity, read_observation, read_truth
from schemas.settings import InputSettings, ModelSettings, Settings, SettingsError, WorkerSettings
from schemas.times import format_duration
from streams import membership, topics, traffic
from streams.cluster import BrokerLimits, TopicState, broker_limits, describe, describe_brokers
from streams.errors import KafkaUnavailable
from streams.findings import Finding, Level
from streams.kafka import admin
from streams.membership import Member
from streams.partitioner import Partitioner, partition_of
from streams.topics import InputRole
from streams.traffic import Traffic

#: Above these a worker that died or hangs leaves its entities alone for longer than most would wait.
LONG_SESSION, LONG_REBALANCE = timedelta(minutes=2), timedelta(minutes=10)
#: Above this, what waits for positions to be committed (expiry, deletion) waits long, and a restart repeats much.
LONG_COMMIT = timedelta(seconds=30)
#: File systems by what is wrong with them as the place of RocksDB.
VOLATILE, REMOTE, OF_A_CONTAINER = ("tmpfs", "ramfs"), ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs"), ("overlay", "aufs")
#: What a worker has by default.
SESSION = WorkerSettings().session_timeout
#: Above this the first start of a group is slower than anything else in it.
LONG_DELAY = timedelta(seconds=10)
#: Share of a capacity that may be used before bursts make work wait for long.
COMFORTABLE = 0.7
#: Tokens a word of the memory takes, by a cautious measure.
TOKENS_PER_WORD = 2.0
OTHER: dict[Partitioner, Partitioner] = {"murmur2": "crc32", "crc32": "murmur2"}


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Look everything over, and yield findings as they are made."""
    for finding in [
        *judge_settings(settings),
        *judge_deadlines(settings),
        judge_state_dir(settings.state_dir, _file_system(settings.state_dir)),
    ]:
        yield finding
    try:
        async with admin(settings.kafka) as client:
            brokers = await describe_brokers(client)
            limits = await _limits(client)
            found = await describe(client, [spec.name for spec in topics.topic_plan(settings)])
            group = await membership.describe_group(client, settings.app, topics.changelog_topic(settings))
    except (KafkaUnavailable, SettingsError) as error:
        yield Finding("fail", "kafka", "unreachable", f"{error}", "`palimpsest services up` starts one on this machine.")
    else:
        yield judge_brokers(brokers.number, brokers.version, settings)
        for finding in judge_limits(settings, limits):
            yield finding
        for finding in [*await topics.check(settings), *membership.judge(group.members), *judge_members(settings, group.members)]:
            yield finding
        for finding in await _look_at_records(settings, found):
            yield finding
        yield judge_slots(settings.model, len(group.members), await _slots_offered(settings.model))
    async for finding in _look_at_model(settings):
        yield finding


# --- settings -----------------------------------------------------------------------------------------------------------------


def judge_settings(settings: Settings) -> list[Finding]:
    """Settings that are allowed, and undo something that the program promises; pure."""
    findings = [*_undone(settings), *_unmapped(settings), *_scattered(settings)]
    return findings or [Finding("ok", "settings", "settings", "nothing in them undoes a measure.")]


def _undone(settings: Settings) -> Iterator[Finding]:
    def warn(key: str, text: str, advice: str) -> Finding:
        return Finding("warn", key, "undone", text, advice)

    if settings.publish.publish == "model":
        yield warn(
            "publish.publish",
            "the model's own answer is published: nothing keeps it from being worse than the last value.",
            '"guarded" publishes a mixture, and the model\'s answer beside it.',
        )
    if settings.rewrite.policy == "never":
        text = "the memory is never rewritten: nothing is learned in words."
        yield warn("rewrite.policy", text, '"surprise" rewrites when there is cause.')
    if settings.backlog == "all" and settings.time == "live":
        text = "after an outage every observation costs a call, though its time has passed."
        yield warn("backlog", text, '"conflate" feeds them to the ledger.')
    if settings.time == "replay":
        yield warn("time", "stream time is the clock: nothing is too far ahead, nothing is stale.", 'For live streams set "live".')
    elif settings.max_future > timedelta(days=1):
        text = f"times up to {format_duration(settings.max_future)} ahead are taken: one source with a wrong clock makes the others late."
        yield warn("max_future", text, "An hour does for most clocks.")
    truths, target = settings.truths, settings.target
    if truths.on_expiry == "judge" and truths.expire_after is None and truths.source != "judge":
        yield warn("truths.on_expiry", "predictions are judged when they expire, and none ever does.", "Set truths.expire_after.")
    if truths.source == "next-observation" and isinstance(target.horizon, timedelta) and not truths.tolerance:
        text = f"a truth counts only if it is observed exactly {format_duration(target.horizon)} later, to the microsecond."
        yield warn("truths.tolerance", text, "Set it to about half the time between two observations.")
    if settings.model.backend == "ollama" and settings.model.keep_alive.rstrip("smh") == "0":
        yield warn("model.keep_alive", "the model is unloaded after each call, and loaded again by the next.", '"-1" keeps it loaded.')
    if settings.worker.window > settings.model.queue + settings.model.slots:
        text = f"of {settings.worker.window} records worked on at once {settings.model.queue} may wait for the model: the others fall back."
        yield warn("model.queue", text, "Raise it to worker.window; a backlog waits for the model then.")
    places = len(settings.model.places)
    if settings.worker.window < settings.model.slots * places:
        text = (
            f"{settings.worker.window} records are worked on at once: of {settings.model.slots * places} slots of the model some stay idle."
        )
        yield warn("worker.window", text, "Raise it to twice the slots or more.")
    pairs = _bytes_of_pairs(settings)
    if pairs > settings.bounds.record / 2:
        labels, record = len(settings.target.labels), settings.bounds.record
        text = f"counts of what follows what among {labels} labels may take {pairs} of the {record} bytes of a record."
        yield warn("bounds.record", text, "Raise it, or shorten the labels: a full record refuses what comes.")
    memory_tokens = settings.memory.words * TOKENS_PER_WORD
    if memory_tokens > settings.model.context_budget / 2:
        text = f"{settings.memory.words} words may take {memory_tokens:.0f} of the {settings.model.context_budget} tokens of a prompt."
        yield warn("memory.words", text, "Lower it, or raise model.context_budget.")
    if settings.kafka.security_protocol == "SASL_PLAINTEXT" and settings.kafka.sasl_mechanism == "PLAIN":
        yield warn("kafka.security_protocol", "the password goes over the network in clear text.", "Use SASL_SSL.")
    if settings.kafka.security_protocol.endswith("SSL") and not settings.kafka.ssl_check_hostname:
        yield warn("kafka.ssl_check_hostname", "any certificate of the authority passes for the broker's.", "Set it to true.")


def _bytes_of_pairs(settings: Settings) -> int:
    """What the counts of label followed by label come to in a state, once every pair has been seen (`agents.experts`)."""
    labels = settings.target.labels
    # Each as a key in quotes, with a colon, a small number and a comma.
    return (len(labels) + 2) * sum(len(label.encode()) + 7 for label in labels)


def _unmapped(settings: Settings) -> Iterator[Finding]:
    """Fields that are named and never read, because `observations.values` lists others."""
    values, target = settings.observations.values, settings.target
    if not values:
        return
    known = ", ".join(values)
    if settings.truths.source == "next-observation" and target.field not in values:
        text = f"{target.field!r} is not among observations.values ({known}): no observation ever carries the truth."
        yield Finding("fail", "target.field", "unmapped", text, f'Add `{target.field} = "path.in.payload"` there.')
    for key, names in (("target.reference", [target.reference]), ("observations.text_fields", settings.observations.text_fields)):
        missing = [name for name in names if name is not None and name not in values]
        if missing:
            text = f"{', '.join(missing)}: not among observations.values ({known})."
            yield Finding("fail", key, "unmapped", text, "Add it there, under that name.")


def _scattered(settings: Settings) -> Iterator[Finding]:
    """Inputs that are used as they are, and are placed by different partitioners: one entity on two partitions."""
    keyed = {role: getattr(settings, role) for role in topics.input_roles(settings) if role not in topics.rekeyed_roles(settings)}
    if len({mapping.partitioner for mapping in keyed.values()}) > 1:
        placed = ", ".join(f"{role} by {mapping.partitioner}" for role, mapping in keyed.items())
        text = f"inputs are placed differently ({placed}): an entity's records would meet on no one partition."
        yield Finding("fail", "partitioner", "scattered", text, 'Set key = "any" for all but one of them.')


def judge_deadlines(settings: Settings) -> list[Finding]:
    """Do the deadlines nest: call within drain within rebalance; pure."""
    model, worker = settings.model, settings.worker
    findings = []
    call, drain = format_duration(model.deadline), format_duration(worker.drain_deadline)
    if model.deadline > worker.drain_deadline:
        text = f"a call may take {call} (model.deadline), and a worker that hands over waits {drain}: calls are cut short."
        advice = "The next owner makes them again. Raise worker.drain_deadline."
        findings.append(Finding("warn", "worker.drain_deadline", "deadlines", text, advice))
    if worker.session_timeout > LONG_SESSION:
        text = f"a worker that died is missed after {format_duration(worker.session_timeout)}; until then nobody has its entities."
        findings.append(Finding("warn", "worker.session_timeout", "deadlines", text, "Set 10 s to 45 s."))
    if worker.rebalance_timeout > LONG_REBALANCE:
        text = f"all workers wait up to {format_duration(worker.rebalance_timeout)} for one that hangs while partitions are handed over."
        advice = "Half a minute above worker.drain_deadline will do."
        findings.append(Finding("warn", "worker.rebalance_timeout", "deadlines", text, advice))
    if worker.commit_interval > LONG_COMMIT:
        text = f"positions are committed every {format_duration(worker.commit_interval)}: expiry waits so long, a restart repeats so much."
        findings.append(Finding("warn", "worker.commit_interval", "deadlines", text, "1 s costs next to nothing."))
    if worker.transaction_timeout < timedelta(seconds=10):
        text = f"a broker that is away for {format_duration(worker.transaction_timeout)} makes every worker start again."
        findings.append(Finding("warn", "worker.transaction_timeout", "deadlines", text, "Set 60 s."))
    nested = f"call {call} <= drain {drain} < rebalance {format_duration(worker.rebalance_timeout)}."
    return findings or [Finding("ok", "deadlines", "deadlines", nested)]


# --- the state's directory ----------------------------------------------------------------------------------------------------


def judge_state_dir(path: Path, file_system: str) -> Finding:
    """Is the disk that the state is kept on one that stays, and is near; pure."""
    subject, where = "worker.state_dir", f"{path} is on {file_system}"
    if file_system in VOLATILE:
        text = f"{where}: it takes memory, and after a restart of the machine all states are read back from Kafka."
        return Finding("warn", subject, "state-dir", text, "Name a directory on a disk.")
    if file_system in REMOTE:
        text = f"{where}: RocksDB waits for the network at every read, and its locks may not hold."
        return Finding("warn", subject, "state-dir", text, "Name a directory on a local disk; Kafka has the copy that survives it.")
    if file_system in OF_A_CONTAINER:
        text = f"{where}, a container's own layer: a new container reads all states back from Kafka first."
        return Finding("ok", subject, "state-dir", text, "A volume there would save that.")
    return Finding("ok", subject, "state-dir", f"{where}.")


def _file_system(path: Path) -> str:
    """What the directory, or the nearest one above it that exists, is on."""
    there = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists()).resolve()
    mounts = [mount for mount in psutil.disk_partitions(all=True) if there.is_relative_to(mount.mountpoint)]
    # Of several on one place the last covers the others.
    return max(mounts, key=lambda mount: len(mount.mountpoint)).fstype if mounts else "an unknown file system"


# --- Kafka --------------------------------------------------------------------------------------------------------------------


def judge_limits(settings: Settings, limits: BrokerLimits) -> list[Finding]:
    """Do the brokers take sessions and transactions as long as the settings want them; pure."""
    worker, findings = settings.worker, []
    session, shortest, longest = worker.session_timeout, limits.shortest_session, limits.longest_session
    if not shortest <= session <= longest:
        allowed = f"{format_duration(shortest)} to {format_duration(longest)} (group.min.session.timeout.ms, group.max.session.timeout.ms)"
        text = f"{format_duration(session)}, and the brokers allow {allowed}: no worker can join its group."
        findings.append(
            Finding("fail", "worker.session_timeout", "limits", text, f"Set {format_duration(max(shortest, min(longest, SESSION)))}.")
        )
    if worker.transaction_timeout > limits.longest_transaction:
        allowed = f"{format_duration(limits.longest_transaction)} (transaction.max.timeout.ms)"
        text = f"{format_duration(worker.transaction_timeout)}, and the brokers allow {allowed}: no worker can write."
        findings.append(Finding("fail", "worker.transaction_timeout", "limits", text, "Set 1m."))
    if limits.initial_rebalance_delay > LONG_DELAY:
        delay = format_duration(limits.initial_rebalance_delay)
        text = f"the brokers let the first worker of a group wait {delay} for others (group.initial.rebalance.delay.ms)."
        findings.append(Finding("warn", "kafka", "limits", text, "3 s is Kafka's own; a lone worker restarts sooner with 0."))
    text = f"sessions of {format_duration(session)} and transactions of {format_duration(worker.transaction_timeout)} are allowed."
    return findings or [Finding("ok", "kafka", "limits", text)]


async def _limits(client: AIOKafkaAdminClient) -> BrokerLimits:
    try:
        return await broker_limits(client)
    except KafkaError:
        # Many clusters tell their settings to administrators only; most have left these as they are.
        return BrokerLimits()


def judge_members(settings: Settings, members: Sequence[Member]) -> list[Finding]:
    """Do the settings fit the workers that run now; pure. Nothing is said where none runs."""
    worker, findings = settings.worker, []
    if 0 < len(members) <= worker.standby_replicas:
        running = "1 worker runs" if len(members) == 1 else f"{len(members)} workers run"
        text = f"{worker.standby_replicas} to stand by for each partition, and {running}: there are not so many others."
        advice = "Start more workers, or lower it: what nobody stands by for is read back from Kafka when its worker dies."
        findings.append(Finding("warn", "worker.standby_replicas", "standby", text, advice))
    own = membership.advertised_url(worker, worker.http_port)
    for member in members:
        if worker.instance_id is not None and member.id[:-37] == worker.instance_id and member.url not in ("", own):
            text = f"a worker of the name {worker.instance_id} runs at {member.url}, and this one would be at {own}."
            advice = "Of two workers with one name the group throws out the first. Give each its own, such as a StatefulSet's pod name."
            findings.append(Finding("warn", "worker.instance_id", "shared-name", text, advice))
    return findings


def judge_brokers(number: int, version: str, settings: Settings) -> Finding:
    """Is the cluster new enough, and large enough for the replication asked for; pure."""
    brokers = "broker" if number == 1 else "brokers"
    if version.startswith("older"):
        text = f"{number} {brokers}, Kafka {version}: no static membership, no max.compaction.lag.ms."
        return Finding("fail", "kafka", "version", text, "Use Kafka 2.3 or newer.")
    if settings.topics.replication > number:
        text = f"topics.replication is {settings.topics.replication}, and there are {number} {brokers}."
        return Finding("warn", "kafka", "replication", text, "`topics create` will fail.")
    return Finding("ok", "kafka", "version", f"{number} {brokers} at {settings.kafka.bootstrap_servers}, Kafka {version}.")


async def _look_at_records(settings: Settings, found: Mapping[str, TopicState]) -> list[Finding]:
    findings: list[Finding] = []
    observed: list[Record] = []
    for role, name in topics.input_topics(settings).items():
        if name not in found:
            continue
        records = await traffic.sample(settings, found[name])
        findings += judge_records(settings, role, records, found[name].partitions, datetime.now(UTC))
        if role == "observations":
            observed = records
    name = settings.topics.observations
    if name in found:
        seen = await traffic.measure(settings, found[name], observed, found.values())
        findings += judge_capacity(settings, seen)
    return findings


def judge_records(settings: Settings, role: InputRole, records: Sequence[Record], partitions: int, now: datetime) -> list[Finding]:
    """Can the records of an input be read, and do their keys keep what the settings promise; pure."""
    name = getattr(settings.topics, role)
    if not records:
        return [Finding("ok", name, "records", "no records to look at yet.")]
    unread: Counter[str] = Counter()
    details: dict[str, str] = {}
    for record in records:
        try:
            _read(settings, role, record, now)
        except DecodeError as error:
            unread[error.reason] += 1
            details.setdefault(error.reason, error.detail)
    findings = []
    if unread:
        reasons = "; ".join(f"{count} {reason} ({details[reason]})" for reason, count in unread.most_common(3))
        level: Level = "fail" if unread.total() == len(records) else "warn"
        text = f"{unread.total()} of {len(records)} sampled records would be dead-lettered: {reasons}."
        findings.append(Finding(level, name, "unreadable", text, f"Do the paths in [{role}] fit the payload?"))
    mapping: InputSettings = getattr(settings, role)
    keyed = [(record, entity) for record in records if (entity := _entity_of(record, mapping)) is not None]
    findings += _judge_keys(name, role, mapping, keyed, partitions)
    return findings


def _read(settings: Settings, role: InputRole, record: Record, now: datetime) -> object:
    if role == "observations":
        return read_observation(record, settings, now)
    return read_truth(record, settings, now) if role == "truths" else read_command(record, settings)


def _entity_of(record: Record, mapping: InputSettings) -> str | None:
    try:
        return read_entity(record, mapping)
    except DecodeError:
        return None


def _judge_keys(name: str, role: str, mapping: InputSettings, keyed: Sequence[tuple[Record, str]], partitions: int) -> Iterable[Finding]:
    if not keyed:
        return
    own = [record for record, entity in keyed if record.key == entity.encode()]
    fitting = {
        partitioner: sum(partition_of(record.key or b"", partitions, partitioner) == record.partition for record in own)
        for partitioner in OTHER
    }
    total = len(keyed)
    if mapping.key == "any":
        text = f"records are written by entity into an internal topic first ({total} sampled)."
        usable = next((partitioner for partitioner, count in fitting.items() if count == total and total >= partitions), None)
        advice = f'All have their entity as key: key = "entity", partitioner = "{usable}" would save that.' if usable else ""
        yield Finding("ok", name, "keys", text, advice)
        return
    wrong = total - fitting[mapping.partitioner]
    if not wrong:
        yield Finding("ok", name, "keys", f"keys are entities, placed by {mapping.partitioner} ({total} sampled).")
        return
    keyless = sum(record.key is None for record, _ in keyed)
    foreign = sum(record.key is not None and record.key != entity.encode() for record, entity in keyed)
    other = OTHER[mapping.partitioner]
    if keyless:
        text, advice = f"{keyless} of {total} sampled records have no key.", f'Set {role}.key = "any".'
    elif foreign:
        text, advice = f"{foreign} of {total} sampled records have a key that is not their entity.", f'Set {role}.key = "any".'
    elif fitting[other] == total:
        text, advice = f"records are placed by {other}, the settings say {mapping.partitioner}.", f'Set {role}.partitioner = "{other}".'
    else:
        text = f"{wrong} of {total} sampled records are not where {mapping.partitioner} puts them (was the partition count raised?)."
        advice = f'Set {role}.key = "any".'
    yield Finding("fail", name, "keys", f"{text} They would be dead-lettered.", advice)


def judge_capacity(settings: Settings, seen: Traffic) -> list[Finding]:
    """Can the model keep up with the stream, and the bounds with the truths' delay; pure."""
    return [*_judge_throughput(settings, seen), *_judge_pending(settings, seen)]


def _judge_throughput(settings: Settings, seen: Traffic) -> Iterator[Finding]:
    if seen.rate is None:
        yield Finding("ok", "throughput", "throughput", "no observations in the last hour.")
        return
    if seen.prediction_seconds is None:
        text = f"{seen.rate:.3g} observations/s in the last hour; what a prediction costs is known after the first ones."
        yield Finding("ok", "throughput", "throughput", text)
        return
    rewrite = settings.rewrite
    share = {"every": 1.0, "surprise": 1.0 / rewrite.after, "never": 0.0}[rewrite.policy]
    cost = seen.prediction_seconds + share * (seen.rewrite_seconds or 0.0)
    capacity = settings.model.slots * len(settings.model.places) / cost
    text = f"{seen.rate:.3g} observations/s in the last hour; the model serves {capacity:.3g}/s a worker ({cost:.2g} s each)."
    advice = "More slots or hosts for the model, more workers, a smaller model, or fewer rewrites."
    if seen.rate <= COMFORTABLE * capacity:
        yield Finding("ok", "throughput", "throughput", text)
    elif seen.rate <= capacity:
        yield Finding("warn", "throughput", "throughput", f"{text} Bursts will wait.", advice)
    elif settings.backlog == "conflate":
        left = 1 - capacity / seen.rate
        yield Finding("warn", "throughput", "throughput", f"{text} With one worker, {left:.0%} will get no prediction.", advice)
    else:
        yield Finding("fail", "throughput", "throughput", f"{text} With one worker, the lag grows without end.", advice)


def _judge_pending(settings: Settings, seen: Traffic) -> Iterator[Finding]:
    horizon = settings.target.horizon
    if seen.interval is None or settings.truths.source in ("judge", "none"):
        return
    ahead = horizon.total_seconds() if isinstance(horizon, timedelta) else seen.interval
    delay = max(ahead, seen.truth_delay or 0.0)
    waiting, bound = delay / seen.interval, settings.bounds.pending
    measured = "19 of 20 truths come within" if seen.truth_delay is not None and seen.truth_delay >= ahead else "truths come after"
    every = f"the busiest entity has an observation every {_seconds(seen.interval)}"
    text = f"{every}, {measured} {_seconds(delay)}: about {waiting:.0f} predictions wait, bounds.pending is {bound}."
    advice = f"Raise bounds.pending to {int(waiting * 1.5) + 1}, and bounds.record with it."
    if waiting <= COMFORTABLE * bound:
        yield Finding("ok", "bounds.pending", "pending", text)
    elif waiting <= bound:
        yield Finding("warn", "bounds.pending", "pending", f"{text} Late truths will find none.", advice)
    else:
        yield Finding("fail", "bounds.pending", "pending", f"{text} Predictions fall out before their truth comes.", advice)


def _seconds(value: float) -> str:
    return format_duration(timedelta(seconds=round(value, 3) if value < 60 else round(value)))


# --- the model ----------------------------------------------------------------------------------------------------------------


async def _look_at_model(settings: Settings) -> AsyncIterator[Finding]:
    """Look at the model; where it has several hosts, at each of them by itself."""
    digests: dict[str, str] = {}
    for place in settings.model.places:
        alone = settings.model.model_copy(update={"host": place, "hosts": ()}) if settings.model.hosts else settings.model
        subject = f"model at {place}" if settings.model.hosts else "model"
        try:
            model = build_model(alone)
        except (ModelError, SettingsError) as error:
            yield Finding("fail", subject, "settings", str(error))
            continue
        try:
            async for finding in examine_model(settings.model_copy(update={"model": alone}), model):
                yield replace(finding, subject=subject) if finding.subject == "model" else finding
                if finding.code == "answers":
                    digests[place] = (await model.identify()).digest
        finally:
            await model.close()
    if different := judge_digests(digests):
        yield different


def judge_digests(digests: Mapping[str, str]) -> Finding | None:
    """Is it one model that the hosts have; pure. None where it is, or where it cannot be told apart."""
    if len(set(digests.values())) < 2:
        return None
    text = "the hosts have different models under one name: " + ", ".join(f"{digest[:12]} at {place}" for place, digest in digests.items())
    advice = "Workers ask only those that have the same as the first that answered. Pull the model on all of them."
    return Finding("fail", "model.hosts", "different", f"{text}.", advice)


async def examine_model(settings: Settings, model: LanguageModel) -> AsyncIterator[Finding]:
    """Is the model there, does it answer within its deadline, and does it read as much as the settings send."""
    name = settings.model.name
    try:
        identity = await model.identify()
        limits = CallLimits(answer_tokens=8, context_tokens=settings.model.context_budget, seconds=settings.model.deadline.total_seconds())
        messages = [ChatMessage("system", "You answer with one word."), ChatMessage("user", "Is this a question? Answer yes or no.")]
        reply = await model.complete(messages, schema=None, limits=limits, purpose="predict")
    except ModelMissing as error:
        yield Finding("fail", "model", "missing", f"{error}.", f"`palimpsest models pull {name}`")
        return
    except ModelError as error:
        advice = "Predictions come from the naive forecasters until it answers. `palimpsest services up` starts an Ollama on this machine."
        yield Finding("fail", "model", error.slug, f"{error}.", advice)
        return
    text = f"{identity.name} ({identity.digest[:12]}, {identity.backend}) answers in {reply.seconds:.1f} s"
    yield Finding("ok", "model", "answers", text + (f", {reply.load_seconds:.1f} s of it to load." if reply.load_seconds > 0.5 else "."))
    if settings.model.backend == "ollama":
        for finding in await _look_at_context(settings):
            yield finding


def judge_slots(model: ModelSettings, workers: int, offered: int | None) -> Finding:
    """Do the workers together ask each host for more calls at once than it computes; pure.

    Parameters
    ----------
    workers
        Running ones; where none does, one is reckoned with.
    offered
        Calls that a host says it computes at once; None: it does not say.
    """
    workers = max(1, workers)
    wanted = workers * model.slots
    asking = f"{workers} workers ask" if workers > 1 else "a worker asks"
    text = f"{asking} each host of the model for up to {wanted} calls at once"
    rest = "the rest waits in its own line, where rewrites stand before predictions"
    advice = "Lower model.slots, or give the workers more hosts (model.hosts)."
    if offered is not None:
        if wanted <= offered:
            return Finding("ok", "model.slots", "slots", f"{text}, and it computes {offered}.")
        return Finding("warn", "model.slots", "slots", f"{text}, and it computes {offered}: {rest}.", advice)
    if model.backend == "ollama" and wanted > 1:
        advice = f"{advice} Or set OLLAMA_NUM_PARALLEL to {wanted} where it runs, if its processors bear that."
        level: Level = "warn" if workers > 1 else "ok"
        return Finding(level, "model.slots", "slots", f"{text}. Ollama computes 1 unless OLLAMA_NUM_PARALLEL says more: {rest}.", advice)
    return Finding("ok", "model.slots", "slots", f"{text}.")


async def _slots_offered(model: ModelSettings) -> int | None:
    """What llama-servers say that each of them computes at once; other servers do not tell."""
    if model.backend != "openai":
        return None
    headers = {"Authorization": f"Bearer {model.api_key}"} if model.api_key else {}
    offered = []
    async with httpx.AsyncClient(headers=headers, timeout=10.0) as client:
        for place in model.places:
            try:
                offered.append(int((await client.get(f"{place.rstrip('/')}/props")).json()["total_slots"]))
            except (httpx.HTTPError, ValueError, KeyError, TypeError):  # not there, or of another make
                continue
    return min(offered, default=None)


async def _look_at_context(settings: Settings) -> list[Finding]:
    """What the server says it loaded the model with, after a call that asked for the budget."""
    client = ollama.AsyncClient(host=settings.model.host, timeout=10.0)
    try:
        shown, running = await client.show(settings.model.name), await client.ps()
    except (ollama.ResponseError, httpx.HTTPError, ConnectionError) as error:
        return [Finding("warn", "model.context_budget", "context", f"the server does not tell its context size ({error}).")]
    finally:
        await client.close()  # type: ignore[no-untyped-call]
    info = shown.modelinfo or {}
    trained = next((int(value) for key, value in info.items() if key.endswith(".context_length")), None)
    names = {settings.model.name, f"{settings.model.name}:latest"}
    loaded = next((entry.context_length for entry in running.models if entry.model in names), None)
    return judge_context(settings.model.context_budget, trained, loaded)


def judge_context(budget: int, trained: int | None, loaded: int | None) -> list[Finding]:
    """Is the budget within what the model was trained on, and within what the server gives it; pure. None: not told."""
    subject = "model.context_budget"
    if trained is not None and budget > trained:
        text = f"prompts may have {budget} tokens, and the model was trained on {trained}."
        return [Finding("fail", subject, "context", text, f"Set it to at most {trained}.")]
    if loaded is not None and loaded < budget:
        text = f"prompts may have {budget} tokens, and the server loaded the model for {loaded}: longer ones lose their beginning."
        advice = "Another program loads it with other settings, or the server is short of memory."
        return [Finding("fail", subject, "context", text, advice)]
    told = f"{loaded} loaded" if loaded is not None else "loaded size not told"
    return [Finding("ok", subject, "context", f"{budget} tokens; {told}, {trained or 'unknown'} trained.")]
