"""Definitions and executions that are kept: stored, listed, deleted, over real servers and a real store."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from orchestrator_calls import CHAIN, CREATE, EXECUTE, definition, faults
from orchestrator_scripted import step
from orchestrator_served import Served, picture, refused

from imageflow.v1.execution_pb2 import Execution
from imageflow.v1.pipeline_pb2 import ExecutePipelineRequest
from imageflow_common.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
)


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
    """The namespace is the client's."""
    await at.upload("in.png", picture())
    request = ParseDict({"pipeline": CHAIN, "inputPath": "in.png", "executionId": "e"}, ExecutePipelineRequest())

    done = await at.call(EXECUTE, request, metadata=[("x-client-id", "ada")])

    assert (done.namespace, done.final_output_path) == ("ada", "artifacts/ada/e/soft/1")
    assert isinstance(await refused(lambda: at.call("ExecutionService/GetExecution", execution_id="e")), NotFound)
    error = await refused(lambda: at.call(EXECUTE, request, metadata=[("x-client-id", "../ada")]))
    assert list(faults(error)) == ["namespace"]
