"""Cells: every arm on a short stream, by delayed progressive validation, on a model that reads what it is shown."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from agents.models.scripted import ScriptedModel, answer_from_schema
from streams.evaluation import cells
from streams.evaluation.arms import ARMS, settings_for
from streams.evaluation.dataset import DatasetError
from streams.evaluation.datasets.learnable import FAMILIES, learnable


def reader(messages, schema, purpose) -> str:
    """Answers what a matching rule or the newest row with the same station says; else what the schema allows first."""
    parts = schema["properties"]
    if purpose == "predict" and set(parts) == {"answer"}:
        said = messages[-1].content
        if rule := re.search(r"^- when .*: (low|medium|high) \(", said, re.MULTILINE):
            return json.dumps({"answer": rule[1]})
        station = re.search(r"station (\w+)", said.rpartition("predict:")[2])
        if station and (rows := re.findall(rf"station {station[1]},.* -> (low|medium|high)", "\n".join(m.content for m in messages))):
            return json.dumps({"answer": rows[-1]})
    return answer_from_schema(messages, schema, purpose)


async def run(name, data, tmp_path, answering=None, **sections):
    settings = settings_for(name, data.configured, sections)
    return await cells.run(name, data, settings, answering or ScriptedModel(reader), tmp_path / name, lambda index, recorded: None)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", [name for name in ARMS if name != "llm_as_rnn_judged"])
async def test_every_arm_answers_every_case_of_every_family(tmp_path, family, name) -> None:
    data = learnable(family, 1, 24)
    done = await run(name, data, tmp_path)
    assert [result.id for result in done.results] == [case.observation.id for case in data.cases]
    assert [result.truth for result in done.results] == [case.truth for case in data.cases]
    assert not [result.failed for result in done.results if result.failed]
    reads_themes = family == "paraphrased" and name in ("llm_as_rnn", "llm_as_rnn_blank")
    asked = {result.spent["predict"].calls + result.spent["predict"].remembered for result in done.results}
    assert asked == {2 if reads_themes else 1}


@pytest.mark.parametrize("name", ARMS)
async def test_a_cell_runs_again_from_its_record_to_the_byte(tmp_path, name) -> None:
    data = learnable("mapping", 2, 30)
    first = await run(name, data, tmp_path)
    again = await cells.run(name, data, settings_for(name, data.configured, {}), None, tmp_path / name, lambda index, recorded: None)
    assert again.results == first.results
    assert again.memories == first.memories
    assert again.model == first.model


async def test_what_comes_late_is_learned_late(tmp_path) -> None:
    data = learnable("mapping", 3, 30)
    late = replace(data, cases=tuple(replace(case, known_at=case.known_at + timedelta(hours=7)) for case in data.cases))
    model = ScriptedModel(reader)
    await run("fhc", late, tmp_path, model)
    shown = [call.messages[0].content.count(" -> ") for call in model.calls if call.purpose == "predict"]
    # A truth that comes seven hours later than the next observation is not there for the seven after that.
    assert max(shown) == 29 - 7
    assert shown == sorted(shown)


async def test_zero_shot_sees_nothing_of_the_past_and_full_history_all_of_it(tmp_path) -> None:
    data = learnable("mapping", 4, 20)
    seen = {}
    for name in ("zero_shot", "fhc"):
        model = ScriptedModel(reader)
        await run(name, data, tmp_path, model)
        seen[name] = [call.messages[0].content for call in model.calls]
    assert len(set(seen["zero_shot"])) == 1
    assert seen["fhc"][-1].count(" -> ") == 19


async def test_a_full_history_over_the_budget_drops_its_oldest_quarter_in_one_block(tmp_path) -> None:
    data = learnable("mapping", 5, 60)
    model = ScriptedModel(reader)
    await run("fhc", data, tmp_path, model, model={"context_budget": 700})
    rows = [call.messages[0].content.count(" -> ") for call in model.calls if call.purpose == "predict"]
    drops = [(before, after) for before, after in pairwise(rows) if after <= before]
    assert drops
    assert all(after == before + 1 - max(1, (before + 1) // 4) for before, after in drops)


async def test_a_blank_memory_is_rewritten_as_the_loop_s_and_read_by_nobody(tmp_path) -> None:
    data = learnable("mapping", 6, 40)
    model = ScriptedModel(reader)
    done = await run("llm_as_rnn_blank", data, tmp_path, model)
    assert any(entry.revision.accepted for entry in done.memories)
    assert all("(empty)" in call.messages[0].content for call in model.calls if call.purpose == "predict")


async def test_random_proposals_are_drawn_by_code_and_asked_of_no_model(tmp_path) -> None:
    data = learnable("mapping", 7, 40)
    for name in ("llm_as_rnn_random", "llm_as_rnn_enumerated"):
        model = ScriptedModel(reader)
        done = await run(name, data, tmp_path, model)
        assert {call.purpose for call in model.calls} == {"predict"}
        assert any(entry.revision.accepted for entry in done.memories)


async def test_an_error_is_retrieved_for_a_like_case_alone(tmp_path) -> None:
    data = learnable("mapping", 8, 40)
    model = ScriptedModel(lambda messages, schema, purpose: json.dumps({"answer": "low"}))
    await run("memprompt_error_retrieval", data, tmp_path, model)
    told = [call.messages[-1].content for call in model.calls if "right was: " in call.messages[-1].content]
    assert told
    for text in told:
        before, _, now = text.partition("\npredict: ")
        assert " -> low" not in before
        recalled = dict(part.split(" ", 1) for part in before.rpartition("right was: ")[2].partition(" -> ")[0].split(", "))
        wanted = dict(part.split(" ", 1) for part in now.split(", "))
        assert recalled.keys() == wanted.keys()
        assert sum(recalled[name] != wanted[name] for name in wanted) == 0


async def test_a_summary_is_asked_for_once_a_step_and_shown_from_then_on(tmp_path) -> None:
    data = learnable("mapping", 9, 12)
    model = ScriptedModel(
        lambda messages, schema, purpose: json.dumps(
            {"summary": f"case {len(messages[-1].content)}"} if "summary" in schema["properties"] else {"answer": "low"}
        )
    )
    done = await run("memprompt_summary_concat", data, tmp_path, model)
    assert all(result.spent["write"].calls + result.spent["write"].remembered == 1 for result in done.results)
    last = [call for call in model.calls if call.purpose == "predict"][-1]
    assert last.messages[0].content.count("\n- case ") == 11


async def test_the_published_loop_writes_its_text_anew_after_every_outcome_and_reads_nothing_else(tmp_path) -> None:
    data = learnable("mapping", 9, 6)
    written: list[str] = []

    def answer(messages, schema, purpose) -> str:
        if "memory" not in schema["properties"]:
            return json.dumps({"answer": "low"})
        written.append(f"text {len(written)}")
        return json.dumps({"memory": written[-1]})

    model = ScriptedModel(answer)
    done = await run("published_loop", data, tmp_path, model)
    assert all(result.spent["write"].calls == 1 for result in done.results)
    first, *others = (call.messages[0].content for call in model.calls if call.purpose == "predict")
    assert "Memory:" not in first
    for text, prompt in zip(written, others, strict=False):
        assert prompt.endswith(f"Memory:\n- {text}")


async def test_a_judged_loop_hears_of_no_truth_and_is_scored_against_it(tmp_path) -> None:
    data = learnable("mapping", 10, 30)
    other = replace(data, cases=tuple(replace(case, truth="high") for case in data.cases))
    seen = []
    for number, stream in enumerate((data, other)):
        model = ScriptedModel(
            lambda messages, schema, purpose: json.dumps({"a_score": 2}) if purpose == "judge" else reader(messages, schema, purpose)
        )
        done = await run("llm_as_rnn_judged", stream, tmp_path / str(number), model)
        seen.append([call.messages for call in model.calls])
        assert [result.truth for result in done.results] == [case.truth for case in stream.cases]
        assert all(result.verdict == 0.2 and not result.naive for result in done.results)
        assert any(call.purpose == "judge" for call in model.calls)
    assert seen[0] == seen[1]


async def test_a_number_is_not_judged(tmp_path) -> None:
    with pytest.raises(DatasetError, match="number"):
        await run("llm_as_rnn_judged", learnable("offset", 1, 10), tmp_path)
