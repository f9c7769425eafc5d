"""Traces and metrics by OpenTelemetry's API. Its SDK is imported only when `OTEL_EXPORTER_OTLP_ENDPOINT`, or for traces
alone `OTEL_EXPORTER_ZIPKIN_ENDPOINT`, is set; without it every span and instrument is the API's no-op."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from time import perf_counter, time_ns
from typing import TypeAlias
from uuid import uuid4

from opentelemetry import context as otel_context
from opentelemetry import metrics, propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .durations import BOUNDS_SECONDS, Durations, Recorder
from .errors import ImageFlowError
from .labels import BoundedLabel

OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
ZIPKIN_ENDPOINT = "OTEL_EXPORTER_ZIPKIN_ENDPOINT"
_FLUSH_TIMEOUT_MILLIS = 3_000
_SERVERS_FAULT = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
_counted_reason = BoundedLabel(100)
_NO_SPAN = nullcontext(trace.INVALID_SPAN)
_exported: list[Durations] | None = None
_W3C = TraceContextTextMapPropagator()

Metadata: TypeAlias = "Iterable[tuple[str, str | bytes]]"


def configure_telemetry(*, service: str, version: str) -> Callable[[], None]:
    """Starts exporting if an endpoint is configured; answers what to call before the process ends."""
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if disabled or not (os.environ.get(OTLP_ENDPOINT) or os.environ.get(ZIPKIN_ENDPOINT)):
        return lambda: None
    from ._telemetry_sdk import start_export  # the SDK costs 20 MB and 0.2 s

    return start_export(service=service, version=version, flush_timeout_millis=_FLUSH_TIMEOUT_MILLIS)


def duration_histogram(meter: metrics.Meter, name: str, description: str) -> Recorder:
    """A histogram of seconds whose buckets fit 1 ms to 60 s. It is the meter's own unless this process exports."""
    if _exported is None:
        return meter.create_histogram(
            name, unit="s", description=description, explicit_bucket_boundaries_advisory=BOUNDS_SECONDS
        )
    histogram = Durations(name, description)
    _exported.append(histogram)
    return histogram


def export_durations() -> Sequence[Durations]:
    """The histograms of this process that are made from now on."""
    global _exported
    _exported = []
    return _exported


class Spans:
    """Makes spans. Where nothing recorded them when this was made it makes none, which is cheaper than the API's no-op;
    the caller's, if any, stays the current one."""

    def __init__(self, tracers: trace.TracerProvider | None = None) -> None:
        unconfigured = isinstance(tracers or trace.get_tracer_provider(), trace.ProxyTracerProvider)
        self._tracer = None if unconfigured else trace.get_tracer("imageflow", tracer_provider=tracers)

    @property
    def recording(self) -> bool:
        """Whether any are made."""
        return self._tracer is not None

    def current(
        self,
        name: str,
        attributes: Mapping[str, str | int],
        *,
        kind: trace.SpanKind = trace.SpanKind.INTERNAL,
        begun: float | None = None,
    ) -> AbstractContextManager[trace.Span]:
        """A span that is the current one in the block; it began at `begun` of perf_counter, or begins now."""
        if self._tracer is None:
            return _NO_SPAN
        start = None if begun is None else wall_nanoseconds(begun)
        span = self._tracer.start_span(name, attributes=attributes, kind=kind, start_time=start)
        return _Entered(span, told_how=kind is trace.SpanKind.SERVER)  # how a call ended says `count_failed_call`

    def detached(
        self, name: str, attributes: Mapping[str, str | int], *, parent: TracePlace, links: Sequence[TracePlace]
    ) -> AbstractContextManager[trace.Span]:
        """A span that is the current one in the block, of work whose caller does not wait for it: it goes on with the
        trace of its `parent`, or with nowhere as that begins a trace, and is linked to others. Where the first of these
        was not to be traced, it is not either."""
        if self._tracer is None:
            return _NO_SPAN
        linked = [each for each in links if each.trace_id]
        if not parent.trace_id and linked and not linked[0].sampled:
            parent = linked[0]
        context = Context()
        if parent.trace_id:
            context = trace.set_span_in_context(trace.NonRecordingSpan(parent.context()), context)
        span = self._tracer.start_span(
            name, context=context, attributes=attributes, links=[trace.Link(each.context()) for each in linked]
        )
        return _Entered(span)


