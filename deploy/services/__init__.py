"""Kafka, Ollama and models on this machine, for people without containers.

:func:`up` uses what is there and starts what is missing, :func:`status` tells, :func:`down` stops exactly what was started.
:class:`KafkaCluster` and :class:`OllamaServer` are also context managers, for tests that want a broker or a server to throw away.
"""

from deploy.services.cache import cache_directory, state_directory
from deploy.services.catalogue import Model, list_models
from deploy.services.errors import (
    ChecksumMismatch,
    MissingTool,
    ServiceError,
    StartFailed,
    TemplateMismatch,
    ToolFailed,
    UnknownModel,
    Unreachable,
)
from deploy.services.gguf import fetch_gguf, gguf_path
from deploy.services.kafka import KafkaCluster
from deploy.services.models import pull
from deploy.services.ollama import OllamaServer
from deploy.services.progress import Progress, lines, silent
from deploy.services.stack import ServiceState, ServiceStatus, Stack, addresses, down, status, up

__all__ = [
    "ChecksumMismatch",
    "KafkaCluster",
    "MissingTool",
    "Model",
    "OllamaServer",
    "Progress",
    "ServiceError",
    "ServiceState",
    "ServiceStatus",
    "Stack",
    "StartFailed",
    "TemplateMismatch",
    "ToolFailed",
    "UnknownModel",
    "Unreachable",
    "addresses",
    "cache_directory",
    "down",
    "fetch_gguf",
    "gguf_path",
    "lines",
    "list_models",
    "pull",
    "silent",
    "state_directory",
    "status",
    "up",
]
