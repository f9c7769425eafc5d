"""A mixed run, asked for afterwards of everything that keeps what the product tells: each execution has its trace, its
log lines and its count, and every panel of the dashboards shows something (R60-R64, R67)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import httpx
import pytest

from backends.kafka import KafkaServer
from backends.server import CannotStart
from backends.triton import Triton
from imageflow.v1.pipeline_pb2 import ProcessImageRequest
from imageflow_cli.observe.logs import execution_lines
from imageflow_cli.observe.traces import Span, Trace
from imageflow_common.kafka_settings import KafkaSettings
from tests.e2e import pictures
from tests.e2e.product import TREE, eventually
from tests.kafka.office import Office, request

from .conftest import PROVE
from .dashboards import Query, queries
from .drawing import draw_board
from .stack import Stack, execution_of, image_inputs, stack

pytestmark = [
    pytest.mark.skipif(not PROVE, reason="only with IMAGEFLOW_PROVE, which builds the collector and Loki"),
    pytest.mark.timeout(900),
]
GOOD, BAD, OVER_GRPC, MESSAGES = 20, 4, 3, 3
SMALL = {"stepId": "small", "componentName": "resize", "parameters": {"width": 32}}
PATIENT = {**SMALL, "retryPolicy": {"maxRetries": 8, "backoffFactor": 1.5}}
SERVICES = {"orchestrator", "resize", "detect", "filter"}


@dataclass
class Ran:
    """What was run, and how each ended."""

    on: Stack
    executions: dict[str, str] = field(default_factory=dict)
    chain: list[str] = field(default_factory=list)
    """Of the three steps of the example."""
    retried: str = ""
    cancelled: str = ""
    messages: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, otelcol_program: str, kafka_server: KafkaServer) -> Iterator[Ran]:
    kafka = KafkaSettings(bootstrap_servers=kafka_server.bootstrap_servers, topic_prefix="whole-", partitions=3)
    triton = Triton(tmp_path_factory.mktemp("triton"))
    try:
        triton.start()
    except CannotStart as exc:
        pytest.skip(f"needs a Triton: {exc}")
    try:
        with stack(
            tmp_path_factory.mktemp("whole"),
            *("--log-level", "DEBUG", "--kafka", kafka.bootstrap_servers, "--triton", triton.url),
            environment={
                "IMAGEFLOW_KAFKA_TOPIC_PREFIX": kafka.topic_prefix,
                "IMAGEFLOW_KAFKA_PARTITIONS": str(kafka.partitions),
            },
            collector={
                "IMAGEFLOW_SAMPLING_PERCENT": "100",
                "IMAGEFLOW_TRITON_METRICS": json.dumps([f"127.0.0.1:{triton.ports['metrics']}"]),
            },
        ) as on:
            yield mixed_run(on, kafka)
    finally:
        triton.kill()


def mixed_run(on: Stack, kafka: KafkaSettings) -> Ran:
    ran = Ran(on)
    chain = json.loads((TREE / "examples" / "inspect-coins.json").read_text())
    for definition in (
        {"pipelineId": "good", "version": "1.0.0", "steps": [SMALL]},
        {"pipelineId": "patient", "version": "1.0.0", "steps": [PATIENT]},
        chain,
    ):
        on.define(definition)
    image_inputs(on, small=pictures.photo(64, 64))

    def note(response: httpx.Response, status: str) -> str:
        execution_id = execution_of(response)
        ran.executions[execution_id] = status
        return execution_id

    for _ in range(GOOD):
        note(on.process("good", pictures.photo(64, 64)), "success")
    for _ in range(BAD):
        note(on.process("good", pictures.photo(64, 64)[:400]), "failed")
    for _ in range(10):
        answer = on.process("inspect-coins", pictures.coins(), **{"content-type": "image/png"})
        ran.chain.append(note(answer, "success"))
    with grpc.insecure_channel(on.product.url.removeprefix("http://")) as channel:
        over_grpc(ran, channel)
    asked = {"pipelineId": "good", "inputPath": "uploads/small.jpg"}
    note(on.http.post("/v1/pipelines:execute", json=asked), "success")

    os.kill(on.product.pids()["resize"], signal.SIGKILL)
    ran.retried = note(on.process("patient", pictures.photo(64, 64)), "success")
    ran.cancelled = cancelled_run(on)
    ran.executions[ran.cancelled] = "cancelled"
    office = Office(kafka)
    office.post(b"no request")  # which is set aside, with a warning
    for number in range(MESSAGES):
        wanted = request(f"message-{number}", pipeline_config={"pipelineId": "good"})
        office.post({**wanted, "input_data": {"input_path": "uploads/small.jpg"}})
        ran.messages.append(f"message-{number}")
        ran.executions[f"message-{number}"] = "success"
    eventually(lambda: len(office.completions()) >= MESSAGES, within=60)
    office.close()
    return ran


def over_grpc(ran: Ran, channel: grpc.Channel) -> None:
    process = channel.unary_unary(
        "/imageflow.v1.PipelineService/ProcessImage",
        request_serializer=ProcessImageRequest.SerializeToString,
        response_deserializer=bytes,
    )
    for number in range(OVER_GRPC):
        asked = ProcessImageRequest(pipeline_id="good", execution_id=f"grpc-{number}")
        asked.body.data = pictures.photo(64, 64)
        process(asked, timeout=30)
        ran.executions[f"grpc-{number}"] = "success"


def cancelled_run(on: Stack) -> str:
    """Stopped while it waits for a component that does not answer."""
    stopped = on.product.pids()["filter"]
    os.kill(stopped, signal.SIGSTOP)
    try:
        steps = [{"stepId": "soft", "componentName": "filter", "parameters": {"filterType": "gaussian"}}]
        asked = {"pipeline": {"pipelineId": "stopped", "steps": steps}, "inputPath": "uploads/small.jpg"}
        execution_id = str(on.http.post("/v1/executions", json=asked).json()["executionId"])
        place = f"/v1/executions/{execution_id}"
        eventually(lambda: on.http.get(place).json()["status"] == "RUNNING")
        assert on.http.post(f"{place}:cancel", json={}).status_code == 200
    finally:
        os.kill(stopped, signal.SIGCONT)
    return execution_id


def trace_of(ran: Ran, execution_id: str) -> Trace:
    """The one that has the run itself."""

    return eventually(lambda: find_trace(ran, execution_id), within=60)


def find_trace(ran: Ran, execution_id: str) -> Trace | None:
    traces = asyncio.run(ran.on.traces_of(execution_id))
    return next((each for each in traces if any(span.name == "pipeline.execute" for span in each)), None)


def test_every_execution_has_its_trace_by_its_id(ran: Ran) -> None:
    def without() -> set[str]:
        return {each for each in ran.executions if find_trace(ran, each) is None}

    missing = without()
    for _ in range(20):
        if not missing:
            break
        time.sleep(1)
        missing = without()
    assert missing == set(), {each: ran.executions[each] for each in missing}


def test_a_trace_goes_from_the_gateway_to_the_inference_and_nests(ran: Ran) -> None:
    wanted = {
        "ingress",
        "imageflow.v1.pipelineservice/processimage",
        "pipeline.execute",
        "step.execute",
    }  # as Zipkin has it
    wanted |= {"image_resize", "image_detect", "image_filter", "model.infer"}
    for execution_id in ran.chain:
        trace = eventually(
            lambda e=execution_id: (found := trace_of(ran, e)) and {s.name for s in found} >= wanted and found  # type: ignore[misc]
        )
        by_id = {span.span_id: span for span in trace}
        [root] = [span for span in trace if span.parent_id not in by_id]
        assert root.name == "ingress"
        for span in trace:
            if span is not root:
                assert within(span, by_id[span.parent_id]), (span, by_id[span.parent_id])


def within(child: Span, parent: Span, tolerance_us: float = 3_000) -> bool:
    """The clocks of two processes are one here, but read in two ways."""
    ends = child.start_us + child.duration_ms * 1e3 <= parent.start_us + parent.duration_ms * 1e3 + tolerance_us
    return ends and child.start_us >= parent.start_us - tolerance_us


def test_spans_account_for_the_time_of_the_request(ran: Ran) -> None:
    assert median(covered(trace_of(ran, each)) for each in ran.chain) >= 0.95


def covered(trace: Trace) -> float:
    """The share of the root's time in which a span below it was open."""
    root = next(span for span in trace if span.name == "ingress")
    end, total = root.start_us, 0.0
    for span in trace:
        if span is root:
            continue
        begun, ended = max(span.start_us, end), span.start_us + span.duration_ms * 1e3
        if ended > begun:
            total, end = total + ended - begun, int(ended)
    return total / (root.duration_ms * 1e3)


