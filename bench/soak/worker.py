"""The worker of a soak: settings under which every bound is reached within minutes, and each observation has a deadline to keep."""

from __future__ import annotations

from datetime import timedelta

from schemas.settings import Settings

SLOTS = 4
#: Seconds of a prediction and of a rewrite in a slot, and the spread of both: the standard deviation of their logarithm.
PREDICTION, REWRITE, SPREAD = 0.25, 0.5, 0.3
#: Observations a second: somewhat more than the slots could predict if they did nothing else.
RATE = 1.15 * SLOTS / PREDICTION
#: What a prediction may take beyond `model.deadline`: a repair may have a second of its own, then come the commit and the reader's fetch.
ALLOWANCE = timedelta(seconds=2)

#: `backlog = "all"`: else an observation that a newer one overtakes would get no prediction. The ledger's bound is reached, and memory use
#: with it, well before a third of half an hour. Feedback must fold where a rewrite is long in coming. The window has room for all that the
#: model's deadline lets wait, so that nothing waits in Kafka instead; the queue has not, so that it is full.
CONFIG = f"""\
app = "{{app}}"
backlog = "all"
kafka.bootstrap_servers = "{{kafka}}"
topics = {{topics}}
observations.key = "entity"
truths = {{{{ key = "entity", expire_after = "1d" }}}}
target = {{{{ field = "level", horizon = "5s" }}}}
rewrite = {{{{ mode = "background" }}}}
bounds = {{{{ resolved = 24, revisions = 2, feedback = 12 }}}}

[worker]
http_port = {{port}}
state_dir = "{{state}}"
window = 512

[model]
host = "HOST"
slots = {SLOTS}
queue = 64
deadline = "5s"
"""


def configuration(host: str) -> str:
    """The configuration for a model's host, as `bench.process.Process` fills it in."""
    return CONFIG.replace("HOST", host)


def promised(settings: Settings) -> float:
    """Seconds from an observation's sending within which its prediction can be read."""
    return (settings.model.deadline + ALLOWANCE).total_seconds()
