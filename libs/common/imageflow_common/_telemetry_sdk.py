"""The part of telemetry that needs OpenTelemetry's SDK; imported by `telemetry.configure_telemetry` alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from time import time_ns
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import Exemplar, ExemplarReservoir, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
    ScopeMetrics,
)
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from .durations import BOUNDS_SECONDS, Durations, Series
from .recording import RecordingTracers
from .telemetry import OTLP_ENDPOINT, ZIPKIN_ENDPOINT, export_durations, resource_attributes
from .utilization import observe_process

_SCOPE = InstrumentationScope("imageflow.durations")
_DEFAULTS: Mapping[str, str] = {
    # How many spans were handed over, and how many were lost: what is missing is counted.
    "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": "true",
    "OTEL_METRIC_EXPORT_INTERVAL": "15000",  # milliseconds; an alert needs several points within its two minutes
}


def start_export(*, service: str, version: str, flush_timeout_millis: int) -> Callable[[], None]:
    """Sends spans and metrics to the endpoints that are set; answers the flush and stop."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    resource = Resource.create(resource_attributes(service=service, version=version, environ=os.environ))
    meters = MeterProvider(resource=resource, metric_readers=_readers(), views=[_WITHOUT_EXEMPLARS])
    metrics.set_meter_provider(meters)
    processors = [BatchSpanProcessor(exporter, meter_provider=meters) for exporter in _span_exporters(meters)]
    sampler = TracerProvider(shutdown_on_exit=False).sampler  # of OTEL_TRACES_SAMPLER
    tracers = RecordingTracers(resource, sampler, processors)
    trace.set_tracer_provider(tracers)
    meter = metrics.get_meter("imageflow.process")  # of its own: a meter's gauges of one name share one callback
    observe_process(meter, service)
    counter = _LogCounter(meter, service)
    logging.getLogger().addHandler(counter)

    def stop() -> None:
        logging.getLogger().removeHandler(counter)
        tracers.shutdown(flush_timeout_millis)
        meters.shutdown(timeout_millis=flush_timeout_millis)

    return stop


def _readers() -> list[MetricReader]:
    if not os.environ.get(OTLP_ENDPOINT):
        return []
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

    durations = export_durations()

    class Exporter(OTLPMetricExporter):
        """Of the durations, too."""

        def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **more: Any) -> MetricExportResult:
            ours = ScopeMetrics(_SCOPE, [metric_of(each) for each in durations], "")
            whole = [replace(each, scope_metrics=[*each.scope_metrics, ours]) for each in metrics_data.resource_metrics]
            return super().export(MetricsData(whole), timeout_millis, **more)

    return [PeriodicExportingMetricReader(Exporter())]


def metric_of(durations: Durations) -> Metric:
    """As it is now, for an exporter of the SDK."""
    now = time_ns()
    points = [_point(durations, labels, series, now) for labels, series in durations.read()]
    return Metric(durations.name, durations.description, "s", Histogram(points, AggregationTemporality.CUMULATIVE))


def _point(durations: Durations, labels: Mapping[str, str], series: Series, now: int) -> HistogramDataPoint:
    return HistogramDataPoint(
        attributes=labels,
        start_time_unix_nano=durations.since,
        time_unix_nano=now,
        count=sum(series.counts),
        sum=series.total,
        bucket_counts=series.counts,
        explicit_bounds=BOUNDS_SECONDS,
        min=series.least,
        max=series.most,
        exemplars=[
            Exemplar({}, each.seconds, each.moment, each.span_id, each.trace_id) for each in series.examples.values()
        ],
    )


def _span_exporters(meters: MeterProvider) -> Iterator[SpanExporter]:
    if os.environ.get(OTLP_ENDPOINT):
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        yield OTLPSpanExporter(meter_provider=meters)
    if os.environ.get(ZIPKIN_ENDPOINT):
        from opentelemetry.exporter.zipkin.json import ZipkinExporter

        yield ZipkinExporter()


class _NoExemplars(ExemplarReservoir):
    def offer(self, *_: object, **__: object) -> None:
        """Keeps nothing."""

    def collect(self, point_attributes: object) -> list[Exemplar]:
        return []


_WITHOUT_EXEMPLARS = View(
    instrument_name="otel.sdk.*", exemplar_reservoir_factory=lambda _aggregation: lambda **_: _NoExemplars()
)
"""The SDK's own counters: their names do not end in `total`, and for one exemplar of such a counter Prometheus refuses
all that a collector has."""


class _LogCounter(logging.Handler):
    """Counts warnings and errors, so that an alert can be made of their rate."""

    def __init__(self, meter: metrics.Meter, component: str) -> None:
        super().__init__(logging.WARNING)
        self._component = component
        self._total = meter.create_counter("imageflow.log.records.total", description="Warnings and errors logged")

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warning"
        self._total.add(1, {"component": self._component, "level": level})
