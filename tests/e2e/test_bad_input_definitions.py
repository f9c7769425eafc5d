"""Bad definitions, ids and texts: refused before anything runs, by the place that is wrong. Rows of docs/errors.md."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from imageflow.v1 import catalog_pb2, execution_service_pb2, pipeline_pb2, stored_image_pb2

from . import pictures

if TYPE_CHECKING:
    from .callers import Callers
    from .error_table import Row

pytestmark = pytest.mark.usefixtures("then_it_still_serves")

Json = dict[str, Any]


def step(step_id: str, component: str = "resize", **fields: Any) -> Json:
    return {"stepId": step_id, "componentName": component, **fields}


def definition(*steps: Json, **fields: Any) -> Json:
    return {"pipelineId": "bad", "version": "1", "steps": list(steps), **fields}


def message(definition: Json) -> pipeline_pb2.Pipeline:
    """As a client with typed messages would fill it in."""
    pipeline = pipeline_pb2.Pipeline(pipeline_id=definition["pipelineId"], version=definition["version"])
    for each in definition["steps"]:
        added = pipeline.steps.add(
            step_id=each["stepId"],
            component_name=each["componentName"],
            component_version=each.get("componentVersion", ""),
            dependencies=each.get("dependencies", ()),
            resources=pipeline_pb2.Resources(**each.get("resources", {})),
        )
        added.parameters.update(each.get("parameters", {}))
    return pipeline


def refuses(callers: Callers, row: Row, bad: Json, *words: str) -> None:
    """Over HTTP and over gRPC, by validate and by execute, alike."""
    row.refuses(callers.post("/v1/pipelines:validate", {"pipeline": bad}), *words)
    row.refuses(callers.post("/v1/pipelines:execute", {"pipeline": bad, "inputPath": "in.png"}), *words)
    asked = pipeline_pb2.ValidatePipelineRequest(pipeline=message(bad))
    row.refuses(lambda: callers.rpc("PipelineService/ValidatePipeline", asked), *words)


def test_an_unknown_field_in_a_step(callers: Callers, row: Row) -> None:
    """gRPC has no such thing: the message has no place for it."""
    bad = definition(step("a"), step("b", dependancies=["a"]))
    words = ("steps[b].dependancies", "unknown field", "did you mean 'dependencies'?")
    row.refuses(callers.post("/v1/pipelines:validate", {"pipeline": bad}), *words)
    row.refuses(callers.post("/v1/pipelines", bad), "steps[b].dependancies")


def test_nan_in_json(callers: Callers, row: Row) -> None:
    """JSON has no such number."""
    bad = definition(step("a", "filter", parameters={"filterIntensity": math.nan}))
    row.refuses(callers.post("/v1/pipelines:validate", {"pipeline": bad}), "NaN is not a JSON number")


def test_a_parameter_that_is_not_finite(callers: Callers, row: Row) -> None:
    """By a client of gRPC, which can send what JSON cannot, and as text in a query."""
    for number in (math.nan, math.inf, -math.inf):
        bad = message(definition(step("a", "filter", parameters={"filterIntensity": number})))
        asked = pipeline_pb2.ValidatePipelineRequest(pipeline=bad)
        row.refuses(lambda asked=asked: callers.rpc("PipelineService/ValidatePipeline", asked), "steps[a].parameters")
        row.refuses(callers.process_http(pictures.photo(), set=f"width={number}"), "parameters.width", "finite")


def test_a_negative_parameter(callers: Callers, row: Row) -> None:
    refuses(callers, row, definition(step("a", parameters={"width": -5})), "steps[a].parameters.width", "1")


def test_a_cycle(callers: Callers, row: Row) -> None:
    bad = definition(step("a", dependencies=["b"]), step("b", dependencies=["c"]), step("c", dependencies=["a"]))
    refuses(callers, row, bad, "steps[a].dependencies", "wait for each other: a → c → b → a")


def test_10000_steps(callers: Callers, row: Row) -> None:
    refuses(callers, row, definition(*(step(f"s{number}") for number in range(10_000))), "steps", "at most 1")


def test_a_step_id_that_is_there_twice(callers: Callers, row: Row) -> None:
    refuses(
        callers, row, definition(step("a"), step("a", "filter")), "steps[1].stepId", "'a' is the id of steps[0] already"
    )


def test_an_unknown_component(callers: Callers, row: Row) -> None:
    refuses(callers, row, definition(step("a", "resise")), "steps[a].componentName", "resise", "did you mean 'resize'?")


def test_an_unknown_component_alone(callers: Callers, row: Row) -> None:
    row.refuses(callers.process_http(pictures.photo(), component="blur"), "blur")
    row.refuses(lambda: callers.process_grpc(pictures.photo(), component="blur"), "blur")
    row.refuses(callers.http.get("/v1/components/blur"), "blur")


def test_an_unknown_version_of_a_component(callers: Callers, row: Row) -> None:
    refuses(callers, row, definition(step("a", componentVersion="9.9")), "steps[a].componentVersion", "9.9", "1.0.0")


def test_resources_that_no_target_has(callers: Callers, row: Row) -> None:
    refuses(callers, row, definition(step("a", resources={"gpu": "8"})), "steps[a].resources", "gpu")


def test_text_that_is_not_json(callers: Callers, row: Row) -> None:
    row.refuses(callers.post("/v1/pipelines:validate", '{"pipeline": {"pipelineId": }'), "JSON", "line 1")


def test_json_that_is_not_an_object(callers: Callers, row: Row) -> None:
    for text in ("[]", "7", '"pipeline"', "null"):
        row.refuses(callers.post("/v1/pipelines:validate", text), "object")


def test_fields_of_wrong_types(callers: Callers, row: Row) -> None:
    bad = definition(step("a", dependencies="b", timeout=7), failFast="no", steps=[1])
    bad["steps"] = [step("a", dependencies="b", timeout=7), 1]
    refusal = row.refuses(callers.post("/v1/pipelines:validate", {"pipeline": bad}), "failFast", "true or false")
    assert {"pipeline.steps[a].dependencies", "pipeline.steps[a].timeout", "pipeline.steps[1]"} <= set(refusal.faults)


def test_a_stored_definition_with_an_execution_id(callers: Callers, row: Row) -> None:
    bad = definition(step("a"), globalParameters={"executionId": "always-the-same"})
    row.refuses(callers.post("/v1/pipelines", bad), "globalParameters.executionId")
    asked = pipeline_pb2.CreatePipelineRequest(pipeline=message(bad))
    asked.pipeline.global_parameters.execution_id = "always-the-same"
    row.refuses(lambda: callers.rpc("PipelineService/CreatePipeline", asked), "globalParameters.executionId")


def test_a_version_stored_again_with_another_body(callers: Callers, row: Row) -> None:
    first, other = definition(step("a")), definition(step("a", "filter"))
    for each in (first, other):
        each["pipelineId"] = "kept"
    assert callers.post("/v1/pipelines", first).status_code == 200
    row.refuses(callers.post("/v1/pipelines", other), "kept", "1")
    asked = pipeline_pb2.CreatePipelineRequest(pipeline=message(other))
    row.refuses(lambda: callers.rpc("PipelineService/CreatePipeline", asked), "kept")
    assert callers.http.get("/v1/pipelines/kept").json()["steps"][0]["componentName"] == "resize"


def test_an_execution_id_that_is_taken(callers: Callers, row: Row) -> None:
    callers.http.put("/v1/images/bad/taken.jpg", content=pictures.photo(), headers={"content-type": "image/jpeg"})
    request = {"pipeline": definition(step("a")), "inputPath": "bad/taken.jpg", "executionId": "taken"}
    assert callers.post("/v1/pipelines:execute", request).json()["status"] == "COMPLETED"
    other = {**request, "pipeline": definition(step("b"))}
    row.refuses(callers.post("/v1/pipelines:execute", other), "taken")
    asked = pipeline_pb2.ExecutePipelineRequest(
        pipeline=message(definition(step("b"))), input_path="bad/taken.jpg", execution_id="taken"
    )
    row.refuses(lambda: callers.rpc("PipelineService/ExecutePipeline", asked), "taken")


def test_an_unknown_pipeline(callers: Callers, row: Row) -> None:
    row.refuses(callers.http.post("/v1/pipelines/no-such:process", content=pictures.photo()), "no-such")
    row.refuses(callers.http.get("/v1/pipelines/no-such"), "no-such")
    asked = pipeline_pb2.GetPipelineRequest(pipeline_id="no-such")
    row.refuses(lambda: callers.rpc("PipelineService/GetPipeline", asked), "no-such")


def test_an_unknown_execution(callers: Callers, row: Row) -> None:
    row.refuses(callers.http.get("/v1/executions/no-such"), "no-such")
    asked = execution_service_pb2.GetExecutionRequest(execution_id="no-such")
    row.refuses(lambda: callers.rpc("ExecutionService/GetExecution", asked), "no-such")


def test_a_model_without_weights(callers: Callers, row: Row) -> None:
    """The default model is not ours to ship; the text says how to add it."""
    words = ("yolo11", "imageflow models add")
    row.refuses(callers.process_http(pictures.photo(), component="detect"), *words)
    row.refuses(lambda: callers.process_grpc(pictures.photo(), component="detect"), *words)


@pytest.mark.parametrize("token", ["garbage", "../../etc", "\u00e9"])
def test_a_page_token_that_is_none(callers: Callers, row: Row, token: str) -> None:
    """The lists of components go by name, so that any text is a place in them."""
    for path in ("/v1/images", "/v1/executions", "/v1/pipelines"):
        row.refuses(callers.http.get(path, params={"pageToken": token}), "page token")
    for method, asked in (
        ("ImageService/ListImages", stored_image_pb2.ListImagesRequest(page_token=token)),
        ("ExecutionService/ListExecutions", execution_service_pb2.ListExecutionsRequest(page_token=token)),
        ("PipelineService/ListPipelines", pipeline_pb2.ListPipelinesRequest(page_token=token)),
    ):
        row.refuses(lambda method=method, asked=asked: callers.rpc(method, asked), "page token")


def test_a_parameter_in_a_query_that_is_none(callers: Callers, row: Row) -> None:
    words = ("wdith", "did you mean 'width'?")
    row.refuses(callers.process_http(pictures.photo(), set="wdith=5"), *words)
    asked = catalog_pb2.ProcessWithComponentRequest(component_name="resize", set=["wdith=5"])
    row.refuses(lambda: callers.rpc("CatalogService/ProcessWithComponent", asked), *words)


def test_json_nested_without_end(callers: Callers, row: Row) -> None:
    text = json.dumps({"pipeline": {"steps": [{"parameters": 0}]}}).replace("0", '{"a":' * 3_000 + "1" + "}" * 3_000)
    row.refuses(callers.post("/v1/pipelines:validate", text), "nested too deeply")
