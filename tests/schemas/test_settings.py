"""Settings: one file, variables over it, and errors that name file, key and what is allowed."""

from datetime import timedelta
from pathlib import Path

import pytest

from schemas.settings import KafkaSettings, SettingsError, load_settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "palimpsest.toml"


def fault(file: Path, text: str) -> str:
    file.write_text(text)
    with pytest.raises(SettingsError) as refused:
        load_settings(file)
    return str(refused.value)


def test_without_a_file_the_defaults_hold() -> None:
    settings = load_settings()
    assert settings.app == "palimpsest"
    assert settings.memory.words == 200
    assert settings.model.context_budget == 4096


def test_ten_lines_are_enough_for_ones_own_topics(file: Path) -> None:
    file.write_text(
        """
        app = "sensors"
        [topics]
        observations = "plant.readings"
        [observations]
        entity = "sensor.id"
        time = "ts"
        values = { temperature = "t" }
        [truths]
        source = "next-observation"
        tolerance = "5 min"
        [target]
        field = "temperature"
        horizon = "1h"
        """
    )
    settings = load_settings(file)
    assert settings.observations.values == {"temperature": "t"}
    assert settings.target.horizon == timedelta(hours=1)
    assert settings.truths.tolerance == timedelta(minutes=5)


def test_a_variable_goes_over_the_file_and_an_argument_over_both(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('app = "from-file"\n[kafka]\nbootstrap_servers = "file:1"\n[topics]\npartitions = 8')
    monkeypatch.setenv("PALIMPSEST__KAFKA__BOOTSTRAP_SERVERS", "variable:2")
    settings = load_settings(file)
    assert (settings.app, settings.kafka.bootstrap_servers, settings.topics.partitions) == ("from-file", "variable:2", 8)
    assert load_settings(file, app="argument").app == "argument"


def test_a_missing_file_and_one_that_is_no_toml_are_named(file: Path) -> None:
    with pytest.raises(SettingsError, match="no such file"):
        load_settings(file)
    assert str(file) in fault(file, "app = ")
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="not TOML"):
        load_settings(file)


def test_an_unknown_key_is_named_with_its_file(file: Path) -> None:
    assert fault(file, "[kafka]\nbootstrap = 'x'") == f"{file}: kafka.bootstrap: unknown key"


@pytest.mark.parametrize(
    ("text", "key", "allowed"),
    [
        ('[observations]\nkey = "none"', "observations.key", "'entity' or 'any'"),
        ("[publish]\nlevel = 1.0", "publish.level", "less than 1"),
        ("[bounds]\nrecord = 5", "bounds.record", "greater than or equal to 16384"),
        ('[target]\nkind = "category"', "target", "at least two"),
        ('[target]\nhorizon = "soon"', "target.horizon", '"6h"'),
        ("[target]\nrange = [5, 5]", "target", "[lowest, highest]"),
        ('[topics]\ntruths = "observations"', "topics", "used twice: observations"),
        ('[kafka]\nsecurity_protocol = "SASL_SSL"', "kafka", "sasl_username and sasl_password"),
        ('[model]\nbackend = "import"', "model", 'factory = "package.module:function"'),
        ('[worker]\ndrain_deadline = "5m"', "(top level)", "at least 25s above worker.drain_deadline"),
        ('[worker]\ndrain_deadline = "96s"', "(top level)", "what was drained is committed"),
        ('app = "a b"', "app", "pattern"),
    ],
)
def test_a_value_that_is_not_allowed_is_named_with_what_is(file: Path, text: str, key: str, allowed: str) -> None:
    said = fault(file, text)
    assert said.startswith(f"{file}: {key}")
    assert allowed in said


def test_a_drain_that_leaves_time_to_hand_over_is_allowed(file: Path) -> None:
    file.write_text('[worker]\ndrain_deadline = "95s"')
    assert load_settings(file).worker.drain_deadline == timedelta(seconds=95)


def test_all_faults_are_told_at_once(file: Path) -> None:
    said = fault(file, 'colour = "red"\n[bounds]\npending = 0\n[memory]\nwords = "many"')
    assert {line.split(": ")[1] for line in said.splitlines()} == {"bounds.pending", "memory.words", "colour"}


def test_a_fault_in_a_variable_names_the_variable(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("")
    monkeypatch.setenv("PALIMPSEST__BOUNDS__PENDING", "none")
    with pytest.raises(SettingsError, match=r"^PALIMPSEST__BOUNDS__PENDING: bounds\.pending: "):
        load_settings(file)


def test_a_password_is_shown_in_no_error_and_no_repr(file: Path) -> None:
    assert "hunter2" not in fault(file, '[kafka]\nsasl_password = ["hunter2"]')
    assert "hunter2" not in repr(KafkaSettings(sasl_username="u", sasl_password="hunter2", security_protocol="SASL_SSL"))


@pytest.mark.parametrize(("path", "fits"), [("entity", True), ("@key", True), ("sensor.id", False)])
def test_commands_have_their_own_form_so_their_entity_is_in_the_field_or_the_key(path: str, fits: bool) -> None:
    if fits:
        assert load_settings(commands={"entity": path}).commands.entity == path
    else:
        with pytest.raises(SettingsError, match=r"commands\.entity"):
            load_settings(commands={"entity": path})


def test_entities_may_not_be_forgotten_while_their_predictions_wait() -> None:
    with pytest.raises(SettingsError, match=r"longer than truths\.expire_after"):
        load_settings(entity_ttl="1h", truths={"expire_after": "1h"})
    assert load_settings(entity_ttl="2h", truths={"expire_after": "1h"}).entity_ttl == timedelta(hours=2)


def test_several_hosts_take_the_place_of_one() -> None:
    settings = load_settings(model={"hosts": ["http://a:1", "http://b:1"]}).model
    assert settings.places == ("http://a:1", "http://b:1")
    assert settings.host == "http://a:1", "whoever asks one host asks the first"
    assert load_settings(model={"host": "http://a:1"}).model.places == ("http://a:1",)
    assert load_settings(model={"backend": "embedded"}).model.places == ("embedded",)


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ('host = "http://c:1"\nhosts = ["http://a:1", "http://b:1"]', "either host or hosts"),
        ('hosts = ["http://a:1", "http://a:1"]', "named twice in hosts: http://a:1"),
        ('backend = "embedded"\nhosts = ["http://a:1"]', 'backend = "embedded" has none'),
        ('rewrite_max_wait = "2m"', "shorter than rewrite_deadline"),
        ("rewrite_share = 1.0", "less than or equal to 0.9"),
        ("retries = 1", "unknown key"),
    ],
)
def test_what_stands_in_front_of_the_model_must_make_sense(file: Path, text: str, allowed: str) -> None:
    assert allowed in fault(file, f"[model]\n{text}")


def test_the_models_key_comes_from_a_variable_and_is_shown_nowhere(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "hunter2" not in fault(file, '[model]\napi_key = ["hunter2"]')
    monkeypatch.setenv("PALIMPSEST__MODEL__API_KEY", "hunter2")
    settings = load_settings()
    assert settings.model.api_key == "hunter2"
    assert "hunter2" not in repr(settings)
