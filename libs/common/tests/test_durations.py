"""Our histogram beside that of OpenTelemetry's SDK: what is exported is the same."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from imageflow_common._telemetry_sdk import metric_of
from imageflow_common.durations import BOUNDS_SECONDS, Durations, Recorder

GOOD, BAD = {"operation": "a", "status": "success"}, {"operation": "a", "status": "failed"}
SPAN = trace.NonRecordingSpan(trace.SpanContext(7, 9, True, trace.TraceFlags(trace.TraceFlags.SAMPLED)))
UNSAMPLED = trace.NonRecordingSpan(trace.SpanContext(8, 9, True, trace.TraceFlags.get_default()))


def record(histogram: Recorder) -> None:
    for seconds in (0.0, 0.001, 0.0011, 0.05, 60.0, 61.0):
        histogram.record(seconds, GOOD)
    histogram.record(0.02, BAD)
    with trace.use_span(SPAN):
        histogram.record(0.03, BAD)
    with trace.use_span(UNSAMPLED):
        histogram.record(0.1, BAD)
    histogram.record(0.5)


def told(metric: Any) -> dict[frozenset[tuple[str, str]], Any]:
    """Of each series all but its times."""
    return {
        frozenset(point.attributes.items()): (
            point.count,
            point.sum,
            tuple(point.bucket_counts),
            tuple(point.explicit_bounds),
            point.min,
            point.max,
            [(each.value, each.trace_id, each.span_id) for each in point.exemplars],
        )
        for point in metric.data.data_points
    }


def test_what_is_exported_is_what_the_sdk_exports() -> None:
    reader, ours = InMemoryMetricReader(), Durations("a", "b")
    theirs = MeterProvider([reader]).get_meter("m")
    record(theirs.create_histogram("a", "s", "b", explicit_bucket_boundaries_advisory=BOUNDS_SECONDS))
    record(ours)

    data: Any = reader.get_metrics_data()
    [expected] = data.resource_metrics[0].scope_metrics[0].metrics
    found: Any = metric_of(ours)
    assert (found.name, found.unit, found.description) == (expected.name, expected.unit, expected.description)
    assert found.data.aggregation_temporality == expected.data.aggregation_temporality
    assert told(found) == told(expected)


def test_totals_go_on_and_examples_do_not() -> None:
    ours = Durations("a", "b")
    record(ours)
    first = told(metric_of(ours))
    record(ours)
    second = told(metric_of(ours))
    again = told(metric_of(ours))
    bad = frozenset(BAD.items())
    assert second[bad][0] == 2 * first[bad][0]
    assert (len(second[bad][-1]), again[bad][-1], again[bad][:-1]) == (1, [], second[bad][:-1])


def test_many_threads_do_not_miscount() -> None:
    ours = Durations("a", "b")

    def many(labels: Mapping[str, str]) -> None:
        for _ in range(20_000):
            ours.record(0.01, labels)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(many, [GOOD, BAD] * 2))
    assert {labels["status"]: sum(series.counts) for labels, series in ours.read()} == {
        "success": 40_000,
        "failed": 40_000,
    }
