"""The components as they are now: what the registry says of each, joined with what it says of itself (D4)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from imageflow.v1.component_pb2 import ComponentRequest, ComponentResponse, DescribeRequest, DescribeResponse
from imageflow_common.descriptors import parse_descriptors
from imageflow_common.errors import ImageFlowError, NotFound, Unavailable
from imageflow_common.logs import EventLog
from imageflow_common.schema import ParameterSchema, read_schema
from imageflow_common.shared import Capability

from .component_spec import ComponentSpec, ComponentVersion, ImageEffect, InputSlot, Target
from .definition import ComponentName, JsonValue, SlotName
from .quantities import ResourceAmounts
from .registry import RegisteredComponent, Registry

log = EventLog(__name__)

_DESCRIBE_TIMEOUT_SECONDS = 2.0
_FIRST_POLL_SECONDS = 0.05
_SLOWEST_POLL_SECONDS = 5.0


class Caller(Protocol):
    """Reaches components: over gRPC, or in this process."""

    async def describe(self, target: Target, request: DescribeRequest, *, timeout: float) -> DescribeResponse:
        """Raises errors of the tree; Unavailable where nothing answers."""
        ...

    async def process(
        self, target: Target, method: str, request: ComponentRequest, *, timeout: float
    ) -> ComponentResponse:
        """`method` is as in `/imageflow.v1.ResizeService/Process`. Raises errors of the tree."""
        ...


@dataclass(frozen=True, slots=True)
class Description:
    """What a component said of itself, made ready for use."""

    message: DescribeResponse
    schema: ParameterSchema
    metadata_class: type[Message]

    @property
    def method(self) -> str:
        return f"/{self.message.service_name}/Process"

    def read_metadata(self, data: bytes) -> Message:
        """Raises ImageFlowError for bytes that are not the component's metadata."""
        try:
            return self.metadata_class.FromString(data)
        except DecodeError as exc:
            raise ImageFlowError("a component answered metadata that is not its own", reason="BAD_ANSWER") from exc

    def metadata_json(self, data: bytes) -> dict[str, JsonValue]:
        fields: dict[str, JsonValue] = MessageToDict(
            self.read_metadata(data), always_print_fields_with_no_presence=True
        )
        return fields


