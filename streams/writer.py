"""Transactions: state records and outputs of one partition are committed together, many entities to a transaction.

One `PartitionWriter` per active changelog partition. Starting it takes the right to write: the broker aborts what an earlier
owner left open and refuses it from then on. It is started before the end of the changelog is read (`upstream.SafeRecovery`) and never
again for the same lease, so whoever may write has read everything.

Source positions stay outside of the transaction: they are committed after it, and the last applied offset in the entity's
record makes a replay a no-op.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiokafka
from faust.types import TP

from streams.lease import LeaseLost
from streams.table import Mark, StateTable

log = logging.getLogger(__name__)

#: State records per transaction. Larger ones save round trips but make everyone in them wait for the last send.
MAX_BATCH = 500
#: Seconds that a transaction under way gets when its writer is stopped.
FINISH = 2.0
#: With fewer writes than this in its queue a transaction waits for more, for so many seconds. It costs the brokers several round trips, and
#: this process more than a write does; beside a model's call the wait is nothing.
GATHER, GATHER_FOR = 32, 0.01
#: Kafka's record overhead, headers aside, that a size check must leave room for.
RECORD_OVERHEAD = 512

Headers = Sequence[tuple[str, bytes]]


class RecordTooLarge(Exception):
    """Refused before it is sent: one record over the limit fails every record that shares its batch."""


@dataclass(frozen=True, slots=True)
class Output:
    """A record for an output topic; it goes to the partition of the state it belongs to."""

    topic: str
    key: bytes | None
    value: bytes
    headers: Headers = ()

    @property
    def size(self) -> int:
        headers = sum(len(name) + len(value) for name, value in self.headers)
        return len(self.key or b"") + len(self.value) + headers + RECORD_OVERHEAD


#: A changelog key with its new value; None deletes.
Stored = tuple[bytes, bytes | None]


@dataclass(slots=True)
class _Write:
    records: Sequence[Stored]
    outputs: Sequence[Output]
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class PartitionWriter:
    """The transactional producer of one changelog partition."""

    def __init__(
        self,
        tp: TP,
        table: StateTable,
        *,
        transactional_id: str,
        client: dict[str, Any],
        transaction_timeout: float,
        max_request_size: int,
        limits: Mapping[str, int],
        on_broken: Callable[[BaseException], None],
        on_commit: Callable[[int, float], None],
    ) -> None:
        self.tp = tp
        self._table = table
        self._max_request_size = max_request_size
        self._limits = limits
        self._on_broken, self._on_commit = on_broken, on_commit
        self._producer = aiokafka.AIOKafkaProducer(
            **client,
            transactional_id=transactional_id,
            transaction_timeout_ms=int(transaction_timeout * 1000),
            # Rides out a restarting broker; shorter, and every broker restart ends the worker.
            request_timeout_ms=60_000,
            linger_ms=0,
            max_request_size=max_request_size,
        )
        self._queue: deque[_Write] = deque()
        self._wakeup = asyncio.Event()
        self._gathered = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        #: Whether a transaction is open.
        self._committing = False
        self._stopping = False

    async def start(self) -> None:
        await self._producer.start()
        self._task = asyncio.create_task(self._run(), name=f"writer {self.tp.topic}/{self.tp.partition}")

    async def stop(self) -> None:
        """Stop: what is queued is refused with `LeaseLost`, a transaction under way gets `FINISH` seconds.

        Cut off, it would stay open until the next owner's start or its timeout, and readers of committed records would wait for that.
        """
        self._stopping = True
        self._refuse_queued(LeaseLost("the partition's writer has stopped"))
        if self._task is not None:
            if self._committing:
                await asyncio.wait([self._task], timeout=FINISH)
            self._task.cancel()
            await asyncio.wait([self._task], timeout=1.0)
        self._refuse_queued(LeaseLost("the partition's writer has stopped"))
        try:
            await asyncio.wait_for(self._producer.stop(), 5.0)
        except Exception as error:
            log.warning("closing the writer of %s/%d: %r", self.tp.topic, self.tp.partition, error)

    async def write(self, records: Sequence[Stored], outputs: Sequence[Output], *, spare: int = 0) -> None:
        """Commit state records with their outputs; returns when the transaction is committed and RocksDB has it.

        Parameters
        ----------
        spare
            Bytes below the changelog's limit that the state records must leave, for what may have to be added to them later.

        Raises
        ------
        RecordTooLarge
            One of the records is over the producer's limit, or its topic's. Nothing was sent.
        LeaseLost
            The writer stopped before this was committed.
        """
        limit = self._limit(self.tp.topic) - spare
        for key, value in records:
            if len(key) + len(value or b"") + RECORD_OVERHEAD > limit:
                raise RecordTooLarge(f"a state record of {len(value or b'')} bytes, limit {limit}")
        for output in outputs:
            if output.size > (limit := self._limit(output.topic)):
                raise RecordTooLarge(f"a record of {output.size} bytes for {output.topic}, limit {limit}")
        write = _Write(records, outputs)
        self._queue.append(write)
        self._wakeup.set()
        if len(self._queue) >= GATHER:
            self._gathered.set()
        # Shielded: a lane that is cancelled must not take the shared result with it.
        await asyncio.shield(write.done)

    def _limit(self, topic: str) -> int:
        return min(self._max_request_size, self._limits.get(topic, self._max_request_size))

    def _refuse_queued(self, error: BaseException) -> None:
        while self._queue:
            done = self._queue.popleft().done
            if not done.done():
                done.set_exception(error)
                # Nobody may be waiting any more; that is no error of its own.
                done.exception()

    async def _run(self) -> None:
        while not self._stopping:
            await self._wakeup.wait()
            await self._gather()
            self._wakeup.clear()
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_BATCH))]
            if self._queue:
                self._wakeup.set()
            if not batch:
                continue
            started, self._committing = time.monotonic(), True
            try:
                mark = await self._transaction(batch)
                if mark is not None:
                    self._table.apply(self.tp.partition, [record for w in batch for record in w.records], mark)
            except BaseException as error:
                self._queue.extendleft(reversed(batch))
                if not isinstance(error, asyncio.CancelledError):
                    # Fenced, or the outcome is unknown, or RocksDB failed. Only a new recovery can tell, so the worker ends.
                    self._refuse_queued(LeaseLost(f"the transaction failed: {error!r}"))
                    self._on_broken(error)
                    return
                raise
            self._committing = False
            for write in batch:
                if not write.done.done():
                    write.done.set_result(None)
            self._on_commit(len(batch), time.monotonic() - started)

    async def _gather(self) -> None:
        self._gathered.clear()
        if len(self._queue) < GATHER:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gathered.wait(), GATHER_FOR)

    async def _transaction(self, batch: Sequence[_Write]) -> Mark | None:
        """Send and commit; return how far the changelog goes then, or None if no state record was among them."""
        await self._producer.begin_transaction()
        states, others = [], []
        # One for all: aiokafka 0.14.0 tells the first record's timestamp for every record of a batch (`MessageBatch.done`).
        partition, now = self.tp.partition, int(time.time() * 1000)
        for write in batch:
            for key, value in write.records:
                states.append(await self._producer.send(self.tp.topic, value, key=key, partition=partition, timestamp_ms=now))
            for out in write.outputs:
                sent = await self._producer.send(out.topic, out.value, key=out.key, partition=partition, headers=list(out.headers))
                others.append(sent)
        stored = [await sent for sent in states]
        for sent in others:
            await sent
        await self._producer.commit_transaction()
        return Mark(stored[-1].offset, stored[-1].timestamp, int(time.time() * 1000)) if stored else None


async def start_all(writers: Sequence[PartitionWriter]) -> None:
    """Start writers side by side; if one fails, the others are stopped and its error is raised."""
    results = await asyncio.gather(*(w.start() for w in writers), return_exceptions=True)
    failed = [r for r in results if isinstance(r, BaseException)]
    if failed:
        with contextlib.suppress(Exception):
            await asyncio.gather(*(w.stop() for w in writers))
        raise failed[0]
