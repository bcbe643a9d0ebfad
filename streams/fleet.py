"""All workers of an application at once: what the group says of each, and what each says of itself.

The group's coordinator knows the members and what they were given, even of those that do not answer; a worker knows how far it is. Where
nobody answers for a partition, its lag is the committed positions against the ends of the logs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import httpx
from aiokafka.structs import TopicPartition
from pydantic import ValidationError

from schemas.queries import (
    WORKER_PATH,
    EntityReport,
    InputProgress,
    Report,
    RestoreProgress,
    Unanswered,
    WorkerReport,
    WorkerState,
    entity_path,
)
from schemas.settings import Settings
from streams import exits
from streams.cluster import Span, committed, describe, spans
from streams.errors import StreamError
from streams.kafka import admin
from streams.membership import Group, Member, describe_group, judge
from streams.partitioner import state_partition
from streams.topics import changelog_topic, consumed_topics

#: Seconds for a worker's answer.
TIMEOUT = 5.0


class WorkersSilent(StreamError):
    """No worker gave an answer."""

    exit_code = exits.UNAVAILABLE


class FleetWorker(Report):
    """A member of the group."""

    #: Where it is reached; empty where the group does not say, as during a rebalance.
    url: str
    #: The group's name for it, and where it connected from.
    member: str
    host: str
    #: `silent`: it does not answer; then `partitions` and `standby` are the group's word.
    state: WorkerState | Literal["silent"]
    reasons: tuple[str, ...] = ()
    partitions: tuple[int, ...] = ()
    standby: tuple[int, ...] = ()
    #: Records that wait on its partitions; None where that is not known.
    lag: int | None = None
    restoring: tuple[RestoreProgress, ...] = ()
    entities: int | None = None
    in_flight: int | None = None


class FleetPartition(Report):
    """A partition of the state, with its inputs."""

    partition: int
    #: URL (or the group's name) of the worker that was given it; None: nobody was.
    worker: str | None = None
    #: Those that keep its state up.
    standby: tuple[str, ...] = ()
    lag: int | None = None
    inputs: tuple[InputProgress, ...] = ()
    entities: int | None = None
    restoring: RestoreProgress | None = None


class Fleet(Report):
    """The workers and the partitions of an application."""

    app: str
    #: Kafka's word for the group's state; see `membership.Group`.
    group: str
    workers: tuple[FleetWorker, ...] = ()
    partitions: tuple[FleetPartition, ...] = ()
    #: What is to be said beside it: a rebalance under way, partitions that nobody holds, URLs that cannot be right.
    notes: tuple[str, ...] = ()


async def muster(settings: Settings) -> Fleet:
    """Ask the group, and every worker in it.

    Raises
    ------
    KafkaUnavailable, KafkaError
        Kafka does not answer, or refuses.
    """
    changelog, inputs = changelog_topic(settings), consumed_topics(settings)
    async with admin(settings.kafka) as client:
        group = await describe_group(client, settings.app, changelog)
        topics = await describe(client, [changelog, *inputs.values()])
        positions = await committed(client, settings.app)
    async with _client() as http:
        answers = await asyncio.gather(*(_report(http, group, member) for member in group.members))
    count = topics[changelog].partitions if changelog in topics else 0
    progress = [one for answer in answers if isinstance(answer, WorkerReport) for one in answer.inputs]
    told = {one.partition for one in progress}
    counts = {topic: min(count, topics[topic].partitions) for topic in inputs.values() if topic in topics}
    untold = [TopicPartition(topic, p) for topic, number in counts.items() for p in range(number) if p not in told]
    ends = await spans(settings.kafka, untold)
    progress += [_from_outside(name, place, positions, ends) for name, topic in inputs.items() for place in untold if place.topic == topic]
    return assemble(group, answers, progress, count)


def assemble(group: Group, answers: Sequence[WorkerReport | str], progress: Iterable[InputProgress], count: int) -> Fleet:
    """Put together what was heard; pure.

    Parameters
    ----------
    answers
        For each member of the group its report, or why there is none.
    progress
        How far each input partition is applied, from whoever knows it.
    count
        Partitions of the state.
    """
    inputs: dict[int, list[InputProgress]] = {}
    for one in progress:
        inputs.setdefault(one.partition, []).append(one)
    workers = [_worker(member, answer, inputs) for member, answer in zip(group.members, answers, strict=True)]
    reports = [answer for answer in answers if isinstance(answer, WorkerReport)]
    partitions = [_partition(number, workers, reports, inputs.get(number, [])) for number in range(count)]
    return Fleet(
        app=group.name, group=group.state, workers=tuple(workers), partitions=tuple(partitions), notes=tuple(_notes(group, partitions))
    )


def _worker(member: Member, answer: WorkerReport | str, inputs: Mapping[int, Sequence[InputProgress]]) -> FleetWorker:
    about: dict[str, Any] = {"url": member.url, "member": member.id, "host": member.host}
    if isinstance(answer, str):
        held = tuple(sorted(member.partitions))
        return FleetWorker(
            **about, state="silent", reasons=(answer,), partitions=held, standby=tuple(sorted(member.standby)), lag=_lag(held, inputs)
        )
    return FleetWorker(
        **about,
        state=answer.state,
        reasons=answer.reasons,
        partitions=answer.partitions,
        standby=answer.standby,
        lag=_lag(answer.partitions, inputs),
        restoring=answer.restoring,
        entities=sum(answer.entities.values()),
        in_flight=answer.in_flight,
    )


def _partition(
    number: int, workers: Iterable[FleetWorker], reports: Iterable[WorkerReport], inputs: Sequence[InputProgress]
) -> FleetPartition:
    # Between two assignments a worker may still name what another has by now: the one that works on it counts.
    holders = sorted((worker for worker in workers if number in worker.partitions), key=lambda worker: worker.state != "running")
    return FleetPartition(
        partition=number,
        worker=next((worker.url or worker.member for worker in holders), None),
        standby=tuple(worker.url or worker.member for worker in workers if number in worker.standby),
        lag=_lag([number], {number: inputs}),
        inputs=tuple(inputs),
        entities=next((report.entities[number] for report in reports if number in report.entities), None),
        restoring=next((one for report in reports for one in report.restoring if one.partition == number and one.role == "active"), None),
    )


def _lag(partitions: Iterable[int], inputs: Mapping[int, Sequence[InputProgress]]) -> int | None:
    known = [one.lag for partition in partitions for one in inputs.get(partition, ()) if one.lag is not None]
    return sum(known) if known else None


def _notes(group: Group, partitions: Sequence[FleetPartition]) -> Iterator[str]:
    if group.rebalancing:
        yield "the group is rebalancing: who is given what is not known yet"
    elif not group.members:
        yield f"the group {group.name} has no members: no worker runs"
    unheld = [partition for partition in partitions if partition.worker is None]
    if unheld and not group.rebalancing:
        waiting = sum(partition.lag or 0 for partition in unheld)
        yield f"nobody holds partitions {ranges(p.partition for p in unheld)}; {waiting} records wait there"
    for finding in judge(group.members):
        yield f"{finding.text} {finding.advice}"


def _from_outside(
    name: str, place: TopicPartition, positions: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, Span]
) -> InputProgress:
    """An input's progress by the group's committed position; without one reading begins where the log does."""
    span = ends[place]
    position = positions.get(place, span.start)
    lag = max(0, span.end - position)
    return InputProgress(input=name, topic=place.topic, partition=place.partition, position=position, end=span.end, lag=lag)


def ranges(numbers: Iterable[int]) -> str:
    """Numbers, those in a row drawn together.

    Examples
    --------
    >>> ranges([7, 0, 1, 2, 5]), ranges([])
    ('0-2, 5, 7', '')
    """
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{first}-{last}" if last > first else f"{first}" for first, last in runs)


async def ask(settings: Settings, entity: str) -> EntityReport | Unanswered:
    """The state of an entity, from whichever worker answers: its owner, or any that passes the question on.

    Returns
    -------
    Unanswered
        There is no such entity.

    Raises
    ------
    WorkersSilent
        No worker gave an answer; the text has each one's reasons.
    KafkaUnavailable, KafkaError
        Kafka does not answer, or refuses.
    """
    changelog = changelog_topic(settings)
    async with admin(settings.kafka) as client:
        group = await describe_group(client, settings.app, changelog)
        topic = (await describe(client, [changelog])).get(changelog)
    owned = state_partition(settings, entity, topic.partitions) if topic is not None else None
    members = sorted((member for member in group.members if member.url), key=lambda member: owned not in member.partitions)
    heard = [f"the group {settings.app} has no members that say where they are reached"] if not members else []
    async with _client() as http:
        for member in members:
            try:
                answer = await http.get(member.url + entity_path(entity))
                if answer.status_code == httpx.codes.OK:
                    return EntityReport.model_validate_json(answer.content)
                refusal = Unanswered.model_validate_json(answer.content)
            except (httpx.HTTPError, httpx.InvalidURL, ValidationError) as error:
                heard.append(f"{member.url}: {_why(error)}")
                continue
            if refusal.status == "unknown":
                return refusal
            heard.append(f"{member.url}: {'; '.join(refusal.reasons)}")
    raise WorkersSilent("\n".join(heard))


async def _report(http: httpx.AsyncClient, group: Group, member: Member) -> WorkerReport | str:
    """What a member says of itself, or why it does not."""
    if not member.url:
        return "the group does not say where it is reached" + (" while it is rebalancing" if group.rebalancing else "")
    try:
        answer = await http.get(member.url + WORKER_PATH)
        answer.raise_for_status()
        report = WorkerReport.model_validate_json(answer.content)
    except (httpx.HTTPError, httpx.InvalidURL, ValidationError) as error:
        return _why(error)
    if report.app != group.name:
        return f"a worker of {report.app} answers there"
    shared = sum(other.url == member.url for other in group.members) > 1
    if shared and frozenset(report.partitions) != member.partitions:
        return "another worker answers there"
    return report


def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=TIMEOUT, trust_env=False)


def _why(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "what answers there is no worker"
    return str(error) or type(error).__name__
