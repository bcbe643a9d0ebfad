import json
import random
from pathlib import Path

import pytest

from agents import answers
from agents.errors import ModelError, ModelUnreachable
from agents.models.protocol import CallLimits, Reply
from schemas.settings import ModelSettings, TargetSettings
from tests.chaos import stub_model
from tests.chaos.stub_model import StubModel, answer

LIMITS = CallLimits(answer_tokens=32, context_tokens=4096, seconds=60.0)


async def at_once(seconds: float) -> None:
    """A call takes no time."""


@pytest.mark.parametrize("decimals", [0, 1, 4])
@pytest.mark.parametrize("reference", [None, 12.5])
def test_its_forecasts_are_valid_and_differ_from_call_to_call(decimals: int, reference: float | None) -> None:
    target = TargetSettings(field="t", decimals=decimals)
    schema = answers.forecast_schema(target, reference)
    texts = [answers_to(schema, seed) for seed in range(20)]
    values = {answers.read_forecast(Reply(text, "stop"), target, reference).value for text in texts}
    assert len(values) > 10


def test_its_proposals_are_valid() -> None:
    schema = answers.evidence_schema(["wind at least 10.0", "sky is clear"], [], note=answers.words_schema(["High wind", "Low wind"]))
    proposals = [answers.read_evidence(Reply(answers_to(schema, seed), "stop"), schema) for seed in range(40)]
    assert {proposal.notes for proposal in proposals} == {(), ("High wind then more follows.",), ("Low wind then less follows.",)}
    assert all(proposal.conditions for proposal in proposals)


def answers_to(schema: stub_model.Schema, seed: int) -> str:
    return json.dumps(answer(schema, random.Random(seed)))


async def test_while_the_file_is_there_the_model_is_away_for_calls_under_way_too(tmp_path: Path) -> None:
    outage = tmp_path / "away"

    async def in_between(seconds: float) -> None:
        outage.touch()

    model = StubModel(outage, chance=random.Random(1), sleep=in_between)
    for _ in range(2):
        with pytest.raises(ModelUnreachable, match="away"):
            await model.complete([], schema=None, limits=LIMITS, purpose="predict")
    outage.unlink()
    back = StubModel(outage, chance=random.Random(1), sleep=at_once)
    assert (await back.complete([], schema=None, limits=LIMITS, purpose="predict")).finish == "stop"


async def test_now_and_then_a_call_fails_or_brings_no_answer() -> None:
    model = StubModel(chance=random.Random(1), sleep=at_once)
    seen = []
    for _ in range(400):
        try:
            reply = await model.complete([], schema={"enum": ["yes"]}, limits=LIMITS, purpose="predict")
            seen.append(reply.text)
        except ModelError as error:
            seen.append(error.slug)
    assert {'"yes"', "unreachable", "timeout", "misbehaved", "I would rather not say."} == set(seen)
    assert seen.count('"yes"') > 350


async def test_the_environment_names_its_outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outage = tmp_path / "away"
    outage.touch()
    monkeypatch.setenv(stub_model.OUTAGE_VARIABLE, str(outage))
    model = stub_model.from_settings(ModelSettings(backend="import", factory="tests.chaos.stub_model:from_settings"))
    with pytest.raises(ModelUnreachable):
        await model.complete([], schema=None, limits=LIMITS, purpose="predict")
    assert (await model.identify()).name == "stub"
    await model.close()
