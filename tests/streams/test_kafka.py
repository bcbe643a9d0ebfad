"""Client settings: what the settings say reaches aiokafka, and what cannot connect says so."""

import ssl
from pathlib import Path

import pytest

from deploy.services.ports import free_ports
from schemas.settings import KafkaSettings, SettingsError
from streams.errors import KafkaUnavailable
from streams.exits import UNAVAILABLE
from streams.kafka import admin, client_options, consumer, producer, ssl_context


def test_plain_text_needs_an_address_only() -> None:
    assert client_options(KafkaSettings(bootstrap_servers="a:1, b:2,")) == {
        "bootstrap_servers": ["a:1", "b:2"],
        "security_protocol": "PLAINTEXT",
    }


def test_sasl_settings_are_passed_through() -> None:
    settings = KafkaSettings(security_protocol="SASL_PLAINTEXT", sasl_mechanism="SCRAM-SHA-512", sasl_username="u", sasl_password="p")
    options = client_options(settings)
    assert (options["sasl_mechanism"], options["sasl_plain_username"], options["sasl_plain_password"]) == ("SCRAM-SHA-512", "u", "p")
    assert "ssl_context" not in options


def test_tls_verifies_the_chain_and_the_name_unless_told_not_to() -> None:
    strict = ssl_context(KafkaSettings(security_protocol="SSL"))
    lenient = ssl_context(KafkaSettings(security_protocol="SSL", ssl_check_hostname=False))
    assert strict is not None
    assert lenient is not None
    assert (strict.check_hostname, strict.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert (lenient.check_hostname, lenient.verify_mode) == (False, ssl.CERT_REQUIRED)
    assert ssl_context(KafkaSettings()) is None


def test_a_certificate_that_is_missing_or_none_names_its_key(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"kafka\.ssl_cafile: .*no such file"):
        client_options(KafkaSettings(security_protocol="SSL", ssl_cafile=tmp_path / "ca.pem"))
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(SettingsError, match=r"ca\.pem: not usable"):
        client_options(KafkaSettings(security_protocol="SSL", ssl_cafile=tmp_path / "ca.pem"))


@pytest.mark.parametrize("client", [admin, consumer, producer])
async def test_a_broker_that_is_not_there_is_an_error_that_names_the_address_and_the_settings(client) -> None:  # type: ignore[no-untyped-def]
    (port,) = free_ports(1, [])
    with pytest.raises(KafkaUnavailable, match=rf"127\.0\.0\.1:{port}.*security_protocol \(PLAINTEXT\)") as refused:
        async with client(KafkaSettings(bootstrap_servers=f"127.0.0.1:{port}")):
            pass
    assert refused.value.exit_code == UNAVAILABLE
