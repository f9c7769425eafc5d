"""CatalogService, SystemService, reflection and the OpenAPI document."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import jsonschema  # type: ignore[import-untyped]
import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.json_format import MessageToDict
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from orchestrator_served import Served, picture, refused, served

from imageflow_common.errors import InvalidArgument, NotFound, Unavailable
from imageflow_common.images import probe
from imageflow_orchestrator.openapi import openapi_document

SERVICES = {
    f"imageflow.v1.{name}Service"
    for name in ("Pipeline", "Execution", "Image", "Catalog", "System", "Component", "Resize", "Detect", "Filter")
}


async def test_every_component_is_listed_with_what_it_takes(at: Served) -> None:
    """R24"""
    listed = await at.call("CatalogService/ListComponents")

    assert [each.name for each in listed.components] == ["detect", "filter", "resize", "wait"]
    resize = listed.components[2]
    assert (list(resize.versions), resize.available, list(resize.input_slots)) == (["1.0.0"], True, ["image"])
    schema = MessageToDict(resize.parameters_schema)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["properties"]["width"]["default"] == 800


async def test_components_are_listed_page_by_page(at: Served) -> None:
    first = await at.call("CatalogService/ListComponents", page_size=3)
    rest = await at.call("CatalogService/ListComponents", page_token=first.next_page_token)

    assert [each.name for each in (*first.components, *rest.components)] == ["detect", "filter", "resize", "wait"]
    assert rest.next_page_token == ""
    assert isinstance(await refused(lambda: at.call("CatalogService/ListComponents", page_size=1_001)), InvalidArgument)


async def test_a_component_is_found_by_its_aliases(at: Served) -> None:
    """R15"""
    for name in ("detect", "ai_detection", "ai-detection", "object-detection"):
        found = await at.call("CatalogService/GetComponent", component_name=name)
        assert found.name == "detect"
    error = await refused(lambda: at.call("CatalogService/GetComponent", component_name="detekt"))
    assert isinstance(error, NotFound)
    assert "detect" in error.message


async def test_one_component_runs_alone_with_parameters_in_any_spelling(at: Served) -> None:
    """R15, R20"""
    body = HttpBody(content_type="image/png", data=picture())

    for assignment in ("max-detections=1", "width=32"):
        name = "resize" if "width" in assignment else "ai-detection"
        fields: dict[str, Any] = {"set": [assignment]}
        if name != "resize":
            fields["set"].append("model_name=coins")
        answer = await at.call("CatalogService/ProcessWithComponent", component_name=name, body=body, **fields)
        assert probe(answer.data).width == (32 if name == "resize" else 320)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"component_name": "nothing"}, "COMPONENT_NOT_FOUND"),
        ({"component_name": "resize", "version": "7"}, "INVALID_PIPELINE"),
        ({"component_name": "resize", "set": ["width=-1"]}, "INVALID_PIPELINE"),
        ({"component_name": "resize", "set": ["width"]}, "INVALID_ARGUMENT"),
        ({"component_name": "resize", "body": HttpBody(data=b"nothing")}, "UNSUPPORTED_IMAGE"),
    ],
)
async def test_a_component_that_cannot_run_so_is_an_error(at: Served, fields: dict[str, Any], reason: str) -> None:
    request = {"body": HttpBody(data=picture()), **fields}

    assert (await refused(lambda: at.call("CatalogService/ProcessWithComponent", **request))).reason == reason


async def test_readiness_says_that_a_registry_was_refused(at: Served) -> None:
    """It is no reason to send nothing here: the one before is served."""
    at.orchestrator.catalog.registry_fault = "registry.yaml: components: name at least one component"

    ready = await at.call("SystemService/GetReadiness")

    assert ready.status == "ready"
    assert [at.orchestrator.catalog.registry_fault in each for each in ready.degraded] == [True]


async def test_health_is_ok_while_it_serves_and_readiness_when_every_component_is_there(at: Served) -> None:
    health = await at.call("SystemService/GetHealth")
    ready = await at.call("SystemService/GetReadiness")

    assert (health.status, ready.status) == ("ok", "ready")
    assert list(ready.components) == ["detect", "filter", "resize", "wait"]
    stub = health_pb2_grpc.HealthStub(at.channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service="imageflow.v1.PipelineService"))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_readiness_names_what_is_missing(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        at.orchestrator.catalog._reachable.clear()

        error = await refused(lambda: at.call("SystemService/GetReadiness"))

        assert isinstance(error, Unavailable)
        assert error.message == "cannot be reached: detect, filter, resize, wait"


async def test_reflection_lists_and_describes_every_service(at: Served) -> None:
    """R90"""
    stub = reflection_pb2_grpc.ServerReflectionStub(at.channel)

    async def asked() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        for service in sorted(SERVICES):
            yield reflection_pb2.ServerReflectionRequest(file_containing_symbol=service)

    answers = [answer async for answer in stub.ServerReflectionInfo(asked(), timeout=10)]

    listed = {service.name for service in answers[0].list_services_response.service}
    assert listed >= {*SERVICES, "grpc.health.v1.Health"}
    for service, answer in zip(sorted(SERVICES), answers[1:], strict=True):
        files = [FileDescriptorProto.FromString(data) for data in answer.file_descriptor_response.file_descriptor_proto]
        described = {f"{file.package}.{each.name}" for file in files for each in file.service}
        assert service in described


async def test_a_method_that_there_is_not_is_unimplemented(at: Served) -> None:
    method: Any = at.channel.unary_unary("/imageflow.v1.PipelineService/Nothing")

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await method(b"", timeout=5)

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


OPENAPI_SHAPE: dict[str, Any] = {
    "type": "object",
    "required": ["openapi", "info", "paths", "components"],
    "properties": {
        "openapi": {"pattern": r"^3\.1\.\d+$"},
        "info": {"required": ["title", "version"]},
        "paths": {
            "patternProperties": {
                "^/": {
                    "type": "object",
                    "propertyNames": {"enum": ["get", "head", "put", "post", "delete"]},
                    "additionalProperties": {"$ref": "#/$defs/operation"},
                }
            },
            "additionalProperties": False,
            "minProperties": 15,
        },
    },
    "$defs": {
        "operation": {
            "type": "object",
            "required": ["operationId", "summary", "responses", "tags"],
            "properties": {
                "summary": {"minLength": 5},
                "parameters": {
                    "type": "array",
                    "items": {
                        "required": ["name", "in", "schema"],
                        "properties": {"in": {"enum": ["path", "query"]}},
                        "if": {"properties": {"in": {"const": "path"}}},
                        "then": {"required": ["required"], "properties": {"required": {"const": True}}},
                    },
                },
                "requestBody": {"required": ["content"]},
                "responses": {
                    "minProperties": 1,
                    "additionalProperties": {"required": ["description"]},
                },
            },
        }
    },
}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for operation in item.values():
            yield path, operation


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


async def test_the_openapi_document_is_one(at: Served) -> None:
    answer = await at.call("SystemService/GetOpenApi")

    assert answer.content_type == "application/json"
    document = json.loads(answer.data)
    jsonschema.Draft202012Validator(OPENAPI_SHAPE).validate(document)
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_operation_ids_are_unique_and_every_reference_leads_somewhere() -> None:
    document = json.loads(openapi_document("1"))

    ids = [operation["operationId"] for _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]


def test_the_parameters_in_a_path_are_those_of_its_operation() -> None:
    document = json.loads(openapi_document("1"))

    for path, operation in operations(document):
        declared = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
        assert declared == set(re.findall(r"{(\w+)}", path))
        names = [(each["name"], each["in"]) for each in operation["parameters"]]
        assert len(names) == len(set(names))


def test_every_route_of_the_public_surface_is_described() -> None:
    document = json.loads(openapi_document("1"))

    found = {f"{verb.upper()} {path}" for path, item in document["paths"].items() for verb in item}
    assert found >= {
        "POST /v1/pipelines:execute",
        "POST /v1/pipelines:validate",
        "POST /v1/pipelines/{pipeline_id}:process",
        "POST /v1/components/{component_name}:process",
        "POST /v1/pipelines",
        "GET /v1/pipelines",
        "GET /v1/pipelines/{pipeline_id}",
        "DELETE /v1/pipelines/{pipeline_id}",
        "GET /v1/executions",
        "GET /v1/executions/{execution_id}",
        "POST /v1/executions",
        "DELETE /v1/executions/{execution_id}",
        "GET /v1/executions/{execution_id}:watch",
        "POST /v1/executions/{execution_id}:cancel",
        "POST /v1/executions/{execution_id}:rerun",
        "PUT /v1/images/{key}",
        "GET /v1/images/{key}",
        "DELETE /v1/images/{key}",
        "POST /v1/images",
        "GET /v1/images",
        "GET /v1/components",
        "GET /v1/components/{component_name}",
        "GET /healthz",
        "GET /readyz",
        "GET /openapi.json",
    }


def test_repeated_query_parameters_are_lists_and_overrides_have_values() -> None:
    document = json.loads(openapi_document("1"))
    process = document["paths"]["/v1/pipelines/{pipeline_id}:process"]["post"]

    parameters = {each["name"]: each["schema"] for each in process["parameters"]}

    assert parameters["set"] == {"type": "array", "items": {"type": "string"}}
    assert process["requestBody"]["content"].keys() == {"image/*"}
    assert document["components"]["schemas"]["ExecutePipelineRequest"]["properties"]["overrides"]["type"] == "object"


def test_a_watch_is_lines_of_events_or_server_sent_ones() -> None:
    document = json.loads(openapi_document("1"))
    content = document["paths"]["/v1/executions/{execution_id}:watch"]["get"]["responses"]["200"]["content"]

    event = {"$ref": "#/components/schemas/ExecutionEvent"}
    assert content == {
        "application/x-ndjson": {"schema": event},
        "text/event-stream": {"schema": {"type": "string", "contentSchema": event}},
    }


@pytest.mark.parametrize(("path", "required"), [("", True), ("/{execution_id}:cancel", False)])
def test_a_body_of_json_may_be_left_out_where_every_field_may(path: str, required: bool) -> None:
    document = json.loads(openapi_document("1"))
    body = document["paths"][f"/v1/executions{path}"]["post"]["requestBody"]

    assert (body["required"], [*body["content"]]) == (required, ["application/json"])
