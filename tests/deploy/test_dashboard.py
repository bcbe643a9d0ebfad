"""The dashboard and the alert rules ask for nothing that the worker does not export."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from deploy.grafana import dashboard
from schemas.settings import MetricSettings, Settings
from streams.metrics import Metrics

ALERTS = Path(dashboard.__file__).parents[1] / "prometheus" / "alerts.yml"

_PROMQL_WORDS = {
    "sum", "min", "max", "count", "by", "without", "on", "and", "or", "unless", "le", "time", "rate", "increase", "changes", "deriv",
    "histogram_quantile", "label_values",
}  # fmt: skip


def _metric_names(query: str) -> set[str]:
    """Every name in a query that is not PromQL's own, a label or a dashboard variable."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(?:by|on|without)\s*\([^)]*\)", " ", query)
    bare = re.sub(r"label_values\(([^,]*),[^)]*\)", r"\1", bare)
    return set(re.findall(r"(?<![\w$.])[A-Za-z_:][\w:]*", bare)) - _PROMQL_WORDS


def _families() -> dict[str, str]:
    """Name and type of everything a scrape can bring, label sets that are yet to come included."""
    metrics = Metrics(CollectorRegistry(), Settings(metrics=MetricSettings(entities=("a",))))
    return {family.name: family.type for family in metrics.registry.collect()}


def _exported() -> set[str]:
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
    return {name + suffix for name, kind in _families().items() for suffix in suffixes.get(kind, ("",))}


def _board() -> dict[str, Any]:
    board: dict[str, Any] = json.loads(dashboard.PATH.read_text(encoding="utf-8"))
    return board


def _queries(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key in ("expr", "query") and isinstance(value, str))
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _queries(child)


def _rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]


def test_the_committed_dashboard_is_what_the_generator_makes() -> None:
    assert dashboard.PATH.read_text(encoding="utf-8") == dashboard.build(), "run: python -m deploy.grafana.dashboard"


def test_every_metric_the_dashboard_asks_for_is_exported() -> None:
    exported = _exported()
    queries = [query for query in _queries(_board()) if "(" in query or "{" in query]
    asked = set().union(*(_metric_names(query) for query in queries))
    assert len(asked) > 40, "the names are no longer found in the queries"
    assert asked - exported == set()


def test_every_series_of_the_worker_has_a_place_on_the_dashboard() -> None:
    asked = " ".join(_queries(_board()))
    ours = {name for name in _families() if name.startswith(("palimpsest_", "gen_ai_"))}
    unseen = {name for name in ours if not re.search(rf"\b{name}(_total|_bucket|_sum|_count)?\b", asked)}
    # The ends of positions are what lag is made of; when the newest record was read stands behind lag in time.
    assert unseen == {"palimpsest_end_offset", "palimpsest_consumed_timestamp_seconds"}


def test_every_query_follows_the_chosen_jobs_and_workers() -> None:
    for query in _queries(_board()):
        for selector in re.findall(r"\{([^}]*)\}", query):
            assert selector.startswith('job=~"$job"'), query


def test_forecasts_are_drawn_against_truths_with_their_interval() -> None:
    panel = next(panel for panel in _board()["panels"] if "truths, and the forecasts" in panel["title"])
    names = {target["legendFormat"] for target in panel["targets"]}
    assert names == {"truth", "forecast", "low", "high"}
    band = next(item for item in panel["fieldConfig"]["overrides"] if item["matcher"]["options"] == "high")
    assert {"id": "custom.fillBelowTo", "value": "low"} in band["properties"]


def test_panels_have_numbers_of_their_own_and_do_not_overlap() -> None:
    panels = _board()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("rule", _rules(), ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_exported_metrics_and_says_what_to_do(rule: dict[str, Any]) -> None:
    # `up` is Prometheus's own.
    assert _metric_names(rule["expr"]) - _exported() - {"up"} == set()
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"]
