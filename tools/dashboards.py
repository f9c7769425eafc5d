"""Writes observability/dashboards/*.json: what a dashboard shows is said here, once; `--check` tells what is stale."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from grafana_foundation_sdk.builders import dashboard, heatmap, logs, loki, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LogsSortOrder
from grafana_foundation_sdk.models.dashboard import DataSourceRef, GridPos
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

FOLDER: Final = Path(__file__).resolve().parents[1] / "observability" / "dashboards"
_WIDTH: Final = 24
_METRICS = DataSourceRef(type_val="prometheus", uid="${metrics}")
_LOGS = DataSourceRef(type_val="loki", uid="${logs}")
_TRACES = DataSourceRef(type_val="jaeger", uid="${traces}")
_SOURCES = {"metrics": "prometheus", "logs": "loki", "traces": "jaeger"}

Kind = Literal["lines", "number", "heatmap", "logs", "traces"]


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. `queries` are expressions with their legends; of `traces`, the names of spans."""

    title: str
    kind: Kind
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    about: str = ""
    width: int = 8
    height: int = 8


@dataclass(frozen=True, slots=True)
class Board:
    uid: str
    title: str
    panels: Sequence[Panel]


_DURATION = "imageflow_pipeline_execution_duration"


def _quantile(share: float, metric: str, *by: str, window: str = "5m") -> str:
    return f"histogram_quantile({share}, sum by ({', '.join(['le', *by])}) (rate({metric}_bucket[{window}])))"


OVERVIEW = Board(
    "imageflow-overview",
    "ImageFlow Canvas - Pipeline Overview",
    [
        Panel(
            "Pipeline Execution Rate",
            "lines",
            [("{{pipeline_id}}", f"sum by (pipeline_id) (rate({_DURATION}_count[2m]))")],
            unit="ops",
        ),
        Panel(
            "Pipeline Success Rate",
            "number",
            [("", f'sum(rate({_DURATION}_count{{status="success"}}[5m])) / sum(rate({_DURATION}_count[5m]))')],
            unit="percentunit",
        ),
        Panel(
            "Execution Duration p50, p95, p99",
            "lines",
            [(f"p{round(share * 100)}", _quantile(share, _DURATION)) for share in (0.5, 0.95, 0.99)],
            unit="s",
        ),
        Panel(
            "Execution Duration Distribution",
            "heatmap",
            [("{{le}}", f"sum by (le) (increase({_DURATION}_bucket[1m]))")],
            unit="s",
            width=12,
        ),
        Panel(
            "Where Steps Spend Their Time",
            "lines",
            [
                (
                    "{{step_type}} {{part}}",
                    "sum by (step_type, part) (rate(imageflow_step_time_total[5m])) / on (step_type) group_left"
                    ' sum by (step_type) (rate(imageflow_step_executions_total{status="success"}[5m]))',
                )
            ],
            unit="s",
            width=12,
        ),
        Panel(
            "Step Execution Timeline",
            "traces",
            [("", "pipeline.execute")],
            about="The last traces; open one for its waterfall. `imageflow trace EXECUTION_ID` shows it in a terminal.",
            width=24,
        ),
        Panel(
            "Resource Utilization",
            "lines",
            [
                (
                    "{{component}} {{resource_type}}",
                    "max by (component, resource_type) (imageflow_resource_utilization)",
                )
            ],
            unit="percentunit",
            width=12,
        ),
        Panel(
            "Steps",
            "lines",
            [
                (
                    "{{step_type}} {{status}}",
                    "sum by (step_type, status) (rate(imageflow_step_executions_total[2m]))",
                )
            ],
            unit="ops",
            width=12,
        ),
        Panel(
            "Error Logs",
            "logs",
            [("", '{service_namespace="imageflow"} | severity_text=~"ERROR|WARNING"')],
            width=24,
        ),
    ],
)

