"""What the tests of the API ask for."""

from __future__ import annotations

from typing import Any

from google.api.httpbody_pb2 import HttpBody
from orchestrator_scripted import step
from orchestrator_served import picture

from imageflow_common.errors import ImageFlowError

EXECUTE = "PipelineService/ExecutePipeline"
PROCESS = "PipelineService/ProcessImage"
CREATE = "PipelineService/CreatePipeline"
VALIDATE = "PipelineService/ValidatePipeline"
COINS = {"modelName": "coins", "confidenceThreshold": 0.0}


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
