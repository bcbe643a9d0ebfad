"""Kafka and Ollama together: brings up what is missing, and later takes down exactly that.

The order of preference for each: what the settings name, if it answers; what an earlier ``up`` started; a new one on this machine.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from deploy.services.broker_version import broker_version
from deploy.services.cache import cache_directory, locked, state_directory
from deploy.services.catalogue import find_model
from deploy.services.errors import StartFailed, Unreachable
from deploy.services.gguf import fetch_gguf
from deploy.services.kafka import DEFAULT_PORT as KAFKA_PORT
from deploy.services.kafka import KafkaCluster, broker_ids
from deploy.services.models import pull
from deploy.services.ollama import DEFAULT_PORT as OLLAMA_PORT
from deploy.services.ollama import OllamaServer, ollama_version
from deploy.services.ollama_binary import can_have_ollama
from deploy.services.ports import is_loopback, split_address
from deploy.services.progress import Progress, silent
from deploy.services.supervisor import ProcessRecord, Supervisor, is_alive

STATE_FILE = "services.json"
SERVICES = ("kafka", "ollama")


@dataclass(frozen=True, slots=True)
class Stack:
    """What :func:`up` found or started.

    Parameters
    ----------
    kafka
        Bootstrap addresses, separated by commas.
    kafka_version
        Its release; of a foreign broker as far as it tells, else ``"unknown"``.
    ollama
        Address of Ollama; None if the model is to run in the worker's own process (llama.cpp).
    ollama_version
        Its version.
    gguf
        Model files by model name, for the embedded backend; empty with Ollama.
    started
        Which services this call started (not: found).
    logs
        Log files by process, of all services that were ever started here.
    """

    kafka: str
    kafka_version: str
    ollama: str | None
    ollama_version: str | None
    gguf: Mapping[str, Path] = field(default_factory=dict)
    started: tuple[str, ...] = ()
    logs: Mapping[str, Path] = field(default_factory=dict)


class ServiceState(StrEnum):
    """How a process that was started here is doing."""

    RUNNING = "running"
    """It answers."""
    SILENT = "silent"
    """It runs and does not answer."""
    DEAD = "dead"
    """It ended by itself, or was ended by somebody else."""
    STOPPED = "stopped"
    """It was stopped now."""


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One process that was started here."""

    name: str
    state: ServiceState
    pid: int
    address: str
    version: str
    log: Path
    started_at: datetime


async def up(
    kafka: str | None,
    ollama: str | None,
    *,
    models: Sequence[str] = (),
    embedded: bool = False,
    progress: Progress = silent,
    nodes: int = 1,
    kafka_options: Mapping[str, Any] | None = None,
) -> Stack:
    """Make sure that Kafka and a model backend are there.

    If it fails or is cancelled, what this call had started is stopped again.

    Parameters
    ----------
    kafka, ollama
        Addresses that the settings name; None for none. One that answers is used as it is. A loopback address that does not answer
        is where the service is started, if that port is free.
    models
        Models the backend must have.
    embedded
        Whether to run the model in the worker's own process even where Ollama can be had.
    progress
        Whom to tell.
    nodes
        How many Kafka nodes to start, if any are started.
    kafka_options
        Client settings of aiokafka for TLS and SASL, for a named Kafka.

    Raises
    ------
    Unreachable
        A named address elsewhere than on this machine does not answer.
    ServiceError
        Something could not be fetched, built or started; the subclass says which.
    """
    state = state_directory()
    supervisor = Supervisor(state / STATE_FILE)
    async with locked(state / "services.lock", "services", progress), _undone_on_failure(supervisor) as before:
        broker, kafka_version = await _kafka(kafka, nodes, kafka_options or {}, supervisor, state, progress)
        host, ollama_version_, gguf = await _model_backend(ollama, models, embedded, supervisor, state, progress)
        started = {_service(record) for name, record in supervisor.records().items() if before.get(name) != record.pid}
    return Stack(
        kafka=broker,
        kafka_version=kafka_version,
        ollama=host,
        ollama_version=ollama_version_,
        gguf=gguf,
        started=tuple(service for service in SERVICES if service in started),
        logs={name: record.log for name, record in supervisor.records().items()},
    )


async def status() -> list[ServiceStatus]:
    """Return what was started here and how it is doing. Services that were only found are not among them."""
    records = Supervisor(state_directory() / STATE_FILE).records().values()
    return list(await asyncio.gather(*(_status(record) for record in records)))


async def down(only: Collection[str] = SERVICES, *, progress: Progress = silent) -> list[ServiceStatus]:
    """Stop what was started here, and nothing else.

    Parameters
    ----------
    only
        Which services (``kafka``, ``ollama``): a :class:`Stack`'s ``started`` undoes one call of :func:`up`.
    progress
        Whom to tell.

    Returns
    -------
    list
        Each process that was recorded, and whether it was stopped now or was dead before.
    """
    state = state_directory()
    supervisor = Supervisor(state / STATE_FILE)
    async with locked(state / "services.lock", "services", progress):
        chosen = {name: record for name, record in supervisor.records().items() if _service(record) in only}
        if chosen:
            progress("services", f"stopping {', '.join(chosen)}")
        stopped = {record.name for record in await supervisor.stop(chosen)}
    return [_as_status(record, ServiceState.STOPPED if name in stopped else ServiceState.DEAD) for name, record in chosen.items()]


