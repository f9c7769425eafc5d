"""From a component's name and parameters to a call that it accepts, on a target that is large enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from imageflow_common.errors import InvalidArgument, Unavailable

from .component_spec import Catalog, ComponentSpec, ComponentVersion, InputSlot, Target
from .definition import JsonValue, Resources, SlotName
from .faults import Faults, clipped, listed, quoted
from .quantities import ResourceAmounts, parse_cpu, parse_gpu, parse_memory

Q = TypeVar("Q", bound=int)

_DEFAULT_TARGET = "default"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a step, or its fallback, asks for. `path` is where in the definition, for faults.

    `overrides` are the parameters of this run by plain name (see `plain`), each with the key that it came
    under. `sources` is what feeds a slot, and `first` what feeds the first slot unless `sources` says; None
    stands for the pipeline's input.
    """

    path: str
    component_name: str
    component_version: str | None
    parameters: Mapping[str, JsonValue]
    sources: Mapping[SlotName, int | None]
    first: int | None
    overrides: Mapping[str, tuple[str, str, JsonValue]]
    resources: Resources | None
    timeout: timedelta | None


@dataclass(frozen=True, slots=True)
class Binding:
    """What feeds the slot at `position`: a step's place in the definition; None: the pipeline's input."""

    slot: SlotName
    position: int
    source: int | None


@dataclass(frozen=True, slots=True)
class DraftCall:
    """A call without a fault, whose inputs are not resolved to images yet."""

    component: ComponentSpec
    version: ComponentVersion
    target: Target
    parameters: dict[str, JsonValue]
    bindings: tuple[Binding, ...]
    changes_image: bool
    timeout: timedelta

    def sources(self) -> list[int | None]:
        """What feeds its slots."""
        return [binding.source for binding in self.bindings]


