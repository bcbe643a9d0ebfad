"""`palimpsest services`: Kafka and Ollama on this machine."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from deploy import services
from schemas.settings import Settings
from streams import exits
from streams.cli.console import note, print_json, print_table, print_text, step_progress
from streams.cli.options import Config, Json, settings_of
from streams.kafka import client_options

program = typer.Typer(help="Kafka and a model server on this machine, without containers.", no_args_is_help=True)


@program.command("up")
def start_services(
    config: Config = None,
    embedded: Annotated[bool, typer.Option("--embedded", help="Run the model inside the worker (llama.cpp), not in Ollama.")] = False,
    nodes: Annotated[int, typer.Option("--nodes", min=1, max=9, metavar="N", help="Kafka nodes, where Kafka is started.")] = 1,
    json: Json = False,
) -> int:
    """Use the Kafka and Ollama that the settings name or that run already; start what is missing, and get the model.

    Kafka comes through Maven, Ollama is built by Go where it is not installed; the first time takes minutes, later ones seconds. What was
    started runs on after the command, until `palimpsest services down`. The addresses it prints are the lines for a palimpsest.toml.

    Example: palimpsest services up
    """
    settings = settings_of(config)
    stack = asyncio.run(_up(settings, embedded or settings.model.backend == "embedded", nodes))
    if json:
        print_json(
            {
                "kafka": stack.kafka,
                "kafka_version": stack.kafka_version,
                "ollama": stack.ollama,
                "ollama_version": stack.ollama_version,
                "models": {name: str(path) for name, path in stack.gguf.items()},
                "started": list(stack.started),
                "logs": {name: str(path) for name, path in stack.logs.items()},
            }
        )
        return exits.OK
    print_text(as_toml(stack))
    for name, log in stack.logs.items():
        note(f"log of {name}: {log}")
    return exits.OK


@program.command("status")
def show_status(json: Json = False) -> int:
    """Tell how the services do that were started here. Ends with 1 if one is dead or does not answer.

    Example: palimpsest services status --json
    """
    found = asyncio.run(services.status())
    _print_status(found, json)
    if not found and not json:
        note("no services were started here; `palimpsest services up` starts them")
    return exits.OK if all(one.state is services.ServiceState.RUNNING for one in found) else exits.FAILED


@program.command("down")
def stop_services(json: Json = False) -> int:
    """Stop exactly what `palimpsest services up` (or the demo) started here. Topics and models stay on disk.

    Example: palimpsest services down
    """

    async def down() -> list[services.ServiceStatus]:
        with step_progress() as progress:
            return await services.down(progress=progress)

    stopped = asyncio.run(down())
    _print_status(stopped, json)
    if not stopped and not json:
        note("nothing was started here")
    return exits.OK


async def _up(settings: Settings, embedded: bool, nodes: int) -> services.Stack:
    options = client_options(settings.kafka)
    options.pop("bootstrap_servers")
    with step_progress() as progress:
        return await services.up(
            settings.kafka.bootstrap_servers,
            None if settings.model.backend != "ollama" else settings.model.host,
            models=[] if settings.model.backend == "import" else [settings.model.name],
            embedded=embedded,
            progress=progress,
            nodes=nodes,
            kafka_options=options,
        )


def as_toml(stack: services.Stack) -> str:
    """What a palimpsest.toml must say to use the services."""
    lines = ["[kafka]", f'bootstrap_servers = "{stack.kafka}"', "", "[model]"]
    if stack.ollama is not None:
        lines.append(f'host = "{stack.ollama}"')
    else:
        lines.append('backend = "embedded"')
        lines += [f'path = "{path}"' for path in stack.gguf.values()]
    return "\n".join(lines)


def _print_status(found: list[services.ServiceStatus], json: bool) -> None:
    if json:
        print_json(
            [
                {
                    "name": one.name,
                    "state": one.state.value,
                    "pid": one.pid,
                    "address": one.address,
                    "version": one.version,
                    "log": str(one.log),
                    "started_at": one.started_at.isoformat(),
                }
                for one in found
            ]
        )
        return
    if found:
        columns = ("SERVICE", "STATE", "PID", "ADDRESS", "VERSION", "SINCE", "LOG")
        print_table(
            columns,
            [
                (one.name, one.state.value, str(one.pid), one.address, one.version, f"{one.started_at:%Y-%m-%d %H:%M}Z", str(one.log))
                for one in found
            ],
        )