def addresses() -> dict[str, str]:
    """Return the addresses of the services that an earlier :func:`up` started and that still run, by service.

    For commands that want to use what runs without starting anything.
    """
    found: dict[str, list[str]] = {}
    for record in Supervisor(state_directory() / STATE_FILE).records().values():
        if is_alive(record):
            found.setdefault(_service(record), []).append(record.details["address"])
    return {service: ",".join(parts) for service, parts in found.items()}


@asynccontextmanager
async def _undone_on_failure(supervisor: Supervisor) -> AsyncIterator[dict[str, int]]:
    """Give the process ids by name before the block; if it fails, stop what came since."""
    before = {name: record.pid for name, record in supervisor.records().items()}
    try:
        yield before
    except BaseException:
        new = [name for name, record in supervisor.records().items() if before.get(name) != record.pid]
        await supervisor.stop(new)
        raise


async def _kafka(
    named: str | None, nodes: int, options: Mapping[str, Any], supervisor: Supervisor, state: Path, progress: Progress
) -> tuple[str, str]:
    own = [record for record in supervisor.records().values() if _service(record) == "kafka"]
    running = [record for record in own if is_alive(record)]
    ports: list[int] = []
    if named:
        members = [split_address(address.strip(), KAFKA_PORT) for address in named.split(",") if address.strip()]
        is_own = {f"{host}:{port}".replace("localhost", "127.0.0.1") for host, port in members} <= {r.details["address"] for r in running}
        if not is_own:
            try:
                await broker_ids(named, options=options)
            except Unreachable as error:
                _require_local([host for host, _ in members], "Kafka", "[kafka] bootstrap", error)
                if options.get("security_protocol", "PLAINTEXT") != "PLAINTEXT":
                    raise Unreachable(
                        f"{error}. Kafka started here would speak plain text, and the settings ask for TLS or SASL."
                    ) from error
                ports = [port for _, port in members]
            else:
                progress("kafka", f"using Kafka at {named}", 1.0)
                return named, await _foreign_version(members[0], options)
    if running:
        nodes_running = int(running[0].details["nodes"])
        if nodes > nodes_running:
            raise StartFailed(
                f"Kafka runs here with {nodes_running} node(s), and {nodes} are asked for. Stop it first: palimpsest services down"
            )
        nodes, root = nodes_running, Path(running[0].details["data"])
    else:
        root = state / f"kafka-{nodes}"
    supervisor.forget(record.name for record in own if not is_alive(record))
    cluster = KafkaCluster(nodes=nodes, root=root, ports=ports, supervisor=supervisor, logs=state / "logs", progress=progress)
    await cluster.start()
    return cluster.bootstrap, cluster.version


async def _foreign_version(member: tuple[str, int], options: Mapping[str, Any]) -> str:
    if options.get("security_protocol", "PLAINTEXT") != "PLAINTEXT":
        return "unknown"
    try:
        return await broker_version(*member)
    except Unreachable:  # one of several addresses may be down
        return "unknown"


async def _model_backend(
    named: str | None, models: Sequence[str], embedded: bool, supervisor: Supervisor, state: Path, progress: Progress
) -> tuple[str | None, str | None, dict[str, Path]]:
    if embedded:
        return None, None, await _model_files(models, progress)
    port = None
    if named:
        host, named_port = split_address(named, OLLAMA_PORT)
        try:
            version = await ollama_version(named)
        except Unreachable as error:
            _require_local([host], "Ollama", "[model] host", error)
            port = named_port
        else:
            progress("ollama", f"using Ollama {version} at {named}", 1.0)
            for model in models:
                await pull(model, named, progress=progress)
            return named, version, {}
    if not can_have_ollama():
        progress(
            "ollama",
            "neither Ollama nor Go with a C++ compiler is installed: the model will run inside the worker (llama.cpp)",
        )
        return None, None, await _model_files(models, progress)
    server = OllamaServer(
        root=state,
        models=models,
        port=port,
        cache=cache_directory(),
        supervisor=supervisor,
        logs=state / "logs",
        progress=progress,
    )
    await server.start()
    return server.host, server.version, {}


async def _model_files(models: Sequence[str], progress: Progress) -> dict[str, Path]:
    return {name: await fetch_gguf(find_model(name), progress=progress) for name in models}


def _require_local(hosts: Sequence[str], what: str, setting: str, error: Unreachable) -> None:
    if all(is_loopback(host) for host in hosts):
        return
    raise Unreachable(
        f"{what} is not to be reached where the settings ({setting}) say: {error}. Start it there or correct the address; "
        f"without an address, or with one on this machine, {what} is started here."
    ) from error


async def _status(record: ProcessRecord) -> ServiceStatus:
    if not is_alive(record):
        return _as_status(record, ServiceState.DEAD)
    version = record.details.get("version", "")
    try:
        if _service(record) == "kafka":
            await broker_ids(record.details["address"])
        else:
            version = await ollama_version(record.details["address"])
    except Unreachable:
        return _as_status(record, ServiceState.SILENT)
    return replace(_as_status(record, ServiceState.RUNNING), version=version)


def _as_status(record: ProcessRecord, state: ServiceState) -> ServiceStatus:
    return ServiceStatus(
        name=record.name,
        state=state,
        pid=record.pid,
        address=record.details.get("address", ""),
        version=record.details.get("version", ""),
        log=record.log,
        started_at=record.started_at,
    )


def _service(record: ProcessRecord) -> str:
    return record.details.get("service", record.name)
