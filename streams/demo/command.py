"""`palimpsest demo`: from nothing to a summary, and nothing left running afterwards.

Services first (what runs already is used, and left running), then the run's settings, topics and worker, the replay, the summary; and
everything that was started is stopped again, whether the run ended, failed or was interrupted. A second run starts in seconds, because
what was built and fetched stays in the cache.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any

import typer
from rich.console import Console

from deploy.services import stack
from deploy.services.errors import log_tail
from deploy.services.ports import LOOPBACK, free_ports
from schemas.settings import Settings, load_settings
from streams import exits, topics
from streams.cli.console import print_json, step_progress
from streams.demo import view
from streams.demo.configuration import Backend, configuration, load, worker_environment
from streams.demo.dataset import START, Question, Target, questions, read_days
from streams.demo.driver import DemoFailed, Driver, Patience, first_of
from streams.demo.folder import RunFolder
from streams.demo.record import Record
from streams.demo.summary import Broker, render, summarise
from streams.demo.transport import KafkaTransport
from streams.demo.worker_process import WorkerProcess, worker_command
from streams.kafka import client_options

STEPS = 72
"""Days of a run by default: more than two months, some four minutes on two cores."""

LOG_WIDTH = 140
"""Characters of a line where there is no terminal to ask; commands in the summary stay in one piece."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

SECOND_THOUGHT = 1.0
"""Seconds after which a second signal is meant as one: launchers pass on a Ctrl-C that the terminal has sent already."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line."""

    target: Target
    steps: int
    start: date
    keep_services: bool
    as_json: bool


def demo(
    target: Annotated[Target, typer.Option(help="What is forecast: tomorrow's maximum temperature, or its weather class.")] = "temperature",
    steps: Annotated[int, typer.Option(min=1, help="How many days are replayed.")] = STEPS,
    start: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day, from 2012-01-01; by default an eventful one of 2014.")
    ] = None,
    keep_services: Annotated[bool, typer.Option(help="Leave Kafka and Ollama running that this run started.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON, and everything else on standard error.")] = False,
) -> int:
    """Watch it learn: the weather of Seattle through a real Kafka and a real model, on this machine.

    Brings up what is missing (Kafka, Ollama, the model), replays 72 days with each truth arriving a day late, shows forecasts and the
    memory as it is rewritten, and ends with a summary. Everything is kept in runs/<time>; what was started is stopped again.
    """
    chosen = Options(target, steps, start.date() if start else START[target], keep_services, as_json)
    console = Console(stderr=as_json)
    if not console.is_terminal:
        console = Console(stderr=as_json, width=LOG_WIDTH)
    return asyncio.run(run(chosen, console))


