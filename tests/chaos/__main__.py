"""`python -m tests.chaos`: breaks real workers on a real Kafka of three brokers, and decides from outside what that did.

Two campaigns of one application each: one without standby replicas, consumed by entity, memories rewritten by command alone; one with a
standby, static membership, re-keyed observations, and memories rewritten in the background after every outcome.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console

from deploy.services import KafkaCluster
from tests.chaos.campaign import Campaign, Result, run
from tests.chaos.fleet import GaveUp
from tests.chaos.report import WIDTH, show, slowest_sigterm, to_json, total
from tests.chaos.verdict import is_clean, judge

FULL = (
    Campaign(
        "bare",
        events=10_000,
        entities=500,
        faults={"kill": 15, "terminate": 5, "join": 5, "freeze": 3, "rolling": 2, "wipe": 1, "broker": 2, "outage": 1},
    ),
    Campaign(
        "standby",
        events=10_000,
        entities=500,
        faults={"kill": 15, "terminate": 5, "join": 5, "freeze": 3, "rolling": 1, "wipe": 2, "broker": 1, "outage": 2},
        standbys=1,
        static=True,
        key="any",
        rewrites=True,
    ),
)


def scaled(campaign: Campaign, scale: float) -> Campaign:
    """A campaign with its numbers times `scale`, of each fault at least one."""
    return replace(
        campaign,
        events=math.ceil(campaign.events * scale),
        entities=math.ceil(campaign.entities * scale),
        faults={kind: max(1, round(count * scale)) for kind, count in campaign.faults.items()},
    )


def main(
    seed: Annotated[int | None, typer.Option(help="Repeats the schedule of faults and the load of an earlier run.")] = None,
    scale: Annotated[float, typer.Option(min=0.005, max=100.0, help="Events, entities and faults times this.")] = 1.0,
    only: Annotated[str, typer.Option(help="One campaign alone: bare or standby.")] = "",
    root: Annotated[Path | None, typer.Option(help="New directory for data and logs; kept. Without: kept if anything was found.")] = None,
    json: Annotated[Path | None, typer.Option(help="File for the result as JSON.")] = None,
) -> None:
    """Break workers, brokers and the model; print what was done and what was found.

    Ends with 1 if anything was lost, doubled or reordered.
    """
    campaigns = [scaled(campaign, scale) for campaign in FULL if only in ("", campaign.name)]
    if not campaigns:
        raise typer.BadParameter(f"{only} is none of {', '.join(campaign.name for campaign in FULL)}", param_hint="--only")
    if root is not None and root.exists():
        raise typer.BadParameter(f"{root} exists; what an earlier run left would be judged with this one's", param_hint="--root")
    seed = random.randrange(10**6) if seed is None else seed
    directory = root or Path(tempfile.mkdtemp(prefix="chaos-"))
    directory.mkdir(parents=True, exist_ok=True)
    # What the harness' own clients say of brokers that are killed is for the curious.
    logging.basicConfig(filename=directory / "harness.log", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    remarks = Console(stderr=True, width=None if sys.stderr.isatty() else WIDTH)
    remarks.print(f"seed {seed}; data and logs in {directory}", highlight=False, soft_wrap=True)
    try:
        results = asyncio.run(_run(campaigns, directory, seed, remarks))
    except GaveUp as error:
        remarks.print(f"given up: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    verdicts = [judge(result.evidence) for result in results]
    if json is not None:
        json.write_bytes(orjson.dumps(to_json(results, verdicts), option=orjson.OPT_INDENT_2))
    show(results, verdicts, Console(width=None if sys.stdout.isatty() else WIDTH))
    clean = is_clean(total(verdicts))
    if clean and root is None:
        shutil.rmtree(directory, ignore_errors=True)
    raise typer.Exit(0 if clean else 1)


async def _run(campaigns: list[Campaign], root: Path, seed: int, remarks: Console) -> list[Result]:
    began = time.monotonic()
    results = []
    async with KafkaCluster(nodes=3, root=root / "kafka") as cluster:
        for campaign in campaigns:

            def tell(text: str, name: str = campaign.name) -> None:
                remarks.print(f"{time.monotonic() - began:7.1f} s  {name}  {text}", highlight=False, markup=False, soft_wrap=True)

            result = await run(campaign, cluster.bootstrap, root / campaign.name, seed, tell, cluster)
            tell(f"done in {result.seconds:.0f} s; the slowest SIGTERM took {slowest_sigterm(result):.1f} s")
            results.append(result)
    return results


if __name__ == "__main__":
    typer.run(main)
