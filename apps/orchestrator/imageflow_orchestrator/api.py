"""The front door: PipelineService. Decodes, delegates, encodes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from time import perf_counter
from typing import Any

from google.api.httpbody_pb2 import HttpBody

from imageflow.v1 import pipeline_pb2 as pipeline
from imageflow.v1.execution_pb2 import Execution
from imageflow_common.errors import Violation, error_of
from imageflow_common.rpc import Context, Method

from .asked import read_asked, read_json, read_request
from .call import Answer
from .catalog import Description, LiveCatalog
from .definitions import Definitions
from .engine import Engine, Processed, Requested
from .estimates import estimate_plan
from .executions import Executions
from .identity import check_id, namespace_of
from .messages import read_values, write_plan
from .paging import page_size
from .plan import Plan, PlannedCall
from .planner import Planner

_DETECTIONS_HEADER_BYTES = 4_096
_COMPACT = json.JSONEncoder(separators=(",", ":"))
_STEPS_IN_HEADER = 36
_RETRY_AFTER = timedelta(seconds=1)
_DETECTION = "imageflow.v1.Detection"


class PipelineApi:
    """PipelineService."""

    def __init__(
        self,
        engine: Engine,
        executions: Executions,
        planner: Planner,
        definitions: Definitions,
        catalog: LiveCatalog,
    ) -> None:
        self._engine = engine
        self._executions = executions
        self._planner = planner
        self._definitions = definitions
        self._catalog = catalog

    def methods(self) -> dict[str, Method]:
        return {
            "ExecutePipeline": self.execute,
            "ValidatePipeline": self.validate,
            "ProcessImage": self.process,
            "CreatePipeline": self.create,
            "GetPipeline": self.get,
            "ListPipelines": self.list,
            "DeletePipeline": self.delete,
        }

    async def execute(self, request: pipeline.ExecutePipelineRequest, context: Context) -> Execution:
        begun = perf_counter()
        asked = await read_asked(request, self._planner)
        plan = self._planner.given(asked.request.pipeline, read_values(asked.request.overrides), asked.faults)
        requested = Requested(
            namespace=namespace_of(context),
            execution_id=asked.execution_id,
            output_format=asked.request.output_format,
            quality=asked.request.quality,
            plan_ms=_since(begun),
        )
        return await self._executions.execute(asked.request, plan, requested)

    async def validate(self, request: pipeline.ValidatePipelineRequest, context: Context) -> pipeline.Plan:
        request, faults = read_request(request)
        plan = self._planner.given(request.pipeline, read_values(request.overrides), faults)
        return write_plan(
            plan, transports=self._transports(plan), estimates=estimate_plan(plan, self._catalog.averages)
        )

    async def process(self, request: pipeline.ProcessImageRequest, context: Context) -> HttpBody:
        begun = perf_counter()
        plan = await self._planner.stored(request.pipeline_id, request.version, request.set)
        requested = Requested(
            namespace=namespace_of(context),
            execution_id=check_id("executionId", request.execution_id, optional=True),
            output_format=request.output_format,
            quality=request.quality,
            plan_ms=_since(begun),
        )
        return await process_image(self._engine, self._catalog, plan, request.body, requested, context)

    async def create(self, request: pipeline.CreatePipelineRequest, context: Context) -> pipeline.Pipeline:
        definition, faults = request.pipeline, list[Violation]()
        if request.HasField("body"):
            definition, faults = read_json(request.body.data, pipeline.Pipeline)
        if not definition.version:
            faults.append(Violation("version", "required for a definition that is to be stored"))
        self._planner.given(definition, {}, faults, stored=True)
        stored = await self._definitions.create(definition)
        self._planner.forget()
        return stored

    async def get(self, request: pipeline.GetPipelineRequest, context: Context) -> pipeline.Pipeline:
        pipeline_id = check_id("pipelineId", request.pipeline_id)
        return await self._definitions.get(pipeline_id, check_id("version", request.version, optional=True))

    async def list(self, request: pipeline.ListPipelinesRequest, context: Context) -> pipeline.ListPipelinesResponse:
        size, token = page_size(request.page_size), request.page_token or None
        if request.pipeline_id:
            pipeline_id = check_id("pipelineId", request.pipeline_id)
            found, next_token = await self._definitions.versions(pipeline_id, page_size=size, page_token=token)
        else:
            found, next_token = await self._definitions.page(page_size=size, page_token=token)
        return pipeline.ListPipelinesResponse(pipelines=found, next_page_token=next_token or "")

    async def delete(
        self, request: pipeline.DeletePipelineRequest, context: Context
    ) -> pipeline.DeletePipelineResponse:
        pipeline_id = check_id("pipelineId", request.pipeline_id)
        await self._definitions.delete(pipeline_id, check_id("version", request.version, optional=True))
        self._planner.forget()
        return pipeline.DeletePipelineResponse()

    def _transports(self, plan: Plan) -> dict[str, str]:
        return {
            step.step_id: "shared-memory" if self._catalog.shares_memory(step.call.target) else "inline"
            for step in plan.steps
        }


async def process_image(
    engine: Engine, catalog: LiveCatalog, plan: Plan, body: HttpBody, requested: Requested, context: Context
) -> HttpBody:
    """Image in, image out. A run that did not complete raises the failing step's error."""
    processed = await engine.process(plan, body.data, body.content_type, requested)
    done = processed.execution
    if done.status != Execution.COMPLETED:
        error = done.error
        raise error_of(error.code)(
            error.message,
            reason=error.reason,
            retry_after=_RETRY_AFTER if error.code == "RESOURCE_EXHAUSTED" else None,
            metadata={"executionId": done.execution_id, "stepId": error.step_id},
        )
    headers = [
        ("imageflow-execution-id", done.execution_id),
        ("server-timing", _server_timing(plan, done)),
        *processed.trace.response_metadata(),
        *_detections(plan, processed, catalog),
    ]
    await context.send_initial_metadata(tuple(headers))
    return HttpBody(content_type=processed.media_type, data=processed.data)


