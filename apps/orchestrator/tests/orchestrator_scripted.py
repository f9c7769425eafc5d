"""Components that do as a test says, behind the same interface as real ones; and short ways to what runs need."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from imageflow.v1 import image_pb2
from imageflow.v1.component_pb2 import ComponentRequest, ComponentResponse, DescribeRequest, DescribeResponse
from imageflow.v1.detect_pb2 import DetectMetadata, DetectParameters
from imageflow.v1.pipeline_pb2 import Pipeline
from imageflow_common.component import Component, Result, component, describe
from imageflow_common.formats import RAW
from imageflow_common.pixels import Pixels
from imageflow_common.shared import Capability, SharedDirectory
from imageflow_filter.app import filter_pixels
from imageflow_orchestrator.call import StepCaller
from imageflow_orchestrator.catalog import LiveCatalog
from imageflow_orchestrator.component_spec import Target
from imageflow_orchestrator.images import ImageTransport
from imageflow_orchestrator.json_body import parse_body
from imageflow_orchestrator.plan import Plan
from imageflow_orchestrator.planner import plan_given
from imageflow_orchestrator.recycled import RecycledFiles
from imageflow_orchestrator.registry import Registry, parse_registry
from imageflow_resize.app import resize

JPEG = b"\xff\xd8\xff the input"
REGISTRY = """
components:
  resize: {targets: {default: {address: "a:resize", profile: large}}}
  filter: {targets: {default: {address: "a:filter", profile: large}}}
  detect:
    aliases: [ai_detection, ai-detection, object-detection]
    targets: {default: {address: "a:detect", profile: large}}
"""

Behaviour = Callable[[ComponentRequest], Awaitable[ComponentResponse]]


async def eventually(holds: Callable[[], bool], *, within: float = 5.0) -> None:
    """Waits until `holds`; fails after `within` seconds."""
    end = time.monotonic() + within
    while not holds():
        assert time.monotonic() < end, "it did not come to pass"
        await asyncio.sleep(0.002)


@component(
    name="detect",
    service="imageflow.v1.DetectService",
    effect=DescribeResponse.WHEN_PARAMETER,
    effect_parameter="annotate",
)
def find_nothing(image: Pixels, parameters: DetectParameters) -> Result:
    """Looks and finds nothing."""
    return Result(image if parameters.annotate else None, DetectMetadata())


@cache
def description_of(name: str) -> DescribeResponse:
    known: dict[str, Component] = {"resize": resize, "filter": filter_pixels, "detect": find_nothing}
    answer = describe(known[name])
    answer.limits.timeout_seconds = 30
    return answer


def answer(request: ComponentRequest, data: bytes = b"", *, metadata: bytes = b"") -> ComponentResponse:
    """An image of these bytes as it was asked for: a row of pixels, or an encoded image."""
    media_type = request.output.media_type
    data = data or f"{request.context.step_id}#{request.context.attempt}".encode()
    response = ComponentResponse(metadata=metadata, payload=data)
    response.image.media_type = media_type
    response.image.size_bytes = response.image.payload_range.size_bytes = len(data)
    if media_type == RAW:
        layout = response.image.raw_layout
        layout.height, layout.width, layout.channels = 1, len(data), 1
        layout.sample_type = image_pb2.RawLayout.UINT8
    return response


@dataclass(frozen=True, slots=True)
class Call:
    """What a component was asked."""

    step_id: str
    attempt: int
    component: str
    request: ComponentRequest
    timeout: float

    @property
    def input(self) -> bytes:
        """The first input's bytes, where it came inline."""
        place = self.request.inputs[0].payload_range
        return self.request.payload[place.offset_bytes : place.offset_bytes + place.size_bytes]