class CallPlanner:
    """Plans calls of one pipeline; the components that have not described themselves yet are in `silent`."""

    def __init__(self, catalog: Catalog, faults: Faults) -> None:
        self.silent: list[str] = []
        self._catalog = catalog
        self._faults = faults
        self._found: dict[str, ComponentSpec | None] = {}
        self._names = tuple(catalog.names())

    def draft(self, wanted: Wanted) -> DraftCall | None:
        """The call; None where there is a fault, or the component is silent."""
        needed = self._needed(wanted.resources, wanted.path)
        component = self._component(wanted)
        version = None if component is None else self._version(component, wanted)
        if component is None or version is None:
            return None
        before = len(self._faults.violations)
        parameters = self._parameters(version, wanted)
        bindings = self._bind(component, version.input_slots, wanted)
        target = self._choose_target(component, version, needed, wanted.path)
        if target is None or len(self._faults.violations) > before:
            return None
        return DraftCall(
            component,
            version,
            target,
            parameters,
            bindings,
            version.changes_image(parameters),
            wanted.timeout or version.timeout,
        )

    def _component(self, wanted: Wanted) -> ComponentSpec | None:
        name = wanted.component_name
        if not name:
            self._faults.add(f"{wanted.path}.componentName", "missing")
            return None
        if name not in self._found:
            self._found[name] = self._look_up(name)
        if self._found[name] is None and name not in self.silent:
            hint = self._faults.suggest(name, self._names)
            self._faults.add(f"{wanted.path}.componentName", f"unknown component {quoted(name)}{hint}")
        return self._found[name]

    def _look_up(self, name: str) -> ComponentSpec | None:
        try:
            return self._catalog.component(name)
        except Unavailable:
            self.silent.append(name)
            return None

    def _version(self, component: ComponentSpec, wanted: Wanted) -> ComponentVersion | None:
        version = component.version(wanted.component_version)
        if version is None:
            known = listed([version.version for version in component.versions])
            sentence = f"{component.name} has no version {quoted(wanted.component_version or '')}; it has {known}"
            self._faults.add(f"{wanted.path}.componentVersion", sentence)
        return version

    def _parameters(self, version: ComponentVersion, wanted: Wanted) -> dict[str, JsonValue]:
        given = dict(wanted.parameters)
        if wanted.overrides:
            given = {name: value for name, value in given.items() if plain(name) not in wanted.overrides}
            given.update((name, value) for _, name, value in wanted.overrides.values())
        values, violations = version.schema.complete(given)
        for violation in violations:
            override = wanted.overrides.get(plain(violation.field))
            path = f"{wanted.path}.parameters.{clipped(violation.field)}"
            self._faults.add(f"overrides[{clipped(override[0])}]" if override else path, violation.description)
        return values

    def _bind(self, component: ComponentSpec, slots: Sequence[InputSlot], wanted: Wanted) -> tuple[Binding, ...]:
        names = [slot.name for slot in slots]
        for slot_name in wanted.sources:
            if slot_name not in names:
                hint = self._faults.suggest(slot_name, names) or f"; it has {listed(names) or 'none'}"
                sentence = f"{component.name} has no input slot {quoted(slot_name)}{hint}"
                self._faults.add(f"{wanted.path}.inputFrom.{clipped(slot_name)}", sentence)
        bindings: list[Binding] = []
        for position, slot in enumerate(slots):
            if slot.name in wanted.sources:
                bindings.append(Binding(slot.name, position, wanted.sources[slot.name]))
            elif position == 0:
                bindings.append(Binding(slot.name, position, wanted.first))
            elif not slot.optional:
                sentence = f"{component.name} needs an image here; name the step that feeds it"
                self._faults.add(f"{wanted.path}.inputFrom.{slot.name}", sentence)
        return tuple(bindings)

    def _needed(self, resources: Resources | None, path: str) -> ResourceAmounts | None:
        """What the step asks for; None: it does not ask."""
        if resources is None or resources == Resources():
            return None
        base = self._profile(resources.profile, f"{path}.resources.profile")
        return ResourceAmounts(
            self._quantity(parse_cpu, resources.cpu, base.cpu, f"{path}.resources.cpu"),
            self._quantity(parse_memory, resources.memory, base.memory, f"{path}.resources.memory"),
            self._quantity(parse_gpu, resources.gpu, base.gpu, f"{path}.resources.gpu"),
        )

    def _quantity(self, parse: Callable[[str], Q], text: str | None, otherwise: Q, path: str) -> Q:
        if text is None:
            return otherwise
        try:
            return parse(text)
        except InvalidArgument as exc:
            self._faults.add(path, exc.message)
            return otherwise

    def _profile(self, name: str | None, path: str) -> ResourceAmounts:
        profiles = self._catalog.profiles
        if name is None:
            return ResourceAmounts()
        if name not in profiles:
            hint = self._faults.suggest(name, profiles) or f"; there are {listed(profiles)}"
            self._faults.add(path, f"unknown profile {quoted(name)}{hint}")
        return profiles.get(name, ResourceAmounts())

    def _choose_target(
        self, component: ComponentSpec, version: ComponentVersion, needed: ResourceAmounts | None, path: str
    ) -> Target | None:
        """The smallest that is enough; without a wish the one named `default`, else the smallest."""
        smallest_first = sorted(version.targets, key=lambda target: (target.amounts.size(), target.name))
        if needed is None:
            named = (target for target in smallest_first if target.name == _DEFAULT_TARGET)
            return next(named, smallest_first[0])
        enough = next((target for target in smallest_first if target.amounts.covers(needed)), None)
        if enough is None:
            there = "; ".join(f"{target.name} has {target.amounts}" for target in smallest_first)
            self._faults.add(f"{path}.resources", f"no target of {component.name} has {needed}: {there}")
        return enough


def plain(name: str) -> str:
    """A parameter's name without what tells snake, kebab and camel case apart."""
    return name.replace("_", "").replace("-", "").lower()
