"""The commands that set up a machine, over a double of `deploy.services`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from deploy import services
from schemas.settings import load_settings
from streams import exits

if TYPE_CHECKING:
    from tests.streams.cli.conftest import Command

STACK = services.Stack(
    kafka="127.0.0.1:19092",
    kafka_version="4.1",
    ollama="http://127.0.0.1:21434",
    ollama_version="0.11.4",
    started=("kafka",),
    logs={"kafka-1": Path("/logs/kafka-1.log")},
)


def status(state: services.ServiceState) -> services.ServiceStatus:
    return services.ServiceStatus("kafka-1", state, 42, "127.0.0.1:19092", "4.1", Path("/logs/k.log"), datetime(2024, 1, 1, tzinfo=UTC))


class Calls:
    """Stands in for the services, and keeps what was asked of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.found: list[services.ServiceStatus] = []
        for name in ("up", "down", "status", "pull", "fetch_gguf"):
            monkeypatch.setattr(services, name, getattr(self, name))

    async def up(self, kafka: str, ollama: str | None, **about: Any) -> services.Stack:
        self.asked.append((kafka, ollama, about["models"], about["embedded"], about["kafka_options"]))
        about["progress"]("kafka", "starting Kafka 4.1", 0.5)
        return STACK

    async def down(self, **_: Any) -> list[services.ServiceStatus]:
        return self.found

    async def status(self) -> list[services.ServiceStatus]:
        return self.found

    async def pull(self, name: str, host: str, **_: Any) -> None:
        self.asked.append((name, host))

    async def fetch_gguf(self, model: services.Model, **_: Any) -> Path:
        return Path("/models") / model.file_name


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


def test_up_prints_the_lines_that_a_settings_file_needs(command: Command, calls: Calls, tmp_path: Path) -> None:
    ran = command("services", "up")
    assert ran.code == exits.OK
    (tmp_path / "made.toml").write_text(ran.out)
    settings = load_settings(tmp_path / "made.toml")
    assert (settings.kafka.bootstrap_servers, settings.model.host) == (STACK.kafka, STACK.ollama)
    assert "kafka: starting Kafka 4.1 50%" in ran.err
    assert "/logs/kafka-1.log" in ran.err
    assert calls.asked == [("127.0.0.1:9092", "http://127.0.0.1:11434", ["qwen2.5-coder:1.5b"], False, {"security_protocol": "PLAINTEXT"})]


def test_up_hands_on_what_the_settings_name(command: Command, calls: Calls, tmp_path: Path) -> None:
    (tmp_path / "palimpsest.toml").write_text('[kafka]\nbootstrap_servers = "k:1"\n[model]\nbackend = "embedded"\nname = "smollm2:135m"')
    found = orjson.loads(command("services", "up", "--json").out)
    assert (found["kafka"], found["started"]) == (STACK.kafka, ["kafka"])
    assert calls.asked[0][:4] == ("k:1", None, ["smollm2:135m"], True)


def test_status_ends_with_1_where_a_service_is_dead(command: Command, calls: Calls) -> None:
    assert command("services", "status").code == exits.OK
    calls.found = [status(services.ServiceState.RUNNING)]
    ran = command("services", "status")
    assert (ran.code, ran.out.split("\t")[:3]) == (exits.OK, ["kafka-1", "running", "42"])
    calls.found = [status(services.ServiceState.DEAD)]
    assert command("services", "status").code == exits.FAILED
    (found,) = orjson.loads(command("services", "status", "--json").out)
    assert (found["state"], found["log"]) == ("dead", "/logs/k.log")


def test_down_tells_what_it_stopped(command: Command, calls: Calls) -> None:
    assert "nothing was started here" in command("services", "down").err
    calls.found = [status(services.ServiceState.STOPPED)]
    ran = command("services", "down")
    assert ran.code == exits.OK
    assert "kafka-1\tstopped" in ran.out


def test_a_service_that_does_not_start_ends_with_69(command: Command, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    async def up(*_: Any, **__: Any) -> None:
        raise services.StartFailed("Kafka ended while it was starting.")

    monkeypatch.setattr(services, "up", up)
    ran = command("services", "up")
    assert (ran.code, ran.err) == (exits.UNAVAILABLE, "error: Kafka ended while it was starting.\n")


def test_the_settings_model_is_pulled_unless_another_is_named(command: Command, calls: Calls) -> None:
    assert "qwen2.5-coder:1.5b" in command("models", "pull").err
    command("models", "pull", "smollm2:135m")
    assert calls.asked == [("qwen2.5-coder:1.5b", "http://127.0.0.1:11434"), ("smollm2:135m", "http://127.0.0.1:11434")]


def test_for_the_embedded_backend_a_file_is_fetched(command: Command, calls: Calls, tmp_path: Path) -> None:
    (tmp_path / "palimpsest.toml").write_text('[model]\nbackend = "embedded"')
    assert command("models", "pull", "smollm2:135m").out == "/models/smollm2-135m.gguf\n"
    ran = command("models", "pull", "llama:900b")
    assert ran.code == exits.UNAVAILABLE
    assert "qwen2.5-coder:0.5b" in ran.err


def test_the_catalogue_is_listed(command: Command) -> None:
    assert command("models", "list").out.startswith("smollm2:135m\t")
    assert orjson.loads(command("models", "list", "--json").out)[0]["licence"] == "Apache-2.0"


def test_schemas_are_exported_and_checked(command: Command, tmp_path: Path) -> None:
    ran = command("schemas", "export", "--check", "out")
    assert ran.code == exits.FAILED
    assert "out/settings.json" in ran.out.splitlines()
    assert command("schemas", "export", "out").code == exits.OK
    assert (tmp_path / "out" / "settings.json").is_file()
    assert command("schemas", "export", "--check", "out") == (exits.OK, "", "")
