"""The job in Quix Streams: a stateful `apply` on a dataframe, which is synchronous, with Quix's own state and changelog.

    python -m bench.peers.quix GUARANTEE CONFIG

`GUARANTEE` is `at-least-once`, its default, or `exactly-once`. It needs a pydantic older than ours, so it runs in an environment of
its own, by `quix.lock`. It ends on SIGTERM.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ollama

from bench.peers import job as jobs


def main(guarantee: str, config: Path) -> None:
    """Do the job until SIGTERM."""
    # Here alone: this module is also looked at where Quix Streams is not installed.
    from quixstreams import Application, State  # type: ignore[import-not-found]

    job = jobs.read(config)
    client = ollama.Client(job.host)
    app = Application(
        broker_address=job.kafka,
        consumer_group=job.app,
        auto_offset_reset="earliest",
        state_dir=job.state_dir,
        processing_guarantee=guarantee,
    )

    def forecast(observation: dict[str, Any], state: State) -> dict[str, Any]:
        before = state.get("state")
        answer = client.chat(**jobs.question(job, before, observation))
        state.set("state", jobs.advanced(before, observation))
        return jobs.prediction(observation, answer.message.content or "")

    observations = app.topic(job.observations, key_serializer="bytes", key_deserializer="bytes", value_deserializer="json")
    predictions = app.topic(job.predictions, key_serializer="bytes", value_serializer="json")
    app.dataframe(observations).apply(forecast, stateful=True).to_topic(predictions)
    app.run()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