async def run(options: Options, console: Console) -> int:
    """Run the demo until it ends or a signal ends it; return the exit code.

    A first SIGINT, SIGTERM or SIGHUP stops everything in good order; after a second the worker is not waited for.

    Raises
    ------
    StreamError, ServiceError, SettingsError, KafkaError
        It could not be run to its end. What was started is stopped.
    """
    demonstration = Demonstration(options, console)
    task = asyncio.create_task(demonstration.run())
    loop = asyncio.get_running_loop()
    interrupted: float | None = None

    def interrupt() -> None:
        nonlocal interrupted
        if interrupted is None:
            interrupted = loop.time()
            task.cancel()
        elif loop.time() - interrupted >= SECOND_THOUGHT:
            demonstration.hurry()

    # Under nohup a lost terminal is to be survived.
    handled = [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    for number in handled:
        loop.add_signal_handler(number, interrupt)
    try:
        await task
    except asyncio.CancelledError:
        if interrupted is None:
            raise
        console.print(f"Interrupted; what was started is stopped.{demonstration.whereabouts()}", markup=False, soft_wrap=True)
        return exits.INTERRUPTED
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
    return exits.OK


class Demonstration:
    """One run, from services to summary."""

    def __init__(self, options: Options, console: Console) -> None:
        self._options = options
        self._console = console
        self._worker: WorkerProcess | None = None
        self.folder: RunFolder | None = None

    async def run(self) -> None:
        """Do it all; whatever happens, what it started is stopped when this returns or raises."""
        options = self._options
        chosen = questions(read_days(), options.target, options.start, options.steps)
        base = load_settings()
        async with self._services(base) as services:
            self.folder = folder = RunFolder.make(datetime.now().astimezone())
            settings = self._configure(folder, services, base)
            await topics.create(settings)
            with folder:
                try:
                    summary = await self._replay(chosen, settings, services, folder)
                except DemoFailed as error:
                    raise DemoFailed(f"{error}.{self.whereabouts()}.\n{log_tail(folder.worker_log)}") from error
        if options.as_json:
            print_json(summary)
        else:
            self._console.print(render(summary))

    def hurry(self) -> None:
        """Wait for the worker no longer."""
        if self._worker is not None:
            self._worker.kill()

    def whereabouts(self) -> str:
        """Where the run's files are, for the end of a message; empty if there are none yet."""
        return f" Its files are in {self.folder.path}" if self.folder is not None else ""

    @contextlib.asynccontextmanager
    async def _services(self, base: Settings) -> AsyncIterator[stack.Stack]:
        security = {name: value for name, value in client_options(base.kafka).items() if name != "bootstrap_servers"}
        with step_progress() as progress:
            services = await stack.up(
                base.kafka.bootstrap_servers,
                base.model.host,
                models=[base.model.name],
                embedded=base.model.backend == "embedded",
                progress=progress,
                kafka_options=security,
            )
        try:
            yield services
        finally:
            if services.started and not self._options.keep_services:
                with step_progress() as progress:
                    await to_the_end(stack.down(services.started, progress=progress))

    def _configure(self, folder: RunFolder, services: stack.Stack, base: Settings) -> Settings:
        model = base.model.name
        [port] = free_ports(1, [base.worker.http_port])
        text = configuration(
            path=folder.settings,
            name=folder.name,
            target=self._options.target,
            kafka=services.kafka,
            backend=Backend(model, services.ollama, services.gguf.get(model)),
            port=port,
            state=folder.state.resolve(),
        )
        folder.settings.write_text(text, encoding="utf-8")
        return load(folder.settings)

    async def _replay(self, chosen: list[Question], settings: Settings, services: stack.Stack, folder: RunFolder) -> dict[str, Any]:
        self._worker = worker = WorkerProcess(
            worker_command(folder.settings),
            log=folder.worker_log,
            url=f"http://{LOOPBACK}:{settings.worker.http_port}",
            environment=worker_environment(os.environ),
            drain=settings.worker.drain_deadline.total_seconds(),
        )
        record = Record(self._options.target, chosen)
        watched = view.PlainView(self._console, record) if self._options.as_json else view.choose(self._console, record, settings)
        completed = False
        try:
            with step_progress() as progress:
                progress("worker", f"starting; its log is {folder.worker_log}")
                await worker.start()
                progress("worker", f"ready; metrics at http://{LOOPBACK}:{settings.worker.http_port}/metrics", 1.0)
            async with KafkaTransport(settings) as transport:
                driver = Driver(
                    record,
                    transport,
                    patience=patience(settings),
                    observations=settings.topics.observations,
                    keep=folder.keep,
                    changed=watched.changed,
                )
                async with watched.shown():
                    await first_of(driver.run(), worker.watch())
                await worker.stop()
                driver.take(await transport.rest())
            completed = True
        finally:
            await to_the_end(worker.stop())
            broker = Broker(services.kafka, services.kafka_version)
            summary = summarise(record, settings, broker, folder, completed=completed)
            folder.write_summary(summary)
        return summary


def patience(settings: Settings) -> Patience:
    """How long a run waits: for a prediction, as long as the slowest answer may take with its repair, an inline rewrite before it and a
    restart of the worker; for an outcome, as long as the rewrite that it may come with."""
    model, worker = settings.model, settings.worker
    rewrite = 2 * model.rewrite_deadline.total_seconds()
    restart = worker.session_timeout.total_seconds() + 60
    return Patience(prediction=2 * model.deadline.total_seconds() + rewrite + restart, outcome=rewrite + restart)


async def to_the_end(cleaning: Coroutine[Any, Any, object]) -> None:
    """Wait for a clean-up even if the wait is cancelled: an interruption that comes meanwhile leaves nothing running either."""
    task = asyncio.ensure_future(cleaning)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
