"""The job as a loop that is quickly written: aiokafka's consumer and producer, and `asyncio.gather` with a semaphore.

    python -m bench.peers.gather CONFIG

States are in a dictionary and on a compacted topic, from which they are read at the start. Positions are committed when a whole batch is
done, so it is at least once: what was done of a batch when the process dies is done again. It ends on SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import ollama
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from bench.peers import job as jobs
from bench.peers.job import Job, State

#: Records of a batch, for each slot: enough that the slots which wait for the slowest call at a batch's end matter little, few enough that
#: not too much is done twice after a crash.
BATCH = 16


async def restored(job: Job) -> dict[bytes, State]:
    """Read the states that an earlier run has left."""
    states: dict[bytes, State] = {}
    async with AIOKafkaConsumer(job.states, bootstrap_servers=job.kafka, auto_offset_reset="earliest") as reader:
        ends = await reader.end_offsets(list(reader.assignment()))
        while waiting := [place for place, end in ends.items() if await reader.position(place) < end]:
            for records in (await reader.getmany(*waiting, timeout_ms=200)).values():
                states |= {record.key: json.loads(record.value) for record in records}
    return states


async def work(job: Job, ended: asyncio.Event) -> None:
    """Do the job until it should end."""
    states, slots = await restored(job), asyncio.Semaphore(job.slots)
    client = ollama.AsyncClient(job.host)
    consumer = AIOKafkaConsumer(
        job.observations, bootstrap_servers=job.kafka, group_id=job.app, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    producer = AIOKafkaProducer(bootstrap_servers=job.kafka, acks="all", enable_idempotence=True)

    async def handle(record: Any) -> None:
        observation = json.loads(record.value)
        async with slots:
            answer = await client.chat(**jobs.question(job, states.get(record.key), observation))
        # Read anew: another record of this entity may have changed it during the call.
        states[record.key] = jobs.advanced(states.get(record.key), observation)
        output = jobs.prediction(observation, answer.message.content or "")
        await asyncio.gather(
            producer.send_and_wait(job.states, json.dumps(states[record.key]).encode(), key=record.key),
            producer.send_and_wait(job.predictions, json.dumps(output).encode(), key=record.key),
        )

    async with consumer, producer:
        while not ended.is_set():
            batches = await consumer.getmany(timeout_ms=200, max_records=BATCH * job.slots)
            await asyncio.gather(*(handle(record) for records in batches.values() for record in records))
            if batches:
                await consumer.commit()


async def main(config: Path) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await work(jobs.read(config), ended)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
