"""One campaign: workers of a new application under load, a schedule of faults, and the evidence that is left when all work is done."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from aiokafka.errors import KafkaError

from deploy.services import KafkaCluster
from deploy.services.ports import free_ports
from schemas.settings import Settings, load_settings
from streams import topics
from streams.errors import KafkaUnavailable
from tests.chaos.brokers import Brokers
from tests.chaos.evidence import Evidence, collect, positions, read_disks
from tests.chaos.faults import Faults
from tests.chaos.fleet import Fleet
from tests.chaos.load import Load
from tests.chaos.schedule import NAMES, UNDISTURBED, Fault, Kind, plan
from tests.chaos.sender import Sender
from tests.chaos.stub_model import OUTAGE_VARIABLE

ROLES = ("observations", "truths", "commands", "predictions", "outcomes", "memories", "dead_letters")
PARTITIONS = 6
#: Workers that are always there; one more joins and leaves.
BASE = 2
#: Seconds between two looks at how much is left.
LOOK = 0.5
#: Seconds without any record being worked off after which waiting for the rest is given up.
STANDSTILL = 120.0

CONFIG = """\
app = "{app}"
backlog = "all"
kafka.bootstrap_servers = "{kafka}"
topics = {topics}
# Nothing expires and no bound is reached, so that what must be there in the end is known exactly.
bounds = {{ pending = 4096, early = 4096, resolved = 4096, record = 900000 }}
target = {{ field = "t", decimals = 4 }}
observations.key = "{key}"
rewrite = {{ policy = "{policy}", mode = "{mode}" }}
model = {{ backend = "import", factory = "tests.chaos.stub_model:from_settings", slots = 16 }}
[worker]
http_port = {port}
state_dir = "{state}"
session_timeout = "6s"
drain_deadline = "5s"
rebalance_timeout = "60s"
standby_replicas = {standbys}
{instance}"""


@dataclass(frozen=True, slots=True)
class Campaign:
    """What one campaign is like.

    Attributes
    ----------
    static
        Workers keep their membership over a restart.
    key
        How observations are keyed; truths and commands are always re-keyed.
    rewrites
        Memories are rewritten in the background; else never, but by command.
    faults
        How many of each kind.
    """

    name: str
    events: int
    entities: int
    faults: Mapping[Kind, int] = field(default_factory=dict)
    standbys: int = 0
    static: bool = False
    key: Literal["entity", "any"] = "entity"
    rewrites: bool = False

    def configuration(self, app: str, bootstrap: str, port: int, state: Path, worker: str, copies: int) -> str:
        """A worker's configuration file."""
        names: dict[str, str | int] = {role: f"{app}.{role}" for role in ROLES}
        names |= {"replication": copies, "partitions": PARTITIONS}
        return CONFIG.format(
            app=app,
            kafka=bootstrap,
            topics="{" + ", ".join(f"{name} = {json.dumps(value)}" for name, value in names.items()) + "}",
            key=self.key,
            policy="every" if self.rewrites else "never",
            mode="background" if self.rewrites else "inline",
            port=port,
            state=state,
            standbys=self.standbys,
            instance=f'instance_id = "{worker}"\n' if self.static else "",
        )


@dataclass(slots=True)
class Result:
    """What came of a campaign: how often each fault struck, and everything to judge by."""

    campaign: Campaign
    seed: int
    seconds: float
    records: int
    faults: Counter[Kind]
    restarts: int
    evidence: Evidence


Tell = Callable[[str], None]


