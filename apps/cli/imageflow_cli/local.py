"""Pipelines without a server: the orchestrator's own engine over components in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from imageflow.v1.component_pb2 import ComponentRequest, ComponentResponse, DescribeRequest, DescribeResponse
from imageflow.v1.execution_pb2 import Execution
from imageflow.v1.pipeline_pb2 import Pipeline, Plan
from imageflow_common.component import Component, describe
from imageflow_common.errors import DeadlineExceeded, Unavailable
from imageflow_common.images import ImageLimits
from imageflow_common.process import Processor
from imageflow_common.shared import Capability
from imageflow_orchestrator.admission import Admission
from imageflow_orchestrator.api import detections_of
from imageflow_orchestrator.asked import read_json
from imageflow_orchestrator.call import StepCaller
from imageflow_orchestrator.catalog import LiveCatalog
from imageflow_orchestrator.component_spec import Target
from imageflow_orchestrator.engine import Engine, Requested
from imageflow_orchestrator.images import ImageTransport
from imageflow_orchestrator.messages import write_plan
from imageflow_orchestrator.plan import Plan as ExecutionPlan
from imageflow_orchestrator.planner import plan_given, read_assignments
from imageflow_orchestrator.registry import parse_registry
from imageflow_orchestrator.run import Instruments

_TIMEOUT_SECONDS = 60.0
_REGISTRY = """
components:
  resize: {targets: {default: {address: "local:resize", profile: large}}}
  filter: {targets: {default: {address: "local:filter", profile: large}}}
  detect:
    aliases: [ai_detection, ai-detection, object-detection]
    targets: {default: {address: "local:detect", profile: large}}
"""


@dataclass(frozen=True, slots=True)
class LocalResult:
    """What a run came to. `data` is the encoded image of `media_type`, empty unless the execution completed;
    `detections` are those of every step that found some."""

    execution: Execution
    media_type: str
    data: bytes
    detections: list[dict[str, Any]]


class InProcessCaller:
    """Calls components in threads of this process."""

    def __init__(self, components: Mapping[str, Component]) -> None:
        self._components = components
        self._processors = {
            name: Processor(component, shared=None, limits=ImageLimits()) for name, component in components.items()
        }
        self._threads = ThreadPoolExecutor(thread_name_prefix="imageflow")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def describe(self, target: Target, request: DescribeRequest, *, timeout: float) -> DescribeResponse:
        response = describe(self._components[_name(target)])
        response.limits.timeout_seconds = _TIMEOUT_SECONDS
        return response

    async def process(
        self, target: Target, method: str, request: ComponentRequest, *, timeout: float
    ) -> ComponentResponse:
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._threads, self._processors[_name(target)].process, request)
        try:
            async with asyncio.timeout(timeout):
                return await work
        except TimeoutError as exc:
            raise DeadlineExceeded(f"took longer than {timeout:.3g} s") from exc


class LocalPipeline:
    """A definition that is planned, and the engine that runs it."""

    def __init__(self, plan: ExecutionPlan, catalog: LiveCatalog, engine: Engine, plan_ms: float) -> None:
        self._plan = plan
        self._catalog = catalog
        self._engine = engine
        self._plan_ms = plan_ms

    async def run(self, image: bytes, *, output_format: str = "", quality: int = 0) -> LocalResult:
        """Runs it over an encoded image. Raises InvalidArgument and its kin for the image. A run that failed is a
        result whose execution says so."""
        requested = Requested(output_format=output_format, quality=quality, plan_ms=self._plan_ms)
        done = await self._engine.process(self._plan, image, "", requested, with_metadata=True)
        return LocalResult(done.execution, done.media_type, done.data, detections_of(self._plan, done, self._catalog))


@asynccontextmanager
async def local_pipeline(
    definition: bytes, *, models: Path, assignments: Sequence[str] = (), concurrency: int = 1
) -> AsyncIterator[LocalPipeline]:
    """A definition (JSON) to run over images, `concurrency` of them at once. `assignments` are
    `stepId.parameter=value`. Raises InvalidPipeline with every fault."""
    pipeline, faults = read_json(definition, Pipeline)
    caller = InProcessCaller(_components(models))
    try:
        catalog = await _catalog(caller)
        begun = perf_counter()
        plan = plan_given(pipeline, catalog, read_assignments(assignments), faults)
        yield LocalPipeline(plan, catalog, _engine(catalog, caller, concurrency), (perf_counter() - begun) * 1e3)
    finally:
        caller.close()


async def run_local(
    definition: bytes,
    image: bytes,
    *,
    models: Path,
    assignments: Sequence[str] = (),
    output_format: str = "",
    quality: int = 0,
) -> LocalResult:
    """Runs a definition over one image. Raises as `local_pipeline` and `LocalPipeline.run`."""
    async with local_pipeline(definition, models=models, assignments=assignments) as pipeline:
        return await pipeline.run(image, output_format=output_format, quality=quality)


async def validate_local(definition: bytes, *, models: Path, assignments: Sequence[str] = ()) -> Plan:
    """The plan of a definition (JSON). Raises InvalidPipeline with every fault."""
    pipeline, faults = read_json(definition, Pipeline)
    caller = InProcessCaller(_components(models))
    try:
        catalog = await _catalog(caller)
        return write_plan(plan_given(pipeline, catalog, read_assignments(assignments), faults), transports={})
    finally:
        caller.close()


def _components(models: Path) -> dict[str, Component]:
    from imageflow_detect.app import build
    from imageflow_detect.backend import OnnxBackend
    from imageflow_detect.detect import Detector
    from imageflow_detect.models import ModelRepository
    from imageflow_filter.app import filter_pixels
    from imageflow_resize.app import resize

    detect = build(Detector(ModelRepository(models), OnnxBackend()))
    return {"resize": resize, "filter": filter_pixels, "detect": detect}


async def _catalog(caller: InProcessCaller) -> LiveCatalog:
    catalog = LiveCatalog(parse_registry(_REGISTRY), caller, Capability("", ""))
    await catalog.refresh()
    if missing := catalog.missing():
        raise Unavailable(f"cannot be started: {', '.join(missing)}")
    return catalog


def _engine(catalog: LiveCatalog, caller: InProcessCaller, concurrency: int) -> Engine:
    transport = ImageTransport(None)
    return Engine(
        catalog=catalog,
        caller=StepCaller(caller, catalog, transport),
        transport=transport,
        admission=Admission(max_running=concurrency, max_waiting=0),
        instruments=Instruments(),
        max_image_bytes=ImageLimits().max_bytes,
    )


def _name(target: Target) -> str:
    return target.address.removeprefix("local:")