def test_a_message_that_is_run_is_one_trace(ran: Ran) -> None:
    for each in ran.messages:
        names = [span.name for span in trace_of(ran, each)]
        assert names[0] == "execution", names
        assert {"pipeline.execute", "image_resize", "store.get"} <= set(names)


def test_a_retry_is_seen_as_what_it_was(ran: Ran) -> None:
    attempts = [span for span in trace_of(ran, ran.retried) if span.name == "step.execute"]
    assert [span.attributes["attempt"] for span in attempts] == [str(n + 1) for n in range(len(attempts))]
    assert [span.failed for span in attempts] == [True] * (len(attempts) - 1) + [False]
    assert len(attempts) > 1


def test_log_lines_of_every_service_carry_the_trace(ran: Ran) -> None:
    execution_id = ran.chain[-1]
    trace_id = trace_of(ran, execution_id)[0].trace_id

    def services() -> set[str]:
        lines = ran.on.logged(f'{{service_namespace="imageflow"}} | trace_id="{trace_id}"')
        return {line["service_name"] for line in lines}

    eventually(lambda: services() >= SERVICES, within=60)
    lines = asyncio.run(execution_lines(ran.on.loki.url, execution_id, since=timedelta(hours=1), limit=100))
    assert {line.service for line in lines} >= {"orchestrator", "resize", "detect", "filter"}
    assert "execution.finished" in {line.message for line in lines}


