import signal
from pathlib import Path

import orjson
import pytest

from deploy.services import OllamaServer
from tests.conftest import TEST_MODEL

pytestmark = pytest.mark.integration

CONFIG = """\
app = "{app}"
time = "replay"
kafka.bootstrap_servers = "{kafka}"
topics = {topics}
worker = {{ http_port = {port}, state_dir = "{state}" }}
model = {{ name = "MODEL", host = "HOST", retry_share = 0.0, breaker_failures = 100, deadline = "3m" }}
observations.key = "entity"
truths.key = "entity"
rewrite.policy = "never"
target = {{ field = "t", horizon = "1m" }}
"""


async def test_while_the_model_is_gone_predictions_say_so_and_nothing_is_lost(make_bench, tmp_path: Path) -> None:
    async with OllamaServer(root=tmp_path / "ollama", models=[TEST_MODEL]) as server:
        port = int(server.host.rpartition(":")[2])
        bench = await make_bench(CONFIG.replace("MODEL", TEST_MODEL).replace("HOST", server.host))
        await bench.worker.start()
        sent = 0

        async def step() -> dict:
            nonlocal sent
            identity, time = f"o{sent}", 1_700_000_000 + 60 * sent
            if sent:
                truth = {"entity": "a", "observation_id": f"o{sent - 1}", "value": float(sent), "time": time}
                await bench.send("truths", [(b"a", orjson.dumps(truth), None)])
            values = {"entity": "a", "id": identity, "time": time, "values": {"t": float(sent)}}
            await bench.send("observations", [(b"a", orjson.dumps(values), None)])
            sent += 1
            seen = await bench.until("predictions", lambda records: len(records) >= sent)
            return orjson.loads(seen[-1].value)

        with_model = [await step() for _ in range(3)]
        await server.stop(signal.SIGKILL)
        without = [await step() for _ in range(3)]
        async with OllamaServer(root=tmp_path / "ollama", models=[TEST_MODEL], port=port) as again:
            assert again.host == server.host
            back = [await step() for _ in range(3)]
    outcomes = await bench.until("outcomes", lambda records: len(records) >= sent - 1)
    assert [p["source"] for p in without] == ["fallback"] * 3
    assert {p["model"]["error"] for p in without} == {"unreachable"}
    # A model of this size may answer badly, which is a fallback too, but then it has answered.
    assert {p["model"].get("error", "") for p in (*with_model, *back)} <= {"", "invalid"}
    assert any(p["model"]["output_tokens"] for p in with_model)
    assert any(p["model"]["output_tokens"] for p in back)
    assert len(outcomes) == sent - 1
    assert await bench.worker.stop() == 0
