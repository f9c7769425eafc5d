"""Bad requests, whatever they are about: paths, queries, forms, sizes. Rows of docs/errors.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody

from imageflow.v1 import execution_service_pb2, pipeline_pb2, stored_image_pb2

from . import pictures
from .callers import MIB

if TYPE_CHECKING:
    from .callers import Callers
    from .error_table import Row
    from .product import Product

pytestmark = pytest.mark.usefixtures("then_it_still_serves")

STEP = {"stepId": "a", "componentName": "resize"}


def test_a_path_that_is_none(callers: Callers, row: Row) -> None:
    for verb, path in (("GET", "/v2/pipelines"), ("GET", "/"), ("PATCH", "/v1/pipelines/x"), ("POST", "/healthz")):
        row.refuses(callers.http.request(verb, path), "nothing is served under this method and path")


def test_a_path_with_a_nul(callers: Callers, row: Row) -> None:
    row.refuses(callers.http.put("/v1/images/a%00b.jpg", content=b"x"), "path_normalization_failed")


def test_the_content_type_of_grpc_on_a_path_of_https(callers: Callers, row: Row) -> None:
    for content_type in ("application/grpc", "application/grpc-web+proto"):
        response = callers.http.post("/v1/pipelines:execute", content=b"{}", headers={"content-type": content_type})
        row.refuses(response, "JSON or an image")


def test_a_query_that_names_again_what_the_path_names(callers: Callers, row: Row) -> None:
    row.refuses(callers.http.delete("/v1/images/harmless?key=other"), "names again what the path names")
    row.refuses(callers.http.get("/v1/pipelines/p?pipelineId=other"), "names again what the path names")
    row.refuses(callers.http.delete("/v1/images/harmless?k%65y=other"), "percent-encoded")


def test_a_method_that_is_none(row: Row, product: Product) -> None:
    """By native gRPC: the service is there, and its method is not."""
    with grpc.insecure_channel(f"127.0.0.1:{product.port}") as channel:
        call = channel.unary_unary("/imageflow.v1.PipelineService/RunPipeline")
        row.refuses(lambda: call(b"", timeout=20), "Method not found")  # gRPC's own words


def test_a_call_without_its_message(row: Row, product: Product) -> None:
    """By native gRPC: the call ends where its one message should be."""
    with grpc.insecure_channel(f"127.0.0.1:{product.port}") as channel:
        for method in ("PipelineService/ExecutePipeline", "ResizeService/Process"):
            call = channel.stream_unary(f"/imageflow.v1.{method}")
            row.refuses(lambda call=call: call(iter(()), timeout=20), "no message")
        download = channel.stream_stream("/imageflow.v1.ImageService/DownloadImage")
        row.refuses(lambda: list(download(iter(()), timeout=20)), "no message")


def test_a_query_parameter_that_is_none(callers: Callers, row: Row) -> None:
    row.refuses(callers.process_http(pictures.photo(), colour="red"), "colour")


def test_a_query_parameter_of_a_wrong_type(callers: Callers, row: Row) -> None:
    row.refuses(callers.process_http(pictures.photo(), quality=-1), "quality")
    row.refuses(callers.http.get("/v1/executions", params={"status": "DONE"}), "DONE")


def test_an_assignment_that_is_none(callers: Callers, row: Row) -> None:
    for wrong in ("width", "=5", ["width=1", "width=2"]):
        row.refuses(callers.process_http(pictures.photo(), set=wrong), "set")
    row.refuses(lambda: callers.process_grpc(pictures.photo(), set=["width"]), "set", "name=value")


def test_a_page_of_1001(callers: Callers, row: Row) -> None:
    for path in ("/v1/images", "/v1/executions", "/v1/pipelines", "/v1/components"):
        row.refuses(callers.http.get(path, params={"pageSize": 1001}), "pageSize", "1000")
    asked = stored_image_pb2.ListImagesRequest(page_size=1001)
    row.refuses(lambda: callers.rpc("ImageService/ListImages", asked), "pageSize", "1000")


@pytest.mark.parametrize("text", ["..", "a b", "a%2Fb", "%C3%A9", "x" * 129])
def test_an_id_that_is_none(callers: Callers, row: Row, text: str) -> None:
    row.refuses(callers.http.post("/v1/pipelines:execute", json={"pipelineId": text, "inputPath": "a"}), "pipelineId")
    if text != "..":
        row.refuses(callers.http.get(f"/v1/executions/{text}"), "executionId")
    asked = execution_service_pb2.GetExecutionRequest(execution_id=text)
    row.refuses(lambda: callers.rpc("ExecutionService/GetExecution", asked), "executionId")


def test_no_input(callers: Callers, row: Row) -> None:
    definition = {"pipelineId": "p", "steps": [STEP]}
    row.refuses(callers.post("/v1/pipelines:execute", {"pipeline": definition}), "inputPath")
    asked = pipeline_pb2.ExecutePipelineRequest()
    asked.pipeline.pipeline_id = "p"
    asked.pipeline.steps.add(step_id="a", component_name="resize")
    row.refuses(lambda: callers.rpc("PipelineService/ExecutePipeline", asked), "inputPath")


def test_neither_a_pipeline_nor_its_id(callers: Callers, row: Row) -> None:
    definition = {"pipelineId": "p", "steps": [STEP]}
    for request in ({}, {"pipeline": definition, "pipelineId": "p"}):
        row.refuses(callers.post("/v1/pipelines:execute", {**request, "inputPath": "a"}), "pipeline", "pipelineId")
    asked = pipeline_pb2.ExecutePipelineRequest(input_path="a")
    row.refuses(lambda: callers.rpc("PipelineService/ExecutePipeline", asked), "pipelineId")


def test_an_override_of_nothing(callers: Callers, row: Row) -> None:
    definition = {"pipelineId": "p", "steps": [STEP]}
    for name in ("b.width", "a.wide", "width"):
        request = {"pipeline": definition, "inputPath": "a", "overrides": {name: 5}}
        row.refuses(callers.post("/v1/pipelines:execute", request), name.rpartition(".")[2])


def test_a_definition_of_5_mb(callers: Callers, row: Row) -> None:
    text = '{"pipeline": {"pipelineName": "' + "x" * 5 * MIB + '"}}'
    row.refuses(callers.post("/v1/pipelines:validate", text), "larger than this request may have")


def test_a_name_that_is_there_twice_in_json(callers: Callers, row: Row) -> None:
    text = '{"pipeline": {"pipelineId": "a", "pipelineId": "b"}}'
    row.refuses(callers.post("/v1/pipelines:validate", text), "pipelineId", "twice")


def test_text_that_is_not_utf_8(callers: Callers, row: Row) -> None:
    response = callers.http.post("/v1/pipelines:validate", content=b'{"pipeline": "\xff\xfe"}')
    row.refuses(response, "JSON")


def test_a_key_of_2000_bytes(callers: Callers, row: Row) -> None:
    key = "/".join(["x" * 99] * 20)
    row.refuses(callers.http.put(f"/v1/images/{key}", content=b"x"), "key", "1024")
    part = stored_image_pb2.UploadImageRequest(key=key, body=HttpBody(data=b"x"))
    row.refuses(lambda: callers.rpc("ImageService/UploadImage", iter([part])), "key", "1024")


def test_an_upload_without_parts(callers: Callers, row: Row) -> None:
    nothing: Iterator[stored_image_pb2.UploadImageRequest] = iter(())
    row.refuses(lambda: callers.rpc("ImageService/UploadImage", nothing), "no parts")


def test_a_model_outside_the_repository(callers: Callers, row: Row) -> None:
    for name in ("../coins", "/etc/passwd", "coins/../coins", "coins\0"):
        row.refuses(
            lambda name=name: callers.process_grpc(pictures.coins(), component="detect", set=[f"modelName={name}"])
        )
    row.refuses(callers.process_http(pictures.coins(), component="detect", set="modelName=../coins"), "model")


def test_a_head_of_100_kb(callers: Callers, row: Row) -> None:
    row.refuses(callers.http.get("/healthz", headers={"x-much": "x" * 100_000}), "headers")