PLATFORM = Board(
    "imageflow-platform",
    "ImageFlow Canvas - Platform",
    [
        Panel(
            "Calls of Components",
            "lines",
            [("{{operation}} {{status}}", "sum by (operation, status) (rate(imageflow_processing_total[2m]))")],
            unit="ops",
        ),
        Panel(
            "Failed Calls of Components",
            "lines",
            [
                (
                    "{{operation}}",
                    '(sum by (operation) (rate(imageflow_processing_total{status="failed"}[5m]))'
                    " or sum by (operation) (rate(imageflow_processing_total[5m])) * 0)"
                    " / sum by (operation) (rate(imageflow_processing_total[5m]))",
                )
            ],
            unit="percentunit",
        ),
        Panel(
            "Time of Calls, p95",
            "lines",
            [("{{operation}}", _quantile(0.95, "imageflow_processing_duration", "operation"))],
            unit="s",
        ),
        Panel(
            "Executions",
            "lines",
            [("{{state}}", "sum by (state) (imageflow_executions)")],
            about="Running, and waiting for a slot.",
        ),
        Panel("Waiting for a Slot, p95", "lines", [("p95", _quantile(0.95, "imageflow_queue_wait"))], unit="s"),
        Panel(
            "Overhead, p50 and p95",
            "lines",
            [(f"p{round(share * 100)}", _quantile(share, "imageflow_orchestration_overhead")) for share in (0.5, 0.95)],
            unit="s",
            about="Time of an execution between its steps, and on the way to and from each.",
        ),
        Panel(
            "Failed Attempts by Reason",
            "lines",
            [
                (
                    "{{step_type}} {{reason}}",
                    "sum by (step_type, reason) (rate(imageflow_step_attempts_failed_total[5m]))",
                )
            ],
            unit="ops",
        ),
        Panel(
            "Retries by Reason",
            "lines",
            [("{{step_type}} {{reason}}", "sum by (step_type, reason) (rate(imageflow_step_retries_total[5m]))")],
            unit="ops",
        ),
        Panel(
            "How Images Travel",
            "lines",
            [("{{transport}}", "sum by (transport) (rate(imageflow_step_transport_total[2m]))")],
            unit="ops",
        ),
        Panel(
            "Calls Answered with an Error, by Reason",
            "lines",
            [("{{job}} {{reason}}", "sum by (job, reason) (rate(imageflow_rpc_errors_total[5m]))")],
            unit="ops",
            about="OVERLOADED and its kin are refusals.",
        ),
        Panel(
            "Requests at the Gateway",
            "lines",
            [
                (
                    "{{envoy_response_code_class}}xx",
                    "sum by (envoy_response_code_class)"
                    ' (rate(envoy_http_downstream_rq_xx{envoy_http_conn_manager_prefix="gateway"}[2m]))',
                )
            ],
            unit="ops",
        ),
        Panel(
            "Time at the Gateway, p95",
            "lines",
            [
                (
                    "p95",
                    "histogram_quantile(0.95, sum by (le)"
                    ' (rate(envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="gateway"}[5m])))',
                )
            ],
            unit="ms",
        ),
        Panel(
            "Replicas that the Gateway Takes for Well",
            "lines",
            [("{{envoy_cluster_name}}", "sum by (envoy_cluster_name) (envoy_cluster_membership_healthy)")],
        ),
        Panel(
            "Object Store, p95",
            "lines",
            [("{{operation}}", _quantile(0.95, "imageflow_store_operation_duration", "operation"))],
            unit="s",
        ),
        Panel(
            "Object Store, Failed Operations",
            "lines",
            [
                (
                    "{{operation}}",
                    '(sum by (operation) (rate(imageflow_store_operation_duration_count{status="failed"}[5m]))'
                    " or sum by (operation) (rate(imageflow_store_operation_duration_count[5m])) * 0)",
                )
            ],
            unit="ops",
        ),
        Panel(
            "Kafka: Time to Acknowledge, p95",
            "lines",
            [("{{topic}}", _quantile(0.95, "imageflow_bus_send_duration", "topic"))],
            unit="s",
        ),
        Panel(
            "Kafka: Requests that Wait or Are Worked on",
            "lines",
            [("partition {{partition}}", "sum by (partition) (imageflow_bus_consumer_lag)")],
        ),
        Panel(
            "Ended and Not Told of",
            "lines",
            [("executions", "sum(imageflow_bus_outbox)")],
            about="Ends that are stored and that the broker has not taken yet.",
        ),
        Panel(
            "Accepted and Not Ended",
            "lines",
            [("executions", 'max(imageflow_executions{state="pending"})')],
        ),
        Panel(
            "Inference, p95",
            "lines",
            [("{{model}} by {{backend}}", _quantile(0.95, "imageflow_inference_duration", "model", "backend"))],
            unit="s",
        ),
        Panel(
            "Images of One Inference in Triton",
            "lines",
            [
                (
                    "{{model}}",
                    "sum by (model) (rate(nv_inference_count[5m]))"
                    " / sum by (model) (rate(nv_inference_exec_count[5m]))",
                )
            ],
            about="What its dynamic batching makes of requests.",
        ),
        Panel(
            "Utilization",
            "lines",
            [
                (
                    "{{component}} {{resource_type}} {{instance}}",
                    "imageflow_resource_utilization",
                )
            ],
            unit="percentunit",
            width=12,
        ),
        Panel(
            "Errors and Warnings Logged",
            "lines",
            [("{{component}} {{level}}", "sum by (component, level) (rate(imageflow_log_records_total[2m]))")],
            unit="ops",
            width=12,
        ),
        Panel(
            "Spans Made",
            "lines",
            [("{{job}}", "sum by (job) (rate(otel_sdk_processor_span_processed[2m]))")],
            unit="ops",
        ),
        Panel(
            "Spans the Collector Took",
            "lines",
            [("{{receiver}}", "sum by (receiver) (rate(otelcol_receiver_accepted_spans[2m]))")],
            unit="ops",
        ),
        Panel(
            "Spans Lost",
            "lines",
            [
                (
                    "by {{job}}",
                    'sum by (job) (rate({__name__=~"otel_sdk_(exporter_span_exported|processor_span_processed)",'
                    ' error_type!=""}[2m])) or sum by (job) (rate(otel_sdk_processor_span_processed[2m])) * 0',
                ),
                ("by the collector", "sum(rate(otelcol_exporter_send_failed_spans[2m])) or vector(0)"),
            ],
            unit="ops",
            about="That a service could not hand to the collector, and the collector not to the trace store.",
            width=12,
        ),
        Panel(
            "Memory of the Collector",
            "lines",
            [("resident", "otelcol_process_memory_rss")],
            unit="bytes",
        ),
    ],
)

