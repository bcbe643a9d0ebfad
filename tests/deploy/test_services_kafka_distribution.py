"""Kafka's jars against their pinned checksums."""

import hashlib
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from deploy.services import ChecksumMismatch, KafkaCluster, MissingTool
from deploy.services.kafka_distribution import KAFKA_VERSION, POM, kafka_jars, pinned_checksums, verify_jars


def jar(directory: Path, name: str, content: bytes) -> str:
    (directory / name).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def test_exactly_the_pinned_jars_are_accepted(tmp_path: Path) -> None:
    verify_jars(tmp_path, {"a.jar": jar(tmp_path, "a.jar", b"a"), "b.jar": jar(tmp_path, "b.jar", b"b")})


def test_a_different_a_missing_and_an_unexpected_jar_are_refused_by_name(tmp_path: Path) -> None:
    right = jar(tmp_path, "a.jar", b"a")
    jar(tmp_path, "b.jar", b"tampered with")
    jar(tmp_path, "d.jar", b"who sent this?")
    with pytest.raises(ChecksumMismatch) as refusal:
        verify_jars(tmp_path, {"a.jar": right, "b.jar": "0" * 64, "c.jar": "1" * 64})
    message = str(refusal.value)
    assert "b.jar (SHA-256" in message
    assert "c.jar (missing)" in message
    assert "d.jar (not expected)" in message
    assert "a.jar" not in message


def test_the_pinned_jars_are_those_of_the_pom() -> None:
    pom = ElementTree.fromstring(POM.read_text())
    names = {"m": "http://maven.apache.org/POM/4.0.0"}
    assert pom.findtext("m:properties/m:kafka.version", namespaces=names) == KAFKA_VERSION
    pinned = pinned_checksums()
    for dependency in pom.iterfind("m:dependencies/m:dependency", names):
        version = dependency.findtext("m:version", namespaces=names)
        version = KAFKA_VERSION if version == "${kafka.version}" else version
        assert f"{dependency.findtext('m:artifactId', namespaces=names)}-{version}.jar" in pinned


async def test_without_java_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MissingTool, match="Running Kafka needs 'java'"):
        await kafka_jars(tmp_path)


@pytest.mark.parametrize(("nodes", "copies", "quorum"), [(1, "1", "1"), (2, "2", "2"), (3, "3", "2"), (5, "3", "2")])
def test_internal_topics_have_as_many_copies_as_the_nodes_allow(tmp_path: Path, nodes: int, copies: str, quorum: str) -> None:
    cluster = KafkaCluster(nodes=nodes, root=tmp_path, properties={"message.max.bytes": "1000"})
    cluster._choose_identity()
    settings = cluster.node_properties(nodes)
    assert settings["offsets.topic.replication.factor"] == settings["transaction.state.log.replication.factor"] == copies
    assert settings["transaction.state.log.min.isr"] == quorum
    assert settings["auto.create.topics.enable"] == "false"
    assert settings["controller.quorum.voters"].count("@127.0.0.1:") == nodes
    assert settings["message.max.bytes"] == "1000"


def test_a_second_cluster_on_the_same_root_is_the_same_cluster(tmp_path: Path) -> None:
    first, second = KafkaCluster(root=tmp_path), KafkaCluster(root=tmp_path)
    first._choose_identity()
    second._choose_identity()
    assert (first.bootstrap, first._cluster_id) == (second.bootstrap, second._cluster_id)
