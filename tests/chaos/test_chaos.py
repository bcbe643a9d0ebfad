"""A short form of `python -m tests.chaos`: one broker, two workers, some of each fault that one broker survives."""

import random
import sys
from pathlib import Path

import pytest

from tests.chaos.campaign import Campaign, run
from tests.chaos.report import ALL_ZERO, last_line
from tests.chaos.verdict import judge

pytestmark = pytest.mark.integration

SHORT = Campaign(
    "short",
    events=600,
    entities=40,
    faults={"kill": 4, "terminate": 1, "freeze": 1, "wipe": 1, "outage": 1},
    standbys=1,
    # A worker that was killed comes back in two seconds instead of after its session; the long form has both.
    static=True,
    key="any",
    rewrites=True,
)


async def test_whatever_is_broken_nothing_is_lost_doubled_or_reordered(kafka: str, tmp_path: Path) -> None:
    seed = random.randrange(10**6)

    def tell(text: str) -> None:
        sys.stderr.write(f"{text}\n")

    tell(f"seed {seed}")
    result = await run(SHORT, kafka, tmp_path, seed, tell)
    checks = judge(result.evidence)
    assert [check for check in checks if check.found] == [], f"seed {seed}; logs in {tmp_path}"
    assert last_line(checks) == ALL_ZERO
    assert dict(result.faults) == SHORT.faults
    assert [check.name for check in checks if not check.looked_at] == []
