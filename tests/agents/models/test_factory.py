"""Settings to model."""

from pathlib import Path

import pytest

from agents.errors import ModelMissing, ModelRefused
from agents.models.factory import build_model
from agents.models.gate import Gate
from agents.models.protocol import ChatMessage
from schemas.settings import ModelSettings, SettingsError

SCRIPTED = "agents.models.scripted:from_settings"


async def test_an_imported_factory_gets_the_settings_and_a_gate_in_front(limits):
    model = build_model(ModelSettings(backend="import", factory=SCRIPTED, name="tiny"))
    assert isinstance(model, Gate)
    assert (await model.identify()).name == "tiny"
    reply = await model.complete([ChatMessage("user", "?")], schema={"enum": ["sun"]}, limits=limits, purpose="predict")
    assert reply.text == '"sun"'


@pytest.mark.parametrize("factory", ["nowhere.at_all:make", "agents.models.scripted:nothing", "agents.models.scripted:SAMPLES"])
def test_a_factory_that_cannot_be_called_is_a_fault_of_the_settings(factory):
    with pytest.raises(SettingsError, match=r"model\.factory"):
        build_model(ModelSettings(backend="import", factory=factory))


async def test_an_ollama_model_is_made_from_its_settings(server, limits):
    server.says({"message": {"content": "text"}, "done": True, "done_reason": "stop"})
    settings = ModelSettings(name="tiny", host=server.url, temperature=0.5, seed=3, threads=1, keep_alive="10m")
    model = build_model(settings)
    await model.complete([ChatMessage("user", "?")], schema=None, limits=limits, purpose="predict")
    await model.close()
    [(_, body)] = server.bodies
    assert (body["model"], body["keep_alive"]) == ("tiny", "10m")
    assert body["options"] == {"temperature": 0.5, "seed": 3, "num_thread": 1, "num_ctx": 2048, "num_predict": 32}


def test_a_host_that_is_no_address_is_refused():
    with pytest.raises(ModelRefused):
        build_model(ModelSettings(host="http://127.0.0.1:port"))


async def test_an_embedded_model_without_its_file_is_missing_when_first_asked():
    model = build_model(ModelSettings(backend="embedded", name="tiny", path=Path("/nonexistent/tiny.gguf")))
    with pytest.raises(ModelMissing, match="palimpsest models pull tiny"):
        await model.identify()
    await model.close()


def test_an_embedded_model_of_an_unknown_name_needs_a_path():
    with pytest.raises(ModelMissing, match=r"model\.path"):
        build_model(ModelSettings(backend="embedded", name="unheard-of:1b"))


async def test_an_embedded_model_is_looked_for_where_pulled_models_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path))
    model = build_model(ModelSettings(backend="embedded", name="smollm2:135m"))
    with pytest.raises(ModelMissing, match=str(tmp_path)):
        await model.identify()
    await model.close()


async def test_an_openai_model_is_made_from_its_settings(server, limits):
    server.says({"choices": [{"message": {"content": "text"}, "finish_reason": "stop"}]})
    model = build_model(ModelSettings(backend="openai", name="tiny", host=server.url, temperature=0.5, seed=3, api_key="hunter2"))
    await model.complete([ChatMessage("user", "?")], schema=None, limits=limits, purpose="predict")
    await model.close()
    [(path, body)] = server.bodies
    assert path == "/v1/chat/completions"
    assert (body["model"], body["temperature"], body["seed"]) == ("tiny", 0.5, 3)


async def test_several_hosts_stand_behind_one_gate_under_their_addresses():
    hosts = ("http://127.0.0.1:1", "http://127.0.0.1:2")
    model = build_model(ModelSettings(hosts=hosts))
    assert tuple(host.name for host in model.account().hosts) == hosts
    await model.close()
