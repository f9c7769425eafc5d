"""PipelineService and ExecutionService, over real servers and a real store."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.json_format import ParseDict
from orchestrator_scripted import eventually, lines, step
from orchestrator_served import Served, picture, refused, served

from imageflow.v1.execution_pb2 import Execution
from imageflow.v1.pipeline_pb2 import ExecutePipelineRequest, Pipeline, Step
from imageflow_common.errors import (
    AlreadyExists,
    ImageFlowError,
    InvalidArgument,
    InvalidImage,
    InvalidPipeline,
    NotFound,
    Overloaded,
)
from imageflow_common.images import decode, probe

EXECUTE, PROCESS = "PipelineService/ExecutePipeline", "PipelineService/ProcessImage"
CREATE, VALIDATE = "PipelineService/CreatePipeline", "PipelineService/ValidatePipeline"
COINS = {"modelName": "coins", "confidenceThreshold": 0.0}


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[Served]:
    """No image is left in shared memory."""
    async with served(tmp_path) as made:
        yield made
        made.lock.opened.set()
        await eventually(lambda: made.files() == [])


def definition(*steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"pipelineId": "p", "version": "1", "steps": list(steps), **fields}


CHAIN = definition(
    step("small", "resize", parameters={"width": 64, "height": 64}),
    step("coins", "ai-detection", "small", parameters=COINS),
    step("soft", "filter", "coins", parameters={"filter-type": "gaussian", "filter_intensity": 0.5}),
)


def image(data: bytes | None = None, content_type: str = "image/png") -> HttpBody:
    return HttpBody(content_type=content_type, data=picture() if data is None else data)


def faults(error: ImageFlowError) -> dict[str, str]:
    return {violation.field: violation.description for violation in error.violations}


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


async def test_a_caller_of_process_who_goes_away_frees_the_slot(tmp_path: Path) -> None:
    """R54, R75"""
    async with served(tmp_path, max_running_executions=1, max_waiting_executions=1) as at:
        await at.json(CREATE, definition(step("a", "wait")))
        await at.json(CREATE, CHAIN | {"pipelineId": "chain"})
        call = at.start(PROCESS, pipeline_id="p", body=image())
        waiting = asyncio.ensure_future(call)
        await eventually(at.lock.entered.is_set)

        call.cancel()
        await asyncio.wait([waiting])

        assert (await at.call(PROCESS, pipeline_id="chain", body=image())).content_type == "image/png"


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


async def test_an_image_goes_in_and_an_image_comes_out(at: Served) -> None:
    """R4, R13, R21: with what was found in the headers."""
    await at.json(CREATE, CHAIN)

    answer: HttpBody = await at.call(PROCESS, pipeline_id="p", set=["coins.maxDetections=3"], body=image())

    assert answer.content_type == "image/png"
    assert probe(answer.data).width == 64
    headers = at.initial_metadata
    timing = str(headers["server-timing"])
    assert [part.partition(";")[0] for part in timing.split(", ")] == [
        "total", "overhead", "queue", "plan", "small", "coins", "soft",
    ]  # fmt: skip
    found = json.loads(headers["imageflow-detections"])
    assert headers["imageflow-detection-count"] == str(len(found)) == "3"
    assert set(found[0]) == {"stepId", "label", "confidence", "box", "inputBox"}
    error = await refused(
        lambda: at.call("ExecutionService/GetExecution", execution_id=headers["imageflow-execution-id"])
    )
    assert isinstance(error, NotFound)


async def test_detections_that_do_not_fit_a_header_are_cut_and_counted(at: Served) -> None:
    await at.json(CREATE, CHAIN)

    await at.call(PROCESS, pipeline_id="p", set=["coins.nmsThreshold=1"], body=image())

    text = str(at.initial_metadata["imageflow-detections"])
    assert len(text) <= 4_096
    assert 0 < len(json.loads(text)) < int(str(at.initial_metadata["imageflow-detection-count"]))


async def test_what_a_fallback_of_another_kind_found_is_not_taken_for_detections(at: Served) -> None:
    """R52"""
    fallback = {"componentName": "filter"}
    look = step("look", "detect", parameters={"modelName": "nothing"}, onFailure="FALLBACK", fallback=fallback)
    await at.json(CREATE, definition(look))

    answer = await at.call(PROCESS, pipeline_id="p", body=image())

    assert probe(answer.data).width == 320
    assert at.initial_metadata["imageflow-detections"] == "[]"


async def test_a_looker_alone_answers_the_image_it_looked_at(at: Served) -> None:
    """D5"""
    await at.json(CREATE, definition(step("look", "detect", parameters=COINS)))

    answer = await at.call(PROCESS, pipeline_id="p", body=image())

    assert decode(answer.data).array.tobytes() == decode(picture()).array.tobytes()


async def test_an_output_step_in_the_middle_is_answered_encoded(at: Served) -> None:
    """R13"""
    steps = (step("a", "resize", parameters={"width": 50}), step("b", "resize", "a", parameters={"width": 20}))
    await at.json(CREATE, definition(*steps, outputStep="a"))

    answer = await at.call(PROCESS, pipeline_id="p", output_format="webp", quality=50, body=image())

    assert (answer.content_type, probe(answer.data).width) == ("image/webp", 50)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"body": image(b"no image")}, "UNSUPPORTED_IMAGE"),
        ({"body": image(b"")}, "INVALID_IMAGE"),
        ({"body": image(picture()[:300])}, "INVALID_IMAGE"),
        ({"body": image(content_type="image/jpeg")}, "UNSUPPORTED_IMAGE"),
        ({"body": image(), "set": ["coins.modelName=nothing"]}, "MODEL_NOT_FOUND"),
        ({"body": image(), "set": ["soft.filterType=blur"]}, "INVALID_PIPELINE"),
        ({"body": image(), "set": ["soft.filterType"]}, "INVALID_ARGUMENT"),
        ({"body": image(), "output_format": "gif"}, "INVALID_ARGUMENT"),
        ({"body": image(), "version": "9"}, "PIPELINE_NOT_FOUND"),
        ({"body": image(), "pipeline_id": "nothing"}, "PIPELINE_NOT_FOUND"),
        ({"body": image(), "pipeline_id": "../x"}, "INVALID_KEY"),
        ({"body": image(), "execution_id": "a b"}, "INVALID_ARGUMENT"),
    ],
)
async def test_processing_that_cannot_be_is_the_failing_steps_error(
    at: Served, fields: dict[str, Any], reason: str
) -> None:
    """R5, D11"""
    await at.json(CREATE, CHAIN)

    error = await refused(lambda: at.call(PROCESS, **{"pipeline_id": "p", **fields}))

    assert error.reason == reason
    assert not isinstance(error, type(ImageFlowError))


async def test_a_failed_processing_leaves_a_record_that_its_error_names(at: Served) -> None:
    """D7"""
    await at.json(CREATE, CHAIN)

    error = await refused(lambda: at.call(PROCESS, pipeline_id="p", body=image(picture()[:300])))

    assert isinstance(error, InvalidImage | InvalidArgument)
    assert error.metadata["stepId"] == "small"
    record = await at.call("ExecutionService/GetExecution", execution_id=error.metadata["executionId"])
    assert record.status == Execution.FAILED


async def test_what_is_too_much_is_told_to_come_back(tmp_path: Path) -> None:
    """R75, D10"""
    async with served(tmp_path, max_running_executions=1, max_waiting_executions=1) as at:
        await at.json(CREATE, definition(step("a", "wait")))
        first = asyncio.create_task(at.call(PROCESS, pipeline_id="p", body=image()))
        await eventually(at.lock.entered.is_set)
        second = asyncio.create_task(at.call(PROCESS, pipeline_id="p", body=image()))
        await eventually(lambda: at.orchestrator.engine.admission.waiting == 1)

        error = await refused(lambda: at.call(PROCESS, pipeline_id="p", body=image()))

        assert isinstance(error, Overloaded)
        assert error.retry_after is not None
        at.lock.opened.set()
        await asyncio.gather(first, second)


async def test_definitions_are_stored_listed_and_deleted(at: Served) -> None:
    for version in ("1", "2"):
        stored = await at.json(CREATE, {**CHAIN, "version": version})
        assert (stored.pipeline_id, stored.version) == ("p", version)
    await at.json(CREATE, {**CHAIN, "pipelineId": "q"})

    newest = await at.call("PipelineService/GetPipeline", pipeline_id="p")
    assert newest.version == "2"
    listed = await at.call("PipelineService/ListPipelines", page_size=1)
    assert [each.pipeline_id for each in listed.pipelines] == ["p"]
    rest = await at.call("PipelineService/ListPipelines", page_token=listed.next_page_token)
    assert [each.pipeline_id for each in rest.pipelines] == ["q"]
    versions = await at.call("PipelineService/ListPipelines", pipeline_id="p")
    assert [each.version for each in versions.pipelines] == ["2", "1"]
    await at.call("PipelineService/DeletePipeline", pipeline_id="p")
    assert isinstance(await refused(lambda: at.call("PipelineService/GetPipeline", pipeline_id="p")), NotFound)


async def test_another_definition_under_a_stored_version_is_refused(at: Served) -> None:
    await at.json(CREATE, CHAIN)
    await at.json(CREATE, CHAIN)

    error = await refused(lambda: at.json(CREATE, {**CHAIN, "pipelineName": "another"}))

    assert isinstance(error, AlreadyExists)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"version": ""}, "version"),
        ({"version": None}, "version"),
        ({"globalParameters": {"executionId": "e"}}, "globalParameters.executionId"),
        ({"steps": []}, "steps"),
        ({"body": {}}, "body"),
    ],
)
async def test_a_definition_that_cannot_be_stored_is_refused_with_its_fault(
    at: Served, change: dict[str, Any], field: str
) -> None:
    error = await refused(lambda: at.json(CREATE, {**CHAIN, **change}))

    assert list(faults(error)) == [field]


async def test_executions_are_listed_newest_first_by_state_and_pipeline(at: Served) -> None:
    await at.upload("in.png", picture())
    await at.upload("bad.png", b"\x89PNG\r\n\x1a\n")
    for number, key in enumerate(("in.png", "bad.png")):
        pipeline = {**definition(step("a", "resize")), "pipelineId": f"p{number}"}
        await at.json(EXECUTE, {"pipeline": pipeline, "inputPath": key, "executionId": f"e{number}"})

    async def ids(**fields: Any) -> list[str]:
        listed = await at.call("ExecutionService/ListExecutions", **fields)
        return [each.execution_id for each in listed.executions]

    assert await ids() == ["e1", "e0"]
    assert await ids(status=Execution.FAILED) == ["e1"]
    assert await ids(pipeline_id="p0") == ["e0"]
    assert await at.call("ExecutionService/ListExecutions", metadata=[("x-client-id", "other")]) is not None
    other = await at.call("ExecutionService/ListExecutions", metadata=[("x-client-id", "other")])
    assert list(other.executions) == []


@pytest.mark.parametrize("method", ["ExecutionService/ListExecutions", "PipelineService/ListPipelines"])
@pytest.mark.parametrize("fields", [{"page_token": "garbage"}, {"page_size": 1_001}])
async def test_a_page_that_cannot_be_is_an_invalid_argument(at: Served, method: str, fields: dict[str, Any]) -> None:
    assert isinstance(await refused(lambda: at.call(method, **fields)), InvalidArgument)


async def test_a_client_sees_its_own_executions_only(at: Served) -> None:
    """D8: the namespace is the client's."""
    await at.upload("in.png", picture())
    request = ParseDict({"pipeline": CHAIN, "inputPath": "in.png", "executionId": "e"}, ExecutePipelineRequest())

    done = await at.call(EXECUTE, request, metadata=[("x-client-id", "ada")])

    assert (done.namespace, done.final_output_path) == ("ada", "artifacts/ada/e/soft/1")
    assert isinstance(await refused(lambda: at.call("ExecutionService/GetExecution", execution_id="e")), NotFound)
    error = await refused(lambda: at.call(EXECUTE, request, metadata=[("x-client-id", "../ada")]))
    assert list(faults(error)) == ["namespace"]


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
    """D11"""
    await at.json(CREATE, CHAIN)
    errors = [
        await refused(lambda: at.call(PROCESS, pipeline_id="p", body=image(picture()[:300]))),
        await refused(lambda: at.json(EXECUTE, {"pipeline": CHAIN, "inputPath": "nowhere"})),
    ]

    for error in errors:
        assert str(tmp_path) not in error.message
        assert ".imageflow" not in error.message
    assert isinstance(errors[0], InvalidPipeline | InvalidArgument)