async def run(campaign: Campaign, bootstrap: str, root: Path, seed: int, tell: Tell, cluster: KafkaCluster | None = None) -> Result:
    """Run a campaign to its end.

    Parameters
    ----------
    root
        Empty directory for configurations, state and logs.
    cluster
        The brokers, where the campaign kills some; they must be three.

    Raises
    ------
    GaveUp
        The workers do not come back; their logs are below `root`.
    """
    began = time.monotonic()
    chance = random.Random(f"{seed} {campaign.name}")
    app = f"chaos-{campaign.name}"
    names = [f"worker-{number}" for number in range(1, BASE + 2)]
    configurations = _write_configurations(campaign, app, bootstrap, root, names, copies=cluster.nodes if cluster else 1)
    settings = load_settings(configurations[names[0]])
    await topics.create(settings)
    load = Load(campaign.events, campaign.entities, campaign.key, PARTITIONS)
    events = load.records(chance, datetime.now(UTC).replace(microsecond=0) - timedelta(days=2))
    schedule = plan(campaign.faults, chance)
    outage = root / "model-away"
    fleet = Fleet(configurations, root, {OUTAGE_VARIABLE: str(outage)})
    faults = Faults(fleet, names[:BASE], outage, Brokers(cluster, settings) if cluster else None, tell)
    sender = Sender(settings, events)
    try:
        stuck = await _run(fleet, names[:BASE], faults, schedule, sender, settings, tell)
        await fleet.stop()
    finally:
        await faults.cancel()
        await fleet.kill()
    tell("reading everything back")
    disks = [disk for name, worker in fleet.workers.items() for disk in read_disks(name, worker.settings.state_dir)]
    evidence = await collect(settings, disks)
    evidence.sent, evidence.endings, evidence.stuck = sender.sent, fleet.endings, stuck
    return Result(campaign, seed, time.monotonic() - began, len(events), faults.done, fleet.restarts, evidence)


def _write_configurations(campaign: Campaign, app: str, bootstrap: str, root: Path, names: list[str], copies: int) -> dict[str, Path]:
    root.mkdir(parents=True, exist_ok=True)
    written = {}
    for name, port in zip(names, free_ports(len(names)), strict=True):
        written[name] = root / f"{name}.toml"
        written[name].write_text(campaign.configuration(app, bootstrap, port, root / f"{name}-state", name, copies))
    return written


async def _run(fleet: Fleet, base: list[str], faults: Faults, schedule: list[Fault], sender: Sender, settings: Settings, tell: Tell) -> str:
    """Load and faults side by side, then wait for the work to be done; returns what was not."""
    for name in base:
        await fleet[name].start()
    await fleet.ready()
    sending = asyncio.create_task(sender.run())
    try:
        for number, fault in enumerate(schedule):
            if not fault.hasty:
                await fleet.ready()
            # Each fault has its share of the records, so that all of them strike work.
            sender.release((number + 1) / len(schedule), UNDISTURBED)
            await asyncio.sleep(fault.after)
            tell(f"[{number + 1}/{len(schedule)}] {NAMES[fault.kind]}")
            await faults.strike(fault)
            if sending.done():
                sending.result()
        sender.release(1.0, UNDISTURBED)
        await faults.over()
        tell("no more faults; waiting for the rest")
        await sending
        return await _worked_off(settings, fleet, tell)
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def _worked_off(settings: Settings, fleet: Fleet, tell: Tell) -> str:
    """Return when the group has committed the end of everything that it reads; else, after a standstill, what is left."""
    least, moved = None, time.monotonic()
    while True:
        left = await _left(settings)
        if left is not None:
            if not left:
                return ""
            total = sum(left.values())
            if least is None or total < least:
                least, moved = total, time.monotonic()
                tell(f"{total} records to go")
        if time.monotonic() - moved > STANDSTILL:
            where = ", ".join(f"{topic}/{partition}: {count}" for (topic, partition), count in sorted((left or {}).items()))
            tails = "\n".join(worker.tail(5) for worker in fleet.workers.values() if worker.wanted)
            tell(f"nothing was worked off for {STANDSTILL:.0f} s\n{tails}")
            return f"nothing was worked off for {STANDSTILL:.0f} s; left over are {where}"
        await asyncio.sleep(LOOK)


async def _left(settings: Settings) -> dict[tuple[str, int], int] | None:
    """Records that the group has not committed, by partition; None where Kafka cannot say just now."""
    try:
        done, ends = await positions(settings)
    except (KafkaError, KafkaUnavailable):
        return None
    left = {place: end - done.get(place, 0) for place, end in ends.items()}
    return {place: count for place, count in left.items() if count}