class LiveCatalog:
    """The planner's catalog. Reads need no waiting; `watch` keeps it true."""

    def __init__(self, registry: Registry, caller: Caller, capability: Capability) -> None:
        self._registry = registry
        self._caller = caller
        self._capability = capability
        self._descriptions: dict[str, Description] = {}
        self._specs: dict[str, ComponentSpec] = {}
        self._reachable: dict[str, bool] = {}
        self._shares_memory: dict[str, bool] = {}
        self.generation = 0
        """Grows when anything that a plan depends on has changed."""

    @property
    def profiles(self) -> Mapping[str, ResourceAmounts]:
        return self._registry.profiles

    @property
    def registry(self) -> Registry:
        return self._registry

    def names(self) -> Iterable[str]:
        return self._registry.names()

    def component(self, name: str) -> ComponentSpec | None:
        entry = self._registry.find(name)
        if entry is None:
            return None
        spec = self._specs.get(entry.name)
        if spec is None:
            raise Unavailable(f"the component {entry.name!r} cannot be reached", reason="COMPONENT_UNAVAILABLE")
        return spec

    def description(self, name: str) -> Description:
        """By name or alias. Raises NotFound, and Unavailable before it has described itself."""
        entry = self._registry.lookup(name)
        self.component(entry.name)
        return self._descriptions[entry.name]

    def shares_memory(self, target: Target) -> bool:
        """Whether a target has proved that it sees our shared directory."""
        return self._shares_memory.get(target.address, False)

    def forget_shared_memory(self, target: Target) -> None:
        """What we hand it travels inline until it describes itself again."""
        self._shares_memory[target.address] = False

    def available(self, name: str) -> bool:
        """Whether a target of a component answered when it was last asked."""
        entry = self._registry.find(name)
        return entry is not None and any(self._reachable.get(target.address) for target in entry.targets)

    def missing(self) -> list[str]:
        """The components that cannot be reached."""
        return [name for name in self._registry.components if not self.available(name)]

    def replace_registry(self, registry: Registry) -> None:
        """Takes over a changed registry; components that stay keep what they said."""
        self._registry = registry
        self._specs = {
            name: _spec(entry, self._descriptions[name])
            for name, entry in registry.components.items()
            if name in self._descriptions
        }
        self.generation += 1

    async def refresh(self) -> None:
        """Asks every target once."""
        async with asyncio.TaskGroup() as group:
            for entry in self._registry.components.values():
                for target in _all_targets(entry):
                    group.create_task(self._ask(entry, target))

    async def watch(self) -> None:
        """Asks again and again: soon while something is missing, else every few seconds."""
        delay = _FIRST_POLL_SECONDS
        while True:
            await self.refresh()
            delay = min(delay * 1.5, 0.5 if self.missing() else _SLOWEST_POLL_SECONDS)
            await asyncio.sleep(delay)

    async def _ask(self, entry: RegisteredComponent, target: Target) -> None:
        request = DescribeRequest(
            shared_memory_capability_name=self._capability.name, shared_memory_capability=self._capability.secret
        )
        try:
            answer = await self._caller.describe(target, request, timeout=_DESCRIBE_TIMEOUT_SECONDS)
            self._learn(entry, target, answer)
        except (ImageFlowError, ValueError, KeyError, TypeError, DecodeError) as exc:
            if self._reachable.get(target.address, True):
                log.warning("component.unreachable", component=entry.name, target=target.name, error=str(exc))
            self._reachable[target.address] = False
        else:
            if not self._reachable.get(target.address, False):
                log.info("component.reached", component=entry.name, target=target.name)
            self._reachable[target.address] = True

    def _learn(self, entry: RegisteredComponent, target: Target, answer: DescribeResponse) -> None:
        self._shares_memory[target.address] = answer.shared_memory
        known = self._descriptions.get(entry.name)
        if known is not None and _same(known.message, answer):
            return
        description = _description(entry, answer)
        self._specs[entry.name] = _spec(entry, description)
        self._descriptions[entry.name] = description
        self.generation += 1


def _description(entry: RegisteredComponent, answer: DescribeResponse) -> Description:
    descriptors = parse_descriptors(answer.descriptor_set)
    schema = read_schema(descriptors.message(answer.parameters_message), comments=descriptors.comments)
    metadata = GetMessageClass(descriptors.message(answer.metadata_message))
    return Description(answer, schema.with_defaults(entry.parameters), metadata)


def _spec(entry: RegisteredComponent, description: Description) -> ComponentSpec:
    message = description.message
    timeout = entry.timeout or timedelta(seconds=message.limits.timeout_seconds or 30)
    slots = tuple(InputSlot(SlotName(slot.name), slot.optional) for slot in message.input_slots)
    effect = DescribeResponse.ImageEffect.Name(message.image_effect)
    versions = tuple(
        ComponentVersion(
            version=version,
            schema=description.schema,
            targets=entry.targets_of(version),
            timeout=timeout,
            input_slots=slots,
            image_effect=ImageEffect.__members__.get(effect, ImageEffect.CHANGES),
            image_effect_parameter=message.image_effect_parameter or None,
        )
        for version in message.versions
    )
    return ComponentSpec(ComponentName(entry.name), versions)


def _all_targets(entry: RegisteredComponent) -> Iterable[Target]:
    yield from entry.targets
    for targets in entry.versions.values():
        yield from targets


def _same(known: DescribeResponse, answer: DescribeResponse) -> bool:
    """Whether it is what was said before, running averages aside."""
    a, b = DescribeResponse(), DescribeResponse()
    a.CopyFrom(known)
    b.CopyFrom(answer)
    for message in (a, b):
        message.ClearField("averages")
        message.ClearField("shared_memory")
    return a == b


def find_component(catalog: LiveCatalog, name: str) -> ComponentSpec:
    """Raises NotFound with the nearest name, and Unavailable."""
    spec = catalog.component(catalog.registry.lookup(name).name)
    if spec is None:
        raise NotFound(f"there is no component {name!r}")
    return spec
