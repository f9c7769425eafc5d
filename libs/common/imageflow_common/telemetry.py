"""Traces and metrics by OpenTelemetry's API. Its SDK is imported only when `OTEL_EXPORTER_OTLP_ENDPOINT` is set;
without it every span and instrument is the API's no-op."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from opentelemetry import context as otel_context
from opentelemetry import metrics, propagate
from opentelemetry.context import Context

DURATION_BUCKETS_SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
_FLUSH_TIMEOUT_MILLIS = 3_000

Metadata: TypeAlias = "Iterable[tuple[str, str | bytes]]"


def configure_telemetry(*, service: str, version: str) -> Callable[[], None]:
    """Starts exporting if an OTLP endpoint is configured; answers what to call before the process ends."""
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return lambda: None
    from ._telemetry_sdk import start_export  # the SDK costs 20 MB and 0.2 s

    return start_export(service=service, version=version, flush_timeout_millis=_FLUSH_TIMEOUT_MILLIS)


def duration_histogram(meter: metrics.Meter, name: str, description: str) -> metrics.Histogram:
    """A histogram of seconds whose buckets fit 1 ms to 60 s."""
    return meter.create_histogram(
        name, unit="s", description=description, explicit_bucket_boundaries_advisory=DURATION_BUCKETS_SECONDS
    )


def context_from_metadata(metadata: Metadata | None) -> Context:
    """The caller's trace context (W3C), from gRPC metadata."""
    carrier = {key: value for key, value in metadata or () if isinstance(value, str)}
    return propagate.extract(carrier, context=otel_context.Context())


def context_to_metadata() -> list[tuple[str, str]]:
    """The current trace context (W3C), as gRPC metadata."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return list(carrier.items())


def resource_attributes(*, service: str, version: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What identifies this process; `OTEL_RESOURCE_ATTRIBUTES` adds to it."""
    attributes = {
        "service.name": service,
        "service.version": version,
        "service.namespace": "imageflow",
        "deployment.environment.name": environ.get("IMAGEFLOW_ENVIRONMENT", "local"),
        "k8s.cluster.name": environ.get("IMAGEFLOW_CLUSTER_NAME", "imageflow-k3s"),
    }
    optional = {"k8s.namespace.name": "POD_NAMESPACE", "k8s.pod.name": "POD_NAME"}
    return attributes | {key: environ[name] for key, name in optional.items() if environ.get(name)}
