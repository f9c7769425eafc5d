"""What a store's metrics and spans say of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from imageflow_common.errors import ObjectNotFound, Unavailable
from imageflow_common.store import StoredObject, parse_key
from imageflow_common.store_local import LocalStore
from imageflow_common.store_observed import ObservedStore

KEY = parse_key("a")


class Away(LocalStore):
    async def get(self, key: Any) -> StoredObject:
        raise Unavailable("away", reason="STORE_UNREACHABLE")


async def test_operations_are_counted_with_what_became_of_them(tmp_path: Path) -> None:
    """A store that has no such object works."""
    reader = InMemoryMetricReader()
    store = ObservedStore(Away(tmp_path, durable=False), meters=MeterProvider([reader]))
    await store.put(KEY, b"data", media_type="image/png")
    with pytest.raises(ObjectNotFound):
        await store.head(parse_key("none"))
    async with store.open(KEY, start=1) as opened:
        assert [bytes(part) async for part in opened] == [b"ata"]
    with pytest.raises(Unavailable):
        await store.get(KEY)

    points = read(reader)
    assert points["imageflow.store.operation.duration"] == [
        {"operation": "put", "status": "success"},
        {"operation": "head", "status": "success"},
        {"operation": "open", "status": "success"},
        {"operation": "get", "status": "failed"},
    ]
    assert points["imageflow.store.errors.total"] == [{"operation": "get", "reason": "STORE_UNREACHABLE"}]


async def test_a_reader_that_fails_closes_what_it_opened(tmp_path: Path) -> None:
    store = ObservedStore(LocalStore(tmp_path, durable=False))
    await store.put(KEY, b"data", media_type="image/png")
    with pytest.raises(RuntimeError, match="enough"):
        async with store.open(KEY):
            raise RuntimeError("enough")
    await store.close()


async def test_spans_are_made_below_a_recorded_one_alone(tmp_path: Path) -> None:
    exporter, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    store = ObservedStore(LocalStore(tmp_path, durable=False), tracers=tracers)
    await store.put(KEY, b"data", media_type="image/png")
    assert exporter.get_finished_spans() == ()

    with tracers.get_tracer("test").start_as_current_span("request"):
        await store.get(KEY)

    get, request = exporter.get_finished_spans()
    assert (get.name, dict(get.attributes or {})) == ("store.get", {"object.key": "a"})
    assert get.parent == request.context


def read(reader: InMemoryMetricReader) -> dict[str, list[dict[str, Any]]]:
    data = reader.get_metrics_data()
    assert data is not None
    metrics = [metric for each in data.resource_metrics for scope in each.scope_metrics for metric in scope.metrics]
    return {metric.name: [dict(point.attributes or {}) for point in metric.data.data_points] for metric in metrics}
