"""The JSON Schemas in the repository are those of the models."""

from pathlib import Path

import orjson

from schemas.export import COMMITTED, differing, export_schemas, write_schemas


def test_the_committed_schemas_are_in_step_with_the_models() -> None:
    assert differing(COMMITTED) == [], "`palimpsest schemas export schemas/json` brings them in step"


def test_every_message_the_state_and_the_settings_have_one() -> None:
    names = {
        "observation",
        "truth",
        "command",
        "prediction",
        "outcome",
        "memory-revision",
        "dead-letter-headers",
        "entity-state",
        "entity-report",
        "worker-report",
        "settings",
    }
    assert export_schemas().keys() == {f"{name}.json" for name in names}


def test_what_differs_is_named_be_it_changed_missing_or_too_many(tmp_path: Path) -> None:
    write_schemas(tmp_path)
    assert differing(tmp_path) == []
    (tmp_path / "truth.json").write_text("{}")
    (tmp_path / "command.json").unlink()
    (tmp_path / "old.json").write_text("{}")
    assert differing(tmp_path) == ["command.json", "old.json", "truth.json"]
    assert len(differing(tmp_path / "nowhere")) == len(export_schemas())


def test_durations_and_their_defaults_are_described_as_a_settings_file_writes_them() -> None:
    settings = orjson.loads(export_schemas()["settings.json"])
    alignment = settings["properties"]["alignment"]
    assert alignment["default"] == "1m"
    assert [form["type"] for form in alignment["anyOf"]] == ["number", "string"]
