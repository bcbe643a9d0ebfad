"""What is there for people with containers."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import deploy
from deploy.services.kafka_distribution import KAFKA_VERSION
from deploy.services.ollama_binary import OLLAMA_VERSION

DEPLOY = Path(deploy.__file__).parent
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def services() -> list[Any]:
    return [pytest.param(service, id=name) for name, service in COMPOSE["services"].items()]


@pytest.mark.parametrize("service", services())
def test_images_are_pinned(service: dict[str, Any]) -> None:
    assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])


@pytest.mark.parametrize("service", services())
def test_ports_are_open_to_this_machine_only(service: dict[str, Any]) -> None:
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


@pytest.mark.parametrize("service", services())
def test_mounts_come_from_a_volume_or_a_directory_of_this_repository(service: dict[str, Any]) -> None:
    for mount in service.get("volumes", []):
        source = mount.split(":")[0]
        assert source in COMPOSE["volumes"] or source == "./grafana/dashboards" or (DEPLOY / source).is_dir()


def test_versions_are_those_of_the_native_services() -> None:
    assert COMPOSE["services"]["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
    assert COMPOSE["services"]["ollama"]["image"] == f"ollama/ollama:{OLLAMA_VERSION}"


def test_prometheus_scrapes_the_worker_on_the_host() -> None:
    settings = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    [job] = settings["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["host.docker.internal:9464"]}]
    assert "host.docker.internal:host-gateway" in COMPOSE["services"]["prometheus"]["extra_hosts"]


def test_grafana_finds_prometheus_and_the_dashboards() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    [source] = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    [provider] = yaml.safe_load((provisioning / "dashboards" / "palimpsest.yaml").read_text())["providers"]
    targets = [mount.split(":")[1] for mount in COMPOSE["services"]["grafana"]["volumes"]]
    assert provider["options"]["path"] in targets
