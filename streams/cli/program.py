"""The tree of commands."""

from __future__ import annotations

import importlib.util
from importlib.metadata import version as installed_version

import typer

from streams.cli import (
    compare,
    dead_letters,
    doctor,
    entity,
    evaluate,
    memory,
    models,
    replay,
    schemas,
    services,
    state,
    topics,
    worker,
    workers,
)
from streams.cli.console import print_text


def build_program() -> typer.Typer:
    """All commands of `palimpsest`."""
    program = typer.Typer(
        name="palimpsest",
        help="Forecasts per entity on Kafka streams, by a language model whose memory people can read. "
        "Start with [bold]palimpsest demo[/bold]; for your own topics, write a palimpsest.toml and ask [bold]palimpsest doctor[/bold].",
        no_args_is_help=True,
        rich_markup_mode="rich",
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    program.command("worker")(worker.worker)
    program.command("workers")(workers.workers)
    program.command("entity")(entity.entity)
    program.command("doctor")(doctor.doctor)
    program.add_typer(topics.program, name="topics")
    program.command("replay")(replay.replay)
    program.command("evaluate")(evaluate.evaluate)
    program.command("compare")(compare.compare)
    program.add_typer(memory.program, name="memory")
    program.add_typer(dead_letters.program, name="dead-letters")
    program.add_typer(state.program, name="state")
    program.add_typer(services.program, name="services")
    program.add_typer(models.program, name="models")
    program.add_typer(schemas.program, name="schemas")
    if importlib.util.find_spec("streams.demo.command") is not None:
        from streams.demo.command import demo

        program.command("demo")(demo)
    program.command("version")(version)
    return program


def version() -> None:
    """Print the version.

    Example: palimpsest version
    """
    print_text(installed_version("palimpsest"))