BOARDS: Final = (OVERVIEW, PLATFORM)


class _Traces:
    """A question to a trace store for the last traces that begin with a span of this name."""

    def __init__(self, operation: str) -> None:
        self._operation = operation

    def build(self) -> Any:
        return _Question(
            {"refId": "A", "queryType": "search", "service": "orchestrator", "operation": self._operation, "limit": 20}
        )


@dataclass(frozen=True, slots=True)
class _Question:
    content: dict[str, object]

    def to_json(self) -> dict[str, object]:
        return self.content


def build(board: Board) -> str:
    """The dashboard's JSON."""
    made = dashboard.Dashboard(board.title).uid(board.uid).tags(["imageflow"]).time("now-1h", "now").refresh("30s")
    for name, kind in _SOURCES.items():
        made = made.with_variable(dashboard.DatasourceVariable(name).type(kind))
    left = top = row = 0
    for number, panel in enumerate(board.panels, start=1):
        if left + panel.width > _WIDTH:
            left, top = 0, top + row
        built = _panel(panel)
        built = built.id(number).title(panel.title).description(panel.about)
        built = built.grid_pos(_position(left, top, panel))
        made = made.with_panel(built)
        left, row = left + panel.width, panel.height
    return json.dumps(json.loads(JSONEncoder(sort_keys=True).encode(made.build())), indent=1, sort_keys=True) + "\n"


def _position(left: int, top: int, panel: Panel) -> GridPos:
    return GridPos(h=panel.height, w=panel.width, x=left, y=top)


def _panel(panel: Panel) -> Any:
    if panel.kind == "logs":
        built: Any = logs.Panel().datasource(_LOGS).show_time(True).sort_order(LogsSortOrder.DESCENDING)
        return built.with_target(loki.Dataquery().expr(panel.queries[0][1]).ref_id("A"))
    if panel.kind == "traces":
        return table.Panel().datasource(_TRACES).with_target(_Traces(panel.queries[0][1]))
    kinds: dict[Kind, Any] = {"lines": timeseries.Panel, "number": stat.Panel, "heatmap": heatmap.Panel}
    built = kinds[panel.kind]().datasource(_METRICS)
    built = (
        built.unit(panel.unit)
        if panel.kind != "heatmap"
        else built.color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME))
    )
    for letter, (legend, expression) in zip("ABCDEFGH", panel.queries, strict=False):
        query = prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(letter)
        built = built.with_target(query.format(PromQueryFormat.HEATMAP) if panel.kind == "heatmap" else query)
    return built


def main() -> int:
    """Writes what is out of date; with `--check` only says so, and answers 1."""
    stale = [board for board in BOARDS if not _file(board).exists() or _file(board).read_text() != build(board)]
    for board in stale:
        if "--check" in sys.argv:
            print(f"{_file(board).name} is out of date: make docs", file=sys.stderr)
        else:
            _file(board).write_text(build(board))
    return 1 if stale and "--check" in sys.argv else 0


def _file(board: Board) -> Path:
    return FOLDER / f"{board.uid}.json"


if __name__ == "__main__":
    sys.exit(main())