def _server_timing(plan: Plan, done: Execution) -> str:
    """W3C Server-Timing: the whole, the orchestrator's own part, and each step with where its time went."""
    parts = [
        f"total;dur={done.execution_time_ms:.2f}",
        f"overhead;dur={done.timings.overhead_ms:.2f}",
        f"queue;dur={done.timings.queue_ms:.2f}",
        f"plan;dur={done.timings.plan_ms:.2f}",
    ]
    for planned in plan.steps[:_STEPS_IN_HEADER]:
        step = done.results[planned.step_id]
        t = step.timings
        detail = (
            f"queue={t.queue_ms:.2f} transport={t.transport_ms:.2f} decode={t.decode_ms:.2f} "
            f"compute={t.compute_ms:.2f} encode={t.encode_ms:.2f} retry={t.retry_ms:.2f}"
        )
        parts.append(f'{step.step_id};dur={step.processing_time_ms:.2f};desc="{detail}"')
    return ", ".join(parts)


def _detections(plan: Plan, processed: Processed, catalog: LiveCatalog) -> list[tuple[str, str]]:
    """The detections of every step that found some, as many as fit a header, strongest first."""
    if not any(_finds(step.call, catalog) for step in plan.steps):
        return []
    found = detections_of(plan, processed, catalog)
    return [
        ("imageflow-detections", _fitting(found, _DETECTIONS_HEADER_BYTES)),
        ("imageflow-detection-count", str(len(found))),
    ]


def detections_of(plan: Plan, processed: Processed, catalog: LiveCatalog) -> list[dict[str, Any]]:
    """The detections of every step that found some, in the order of the plan, strongest first."""
    found: list[dict[str, Any]] = []
    for step in plan.steps:
        outcome = processed.steps[step.step_id]
        if outcome.call is None or not isinstance(outcome.result, Answer) or not _finds(outcome.call, catalog):
            continue
        metadata: Any = _description(outcome.call, catalog).read_metadata(outcome.result.metadata)
        found += [_detection(step.step_id, item) for item in metadata.detections]
    return found


def _finds(call: PlannedCall, catalog: LiveCatalog) -> bool:
    """Whether what a component finds out is detections as ours are."""
    field = _description(call, catalog).metadata_class.DESCRIPTOR.fields_by_name.get("detections")
    return field is not None and field.message_type is not None and field.message_type.full_name == _DETECTION


def _description(call: PlannedCall, catalog: LiveCatalog) -> Description:
    return catalog.description(call.component_name, call.component_version)


def _detection(step_id: str, item: Any) -> dict[str, Any]:
    return {
        "stepId": step_id,
        "label": item.label,
        "confidence": round(item.confidence, 4),
        "box": _box(item.box),
        "inputBox": _box(item.input_box),
    }


def _box(box: Any) -> dict[str, float]:
    return {"x": round(box.x, 1), "y": round(box.y, 1), "width": round(box.width, 1), "height": round(box.height, 1)}


def _fitting(items: Iterable[dict[str, Any]], limit_bytes: int) -> str:
    """A JSON list of as many items as fit, in ASCII."""
    texts: list[str] = []
    size = 2
    for item in items:
        text = _COMPACT.encode(item)
        size += len(text) + 1
        if size > limit_bytes:
            break
        texts.append(text)
    return f"[{','.join(texts)}]"


def _since(start: float) -> float:
    return (perf_counter() - start) * 1e3
