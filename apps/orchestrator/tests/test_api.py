"""PipelineService and ExecutionService, over real servers and a real store."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from pathlib import Path

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.json_format import ParseDict
from orchestrator_calls import CHAIN, CREATE, EXECUTE, PROCESS, VALIDATE, definition, faults, image
from orchestrator_scripted import eventually, lines, step
from orchestrator_served import Served, picture, refused, served

from imageflow.v1.execution_pb2 import Execution
from imageflow.v1.pipeline_pb2 import ExecutePipelineRequest, Pipeline, Step
from imageflow_common.errors import (
    InvalidArgument,
    InvalidPipeline,
)


async def test_a_definition_in_json_runs_over_an_image_in_the_store(at: Served) -> None:
    """R1, R10, R14, R15, R31"""
    await at.upload("in.png", picture())

    done: Execution = await at.json(EXECUTE, {"pipeline": CHAIN, "inputPath": "in.png", "outputPath": "out.png"})

    assert (done.status, done.final_output_path) == (Execution.COMPLETED, "out.png")
    assert set(done.results) == {"small", "coins", "soft"}
    assert done.results["coins"].component_name == "detect"
    assert done.results["coins"].message.endswith("detections")
    assert "detections" in done.results["coins"].metadata
    assert done.results["small"].metadata["outputWidth"] == 64
    assert await at.call("ExecutionService/GetExecution", execution_id=done.execution_id) == done


async def test_a_definition_as_a_message_runs_the_same(at: Served) -> None:
    """R3, R10"""
    await at.upload("in.png", picture())
    request = ParseDict({"pipeline": CHAIN, "inputPath": "in.png", "executionId": "mine"}, ExecutePipelineRequest())

    done = await at.call(EXECUTE, request)

    assert (done.execution_id, done.status) == ("mine", Execution.COMPLETED)
    assert await at.call(EXECUTE, request) == done
    request.output_path = "elsewhere.png"
    assert (await refused(lambda: at.call(EXECUTE, request))).reason == "EXECUTION_EXISTS"


async def test_a_request_wins_over_the_definitions_global_parameters(at: Served) -> None:
    """R10"""
    await at.upload("in.png", picture())
    fields = {"inputPath": "nowhere", "outputPath": "theirs.png", "executionId": "theirs"}
    pipeline = definition(step("a", "resize"), globalParameters=fields)

    done = await at.json(EXECUTE, {"pipeline": pipeline, "inputPath": "in.png", "executionId": "mine"})

    assert (done.execution_id, done.input_path, done.final_output_path) == ("mine", "in.png", "theirs.png")


async def test_a_stored_definition_runs_with_overrides_in_any_spelling(at: Served) -> None:
    """R15"""
    await at.upload("in.png", picture())
    await at.json(CREATE, CHAIN)
    changes = {"soft.filterType": "invert", "soft.filter_intensity": 0.5, "small.width": 7}

    done = await at.json(EXECUTE, {"pipelineId": "p", "inputPath": "in.png", "overrides": changes})

    assert done.results["small"].metadata["outputWidth"] == 7
    assert done.results["soft"].metadata["filterType"] == "invert"


async def test_every_fault_of_a_request_is_told_at_once(at: Served) -> None:
    """R12"""
    pipeline = definition(
        step("a", "resise"),
        {**step("b", "resize", "zzz", parameters={"width": "wide"}), "tiemout": "1s"},
        step("b", "filter", "c"),
        step("c", "filter", "c"),
        timeout="0s",
    )

    error = await refused(lambda: at.json(EXECUTE, {"pipeline": pipeline, "overrides": {"q.x": 1}, "inptPath": "x"}))

    assert isinstance(error, InvalidArgument)
    assert error.reason == "INVALID_PIPELINE"
    assert set(faults(error)) == {
        "inptPath",
        "inputPath",
        "timeout",
        "pipeline.steps[b].tiemout",
        "steps[a].componentName",
        "steps[b].dependencies[0]",
        "steps[b].parameters.width",
        "steps[2].stepId",
        "steps[c].dependencies[0]",
        "overrides[q.x]",
    }


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"{", "INVALID_JSON"),
        (b"", "INVALID_PIPELINE"),
        ({}, "INVALID_PIPELINE"),
        ({"pipelineId": "p", "pipeline": CHAIN}, "INVALID_PIPELINE"),
        ({"pipelineId": "../p", "inputPath": "x"}, "INVALID_ARGUMENT"),
        ({"pipeline": CHAIN, "inputPath": "../x"}, "INVALID_KEY"),
        ({"pipeline": CHAIN, "inputPath": "x", "executionId": "a/b"}, "INVALID_ARGUMENT"),
        ({"pipeline": CHAIN, "inputPath": "x", "outputFormat": "bmp"}, "INVALID_ARGUMENT"),
        ({"pipeline": CHAIN, "inputPath": "x", "quality": 101}, "INVALID_ARGUMENT"),
        ({"pipelineId": "p", "inputPath": "x"}, "PIPELINE_NOT_FOUND"),
        ({"pipeline": CHAIN, "inputPath": "x"}, "OBJECT_NOT_FOUND"),
    ],
)
async def test_a_request_that_cannot_run_is_an_error_with_a_reason(at: Served, document: object, reason: str) -> None:
    """R5"""
    assert (await refused(lambda: at.json(EXECUTE, document))).reason == reason


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
async def test_a_number_that_json_has_not_is_a_fault_of_a_message_too(at: Served, value: float) -> None:
    pipeline = Pipeline(pipeline_id="p", version="1", steps=[Step(step_id="a", component_name="filter")])
    pipeline.steps[0].parameters.update({"filterIntensity": value})

    for method in (CREATE, VALIDATE):
        error = await refused(lambda method=method: at.call(method, pipeline=pipeline))  # type: ignore[misc]
        assert list(faults(error)) == ["steps[a].parameters"]


async def test_a_choice_that_there_is_not_is_a_fault_of_a_message_too(at: Served) -> None:
    pipeline = Pipeline(pipeline_id="p", steps=[Step(step_id="a", component_name="filter")])
    pipeline.steps[0].on_failure = 99  # type: ignore[assignment]

    error = await refused(lambda: at.call(VALIDATE, pipeline=pipeline))

    assert list(faults(error)) == ["steps[a].onFailure"]


async def test_a_run_that_failed_is_an_answer_to_execute(at: Served) -> None:
    """R14, R51"""
    await at.upload("in.png", picture()[:200])

    done = await at.json(EXECUTE, {"pipeline": CHAIN, "inputPath": "in.png"})

    assert done.status == Execution.FAILED
    assert (done.error.code, done.error.reason, done.error.step_id) == ("INVALID_ARGUMENT", "INVALID_IMAGE", "small")
    assert {name: result.status for name, result in done.results.items()} == {
        "small": Execution.FAILED,
        "coins": Execution.SKIPPED,
        "soft": Execution.SKIPPED,
    }


async def test_a_caller_who_goes_away_cancels_the_execution_and_its_images_are_gone(tmp_path: Path) -> None:
    """R54"""
    async with served(tmp_path) as at:
        await at.upload("in.png", picture(1_000, 1_000))
        steps = (step("a", "resize", parameters={"width": 900}), step("b", "wait", "a"), step("c", "filter", "b"))
        document = {"pipeline": definition(*steps), "inputPath": "in.png", "executionId": "e"}
        call = at.start(EXECUTE, body=HttpBody(data=json.dumps(document).encode()))
        waiting = asyncio.ensure_future(call)
        await eventually(at.lock.entered.is_set)
        assert at.files() != []

        call.cancel()
        await asyncio.wait([waiting])

        await eventually(lambda: at.files() == [])
        done = await ended(at, "e")
        assert (done.status, done.error.reason) == (Execution.CANCELLED, "CLIENT_WENT_AWAY")


async def ended(at: Served, execution_id: str) -> Execution:
    """The execution, once it has ended."""
    while True:
        found: Execution = await at.call("ExecutionService/GetExecution", execution_id=execution_id)
        if found.HasField("end_time"):
            return found
        await asyncio.sleep(0.005)


async def test_a_step_that_takes_too_long_fails_by_its_own_deadline(at: Served) -> None:
    """R54"""
    await at.upload("in.png", picture())
    pipeline = definition(step("a", "wait", timeout="0.1s", retryPolicy={"maxRetries": 0}))

    done = await at.json(EXECUTE, {"pipeline": pipeline, "inputPath": "in.png"})

    assert (done.status, done.error.code, done.error.step_id) == (Execution.FAILED, "DEADLINE_EXCEEDED", "a")


async def test_validate_answers_the_plan_with_every_default(at: Served) -> None:
    """R12, R20, R21, R22"""
    pipeline = definition(step("a", "resize"), step("b", "object-detection", "a"), step("c", "filter", "b"))

    plan = await at.json(VALIDATE, {"pipeline": pipeline})

    parameters = {each.step_id: dict(each.parameters) for each in plan.steps}
    assert {"width": 800, "height": 600, "maintainAspectRatio": True}.items() <= parameters["a"].items()
    assert {
        "modelName": "yolo11",
        "confidenceThreshold": 0.5,
        "nmsThreshold": 0.4,
    }.items() <= parameters["b"].items()
    assert parameters["c"] == {"filterType": "gaussian", "filterIntensity": 1.0}
    assert [(each.component_name, each.stage, each.target, each.transport) for each in plan.steps] == [
        ("resize", 0, "default", "shared-memory"),
        ("detect", 1, "default", "shared-memory"),
        ("filter", 1, "default", "shared-memory"),
    ]
    assert dict(plan.steps[2].input_from) == {"image": "b"}
    assert plan.output_step == "c"


async def test_more_faults_than_a_header_holds_are_counted(at: Served) -> None:
    pipeline = definition(*(step(f"s{number}", "resise") for number in range(500)))

    error = await refused(lambda: at.json(VALIDATE, {"pipeline": pipeline}))

    assert 2 < len(error.violations) < 100
    assert re.fullmatch(r"and \d{3} more", error.violations[-1].description)


async def test_the_callers_trace_goes_on_through_the_execution(at: Served, caplog: pytest.LogCaptureFixture) -> None:
    """R60"""
    caplog.set_level(logging.INFO)
    seen: list[str] = []
    trace_id = "0af7651916cd43dd8448eb211c80319c"

    class Note(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            from opentelemetry import trace

            seen.append(f"{trace.get_current_span().get_span_context().trace_id:032x}")
            return True

    logger = logging.getLogger("imageflow_orchestrator.run")
    note = Note()
    logger.addFilter(note)
    try:
        await at.json(CREATE, CHAIN)
        parent = [("traceparent", f"00-{trace_id}-b7ad6b7169203331-01")]
        await at.call(PROCESS, pipeline_id="p", body=image(), metadata=parent)
    finally:
        logger.removeFilter(note)

    assert set(seen) == {trace_id}
    assert len(lines(caplog, "step.finished")) == 3


async def test_bytes_that_are_no_message_are_an_invalid_argument(at: Served) -> None:
    call = at.channel.unary_unary(f"/imageflow.v1.{EXECUTE}", lambda data: data, lambda data: data)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"\xff\xff\xff", timeout=5)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_error_tells_no_path_of_ours(at: Served, tmp_path: Path) -> None:
    await at.json(CREATE, CHAIN)
    errors = [
        await refused(lambda: at.call(PROCESS, pipeline_id="p", body=image(picture()[:300]))),
        await refused(lambda: at.json(EXECUTE, {"pipeline": CHAIN, "inputPath": "nowhere"})),
    ]

    for error in errors:
        assert str(tmp_path) not in error.message
        assert ".imageflow" not in error.message
    assert isinstance(errors[0], InvalidPipeline | InvalidArgument)
