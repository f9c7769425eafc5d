"""One request is one trace, from the caller's own span to the kernels (R60), and every service counts (R61)."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from . import pictures
from .product import eventually

if TYPE_CHECKING:
    from .collector import Span
    from .workshop import Workshop

GATEWAY = ("ingress", "router orchestrator egress")


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
    above = (*GATEWAY, "imageflow.v1.PipelineService/ProcessImage", "pipeline.execute", "step.execute")
    wanted = {(*above, kernel) for _, kernel in steps} | {(*above, "image_detect", "model.infer")}
    eventually(lambda: wanted <= paths(workshop.collector.trace(trace_id), caller))

    spans = workshop.collector.trace(trace_id)
    assert not any("orphan" in path for path in paths(spans, caller))
    execution = response.headers["imageflow-execution-id"]
    ours = ("pipeline.execute", "step.execute", *(kernel for _, kernel in steps), "ingress")
    assert {span.attributes["execution.id"] for span in spans if span.name in ours} == {execution}
    root = next(span for span in spans if span.name == "pipeline.execute")
    assert response.headers["traceresponse"] == f"00-{trace_id}-{root.span_id}-01"
    by_name = {span.name: span for span in spans}
    assert by_name["pipeline.execute"].attributes["pipeline.id"] == "inspect-coins"
    assert {(s.attributes["step.id"], s.attributes["step.type"]) for s in spans if s.name == "step.execute"} == {
        (step, step) for step, _ in steps
    }
    assert by_name["image_resize"].attributes["target_size"] == "760x600"
    assert {(span.name, span.service) for span in spans} >= {
        ("ingress", "gateway"),
        ("pipeline.execute", "orchestrator"),
        ("step.execute", "orchestrator"),
        ("model.infer", "detect"),
        *((kernel, step) for step, kernel in steps),
    }
    for kernel in (span for span in spans if span.name.startswith("image_")):
        read = ("dequeued", "read", "decoded", "computed")
        assert kernel.events[:4] == read, kernel


def test_a_request_without_a_trace_begins_one(workshop: Workshop) -> None:
    response = workshop.callers.process_http(pictures.photo(32, 32))
    execution = response.headers["imageflow-execution-id"]

    def root() -> list[Span]:
        spans = [span for span in workshop.collector.spans if span.attributes.get("execution.id") == execution]
        return [span for span in spans if span.name == "ingress" and not span.parent_id]

    assert len(eventually(root)) == 1


def test_work_that_nobody_waits_for_has_a_trace_of_its_own_linked_to_the_one_that_asked(workshop: Workshop) -> None:
    http, collector = workshop.callers.http, workshop.collector
    headers = {"content-type": "image/jpeg"}
    assert http.put("/v1/images/uploads/linked.jpg", content=pictures.photo(32, 32), headers=headers).is_success
    step = {"stepId": "resize", "componentName": "resize", "parameters": {"width": 16}}
    asking = secrets.token_hex(16)
    response = http.post(
        "/v1/executions",
        json={"pipeline": {"pipelineId": "linked", "steps": [step]}, "batch": {"paths": ["uploads/linked.jpg"]}},
        headers={"traceparent": f"00-{asking}-{secrets.token_hex(8)}-01"},
    )
    assert response.status_code == 200, response.text
    parent = response.json()["executionId"]

    def run(execution_id: str) -> Span | None:
        runs = [span for span in collector.spans if span.name == "execution"]
        return next((span for span in runs if span.attributes["execution.id"] == execution_id), None)

    whole = eventually(lambda: run(parent))
    child = eventually(lambda: run(f"{parent}.00000"))
    assert whole.parent_id == child.parent_id == ""
    assert len({asking, whole.trace_id, child.trace_id}) == 3
    created = eventually(
        lambda: [s for s in collector.trace(asking) if s.name == "imageflow.v1.ExecutionService/CreateExecution"]
    )
    assert whole.links == ((asking, created[0].span_id),)
    assert child.links == ((whole.trace_id, whole.span_id),)
    names = {span.name for span in collector.trace(child.trace_id)}
    assert names >= {"execution", "pipeline.execute", "step.execute", "image_resize", "store.get", "store.put"}


def test_what_a_caller_puts_in_a_query_is_in_no_span(workshop: Workshop) -> None:
    trace_id = secrets.token_hex(16)
    headers = {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"}
    workshop.callers.http.get("/v1/executions?pageSize=1&namespace=hush-hush", headers=headers)
    spans = eventually(lambda: workshop.collector.trace(trace_id))
    assert "hush-hush" not in str(spans)
    assert {span.attributes.get("http.url", "/v1/executions") for span in spans} == {"/v1/executions"}


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


@pytest.mark.parametrize(
    "traceparent",
    [
        "nonsense",
        f"00-{'0' * 32}-{'1' * 16}-01",
        f"00-{'1' * 32}-{'0' * 16}-01",
        f"00-{'g' * 32}-{'1' * 16}-01",
        f"00-{'1' * 32}-{'1' * 16}",
    ],
)
def test_a_trace_context_that_is_none_begins_a_trace_of_its_own(workshop: Workshop, traceparent: str) -> None:
    response = _process(workshop, {"traceparent": traceparent})
    assert response.status_code == 200, response.text
    trace_id = response.headers["traceresponse"].split("-")[1]
    assert trace_id not in traceparent
    wanted = "imageflow.v1.PipelineService/ProcessImage"
    roots = eventually(lambda: [span for span in workshop.collector.trace(trace_id) if span.name == wanted])
    assert [span.parent_id for span in roots] == [""]


def test_a_caller_who_does_not_want_a_trace_gets_none(workshop: Workshop) -> None:
    unwanted, wanted = secrets.token_hex(16), secrets.token_hex(16)
    response = _process(workshop, {"traceparent": f"00-{unwanted}-{secrets.token_hex(8)}-00"})
    assert response.status_code == 200, response.text
    assert "traceresponse" not in response.headers
    _process(workshop, {"traceparent": f"00-{wanted}-{secrets.token_hex(8)}-01"})
    eventually(lambda: {"pipeline.execute", "image_resize"} <= {s.name for s in workshop.collector.trace(wanted)})
    assert workshop.collector.trace(unwanted) == []


def test_baggage_of_any_kind_does_no_harm(workshop: Workshop) -> None:
    for baggage in ("a=b", "=,;;=", "k=" + "v" * 16_000):
        assert _process(workshop, {"baggage": baggage}).status_code == 200
    assert _process(workshop, {"baggage": "k=" + "v" * 64_000}).status_code == 431
    assert _process(workshop, {}).status_code == 200


def _process(workshop: Workshop, headers: dict[str, str]) -> httpx.Response:
    step = {"stepId": "resize", "componentName": "resize", "parameters": {"width": 16}}
    definition = {"pipelineId": "seen", "version": "1.0.0", "steps": [step]}
    workshop.callers.post("/v1/pipelines", definition)
    return workshop.callers.http.post(
        "/v1/pipelines/seen:process",
        content=pictures.photo(32, 32),
        headers={"content-type": "image/jpeg", **headers},
    )
