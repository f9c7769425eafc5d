"""Our spans beside those of OpenTelemetry's SDK: what is exported is the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.zipkin.json import ZipkinExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased

from imageflow_common.recording import RecordingTracers
from imageflow_common.telemetry import Spans

PARENT = trace.SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, True, trace.TraceFlags(1))
Tracers = trace.TracerProvider


def ours(sampler: Sampler, exporter: InMemorySpanExporter) -> Tracers:
    return RecordingTracers(Resource.create({"service.name": "a"}), sampler, [SimpleSpanProcessor(exporter)])


def sdks(sampler: Sampler, exporter: InMemorySpanExporter) -> Tracers:
    tracers = TracerProvider(sampler, Resource.create({"service.name": "a"}))
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    return tracers


def everything(tracers: Tracers) -> None:
    """Uses all that a span has."""
    tracer = tracers.get_tracer("probe", "1.0", "https://example.com/schema", {"scope": "x"})
    below = trace.set_span_in_context(trace.NonRecordingSpan(PARENT), Context())
    span = tracer.start_span(
        "root", below, trace.SpanKind.SERVER, {"a": 1, "b": "x", "c": [True, False]}, [trace.Link(PARENT)], 1_000
    )
    span.set_attribute("d", 0.5)
    span.add_event("begun", {"e": 1}, 2_000)
    span.add_event("bare", timestamp=2_500)
    span.record_exception(ValueError("bad"), {"f": "g"}, 3_000, escaped=True)
    span.set_status(trace.StatusCode.ERROR, "BAD")
    span.update_name("renamed")
    span.end(4_000)
    span.set_attribute("late", 1)
    span.add_event("late")
    span.end(9_000)
    span.set_status(trace.StatusCode.OK)
    fine = tracer.start_span("fine", below, start_time=1_000)
    fine.set_status(trace.StatusCode.OK)
    fine.set_status(trace.StatusCode.ERROR, "too late")
    fine.end(2_000)


def exported(make: Callable[..., Tracers], sampler: Sampler, use: Callable[[Tracers], None]) -> list[Any]:
    """The spans as JSON of OTLP, without what differs by chance."""
    exporter = InMemorySpanExporter()
    use(make(sampler, exporter))
    [found] = MessageToDict(encode_spans(exporter.get_finished_spans()))["resourceSpans"]
    for scope in found["scopeSpans"]:
        for span in scope["spans"]:
            assert len(span.pop("spanId")) == 12
    return [found]


@pytest.mark.filterwarnings("ignore")
def test_what_is_exported_is_what_the_sdk_exports() -> None:
    mine = exported(ours, ParentBased(ALWAYS_ON), everything)
    assert mine == exported(sdks, ParentBased(ALWAYS_ON), everything)
    assert [span["name"] for span in mine[0]["scopeSpans"][0]["spans"]] == ["renamed", "fine"]


@pytest.mark.filterwarnings("ignore")
def test_zipkins_exporter_writes_the_same_of_them() -> None:
    assert in_zipkins_words(ours) == in_zipkins_words(sdks)


def in_zipkins_words(make: Callable[..., Tracers]) -> list[Any]:
    exporter, zipkin = InMemorySpanExporter(), ZipkinExporter()
    tracers = make(ParentBased(ALWAYS_ON), exporter)
    everything(tracers)
    tracers.get_tracer("bare").start_span("bare", start_time=1_000).end(2_000)
    read: Any = zipkin.encoder.serialize
    written = json.loads(read(exporter.get_finished_spans(), zipkin.local_node))
    return [{**span, "id": "", "traceId": ""} for span in written]


@pytest.mark.parametrize(
    ("sampler", "parent", "recorded"),
    [
        (ParentBased(ALWAYS_ON), None, True),
        (ParentBased(ALWAYS_OFF), None, False),
        (ParentBased(ALWAYS_OFF), True, True),
        (ParentBased(ALWAYS_ON), False, False),
        (ALWAYS_OFF, True, False),
        (ALWAYS_ON, False, True),
        (TraceIdRatioBased(0.0), None, False),
        (ParentBased(TraceIdRatioBased(1.0)), None, True),
    ],
    ids=str,
)
def test_the_sampler_decides_as_in_the_sdk(sampler: Sampler, parent: bool | None, recorded: bool) -> None:
    above = Context()
    if parent is not None:
        flags = trace.TraceFlags(int(parent))
        place = trace.SpanContext(PARENT.trace_id, PARENT.span_id, True, flags, trace.TraceState([("k", "v")]))
        above = trace.set_span_in_context(trace.NonRecordingSpan(place), above)
    for make in (ours, sdks):
        exporter = InMemorySpanExporter()
        span = make(sampler, exporter).get_tracer("probe").start_span("a", above)
        told = span.get_span_context()
        assert (span.is_recording(), bool(told.trace_flags & 1), told.is_valid) == (recorded, recorded, True)
        assert (told.trace_id == PARENT.trace_id) == (parent is not None)
        assert (told.trace_state.get("k") == "v") == (parent is not None)
        span.end()
        assert len(exporter.get_finished_spans()) == int(recorded)


@pytest.mark.parametrize("make", [ours, sdks])
def test_an_error_that_ends_a_block_is_recorded_once(make: Callable[..., Tracers]) -> None:
    exporter = InMemorySpanExporter()
    tracers = make(ParentBased(ALWAYS_ON), exporter)
    spans = Spans(tracers)
    with pytest.raises(ValueError, match="bad"), spans.current("of ours", {}):
        raise ValueError("bad")
    with pytest.raises(ValueError, match="bad"), tracers.get_tracer("probe").start_as_current_span("of another's"):
        raise ValueError("bad")
    with pytest.raises(ValueError, match="bad"), spans.current("call", {}, kind=trace.SpanKind.SERVER):
        raise ValueError("bad")
    with pytest.raises(KeyboardInterrupt), spans.current("stopped", {}):
        raise KeyboardInterrupt
    assert [(span.name, span.status.description, _events(span.events)) for span in exporter.get_finished_spans()] == [
        ("of ours", "ValueError: bad", ["exception"]),
        ("of another's", "ValueError: bad", ["exception"]),
        ("call", None, []),
        ("stopped", None, []),
    ]
    assert not trace.get_current_span().get_span_context().is_valid


def _events(events: Sequence[Any]) -> list[str]:
    return [event.name for event in events]


def test_events_past_a_bound_are_counted_and_not_kept() -> None:
    exporter = InMemorySpanExporter()
    span = ours(ALWAYS_ON, exporter).get_tracer("probe").start_span("a")
    for _ in range(1_000):
        span.add_event("again")
    span.end()
    [found] = exporter.get_finished_spans()
    assert (len(found.events), found.dropped_events) == (128, 872)
