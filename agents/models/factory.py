"""Makes the language model that the settings ask for."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from agents.errors import ModelMissing
from agents.models.gate import Gate
from agents.models.protocol import LanguageModel
from schemas.settings import ModelSettings, SettingsError


def build_model(settings: ModelSettings) -> Gate:
    """Return the model of the settings' backend, with a `Gate` in front of its hosts. Connects to nothing and loads nothing yet.

    Raises
    ------
    SettingsError
        `factory` names nothing that can be imported and called.
    ModelMissing
        No path is given for an embedded model, and no file is known under its name.
    ModelRefused
        A host is no address.
    """
    return Gate({place: _backend(settings, place) for place in settings.places}, settings)


def _backend(settings: ModelSettings, place: str) -> LanguageModel:
    if settings.backend == "import":
        return _imported(settings)
    if settings.backend == "embedded":
        from agents.models.embedded import EmbeddedModel

        return EmbeddedModel(
            settings.name,
            settings.path or _cached(settings.name),
            context_tokens=settings.context_budget,
            temperature=settings.temperature,
            seed=settings.seed,
            threads=settings.threads,
        )
    if settings.backend == "openai":
        from agents.models.openai import OpenAIModel

        return OpenAIModel(
            settings.name,
            place,
            api_key=settings.api_key,
            temperature=settings.temperature,
            seed=settings.seed,
            connect_timeout=settings.connect_timeout,
            connections=settings.slots,
        )
    from agents.models.ollama import OllamaModel

    return OllamaModel(
        settings.name,
        place,
        temperature=settings.temperature,
        seed=settings.seed,
        threads=settings.threads,
        keep_alive=settings.keep_alive,
        connect_timeout=settings.connect_timeout,
        connections=settings.slots,
    )


def _imported(settings: ModelSettings) -> LanguageModel:
    module, _, name = settings.factory.partition(":")
    try:
        factory = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"model.factory: {settings.factory!r} cannot be imported: {error}") from error
    if not callable(factory):
        raise SettingsError(f"model.factory: {settings.factory!r} is not callable")
    model: LanguageModel = factory(settings)
    return model


def _cached(name: str) -> Path:
    """Return where `palimpsest models pull` keeps a model's file."""
    from deploy.services.errors import UnknownModel
    from deploy.services.gguf import gguf_path

    try:
        return gguf_path(name)
    except UnknownModel as error:
        raise ModelMissing(f"the embedded model needs `model.path`: {error}") from error
