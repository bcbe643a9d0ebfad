"""`palimpsest worker`: the production entry."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from streams.cli.options import Config, settings_of
from streams.cli.supervision import Supervision


def worker(
    config: Config = None,
    supervise: Annotated[
        bool, typer.Option("--supervise", help="Run it as a child process, and start it again when it ends with exit code 75.")
    ] = False,
) -> int:
    """Run a worker: read observations and truths, publish predictions, outcomes and memories.

    It serves /metrics, /healthz and /readyz (worker.http_port), logs to standard error (JSON unless that is a terminal), and hands over
    in good order on SIGTERM or Ctrl-C.

    Exit codes: 0 told to end; 1 topics are not as they must be; 69 Kafka does not answer; 75 it must be started again, because another
    worker took its place or a commit's outcome is unknown; 78 the settings are wrong. Under systemd or Kubernetes let those restart it;
    elsewhere use --supervise.

    Example: palimpsest worker -c palimpsest.toml --supervise
    """
    settings = settings_of(config)
    from streams import logs

    logs.configure(settings.worker.log_level)
    if supervise:
        command = [sys.executable, "-m", "streams.cli", "worker"]
        if config is not None:
            command += ["--config", str(config)]
        return asyncio.run(Supervision(command).run())
    # Imported only here: Faust takes a second, and no other command needs it.
    from streams.worker import run

    return run(settings)
