"""The front door: CatalogService and SystemService."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

from google.api.httpbody_pb2 import HttpBody

from imageflow.v1 import catalog_pb2 as catalog
from imageflow.v1 import system_pb2 as system
from imageflow_common.errors import PermissionDenied, Unavailable
from imageflow_common.rpc import Context, Method, came_through_gateway

from .api import process_image
from .catalog import LiveCatalog
from .dependencies import Dependencies
from .engine import Engine, Requested
from .identity import namespace_of
from .openapi import openapi_document
from .paging import page_size
from .planner import Planner


class CatalogApi:
    """CatalogService."""

    def __init__(self, live: LiveCatalog, planner: Planner, engine: Engine) -> None:
        self._live = live
        self._planner = planner
        self._engine = engine

    def methods(self) -> dict[str, Method]:
        return {
            "ListComponents": self.list,
            "GetComponent": self.get,
            "ProcessWithComponent": self.process,
        }

    async def list(self, request: catalog.ListComponentsRequest, context: Context) -> catalog.ListComponentsResponse:
        """The page token is the last name of the page before."""
        size = page_size(request.page_size)
        names = sorted(name for name in self._live.registry.components if name > request.page_token)
        token = names[size - 1] if len(names) > size else ""
        return catalog.ListComponentsResponse(
            components=[self._component(name) for name in names[:size]], next_page_token=token
        )

    async def get(self, request: catalog.GetComponentRequest, context: Context) -> catalog.Component:
        return self._component(request.component_name)

    async def process(self, request: catalog.ProcessWithComponentRequest, context: Context) -> HttpBody:
        begun = perf_counter()
        plan = self._planner.component(request.component_name, request.version, request.set)
        requested = Requested(
            namespace=namespace_of(context),
            output_format=request.output_format,
            quality=request.quality,
            plan_ms=(perf_counter() - begun) * 1e3,
        )
        return await process_image(self._engine, self._live, plan, request.body, requested, context)

    def _component(self, name: str) -> catalog.Component:
        entry = self._live.registry.lookup(name)
        component = catalog.Component(
            name=entry.name,
            aliases=entry.aliases,
            targets=[target.name for target in entry.targets],
            available=self._live.available(entry.name),
        )
        try:
            description = self._live.description(entry.name)
        except Unavailable:
            return component
        component.versions.extend(description.message.versions)
        component.summary = description.message.summary
        component.input_slots.extend(slot.name for slot in description.message.input_slots)
        component.parameters_schema.update(description.schema.json_schema())
        return component


class SystemApi:
    """SystemService."""

    def __init__(
        self,
        live: LiveCatalog,
        dependencies: Dependencies,
        version: str,
        degraded: Sequence[Callable[[], list[str]]] = (),
    ) -> None:
        self._live = live
        self._dependencies = dependencies
        self._version = version
        self._degraded = degraded
        self._openapi = openapi_document(version).encode()

    def methods(self) -> dict[str, Method]:
        return {
            "GetHealth": self.health,
            "GetReadiness": self.readiness,
            "GetDependencies": self.dependencies,
            "GetOpenApi": self.openapi,
        }

    async def health(self, request: system.GetHealthRequest, context: Context) -> system.GetHealthResponse:
        return system.GetHealthResponse(status="ok", version=self._version)

    async def readiness(self, request: system.GetReadinessRequest, context: Context) -> system.GetReadinessResponse:
        if missing := self._live.missing():
            raise Unavailable(f"cannot be reached: {', '.join(missing)}", reason="COMPONENT_UNAVAILABLE")
        components = sorted(self._live.registry.components)
        degraded = [fault for faults in self._degraded for fault in faults()]
        if fault := self._live.registry_fault:
            degraded = [*degraded, f"the registry file was not taken over, the one before stays: {fault}"]
        return system.GetReadinessResponse(status="ready", components=components, degraded=degraded)

    async def dependencies(
        self, request: system.GetDependenciesRequest, context: Context
    ) -> system.GetDependenciesResponse:
        if came_through_gateway(context):
            raise PermissionDenied("ask the orchestrator itself", reason="NOT_THROUGH_GATEWAY")
        response = system.GetDependenciesResponse()
        for each in await self._dependencies.look():
            told = response.dependencies.add(kind=each.kind, name=each.name, well=not each.reason, reason=each.reason)
            told.since.FromDatetime(each.since)
        return response

    async def openapi(self, request: system.GetOpenApiRequest, context: Context) -> HttpBody:
        return HttpBody(content_type="application/json", data=self._openapi)