@dataclass(slots=True)
class ScriptedCaller:
    """Does for each attempt of a step what `script` says, in turn: raises it, awaits it, answers it; else an image,
    or none where the component only looks. With `shared`, images are written to shared memory when asked for so."""

    script: dict[str, list[Exception | Behaviour | ComponentResponse]] = field(default_factory=dict)
    shared: SharedDirectory | None = None
    descriptions: dict[str, DescribeResponse | Exception | None] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    cancelled: list[str] = field(default_factory=list)
    most_at_once: int = 0

    async def describe(self, target: Target, request: DescribeRequest, *, timeout: float) -> DescribeResponse:
        known = target.address in self.descriptions
        scripted = self.descriptions[target.address] if known else description_of(target.address.removeprefix("a:"))
        if isinstance(scripted, Exception):
            raise scripted
        said = DescribeResponse()
        said.CopyFrom(scripted)  # type: ignore[arg-type]  # None is what grpcio answers for garbage
        said.shared_memory = said.shared_memory or self.shared is not None
        return said

    async def process(
        self, target: Target, method: str, request: ComponentRequest, *, timeout: float
    ) -> ComponentResponse:
        step_id = request.context.step_id
        self.calls.append(Call(step_id, request.context.attempt, target.address.removeprefix("a:"), request, timeout))
        self.running.add(step_id)
        self.most_at_once = max(self.most_at_once, len(self.running))
        try:
            return self._travelling(request, await self._answer(step_id, method, request))
        except asyncio.CancelledError:
            self.cancelled.append(step_id)
            raise
        finally:
            self.running.discard(step_id)

    def called(self, step_id: str) -> list[Call]:
        return [call for call in self.calls if call.step_id == step_id]

    async def _answer(self, step_id: str, method: str, request: ComponentRequest) -> ComponentResponse:
        await asyncio.sleep(0)
        waiting = self.script.get(step_id, [])
        scripted = waiting.pop(0) if waiting else None
        if isinstance(scripted, Exception):
            raise scripted
        if isinstance(scripted, ComponentResponse):
            return scripted
        if scripted is not None:
            return await scripted(request)
        looks = "Detect" in method and not DetectParameters.FromString(request.parameters).annotate
        return ComponentResponse() if looks and not request.output.always else answer(request)

    def _travelling(self, request: ComponentRequest, response: ComponentResponse) -> ComponentResponse:
        name = request.output.shared_memory_name
        if self.shared is not None and name and response.HasField("image"):
            self.shared.write(name, response.payload)
            response.ClearField("payload")
            response.image.shared_memory_name = name
        return response


class Gate:
    """A behaviour that waits until it is opened, then answers."""

    def __init__(self, then: Exception | None = None) -> None:
        self._open = asyncio.Event()
        self._then = then

    def open(self) -> None:
        self._open.set()

    async def __call__(self, request: ComponentRequest) -> ComponentResponse:
        await self._open.wait()
        if self._then is not None:
            raise self._then
        return answer(request)


async def never(request: ComponentRequest) -> ComponentResponse:
    """A behaviour that does not end by itself."""
    await asyncio.Event().wait()
    return ComponentResponse()


@dataclass(slots=True)
class Bench:
    """What a run needs, over scripted components."""

    caller: ScriptedCaller
    catalog: LiveCatalog
    transport: ImageTransport
    directory: Path | None

    @property
    def step_caller(self) -> StepCaller:
        return StepCaller(self.caller, self.catalog, self.transport)

    def files(self) -> list[str]:
        """The images in shared memory."""
        found = [] if self.directory is None else [path.name for path in self.directory.iterdir()]
        return [name for name in found if name != self.transport.capability.name]

    def plan(self, *steps: Mapping[str, Any], overrides: Mapping[str, Any] | None = None, **fields: Any) -> Plan:
        definition = {"pipelineId": "p", "version": "1", "steps": list(steps), **fields}
        message, faults = parse_body(json.dumps(definition).encode(), Pipeline)
        return plan_given(message, self.catalog, overrides or {}, faults)


@asynccontextmanager
async def bench(
    directory: Path | None = None, registry: Registry | None = None, recycled: RecycledFiles | None = None
) -> AsyncIterator[Bench]:
    """With a directory, images of any size travel through it."""
    shared = SharedDirectory(directory) if directory is not None else None
    transport = ImageTransport(shared, recycled)
    caller = ScriptedCaller(shared=SharedDirectory(directory) if directory is not None else None)
    catalog = LiveCatalog(registry or parse_registry(REGISTRY), caller, transport.capability or Capability("", ""))
    await catalog.refresh()
    try:
        yield Bench(caller, catalog, transport, directory)
    finally:
        transport.close()
        if caller.shared is not None:
            caller.shared.close()


def step(step_id: str, component_name: str = "filter", *dependencies: str, **fields: Any) -> dict[str, Any]:
    return {"stepId": step_id, "componentName": component_name, "dependencies": list(dependencies), **fields}


QUICK = {"initialDelay": "0.001s", "maxDelay": "0.002s"}
"""A retry policy that wastes no time."""


def lines(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    """The fields of every log line of an event."""
    return [getattr(record, "fields", {}) for record in caplog.records if record.getMessage() == event]
