"""The part of telemetry that needs OpenTelemetry's SDK; imported by `telemetry.configure_telemetry` alone."""

from __future__ import annotations

import os
from collections.abc import Callable

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from .telemetry import resource_attributes


def start_export(*, service: str, version: str, flush_timeout_millis: int) -> Callable[[], None]:
    """Sends spans and metrics by OTLP over gRPC to `OTEL_EXPORTER_OTLP_ENDPOINT`; answers the flush and stop."""
    resource = Resource.create(resource_attributes(service=service, version=version, environ=os.environ))
    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(tracers)
    meters = MeterProvider(resource=resource, metric_readers=[PeriodicExportingMetricReader(OTLPMetricExporter())])
    metrics.set_meter_provider(meters)

    def stop() -> None:
        tracers.force_flush(flush_timeout_millis)
        tracers.shutdown()
        meters.shutdown(timeout_millis=flush_timeout_millis)

    return stop
