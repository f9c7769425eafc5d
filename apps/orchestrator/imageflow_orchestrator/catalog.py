"""The components as they are now: what the registry says of each, joined with what it says of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Protocol

from imageflow.v1.component_pb2 import (
    ComponentRequest,
    ComponentResponse,
    DescribeRequest,
    DescribeResponse,
    RunningAverages,
)
from imageflow_common.errors import ImageFlowError, NotFound, Unavailable
from imageflow_common.logs import EventLog
from imageflow_common.shared import Capability

from .component_spec import ComponentSpec, Target
from .described import Description, KnownComponent, all_targets, join, read_description, same_description
from .quantities import ResourceAmounts
from .registry import RegisteredComponent, Registry

__all__ = ["Caller", "Description", "LiveCatalog", "find_component"]

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


class LiveCatalog:
    """The planner's catalog. Reads need no waiting; `watch` keeps it true."""

    def __init__(self, registry: Registry, caller: Caller, capability: Capability) -> None:
        self._registry = registry
        self._caller = caller
        self._capability = capability
        self._said: dict[tuple[str, str], Description] = {}
        self._known: dict[str, KnownComponent] = {}
        self._reachable: dict[str, bool] = {}
        self._errors: dict[str, str] = {}
        self._shares_memory: dict[str, bool] = {}
        self._averages: dict[str, RunningAverages] = {}
        self.generation = 0
        """Grows when anything that a plan depends on has changed."""
        self.registry_fault = ""
        """Why the registry file, as it is now, was not taken over; empty when it was."""

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
        return None if entry is None else self._find(entry.name).spec

    def description(self, name: str, version: str = "") -> Description:
        """By name or alias; of the default version unless one is named. Raises NotFound, and Unavailable before it
        has described itself."""
        known = self._find(self._registry.lookup(name).name)
        found = known.descriptions.get(version or known.spec.versions[-1].version)
        if found is None:
            raise _unreachable(f"version {version!r} of the component {name!r}")
        return found

    def shares_memory(self, target: Target) -> bool:
        """Whether a target has proved that it sees our shared directory."""
        return self._shares_memory.get(target.address, False)

    def averages(self, target: Target) -> RunningAverages:
        """What a target last said of its own requests; empty before it has said anything."""
        return self._averages.get(target.address, RunningAverages())

    def forget_shared_memory(self, target: Target) -> None:
        """What we hand it travels inline until it describes itself again."""
        self._shares_memory[target.address] = False

    def available(self, name: str) -> bool:
        """Whether a component is known, and a target of it answered when it was last asked."""
        entry = self._registry.find(name)
        if entry is None or entry.name not in self._known:
            return False
        return any(self._reachable.get(target.address) for target in all_targets(entry))

    def reasons(self) -> dict[str, str]:
        """Of each component why it cannot be used, as far as is known; empty where it can."""
        return {name: "" if self.available(name) else self._reason(entry) for name, entry in self._registered()}

    def missing(self) -> list[str]:
        """The components that cannot be reached, by name."""
        return sorted(name for name in self._registry.components if not self.available(name))

    def replace_registry(self, registry: Registry) -> None:
        """Takes over a changed registry; components that stay keep what they said. Raises InvalidParameters for
        defaults that a component refuses, and stays as it was."""
        said = {key: words for key, words in self._said.items() if key[0] in registry.components}
        known = {name: join(entry, said) for name, entry in registry.components.items()}
        self._registry, self._said = registry, said
        self._known = {name: component for name, component in known.items() if component is not None}
        self.generation += 1

    async def refresh(self) -> None:
        """Asks every target once."""
        async with asyncio.TaskGroup() as group:
            for entry in self._registry.components.values():
                for target in dict.fromkeys(all_targets(entry)):
                    group.create_task(self._ask(entry, target))

    async def watch(self) -> None:
        """Asks again and again: soon while something is missing, else every few seconds."""
        delay = _FIRST_POLL_SECONDS
        while True:
            await self.refresh()
            delay = min(delay * 1.5, 0.5 if self.missing() else _SLOWEST_POLL_SECONDS)
            await asyncio.sleep(delay)

    def _registered(self) -> Iterable[tuple[str, RegisteredComponent]]:
        return self._registry.components.items()

    def _reason(self, entry: RegisteredComponent) -> str:
        told = [
            f"{target.name}: {self._errors[target.address]}"
            for target in all_targets(entry)
            if target.address in self._errors
        ]
        return "; ".join(told) or "not heard of yet"

    def _find(self, name: str) -> KnownComponent:
        known = self._known.get(name)
        if known is None:
            raise _unreachable(f"the component {name!r}")
        return known

    async def _ask(self, entry: RegisteredComponent, target: Target) -> None:
        """Whatever a target answers, and whatever goes wrong, ends here: the next round goes on."""
        request = DescribeRequest(
            shared_memory_capability_name=self._capability.name, shared_memory_capability=self._capability.secret
        )
        try:
            answer = await self._caller.describe(target, request, timeout=_DESCRIBE_TIMEOUT_SECONDS)
            self._learn(entry, target, answer)
        except Exception as exc:
            self._set_reachable(entry, target, False, error=exc)
        else:
            self._set_reachable(entry, target, True)

    def _set_reachable(
        self, entry: RegisteredComponent, target: Target, reachable: bool, error: Exception | None = None
    ) -> None:
        """Says aloud what has changed."""
        before = self._reachable.get(target.address)
        self._reachable[target.address] = reachable
        error_type = error.reason if isinstance(error, ImageFlowError) else type(error).__name__
        if reachable:
            self._errors.pop(target.address, None)
        else:
            self._errors[target.address] = f"{error_type}: {error}"
        if before == reachable:
            return
        if reachable:
            log.info("component.reached", component=entry.name, target=target.name)
            return
        log.warning(
            "component.unreachable", component=entry.name, target=target.name, error_type=error_type, error=str(error)
        )

    def _learn(self, entry: RegisteredComponent, target: Target, answer: DescribeResponse) -> None:
        """Raises for a description that is none; what was known stays."""
        if self._registry.components.get(entry.name) != entry:
            return  # the registry has changed meanwhile: the next round asks for the new entry
        key = (entry.name, target.address)
        known = self._said.get(key)
        if known is None or not same_description(known.message, answer):
            said = {**self._said, key: read_description(answer)}
            joined = join(entry, said)
            self._said = said
            if joined is not None:
                self._known[entry.name] = joined
            self.generation += 1
        self._shares_memory[target.address] = answer.shared_memory
        self._averages[target.address] = answer.averages


def _unreachable(what: str) -> Unavailable:
    return Unavailable(f"{what} cannot be reached", reason="COMPONENT_UNAVAILABLE")


def find_component(catalog: LiveCatalog, name: str) -> ComponentSpec:
    """Raises NotFound with the nearest name, and Unavailable."""
    spec = catalog.component(catalog.registry.lookup(name).name)
    if spec is None:
        raise NotFound(f"there is no component {name!r}")
    return spec