def test_counters_are_what_was_run(ran: Ran) -> None:
    expected = {status: list(ran.executions.values()).count(status) for status in ("success", "failed", "cancelled")}

    def counted() -> dict[str, int]:
        found = ran.on.query("sum by (status) (imageflow_pipeline_execution_duration_count)")
        return {each["metric"]["status"]: int(float(each["value"][1])) for each in found}

    assert eventually(lambda: (found := counted()) == expected and found, within=60) == expected


def test_an_exemplar_leads_from_a_slow_bucket_to_its_trace(ran: Ran) -> None:
    def found() -> list[str]:
        answer = httpx.get(
            f"{ran.on.prometheus.url}/api/v1/query_exemplars",
            params={
                "query": "imageflow_pipeline_execution_duration_bucket",
                "start": "0",
                "end": "9999999999",
            },
        ).json()
        return [each["labels"]["trace_id"] for series in answer["data"] for each in series["exemplars"]]

    trace_ids = eventually(found, within=60)
    traces = [httpx.get(f"{ran.on.zipkin.url}/api/v2/trace/{each}") for each in trace_ids[:3]]
    assert all(each.status_code == 200 for each in traces)


@pytest.mark.parametrize("query", queries(), ids=str)
def test_every_panel_shows_something(ran: Ran, query: Query) -> None:
    def shown() -> Any:
        match query.source:
            case "prometheus":
                return ran.on.query(query.text)
            case "loki":
                return ran.on.logged(query.text)
            case _:
                asked = {"serviceName": "orchestrator", "spanName": query.text, "limit": "20"}
                return httpx.get(f"{ran.on.zipkin.url}/api/v2/traces", params=asked).json()

    eventually(shown, within=60)


def test_the_dashboards_are_drawn_from_the_same_queries(ran: Ran) -> None:
    """After a minute and a half of requests, most of them good."""
    until = time.monotonic() + 90
    while time.monotonic() < until:
        for pipeline, image, kind in (
            ("inspect-coins", pictures.coins(), "image/png"),
            ("good", pictures.photo(64, 64), "image/jpeg"),
            ("good", pictures.photo(64, 64)[:400], "image/jpeg"),
        ):
            for _ in range(1 + 3 * (kind == "image/png")):
                ran.on.process(pipeline, image, **{"content-type": kind})
        time.sleep(0.2)
    for board in ("imageflow-overview", "imageflow-platform"):
        file = Path(TREE / "docs" / "images" / f"{board}.png")
        draw_board(board, ran.on, file)
        assert file.stat().st_size > 10_000
