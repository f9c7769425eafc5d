"""What a request to run a pipeline asks for: from typed fields or a JSON body, with a definition in hand or a stored
one, with what the definition itself fills in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import Message

from imageflow.v1.execution_service_pb2 import CreateExecutionRequest
from imageflow.v1.pipeline_pb2 import ExecutePipelineRequest, Pipeline
from imageflow.v1.record_pb2 import RecordedRequest
from imageflow_common.errors import InvalidPipeline, Violation

from .identity import check_id
from .json_body import parse_body
from .planner import Planner

R = TypeVar("R", bound=Any)
M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, complete but for its plan; `faults` are those found so far, to be reported with the plan's."""

    request: RecordedRequest
    execution_id: str
    faults: list[Violation]


async def read_asked(request: ExecutePipelineRequest | CreateExecutionRequest, planner: Planner) -> Asked:
    """Raises InvalidPipeline unless it says which pipeline, NotFound for a stored one that is not there."""
    message, faults = read_request(request)
    definition = await _definition(message, faults, planner)
    given = definition.global_parameters
    asked = RecordedRequest(
        pipeline=definition,
        input_path=message.input_path or given.input_path,
        output_path=message.output_path or given.output_path,
        output_format=message.output_format,
        quality=message.quality,
    )
    for name, value in message.overrides.items():
        asked.overrides[name].CopyFrom(value)
    execution_id = check_id("executionId", message.execution_id or given.execution_id, optional=True)
    if isinstance(message, CreateExecutionRequest) and message.HasField("batch"):
        asked.batch.CopyFrom(message.batch)
        asked.input_path = asked.output_path = ""
        faults += [
            Violation(field, "not together with batch")
            for field, given in (("inputPath", message.input_path), ("outputPath", message.output_path))
            if given
        ]
    elif not asked.input_path:
        faults.append(Violation("inputPath", "required"))
    return Asked(asked, execution_id, faults)


def read_request(request: R) -> tuple[R, list[Violation]]:
    """The request, from its JSON body where it has one, and every fault in the body's form."""
    if not request.HasField("body"):
        return request, []
    data = request.body.data
    request.ClearField("body")
    if not data:
        return request, []
    parsed, faults = parse_body(data, type(request))
    parsed.MergeFrom(request)
    return parsed, faults


def read_json(data: bytes, message: type[M]) -> tuple[M, list[Violation]]:
    """A definition's JSON as its message, and every fault in its form."""
    return parse_body(data, message, hidden=frozenset())


async def _definition(
    message: ExecutePipelineRequest | CreateExecutionRequest, faults: list[Violation], planner: Planner
) -> Pipeline:
    if message.HasField("pipeline") == bool(message.pipeline_id):
        raise InvalidPipeline(
            "give either pipeline or pipelineId",
            violations=[*faults, Violation("pipeline", "required, or pipelineId; not both")],
        )
    if message.HasField("pipeline"):
        return message.pipeline
    pipeline_id = check_id("pipelineId", message.pipeline_id)
    return await planner.definition(pipeline_id, check_id("version", message.version, optional=True))
