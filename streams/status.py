"""How a worker stands: its state, its partitions, how far their inputs are applied and their state is restored.

Read off the running application at once, without asking Kafka; what is not known (yet) is None. Nothing here waits or raises, so that it
can be asked from the first second of a start to the last of an end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

from faust.types import TP

from schemas.queries import InputProgress, RestoreProgress, Served, WorkerReport, WorkerState
from schemas.settings import Settings
from streams.lease import Lease
from streams.topics import changelog_topic, consumed_topics

if TYPE_CHECKING:
    from streams.app import PalimpsestApp


def report(settings: Settings, app: PalimpsestApp | None, url: str, reasons: Iterable[str], now: datetime) -> WorkerReport:
    """Everything about this worker.

    Parameters
    ----------
    app
        None before there is one.
    url
        Where other workers reach this one.
    reasons
        Why it is not ready, as `/readyz` says.
    """
    name, release = settings.worker.instance_id, version("palimpsest")
    about: dict[str, Any] = {"app": settings.app, "url": url, "instance": name, "version": release, "at": now}
    if app is None:
        return WorkerReport(**about, state="starting", reasons=tuple(reasons))
    lease = app.lease
    return WorkerReport(
        **about,
        state=state_of(app),
        reasons=tuple(reasons),
        generation=lease.generation if lease is not None and lease.open else None,
        partitions=_of_changelog(settings, app.assignor.assigned_actives()),
        standby=_of_changelog(settings, app.assignor.assigned_standbys()),
        inputs=tuple(inputs(app, now)),
        restoring=tuple(_restoring(app)),
        entities=dict(app.entities.counts),
        in_flight=app.lanes.in_flight,
        oldest=app.lanes.oldest_age(),
    )


def state_of(app: PalimpsestApp) -> WorkerState:
    """What the application is doing, in one word."""
    lease = app.lease
    if lease is not None and lease.open and lease.accepting:
        return "running"
    if app.restoration.restoring:
        return "restoring"
    if app.rebalancing:
        return "rebalancing"
    # Without a lease it has not joined yet; with one that is over and no new one on its way it ends.
    return "starting" if lease is None else "stopping"


def served(app: PalimpsestApp, lease: Lease, partition: int, now: datetime) -> Served:
    """What a read of `partition` under `lease` is from. Call with no await between it and the read."""
    mark, by_entity = app.state_table.mark(partition), set(app.inputs.values())
    return Served(
        worker=str(app.conf.canonical_url),
        partition=partition,
        generation=lease.generation,
        changelog=changelog_topic(app.settings),
        changelog_offset=None if mark is None else mark.offset,
        at=now,
        inputs=tuple(one for one in inputs(app, now) if one.partition == partition and one.topic in by_entity),
    )


def inputs(app: PalimpsestApp, now: datetime) -> Iterator[InputProgress]:
    """How far each input partition that this worker reads is applied; none without an open lease."""
    lease = app.lease
    if lease is None or not lease.open:
        return
    names = {topic: name for name, topic in consumed_topics(app.settings).items()}
    order = list(names)
    read = (tp for tp in app.consumer.assignment() if tp.topic in names)
    for tp in sorted(read, key=lambda tp: (tp.partition, order.index(tp.topic))):
        yield _progress(app, lease, names[tp.topic], TP(tp.topic, tp.partition), now)


def _progress(app: PalimpsestApp, lease: Lease, name: str, tp: TP, now: datetime) -> InputProgress:
    tracker = lease.trackers.get(tp)
    position = tracker.position if tracker is not None else None
    if position is None:
        position = app.consumer._committed_offset.get(tp)
    end = app.consumer.highwater(tp)
    if position is None and end == 0:
        # Nothing was ever there to be read. Elsewhere, without a position, nobody knows where reading begins.
        position = 0
    newest = datetime.fromtimestamp(tracker.done_ms / 1000, UTC) if tracker is not None and tracker.done_ms else None
    return InputProgress(
        input=name,
        topic=tp.topic,
        partition=tp.partition,
        position=position,
        end=end,
        lag=None if position is None or end is None else max(0, end - position),
        newest=newest,
        age=None if newest is None else (now - newest).total_seconds(),
    )


def _restoring(app: PalimpsestApp) -> Iterator[RestoreProgress]:
    active = _of_changelog(app.settings, app.assignor.assigned_actives())
    for partition, progress in sorted(app.restoration.progress.items()):
        if progress.position < progress.end:
            role: Literal["active", "standby"] = "active" if partition in active else "standby"
            yield RestoreProgress(partition=partition, role=role, start=progress.start, position=progress.position, end=progress.end)


def _of_changelog(settings: Settings, places: Iterable[TP]) -> tuple[int, ...]:
    changelog = changelog_topic(settings)
    return tuple(sorted({tp.partition for tp in places if tp.topic == changelog}))
