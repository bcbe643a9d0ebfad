"""Makes `dashboards/palimpsest.json`: `python -m deploy.grafana.dashboard` writes it.

The JSON is committed, so that nobody needs this program or its library to use the dashboard; a test keeps the two in step and checks
that every metric in a query is one that the worker exports.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueGraphMode,
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    LineInterpolation,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

PATH: Final = Path(__file__).parent / "dashboards" / "palimpsest.json"

#: Every selector in a query is written `{@}` or `{@,more="..."}`; this is what the `@` stands for.
SELECTED: Final = 'job=~"$job",instance=~"$instance"'
_DATASOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
_HEIGHT: Final = 8

#: (PromQL with `@`, legend)
Query = tuple[str, str]


def _targets(panel: Any, queries: tuple[Query, ...], **flags: bool) -> None:
    for index, (expr, legend) in enumerate(queries):
        target = prometheus.Dataquery().expr(expr.replace("@", SELECTED)).legend_format(legend).ref_id(chr(ord("A") + index))
        if flags.get("instant"):
            target = target.instant()
        if flags.get("table"):
            target = target.format(PromQueryFormat.TABLE)
        panel.with_target(target)


def _graph(
    title: str,
    unit: str,
    *queries: Query,
    says: str = "",
    width: int = 8,
    stacked: bool = False,
    low: float | None = None,
    high: float | None = None,
) -> timeseries.Panel:
    panel = (
        timeseries.Panel()
        .title(title)
        .description(says)
        .unit(unit)
        .datasource(_DATASOURCE)
        .span(width)
        .height(_HEIGHT)
        .line_width(1)
        .fill_opacity(25 if stacked else 8)
        .show_points(VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions().show_legend(True).display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM).calcs([])
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    if low is not None:
        panel.min(low)
    if high is not None:
        panel.max(high)
    _targets(panel, queries)
    return panel


def _number(title: str, unit: str, expr: str, *, says: str = "", steps: tuple[tuple[float | None, str], ...] = ()) -> stat.Panel:
    colours = [Threshold(value=value, color=color) for value, color in steps or ((None, "text"),)]
    panel = (
        stat.Panel()
        .title(title)
        .description(says)
        .unit(unit)
        .datasource(_DATASOURCE)
        .span(4)
        .height(4)
        .graph_mode(BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(colours))
    )  # fmt: skip
    _targets(panel, ((expr, title),))
    return panel


def _quantiles(histogram: str, by: str = "", legend: str = "", more: str = "") -> tuple[Query, ...]:
    labels = f"le, {by}" if by else "le"
    named = f" {legend}" if legend else ""
    return tuple(
        (f"histogram_quantile({q}, sum by ({labels}) (rate({histogram}_bucket{{@{more}}}[$__rate_interval])))", f"p{q * 100:.0f}{named}")
        for q in (0.5, 0.95)
    )


def _rate(counter: str, by: str, more: str = "") -> Query:
    return f"sum by ({by}) (rate({counter}{{@{more}}}[$__rate_interval]))", " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))


def _of_entity(gauge: str, legend: str) -> Query:
    return f'max(palimpsest_entity_{gauge}{{@,entity="$entity"}})', legend


def _fixed(name: str, **properties: object) -> tuple[str, list[DynamicConfigValue]]:
    return name, [DynamicConfigValue(id_val=key.replace("__", "."), value=value) for key, value in properties.items()]


def _banded(panel: timeseries.Panel, forecast: str) -> timeseries.Panel:
    """Draw `low` to `high` as a band, values as steps, because a gauge holds its value until the next event."""
    panel.draw_style(GraphDrawStyle.LINE).line_interpolation(LineInterpolation.STEP_AFTER).fill_opacity(0)
    grey = {"mode": "fixed", "fixedColor": "rgba(130, 150, 180, 0.4)"}
    for name, properties in (
        _fixed("low", color=grey, custom__lineWidth=0),
        _fixed("high", color=grey, custom__lineWidth=0, custom__fillBelowTo="low", custom__fillOpacity=25),
        _fixed(forecast, color={"mode": "fixed", "fixedColor": "blue"}, custom__lineWidth=2),
        _fixed("truth", color={"mode": "fixed", "fixedColor": "orange"}, custom__lineWidth=2),
    ):
        panel.override_by_name(name, properties)
    return panel


def _overview(board: dashboard.Dashboard) -> None:
    board.with_row(dashboard.Row("Overview and freshness"))
    for panel in (
        _number("Workers", "short", "count(palimpsest_window{@})", steps=((None, "red"), (1, "green"))),
        _number("Predictions per second", "short", "sum(rate(palimpsest_predictions_total{@}[$__rate_interval]))"),
        _number(
            "Predictions by the model",
            "percentunit",
            'sum(rate(palimpsest_predictions_total{@,source="model"}[$window])) / sum(rate(palimpsest_predictions_total{@}[$window]))',
            says="The rest are fallbacks: the model did not answer, or not usably. The LLM row says why.",
            steps=((None, "red"), (0.5, "orange"), (0.9, "green")),
        ),
        _number(
            "Newest event predicted",
            "s",
            "time() - max(palimpsest_newest_prediction_event_timestamp_seconds{@})",
            says="Age, by the wall clock, of the newest observation that has a prediction. In a replay of old data it is the data's age.",
        ),
        _number("Lag", "short", "sum(palimpsest_lag_records{@})", says="Records not done, over all inputs and partitions."),
        _number(
            "Dead letters in an hour",
            "short",
            "sum(increase(palimpsest_dead_lettered_total{@}[1h]))",
            steps=((None, "green"), (1, "orange"), (100, "red")),
        ),
    ):
        board.with_panel(panel)
    board.with_panel(
        _banded(
            _graph(
                "$entity: truths, and the forecasts made for them",
                "none",
                _of_entity("truth", "truth"),
                _of_entity("matched_forecast", "forecast"),
                _of_entity("matched_forecast_low", "low"),
                _of_entity("matched_forecast_high", "high"),
                says="Each truth, when it arrived, beside the forecast that it belongs to and that forecast's interval. "
                "Numbers only; entities are named in metrics.entities.",
                width=16,
            ),
            "forecast",
        )
    )
    board.with_panel(
        _banded(
            _graph(
                "$entity: newest forecast",
                "none",
                _of_entity("forecast", "forecast"),
                _of_entity("forecast_low", "low"),
                _of_entity("forecast_high", "high"),
                says="What is expected next, when it was published. Its truth is still to come.",
            ),
            "forecast",
        )
    )
    for graph in (
        _graph(
            "From event to prediction",
            "s",
            *_quantiles("palimpsest_prediction_event_delay_seconds"),
            says="From an observation's event time to its prediction, by the clock the worker runs on.",
        ),
        _graph(
            "From read to commit",
            "s",
            *_quantiles("palimpsest_processing_seconds", "input", "{{input}}"),
            says="What a record takes, the wait for its entity's turn and for the model included.",
        ),
        _graph("Predictions by source", "short", _rate("palimpsest_predictions_total", "source"), stacked=True, low=0),
        _graph("Records read", "short", _rate("palimpsest_consumed_total", "input"), low=0),
        _graph("Records done, by outcome", "short", _rate("palimpsest_processed_total", "input, outcome"), stacked=True, low=0),
        _graph(
            "Observations, by outcome",
            "short",
            _rate("palimpsest_observations_total", "outcome"),
            says="conflated: overtaken or too old, learned from but not predicted.",
            stacked=True,
            low=0,
        ),
    ):
        board.with_panel(graph)


def _errors(board: dashboard.Dashboard) -> None:
    absolute = (
        "sum by (arm) (rate(palimpsest_prediction_absolute_error_sum{@%s}[$window]))"
        " / sum by (arm) (rate(palimpsest_prediction_absolute_error_count{@%s}[$window]))"
    )
    model, persistence = (absolute % ((f',arm="{arm}"',) * 2) for arm in ("model", "persistence"))
    board.with_row(dashboard.Row("Errors by arm"))
    for panel in (
        _graph(
            "Mean absolute error",
            "none",
            (absolute % ("", ""), "{{arm}}"),
            says="In the target's unit, over the chosen window, first truths only. published: what was predicted; model: its own answer.",
            low=0,
        ),
        _graph(
            "Hit rate",
            "percentunit",
            (
                "sum by (arm) (rate(palimpsest_prediction_hits_total{@}[$window]))"
                " / sum by (arm) (rate(palimpsest_prediction_scored_total{@}[$window]))",
                "{{arm}}",
            ),
            says="Labels and texts; numbers where target.hit_within is set.",
            low=0,
            high=1,
        ),
        _graph(
            "Model's error in persistence's",
            "none",
            (f"sum({model}) / sum({persistence})", "model / persistence"),
            says="Below 1 the model is better than 'same as last time'.",
            low=0,
        ),
        _graph(
            "Coverage of intervals",
            "percentunit",
            (
                "sum(rate(palimpsest_interval_covered_total{@}[$window])) / sum(rate(palimpsest_interval_scored_total{@}[$window]))",
                "held the truth",
            ),
            ("max(palimpsest_interval_level_ratio{@})", "aimed at"),
            low=0,
            high=1,
        ),
        _graph(
            "$entity: errors",
            "none",
            _of_entity("error", "published"),
            _of_entity("model_error", "model"),
            says="Truth less forecast; for labels and texts 1 is a miss.",
        ),
        _graph(
            "Judge's verdicts",
            "percentunit",
            (
                "sum(rate(palimpsest_judge_verdict_ratio_sum{@}[$window])) / sum(rate(palimpsest_judge_verdict_ratio_count{@}[$window]))",
                "mean verdict",
            ),
            says="Where a judge stands in for the truth; not a score against truth.",
            low=0,
            high=1,
        ),
    ):
        board.with_panel(panel)


def _model(board: dashboard.Dashboard) -> None:
    board.with_row(dashboard.Row("Language model"))
    for panel in (
        _graph(
            "Duration of calls",
            "s",
            *_quantiles("gen_ai_client_operation_duration_seconds", "gen_ai_request_model", "{{gen_ai_request_model}}", ',error_type=""'),
            says="Calls that were answered.",
        ),
        _graph("Calls, by outcome", "short", _rate("palimpsest_model_calls_total", "purpose, outcome"), stacked=True, low=0),
        _graph(
            "Tokens per second",
            "short",
            _rate("gen_ai_client_token_usage_sum", "gen_ai_token_type"),
            ("sum(rate(palimpsest_model_cached_tokens_total{@}[$__rate_interval]))", "input from the prefix cache"),
            low=0,
        ),
        _graph(
            "Where a second goes",
            "percentunit",
            _rate("palimpsest_model_seconds_total", "phase"),
            says="Seconds per second in each phase, by the server's own account. Their sum is the number of busy slots.",
            stacked=True,
            low=0,
        ),
        _graph(
            "Prompt and answer against the context budget",
            "short",
            *_quantiles("palimpsest_model_counted_tokens", "purpose", "{{purpose}}"),
            ("max(palimpsest_context_budget_tokens{@})", "budget"),
            ("sum(increase(palimpsest_prompt_alarms_total{@}[$__range]))", "prompts cut by the server, in this time"),
            says="As counted before the call.",
            low=0,
        ),
        _graph("Predictions without the model, by error", "short", _rate("palimpsest_fallback_predictions_total", "error"), low=0),
        _graph(
            "Slots held",
            "short",
            _rate("palimpsest_model_busy_seconds_total", "kind"),
            ("sum(palimpsest_model_slots{@})", "slots"),
            says="Slots held at once, on average, by what holds them. Near the number of slots there is more to do than the model can.",
            low=0,
        ),
        _graph(
            "Waiting for a slot",
            "short",
            ("sum by (kind) (palimpsest_model_waiting{@})", "{{kind}}s"),
            says="Calls in line, at all hosts.",
            stacked=True,
            low=0,
        ),
        _graph(
            "Wait for a slot",
            "s",
            *_quantiles("palimpsest_model_wait_seconds", "purpose", "{{purpose}}"),
            says="From a call's arrival until it was sent for good, earlier tries included. Calls that were answered.",
            low=0,
        ),
        _graph(
            "Put off, cut, tried again",
            "short",
            (
                'sum by (purpose, outcome) (rate(palimpsest_model_calls_total{@,outcome=~"shed|away"}[$__rate_interval]))',
                "{{purpose}} {{outcome}}",
            ),
            ("sum(rate(palimpsest_model_rewrites_cut_total{@}[$__rate_interval]))", "rewrites cut for a prediction"),
            ("sum by (outcome) (rate(palimpsest_model_retries_total{@}[$__rate_interval]))", "retries {{outcome}}"),
            says="shed: too much waits; away: all breakers are open. Feedback is kept then, and predictions come from the fallback.",
            low=0,
        ),
        _graph(
            "Breakers",
            "short",
            ("max by (host, instance) (palimpsest_model_breaker_state{@})", "{{host}} {{instance}}"),
            says="0 closed, 1 about to try, 2 open: the host has failed time and again and is left alone.",
            low=0,
            high=2,
        ),
        _graph(
            "Tokens by purpose",
            "short",
            ("sum by (purpose) (rate(palimpsest_model_input_tokens_total{@}[$__rate_interval]))", "{{purpose}} in"),
            ("sum by (purpose) (rate(palimpsest_model_output_tokens_total{@}[$__rate_interval]))", "{{purpose}} out"),
            ("sum by (purpose) (rate(palimpsest_model_remembered_total{@}[$__rate_interval]))", "{{purpose}} remembered, answers"),
            says="Per second. Remembered: answers to equal questions, which cost no tokens.",
            low=0,
        ),
    ):
        board.with_panel(panel)


def _memory(board: dashboard.Dashboard) -> None:
    board.with_row(dashboard.Row("Memory"))
    for panel in (
        _graph("Rewrites, by outcome", "short", _rate("palimpsest_rewrites_total", "outcome"), stacked=True, low=0),
        _graph("Revisions, by cause", "short", _rate("palimpsest_memory_revisions_total", "cause, outcome"), stacked=True, low=0),
        _graph(
            "Words of new revisions",
            "short",
            *_quantiles("palimpsest_memory_words"),
            ("max(palimpsest_memory_words_limit{@})", "limit"),
            low=0,
        ),
        _graph("Statements refused, by guard", "short", _rate("palimpsest_memory_statements_refused_total", "guard"), low=0),
        _graph(
            "Dropped from bounded lists",
            "short",
            _rate("palimpsest_dropped_total", "list"),
            says="Dropped pending predictions lose their truths: raise bounds.pending or predict less far ahead.",
            low=0,
        ),
        _graph("Commands, by outcome", "short", _rate("palimpsest_commands_total", "outcome"), low=0),
    ):
        board.with_panel(panel)


def _join(board: dashboard.Dashboard) -> None:
    board.with_row(dashboard.Row("Truths"))
    for panel in (
        _graph("Truths, by outcome", "short", _rate("palimpsest_truths_total", "outcome"), width=12, stacked=True, low=0),
        _graph(
            "Verification latency",
            "s",
            *_quantiles("palimpsest_verification_latency_seconds"),
            says="From an observation's arrival to its truth's; negative where the truth came first.",
            width=12,
        ),
    ):
        board.with_panel(panel)


def _kafka(board: dashboard.Dashboard) -> None:
    board.with_row(dashboard.Row("Kafka"))
    for panel in (
        _graph(
            "Lag in records",
            "short",
            ("max by (input, partition) (palimpsest_lag_records{@})", "{{input}}/{{partition}}"),
            low=0,
        ),
        _graph("Lag in time", "s", ("max by (input, partition) (palimpsest_lag_seconds{@})", "{{input}}/{{partition}}"), low=0),
        _graph(
            "Read but not committed",
            "short",
            (
                "max by (input, partition) (palimpsest_position_offset{@} - palimpsest_committed_offset{@})",
                "{{input}}/{{partition}}",
            ),
            says="What a crash would read again. One that grows hangs on its oldest record.",
            low=0,
        ),
        _graph(
            "In flight",
            "short",
            ("sum by (instance) (palimpsest_in_flight{@})", "{{instance}} records"),
            ("sum by (instance) (palimpsest_lanes{@})", "{{instance}} entities"),
            ("max(palimpsest_window{@})", "window of a worker"),
            low=0,
        ),
        _graph(
            "Age of the oldest in flight",
            "s",
            ("time() - min by (instance) (palimpsest_oldest_in_flight_start_timestamp_seconds{@})", "{{instance}}"),
            low=0,
        ),
        _graph("Dead letters, by reason", "short", _rate("palimpsest_dead_lettered_total", "reason"), stacked=True, low=0),
        _graph("Transactions per second", "short", _rate("palimpsest_transaction_seconds_count", "instance"), low=0),
        _graph("Duration of transactions", "s", *_quantiles("palimpsest_transaction_seconds"), low=0),
        _graph("Records in a transaction", "short", *_quantiles("palimpsest_transaction_writes"), low=0),
    ):
        board.with_panel(panel)


def _runtime(board: dashboard.Dashboard) -> None:
    board.with_row(dashboard.Row("Recovery and runtime"))
    versions = table.Panel().title("Versions").datasource(_DATASOURCE).span(12).height(_HEIGHT)
    _targets(versions, (("palimpsest_build_info{@}", ""), ("palimpsest_model_info{@}", "")), instant=True, table=True)
    versions.with_transformation(DataTransformerConfig(id_val="joinByField", options={"byField": "instance", "mode": "outer"}))
    shown = ("instance", "version", "faust", "aiokafka", "python", "name", "digest", "backend")
    versions.with_transformation(DataTransformerConfig(id_val="filterFieldsByName", options={"include": {"names": list(shown)}}))
    for panel in (
        _graph(
            "State still to be restored",
            "short",
            (
                "sum by (instance, partition) (palimpsest_recovery_goal_records{@} - palimpsest_recovery_done_records{@})",
                "{{instance}} {{partition}}",
            ),
            says="Changelog records.",
            low=0,
        ),
        _graph(
            "Restoring and rebalancing",
            "s",
            ("sum by (instance) (increase(palimpsest_recovery_seconds_sum{@}[$__rate_interval]))", "{{instance}} restoring"),
            ("sum by (instance) (increase(palimpsest_rebalance_seconds_sum{@}[$__rate_interval]))", "{{instance}} rebalancing"),
            low=0,
        ),
        _graph(
            "Rebalances and restarts",
            "short",
            ("sum by (instance) (increase(palimpsest_rebalance_seconds_count{@}[$window]))", "{{instance}} rebalances"),
            ("sum by (instance) (changes(palimpsest_restarts_total{@}[$window]))", "{{instance}} restarts"),
            low=0,
        ),
        _graph(
            "Delay of the event loop",
            "s",
            *_quantiles("palimpsest_event_loop_delay_seconds", "instance", "{{instance}}"),
            says="A loop that stands still for long answers no probe.",
            low=0,
        ),
        _graph("Processor", "percentunit", _rate("process_cpu_seconds_total", "instance"), says="1 is one core.", low=0),
        _graph("Memory", "bytes", ("sum by (instance) (process_resident_memory_bytes{@})", "{{instance}}"), low=0),
        _graph("Open files", "short", ("sum by (instance) (process_open_fds{@})", "{{instance}}"), width=6, low=0),
        _graph("Entities", "short", ("sum by (instance) (palimpsest_entities{@})", "{{instance}}"), width=6, stacked=True, low=0),
        versions,
    ):
        board.with_panel(panel)


def _variable(name: str, label: str, query: str, *, every: bool) -> dashboard.QueryVariable:
    variable = (
        dashboard.QueryVariable(name)
        .label(label)
        .query(query)
        .datasource(_DATASOURCE)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )
    if every:
        variable.multi(True).include_all(True).all_value(".*").current(VariableOption(selected=True, text=["All"], value=["$__all"]))
    return variable


def build() -> str:
    """The dashboard's JSON; the same text each time."""
    board = (
        dashboard.Dashboard("Palimpsest")
        .uid("palimpsest")
        .description("A streaming forecaster on Kafka whose memory is a text: freshness, errors, model, memory, join, lag, recovery.")
        .tags(["palimpsest", "kafka", "llm"])
        .time("now-1h", "now")
        .refresh("10s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(_variable("job", "Job", "label_values(palimpsest_window, job)", every=True))
        .with_variable(_variable("instance", "Worker", 'label_values(palimpsest_window{job=~"$job"}, instance)', every=True))
        .with_variable(_variable("entity", "Entity", f"label_values(palimpsest_entity_error{{{SELECTED}}}, entity)", every=False))
        .with_variable(
            dashboard.IntervalVariable("window")
            .label("Scores over")
            .values("5m,15m,30m,1h,6h,1d,7d")
            .current(VariableOption(selected=True, text="30m", value="30m"))
        )
    )
    for row in (_overview, _errors, _model, _memory, _join, _kafka, _runtime):
        row(board)
    built = board.build()
    for number, panel in enumerate(built.panels or (), start=1):
        panel.id_val = number
    return json.dumps(built, cls=JSONEncoder, indent=2) + "\n"


def main() -> None:
    PATH.parent.mkdir(parents=True, exist_ok=True)
    PATH.write_text(build(), encoding="utf-8")
    sys.stdout.write(f"{PATH}\n")


if __name__ == "__main__":
    main()
