"""Spans as the product's services send them, of one small pipeline."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

_SEND = """
import os, sys
from opentelemetry import trace
from imageflow_common.telemetry import configure_telemetry
execution, pipeline = sys.argv[1:]
stop = configure_telemetry(service="orchestrator", version="1")
tracer = trace.get_tracer("imageflow")
whole = {"execution.id": execution, "pipeline.id": pipeline}
with tracer.start_as_current_span("pipeline.execute", attributes=whole) as root:
    for attempt, step in ((1, "shrink"), (2, "shrink"), (1, "sharpen")):
        parts = {"queue_ms": 1.0, "transport_ms": 1.0, "decode_ms": 0.0, "compute_ms": 7.0, "encode_ms": 1.0}
        attributes = {"execution.id": execution, "step.id": step, "step.type": "filter", "attempt": attempt}
        with tracer.start_as_current_span("step.execute", attributes=attributes) as span:
            if (attempt, step) == (1, "shrink"):
                span.set_status(trace.StatusCode.ERROR, "UNAVAILABLE")
            else:
                span.set_attributes(parts)
print(trace.format_trace_id(root.get_span_context().trace_id))
stop()
"""


@dataclass(frozen=True, slots=True)
class Sent:
    execution_id: str
    pipeline_id: str
    trace_id: str


def send_to_zipkin(url: str, *, execution_id: str, pipeline_id: str) -> Sent:
    """One execution with a retried step, by the exporter that the services have."""
    done = subprocess.run(
        [sys.executable, "-c", _SEND, execution_id, pipeline_id],
        env={"OTEL_EXPORTER_ZIPKIN_ENDPOINT": f"{url}/api/v2/spans"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return Sent(execution_id, pipeline_id, done.stdout.strip())
