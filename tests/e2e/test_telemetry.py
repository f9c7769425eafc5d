"""One request is one trace, from the caller's own span to the kernels (R60), and every service counts (R61)."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from . import pictures
from .product import eventually

if TYPE_CHECKING:
    from .collector import Span
    from .workshop import Workshop


def paths(spans: list[Span], root: str) -> set[tuple[str, ...]]:
    """Every span as the names from below `root` down to it."""
    by_id = {span.span_id: span for span in spans}

    def path(span: Span) -> tuple[str, ...]:
        if span.parent_id == root:
            return (span.name,)
        above = by_id.get(span.parent_id)
        return (*(path(above) if above else ("orphan",)), span.name)

    return {path(span) for span in spans}


def test_a_request_is_one_trace_below_the_callers_own_span(workshop: Workshop, examples: Path) -> None:
    definition = json.loads((examples / "inspect-coins.json").read_text())
    assert workshop.callers.post("/v1/pipelines", definition).status_code == 200
    trace_id, caller = secrets.token_hex(16), secrets.token_hex(8)
    response = workshop.callers.http.post(
        "/v1/pipelines/inspect-coins:process",
        content=pictures.coins(),
        headers={"content-type": "image/png", "traceparent": f"00-{trace_id}-{caller}-01"},
    )
    assert response.status_code == 200, response.text
    steps = {("resize", "image_resize"), ("detect", "image_detect"), ("filter", "image_filter")}
    wanted = {("pipeline.execute", "step.execute", kernel) for _, kernel in steps}
    eventually(lambda: wanted <= paths(workshop.collector.trace(trace_id), caller))

    spans = workshop.collector.trace(trace_id)
    assert not any("orphan" in path for path in paths(spans, caller))
    execution = response.headers["imageflow-execution-id"]
    assert {span.attributes["execution.id"] for span in spans} == {execution}
    root = next(span for span in spans if span.name == "pipeline.execute")
    assert response.headers["traceresponse"] == f"00-{trace_id}-{root.span_id}-01"
    by_name = {span.name: span for span in spans}
    assert by_name["pipeline.execute"].attributes["pipeline.id"] == "inspect-coins"
    assert {(s.attributes["step.id"], s.attributes["step.type"]) for s in spans if s.name == "step.execute"} == {
        (step, step) for step, _ in steps
    }
    assert by_name["image_resize"].attributes["target_size"] == "760x600"
    assert {span.name: span.service for span in spans} == {
        "pipeline.execute": "orchestrator",
        "step.execute": "orchestrator",
        **{kernel: step for step, kernel in steps},
    }


def test_a_request_without_a_trace_begins_one(workshop: Workshop) -> None:
    response = workshop.callers.process_http(pictures.photo(32, 32))
    execution = response.headers["imageflow-execution-id"]

    def root() -> list[Span]:
        spans = [span for span in workshop.collector.spans if span.attributes.get("execution.id") == execution]
        return [span for span in spans if span.name == "pipeline.execute" and not span.parent_id]

    assert len(eventually(root)) == 1


def test_every_service_says_who_it_is_and_counts(workshop: Workshop) -> None:
    workshop.callers.process_http(pictures.photo(32, 32), component="tint")
    names = {
        "imageflow.pipeline.execution.duration",
        "imageflow.step.executions.total",
        "imageflow.processing.duration",
        "imageflow.processing.total",
        "imageflow.resource.utilization",
    }
    eventually(lambda: names <= workshop.collector.metrics and "tint" in workshop.collector.resources)
    tint = workshop.collector.resources["tint"]
    assert tint["service.namespace"] == "imageflow"
    assert tint["k8s.cluster.name"] == "imageflow-k3s"
    assert tint["service.version"]
