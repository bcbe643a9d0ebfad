"""Tests of `streams.demo.configuration`."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from schemas.settings import Settings
from streams.demo.configuration import Backend, load, worker_environment

MakeSettings = Callable[..., Settings]


def test_a_number_is_forecast_one_day_ahead_from_truths_on_a_topic(make_settings: MakeSettings) -> None:
    settings = make_settings("temperature")
    assert (settings.target.kind, settings.target.field, settings.target.unit, settings.target.decimals) == ("number", "temp_max", "°C", 1)
    assert (settings.target.horizon, settings.truths.source, settings.time) == (timedelta(days=1), "topic", "replay")
    assert (settings.rewrite.policy, settings.rewrite.mode, settings.memory.form, settings.publish.publish) == (
        "surprise",
        "inline",
        "evidence",
        "guarded",
    )


def test_a_class_is_forecast_among_five_labels(make_settings: MakeSettings) -> None:
    target = make_settings("class").target
    assert (target.kind, target.field, target.top_k) == ("category", "weather", 2)
    assert target.labels == ("drizzle", "fog", "rain", "snow", "sun")


def test_application_and_all_topics_are_called_after_the_run(make_settings: MakeSettings) -> None:
    settings = make_settings()
    assert settings.app == "demo-20140412-120000"
    names = [name for name in settings.topics.model_dump().values() if isinstance(name, str)]
    assert len(names) == 7
    assert all(name.startswith("demo-20140412-120000-") for name in names)


def test_a_model_in_the_workers_own_process_is_named_by_its_file(make_settings: MakeSettings) -> None:
    model = make_settings(backend=Backend("qwen2.5-coder:1.5b", None, Path("/cache/a model.gguf"))).model
    assert (model.backend, model.path) == ("embedded", Path("/cache/a model.gguf"))


def test_production_topics_in_the_environment_do_not_reach_a_run(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST__TOPICS__OBSERVATIONS", "production")
    monkeypatch.setenv("PALIMPSEST__APP", "production")
    settings = make_settings()
    assert "production" not in (settings.app, settings.topics.observations)


def test_the_worker_gets_the_environment_without_settings_that_are_not_for_the_demo() -> None:
    environment = {
        "PATH": "/bin",
        "PALIMPSEST_CACHE": "/cache",
        "PALIMPSEST__TOPICS__TRUTHS": "production",
        "PALIMPSEST__APP": "production",
        "PALIMPSEST__KAFKA__SASL_PASSWORD": "secret",
        "PALIMPSEST__MODEL__TEMPERATURE": "0.2",
    }
    assert set(worker_environment(environment)) == {
        "PATH",
        "PALIMPSEST_CACHE",
        "PALIMPSEST__KAFKA__SASL_PASSWORD",
        "PALIMPSEST__MODEL__TEMPERATURE",
    }


def test_the_file_says_how_to_run_its_worker_again(make_settings: MakeSettings, tmp_path: Path) -> None:
    make_settings()
    path = tmp_path / "palimpsest.toml"
    text = path.read_text(encoding="utf-8")
    assert f"palimpsest worker -c {path}" in text
    assert load(path).worker.session_timeout == timedelta(seconds=6)
    assert tomllib.loads(text)["worker"]["http_port"] == 9464
