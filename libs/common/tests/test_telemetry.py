"""Telemetry: nothing without an endpoint; with one, the spans and metrics that the requirements name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_grpc

from imageflow_common.telemetry import resource_attributes

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
COMPONENT = str(Path(__file__).parent / "components" / "probe.py")
IMPORTED = """
import runpy, sys
sys.argv = [sys.argv[1]]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print(*(name for name in sys.modules if name.startswith("opentelemetry.sdk")), file=sys.stdout, flush=True)
"""


class Collector(trace_grpc.TraceServiceServicer, metrics_grpc.MetricsServiceServicer):
    """An OTLP collector that keeps what it is sent."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.metrics: dict[str, Any] = {}
        self.all_metrics: list[Any] = []
        self.resource: dict[str, str] = {}
        self._server = grpc.server(ThreadPoolExecutor(2))
        trace_grpc.add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        metrics_grpc.add_MetricsServiceServicer_to_server(_Metrics(self), self._server)  # type: ignore[no-untyped-call]
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def Export(self, request: Any, context: Any) -> Any:
        for each in request.resource_spans:
            self.resource = _attributes(each.resource)
            self.spans += [span for scope in each.scope_spans for span in scope.spans]
        return trace_pb2.ExportTraceServiceResponse()

    def stop(self) -> None:
        self._server.stop(0).wait(10)


class _Metrics(metrics_grpc.MetricsServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def Export(self, request: Any, context: Any) -> Any:
        for each in request.resource_metrics:
            for scope in each.scope_metrics:
                self._collector.metrics |= {metric.name: metric for metric in scope.metrics}
                self._collector.all_metrics += scope.metrics
        return metrics_pb2.ExportMetricsServiceResponse()


def _attributes(holder: Any) -> dict[str, str]:
    return {attribute.key: attribute.value.string_value for attribute in holder.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    started = Collector()
    yield started
    started.stop()


def test_without_an_endpoint_the_sdk_is_never_imported() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", IMPORTED, COMPONENT],
        env={k: v for k, v in os.environ.items() if not k.startswith("OTEL_")} | {"IMAGEFLOW_PORT": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert "component.ready" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, out.strip()) == (0, "")


async def test_spans_and_metrics_arrive_as_the_requirements_name_them(
    serve_probe: Any, probe_request: Callable[..., Any], collector: Collector
) -> None:
    served = serve_probe(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}",
            "OTEL_RESOURCE_ATTRIBUTES": "team=a",
            "POD_NAME": "probe-0",
        }
    )
    request = probe_request(invert=True)
    request.context.execution_id, request.context.step_id = "e1", "s1"
    async with served.channel() as channel:
        await served.call(channel, request, metadata=[("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-01")])
        with pytest.raises(grpc.aio.AioRpcError):
            await served.call(channel, probe_request(fail=True))
    served.process.send_signal(signal.SIGTERM)
    assert served.finish() == 0

    span, failed = sorted(collector.spans, key=lambda span: span.start_time_unix_nano)
    assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == ("image_probe", TRACE_ID, SPAN_ID)
    assert _attributes(span) == {
        "execution.id": "e1",
        "step.id": "s1",
        "input_format": "image/x-raw",
        "input_size": "4x3",
        "target_size": "4x3",
    }
    assert failed.trace_id.hex() != TRACE_ID
    assert failed.status.code == failed.status.STATUS_CODE_ERROR
    assert (
        collector.resource.items()
        >= {
            "service.name": "probe",
            "service.version": "1.2.0",
            "service.namespace": "imageflow",
            "k8s.cluster.name": "imageflow-k3s",
            "k8s.pod.name": "probe-0",
            "team": "a",
        }.items()
    )
    duration = collector.metrics["imageflow.processing.duration"]
    assert duration.unit == "s"
    assert {
        (_attributes(p)["operation"], _attributes(p)["status"]): p.count for p in duration.histogram.data_points
    } == {
        ("probe", "success"): 1,
        ("probe", "failed"): 1,
    }
    assert duration.histogram.data_points[0].explicit_bounds[0] == 0.001
    assert duration.histogram.data_points[0].explicit_bounds[-1] == 60.0
    total = collector.metrics["imageflow.processing.total"].sum.data_points
    assert {_attributes(point)["status"]: point.as_int for point in total} == {"success": 1, "failed": 1}
    with_exemplars = {
        metric.name for metric in collector.all_metrics for point in metric.sum.data_points if point.exemplars
    }
    assert with_exemplars == {"imageflow.processing.total"}  # of one that does not end so Prometheus takes nothing
    shares = {
        _attributes(point)["resource_type"]: point.as_double
        for metric in collector.all_metrics
        if metric.name == "imageflow.resource.utilization"
        for point in metric.gauge.data_points
    }
    assert shares.keys() == {"slots", "megapixels", "cpu", "memory"}
    assert (shares["slots"], shares["megapixels"]) == (0, 0)
    assert 0 < shares["memory"] < 1
    handed_over = collector.metrics["otel.sdk.processor.span.processed"].sum.data_points
    assert sum(point.as_int for point in handed_over) == 2


def test_a_collector_that_is_gone_does_not_keep_a_component_from_ending(serve_probe: Any) -> None:
    served = serve_probe({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
    served.process.send_signal(signal.SIGTERM)
    assert served.finish() == 0


def test_the_resource_tells_where_a_process_runs() -> None:
    bare = resource_attributes(service="a", version="1", environ={})
    assert bare["deployment.environment.name"] == "local"
    assert "k8s.pod.name" not in bare
    replica = resource_attributes(service="a", version="1", environ={})
    assert bare["service.instance.id"] != replica["service.instance.id"]
    environ = {"IMAGEFLOW_ENVIRONMENT": "production", "IMAGEFLOW_CLUSTER_NAME": "c", "POD_NAMESPACE": "n"}
    told = resource_attributes(service="a", version="1", environ=environ)
    assert (told["deployment.environment.name"], told["k8s.cluster.name"], told["k8s.namespace.name"]) == (
        "production",
        "c",
        "n",
    )