class _Entered:
    """A span as the current one, until the block ends; an error that ends it is recorded, unless others tell of it."""

    __slots__ = ("_span", "_token", "_told_how")

    def __init__(self, span: trace.Span, *, told_how: bool = False) -> None:
        self._span = span
        self._told_how = told_how

    def __enter__(self) -> trace.Span:
        self._token = otel_context.attach(trace.set_span_in_context(self._span))
        return self._span

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        otel_context.detach(self._token)
        if isinstance(error, Exception) and not self._told_how:
            self._span.record_exception(error)
            self._span.set_status(trace.StatusCode.ERROR, f"{type(error).__name__}: {error}")
        self._span.end()


def count_failed_call(method: str, error: ImageFlowError) -> None:
    """Counts a call that was answered with an error, and says so on the span of the call. That is at fault itself only
    where the server is to blame."""
    span, counted = trace.get_current_span(), _counted_reason(error.reason)
    _failed_calls().add(1, {"rpc.method": method, "code": error.code, "reason": counted})
    if span.is_recording():
        span.set_attributes({"rpc.grpc.status": error.code, "error.type": error.reason})
        if error.code in _SERVERS_FAULT:
            span.set_status(trace.StatusCode.ERROR, error.reason)


@cache
def _failed_calls() -> metrics.Counter:
    meter = metrics.get_meter("imageflow")
    return meter.create_counter("imageflow.rpc.errors.total", description="Calls answered with an error")


def context_from_metadata(metadata: Metadata | None) -> Context:
    """The caller's trace context (W3C), from gRPC metadata."""
    fields = _propagated_fields()
    carrier = {key: value for key, value in metadata or () if key in fields and isinstance(value, str)}
    return propagate.extract(carrier, context=otel_context.Context()) if carrier else otel_context.Context()


def context_to_metadata() -> list[tuple[str, str]]:
    """The current trace context (W3C), as gRPC metadata."""
    if not otel_context.get_current():
        return []
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return list(carrier.items())


@cache
def _propagated_fields() -> frozenset[str]:
    """What the propagators of this process read; they are chosen when it starts."""
    return frozenset(propagate.get_global_textmap().fields)


@dataclass(frozen=True, slots=True)
class TracePlace:
    """A span that can be found again: its trace and itself, in hexadecimal; empty: nothing is traced."""

    trace_id: str = ""
    span_id: str = ""
    sampled: bool = False

    @classmethod
    def parse(cls, traceparent: str) -> TracePlace:
        """Of a `traceparent`; nowhere for what is none."""
        context = trace.get_current_span(_W3C.extract({"traceparent": traceparent}, Context())).get_span_context()
        return cls._of(context) if context.is_valid else cls()

    @classmethod
    def current(cls) -> TracePlace:
        """Of what is traced at the moment, here or by a caller."""
        context = trace.get_current_span().get_span_context()
        return cls._of(context) if context.is_valid else cls()

    @classmethod
    def _of(cls, context: trace.SpanContext) -> TracePlace:
        sampled = bool(context.trace_flags & trace.TraceFlags.SAMPLED)
        return cls(trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id), sampled)

    @property
    def traceparent(self) -> str:
        """As W3C's header has it; empty where nothing is traced."""
        return f"00-{self.trace_id}-{self.span_id}-{self.sampled:02x}" if self.trace_id else ""

    def context(self) -> trace.SpanContext:
        flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if self.sampled else trace.TraceFlags.DEFAULT)
        return trace.SpanContext(int(self.trace_id, 16), int(self.span_id, 16), is_remote=True, trace_flags=flags)

    def response_metadata(self) -> list[tuple[str, str]]:
        """Tells a caller the trace of his call: `traceresponse` (W3C Trace Context, level 2)."""
        return [("traceresponse", self.traceparent)] if self.trace_id else []


def place_of(span: trace.Span) -> TracePlace:
    """Where a span is; nowhere, when nothing records it."""
    context = span.get_span_context()
    return TracePlace._of(context) if context.is_valid and span.is_recording() else TracePlace()


def wall_nanoseconds(moment: float) -> int:
    """A reading of perf_counter as a time since 1970."""
    return time_ns() - round((perf_counter() - moment) * 1e9)


def resource_attributes(*, service: str, version: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What identifies this process; `OTEL_RESOURCE_ATTRIBUTES` adds to it."""
    attributes = {
        "service.name": service,
        "service.version": version,
        "service.namespace": "imageflow",
        "service.instance.id": environ.get("POD_NAME") or str(uuid4()),  # else the replicas' series were one
        "deployment.environment.name": environ.get("IMAGEFLOW_ENVIRONMENT", "local"),
        "k8s.cluster.name": environ.get("IMAGEFLOW_CLUSTER_NAME", "imageflow-k3s"),
    }
    optional = {"k8s.namespace.name": "POD_NAMESPACE", "k8s.pod.name": "POD_NAME"}
    return attributes | {key: environ[name] for key, name in optional.items() if environ.get(name)}
