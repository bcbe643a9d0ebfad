"""The job as a Faust agent, with Faust's own table, acknowledgements and settings.

    python -m bench.peers.faust_agent CONCURRENCY CONFIG

`concurrency` is Faust's own: so many copies of the agent take events from one queue, and Faust's guide says that their order is then lost.
Delivery is Faust's default, at least once. It ends on SIGTERM.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import faust
import ollama

from bench.peers import job as jobs
from bench.plain_agent import plain_app, run
from schemas.settings import load_settings

TABLE = "states"


def forecasting(config: Path, concurrency: int) -> faust.App:
    """Return the application."""
    settings, job = load_settings(config), jobs.read(config)
    app, count = plain_app(settings), settings.topics.partitions
    shape: dict[str, Any] = {"partitions": count, "key_type": bytes, "key_serializer": "raw", "value_serializer": "json"}
    observations, predictions = app.topic(job.observations, **shape), app.topic(job.predictions, **shape)
    states = app.Table(TABLE, partitions=count, key_type=bytes)
    client = ollama.AsyncClient(job.host)

    async def forecast(stream: Any) -> None:
        async for entity, observation in stream.items():
            answer = await client.chat(**jobs.question(job, states.get(entity), observation))
            # Read anew: with more than one agent another may have changed it during the call.
            states[entity] = jobs.advanced(states.get(entity), observation)
            await predictions.send(key=entity, value=jobs.prediction(observation, answer.message.content or ""))

    app.agent(observations, name="forecast", concurrency=concurrency)(forecast)
    return app


if __name__ == "__main__":
    number, path = sys.argv[1:]
    asyncio.run(run(forecasting(Path(path), int(number))))
