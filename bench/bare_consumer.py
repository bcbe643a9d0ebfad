"""A bare aiokafka consumer that reads a worker's changelog and does nothing with it: the most that rebuilding could reach.

    python -m bench.bare_consumer CONFIG

It prints one JSON object: how many records it read, and in how many seconds from its first request.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from aiokafka.structs import TopicPartition

from schemas.settings import Settings, load_settings
from streams.cli.console import print_json_line
from streams.kafka import consumer
from streams.topics import changelog_topic


async def read(settings: Settings) -> tuple[int, float]:
    """Read every committed record that the changelog has; return how many, and the seconds that took."""
    places = [TopicPartition(changelog_topic(settings), n) for n in range(settings.topics.partitions)]
    count = 0
    async with consumer(settings.kafka, isolation_level="read_committed", auto_offset_reset="earliest") as reader:
        ends = await reader.end_offsets(places)
        reader.assign(places)
        began = time.monotonic()
        while waiting := [place for place in places if await reader.position(place) < ends[place]]:
            for records in (await reader.getmany(*waiting, timeout_ms=100)).values():
                count += len(records)
        return count, time.monotonic() - began


if __name__ == "__main__":
    found, seconds = asyncio.run(read(load_settings(Path(sys.argv[1]))))
    print_json_line({"records": found, "seconds": seconds})
