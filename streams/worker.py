"""The worker process: checks, starts, watches, and ends with a code that says what to do next.

Order of starting: HTTP port (so that probes are answered from the first second), topics, model, application. Order of ending:
the lease is handed over (drain, commit), the group is left, then everything else; whatever still hangs after the drain
deadline and five seconds is cut off, because nothing that is worth waiting for is left by then.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import signal
import time
from importlib.metadata import version
from typing import Any

from aiokafka.errors import KafkaError
from faust.types import TP
from prometheus_client import CollectorRegistry

from agents.asking import Asker
from agents.budget import TokenCounter
from agents.errors import AgentError, ModelError
from agents.forecaster import Forecaster
from agents.models.factory import build_model
from agents.models.gate import Gate
from agents.models.protocol import LanguageModel
from schemas.settings import Settings, SettingsError
from schemas.state import UnknownSchema
from streams import exits, topics, upstream
from streams.app import PalimpsestApp, build_app
from streams.errors import StreamError, TopicsUnfit
from streams.findings import failed
from streams.http import HttpServer
from streams.lease import Lease
from streams.membership import advertised_url
from streams.metrics import Metrics
from streams.positions import Hole
from streams.query import Queries
from streams.start import set_start

log = logging.getLogger(__name__)

#: Seconds after the drain deadline within which the process ends, whatever hangs.
GRACE = 5.0
#: Seconds between two readings of lag, recovery progress and in-flight work.
GAUGE_INTERVAL = 2.0


class WorkerHealth:
    """Answers the probes from what the application is doing. Before it exists the worker is alive and not ready."""

    def __init__(self, settings: Settings) -> None:
        model = settings.model
        #: The longest that one item may rightly take: a prediction, its repair, a rewrite and its repair.
        self._item_deadline = 2 * (model.deadline + model.rewrite_deadline).total_seconds()
        self.app: PalimpsestApp | None = None
        self.starting = "starting"

    def live(self) -> list[str]:
        age = self.app.lanes.oldest_age() if self.app is not None else None
        if age is not None and age > 2 * self._item_deadline:
            return [f"an item is being worked on for {age:.0f} s; its own deadline is {self._item_deadline:.0f} s"]
        return []

    def ready(self) -> list[str]:
        app = self.app
        if app is None:
            return [self.starting]
        reasons = []
        if app.rebalancing:
            reasons.append("rebalancing")
        if not app.tables.actives_ready:
            reasons.append("restoring state")
        if app.lease is None or not app.lease.open:
            reasons.append("no partitions are held")
        elif not app.lease.partitions:
            reasons.append("no partitions assigned; more workers than partitions")
        return reasons


def run(settings: Settings) -> int:
    """Run a worker until it is told to stop or must be started again; returns the exit code (`streams.exits`)."""
    return asyncio.run(_Worker(settings).run())


class _Worker:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._code = exits.OK
        self._ended = asyncio.Event()
        self._registry = CollectorRegistry()
        self._metrics = Metrics(self._registry, settings)
        self._health = WorkerHealth(settings)
        self._queries = Queries(settings, self._health)

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._stop, signum)
        worker = self._settings.worker
        self._metrics.build_info(version("palimpsest"), version("faust-streaming"), version("aiokafka"), platform.python_version())
        self._metrics.restarts(int(os.environ.get(exits.RESTARTS_VARIABLE, "0")))
        try:
            upstream.check_versions()
            server = HttpServer(
                worker.http_host,
                worker.http_port,
                self._registry,
                self._health,
                routes=self._queries.routes(),
                loop_delay=self._metrics.loop_delay,
            )
            async with self._queries, server:
                self._queries.url = advertised_url(worker, server.port)
                log.info("metrics, probes and queries at %s, for other workers at %s", server.url, self._queries.url)
                await self._run_app()
        except upstream.UnsupportedVersion as error:
            log.error("%s", error)
            return exits.CONFIG
        except StreamError as error:
            log.error("%s", error)
            return error.exit_code
        except KafkaError as error:
            if not error.retriable:
                raise
            # A broker that is just going, or just coming; the next start asks another one.
            log.error("Kafka cannot answer just now, this worker must be started again: %r", error)
            return exits.RESTART
        except (AgentError, SettingsError) as error:
            # Something that the settings name cannot be loaded: a backend, a model's file, a checker.
            log.error("%s", error)
            return exits.CONFIG
        return self._code

    def _stop(self, signum: int) -> None:
        log.info("%s: handing over and stopping", signal.Signals(signum).name)
        self._ended.set()

    def _broken(self, error: BaseException) -> None:
        if not self._ended.is_set():
            # A state of another program's making would be there after a restart as well, and so would another topic.
            lasting = isinstance(error, (UnknownSchema, TopicsUnfit))
            self._code = (error.exit_code if isinstance(error, StreamError) else exits.CONFIG) if lasting else exits.RESTART
            foreseen = isinstance(error, (Hole, UnknownSchema, KafkaError, StreamError, TimeoutError))
            log.error(
                "this worker ends (exit code %d): %s: %s", self._code, type(error).__name__, error, exc_info=None if foreseen else error
            )
            self._ended.set()

    async def _run_app(self) -> None:
        settings = self._settings
        seen = await self._prepare_topics()
        model = build_model(settings.model)
        counter = TokenCounter(model, settings.model.name, window=settings.model.context_budget, alarm=self._metrics.prompt_alarm)
        forecaster = Forecaster(settings, Asker(settings, model, counter, self._metrics.model_call))
        app = build_app(settings, forecaster, self._metrics, seen, self._broken, url=self._queries.url)
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        if app.rekeying is not None:
            internal = {topics.by_entity_topic(settings, role) for role in topics.rekeyed_roles(settings)}
            await app.rekeying.start({name: seen.message_bytes[name] for name in internal})
        self._health.app = app
        watchers = [asyncio.create_task(self._identify(model)), asyncio.create_task(self._gauges(app, model))]
        began = time.monotonic()
        starting = asyncio.create_task(app.start())
        ended = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait([starting, ended], return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                log.info("started in %.1f s", time.monotonic() - began)
                crashed = asyncio.create_task(app._crashed.wait())
                await asyncio.wait([ended, crashed], return_when=asyncio.FIRST_COMPLETED)
                if not self._ended.is_set():
                    self._broken(app.crash_reason or RuntimeError("the application crashed"))
                crashed.cancel()
        finally:
            for task in (*watchers, ended):
                task.cancel()
            await self._shut_down(app, starting, model)

    async def _prepare_topics(self) -> topics.Survey:
        settings = self._settings
        self._health.starting = "checking topics"
        if settings.topics.auto_create:
            await topics.create(settings, inputs=False)
        findings = await topics.check(settings)
        for finding in findings:
            if finding.level == "warn":
                log.warning("%s", finding)
        wrong = failed(findings)
        if wrong:
            raise TopicsUnfit(wrong)
        await set_start(settings)
        self._health.starting = "connecting"
        return await topics.survey(settings)

    async def _identify(self, model: LanguageModel) -> None:
        """Find out which model answers; without one the worker runs on fallbacks and says so."""
        try:
            identity = await model.identify()
        except ModelError as error:
            log.warning("the model does not answer (%s); predictions come from the naive forecasters until it does", error)
        else:
            self._metrics.model_info(identity.name, identity.digest, identity.backend)
            log.info("model %s (%s) on %s", identity.name, identity.digest[:12], identity.backend)

    async def _gauges(self, app: PalimpsestApp, model: Gate) -> None:
        recovering: float | None = None
        while True:
            await asyncio.sleep(GAUGE_INTERVAL)
            if (failure := upstream.coordination_failure(app)) is not None:
                self._broken(failure)
            age = app.lanes.oldest_age()
            self._metrics.in_flight(app.lanes.in_flight, None if age is None else time.time() - age)
            self._metrics.lanes(app.lanes.lanes)
            self._metrics.model_account(model.account())
            if app.restoration.restoring:
                recovering = recovering or time.monotonic()
            elif recovering is not None:
                self._metrics.recovered(time.monotonic() - recovering)
                recovering = None
            try:
                self._partition_gauges(app)
            except Exception:
                # Read off Faust while it may be rebalancing; the next reading will do.
                log.debug("lag and recovery could not be read", exc_info=True)

    def _partition_gauges(self, app: PalimpsestApp) -> None:
        if app.restoration.restoring:
            for partition, progress in app.restoration.progress.items():
                self._metrics.recovery_progress(partition, progress.position, progress.end)
        lease = app.lease
        if lease is None or not lease.open:
            return
        roles = {topic: str(role) for role, topic in app.inputs.items()}
        roles |= {topics.input_topics(self._settings)[role]: f"{role}-source" for role in topics.rekeyed_roles(self._settings)}
        read = [tp for tp in app.consumer.assignment() if tp.topic in roles]
        self._metrics.forget_partitions([(roles[tp.topic], tp.partition) for tp in read])
        for tp in read:
            self._position(app, lease, roles[tp.topic], TP(tp.topic, tp.partition))

    def _position(self, app: PalimpsestApp, lease: Lease, role: str, tp: TP) -> None:
        tracker, end = lease.trackers[tp], app.consumer.readable_end(tp)
        committed = lease.committed.get(tp, app.consumer._committed_offset.get(tp))
        position = committed if tracker.last is None else tracker.last + 1
        self._metrics.position(
            role,
            tp.partition,
            position=-1 if position is None else position,
            committed=-1 if committed is None else committed,
            end=-1 if end is None else end,
            newest_ms=tracker.delivered_ms or -1,
            done_ms=tracker.done_ms or -1,
        )

    async def _shut_down(self, app: PalimpsestApp, starting: asyncio.Task[Any], model: LanguageModel) -> None:
        limit = self._settings.worker.drain_deadline.total_seconds() + GRACE
        loop = asyncio.get_running_loop()
        # Faust stops threads and services that may hang on a broker that is gone; nothing that matters is left by then.
        cut = loop.call_later(limit, self._cut_off)
        try:
            if self._code == exits.OK:
                await app.hand_over()
            if not starting.done():
                starting.cancel()
            await app.stop()
            if app.rekeying is not None:
                await app.rekeying.stop()
            await model.close()
        except Exception:
            log.exception("stopping did not go smoothly; state and positions were handed over before")
        finally:
            cut.cancel()

    def _cut_off(self) -> None:
        log.warning("something still hangs after the drain deadline; ending without it")
        logging.shutdown()
        os._exit(self._code)
