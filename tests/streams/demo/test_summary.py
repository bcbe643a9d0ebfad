"""Tests of `streams.demo.summary`."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console

from schemas.messages import ModelCall
from streams.demo.driver import Driver, Patience
from streams.demo.folder import RunFolder
from streams.demo.summary import Broker, render, summarise, whole_prompt

Make = Callable[..., Any]
BROKER = Broker("127.0.0.1:9092", "4.1.0")


async def summary_of(
    make_record: Make, make_settings: Make, worker: Any, tmp_path: Path, *, target: str = "temperature", steps: int = 12
) -> Any:
    record = make_record(target, steps)
    await Driver(record, worker, patience=Patience(prediction=30, outcome=30)).run()
    return summarise(record, make_settings(target), BROKER, RunFolder(tmp_path), completed=True)


def printed(summary: dict[str, Any]) -> str:
    out = io.StringIO()
    Console(file=out, width=140).print(render(summary))
    return out.getvalue()


@pytest.fixture
async def summary(make_record: Make, make_settings: Make, make_worker: Make, tmp_path: Path) -> dict[str, Any]:
    result: dict[str, Any] = await summary_of(make_record, make_settings, make_worker(modelless={4}), tmp_path)
    return result


async def test_it_counts_predictions_by_source_and_those_that_met_their_truth(summary: dict[str, Any]) -> None:
    assert (summary["steps"], summary["labelled"], summary["sources"]) == (12, 12, {"model": 11, "fallback": 1})
    assert summary["completed"] is True


async def test_it_names_the_model_and_the_broker(summary: dict[str, Any]) -> None:
    assert summary["model"] == {"name": "m", "digest": "sha256:abc", "backend": "ollama 1"}
    assert summary["broker"] == {"address": "127.0.0.1:9092", "version": "4.1.0"}


async def test_it_adds_up_calls_and_tokens_of_predictions_and_of_rewriting(summary: dict[str, Any]) -> None:
    assert summary["calls_by_purpose"] == {"prediction": 12, "rewriting": 8}
    assert summary["calls"] == 20
    assert summary["failed_calls"] == {"unreachable": 1}
    assert summary["tokens"] == {"prompt": 16 * 300, "cached": 16 * 200, "output": 16 * 10}
    assert summary["latency"]["prediction_call"] == {"p50": 1.5, "p95": 1.5}


async def test_it_counts_revisions_by_cause_and_what_was_refused(summary: dict[str, Any]) -> None:
    memory = summary["memory"]
    assert (memory["revisions"], memory["refused"], memory["refused_by"]) == ({"feedback": 2}, {"feedback": 2}, {"duplicate": 2})
    assert memory["first"] == ""
    assert memory["last"].startswith("# Rules")
    assert memory["max_words"] == len(memory["last"].split())


async def test_the_longest_prompt_is_the_longest_of_all_calls(summary: dict[str, Any]) -> None:
    assert (summary["max_prompt_tokens"], summary["context_budget"]) == (900, 4096)


@pytest.mark.parametrize(
    ("call", "tokens"),
    [
        (ModelCall(name="m", prompt_tokens=300, output_tokens=10, budgeted_tokens=700), 700),
        (ModelCall(name="m", prompt_tokens=900, output_tokens=10, budgeted_tokens=700), 910),
        # Of several calls the sum says nothing about the longest.
        (ModelCall(name="m", calls=3, prompt_tokens=900, output_tokens=10, budgeted_tokens=700), 700),
    ],
)
def test_a_prompt_is_as_long_as_it_was_counted_or_as_the_server_found_it(call: ModelCall, tokens: int) -> None:
    assert whole_prompt(call) == tokens


async def test_it_is_json(summary: dict[str, Any]) -> None:
    assert orjson.loads(orjson.dumps(summary)) == summary


async def test_people_are_shown_scores_sources_memories_and_where_to_look(summary: dict[str, Any]) -> None:
    text = printed(summary)
    for piece in (
        "persistence",
        "model's own answers",
        "11 model, 1 fallback",
        "memory at the beginning",
        "(empty)",
        "worker.log",
        "memory show",
    ):
        assert piece in text
    assert "demo-20140412-120000-{observations,truths,predictions,outcomes,memories,dead_letters}".replace("_", "-") in text


async def test_classes_are_shown_by_accuracy_and_rank(make_record: Make, make_settings: Make, make_worker: Make, tmp_path: Path) -> None:
    summary = await summary_of(make_record, make_settings, make_worker(target="class"), tmp_path, target="class")
    assert set(summary["scores"]["published"]) == {"n", "accuracy", "top_k"}
    assert set(summary["scores"]["persistence"]) == {"n", "accuracy"}
    text = printed(summary)
    assert "accuracy" in text
    assert "in the top 2" in text


async def test_a_run_that_saw_nothing_has_a_summary_too(make_record: Make, make_settings: Make, tmp_path: Path) -> None:
    summary = summarise(make_record(), make_settings(), BROKER, RunFolder(tmp_path), completed=False)
    assert (summary["labelled"], summary["scores"], summary["calls"], summary["memory"]["max_words"]) == (0, {}, 0, 0)
    assert "ended after 0 of 7 days" in printed(summary)
