"""The component registry: which components there are, where each runs, and with what resources."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from imageflow_common.errors import InvalidArgument, NotFound

from .component_spec import Target
from .definition import ComponentName, JsonValue
from .faults import Faults, quoted
from .quantities import ResourceAmounts, parse_cpu, parse_memory
from .registry_file import FieldReader, joined, load_yaml

DEFAULT_PROFILES: Mapping[str, ResourceAmounts] = {
    "small": ResourceAmounts(parse_cpu("100m"), parse_memory("256Mi")),
    "medium": ResourceAmounts(parse_cpu("500m"), parse_memory("1Gi")),
    "large": ResourceAmounts(parse_cpu("2"), parse_memory("4Gi")),
    "gpu": ResourceAmounts(parse_cpu("1"), parse_memory("4Gi"), 1),
}

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
_COMPONENT_FIELDS = (
    "aliases",
    "image",
    "versions",
    "targets",
    "parameters",
    "timeout",
    "command",
)


@dataclass(frozen=True, slots=True)
class RegisteredComponent:
    """One entry. `versions` has the targets of a version that runs elsewhere than `targets`.

    `parameters` are defaults that win over the component's own. `timeout` None: as the component says.
    `command` starts the component on this machine, with no shell; empty: it cannot be started here.
    """

    name: ComponentName
    targets: tuple[Target, ...]
    aliases: tuple[str, ...] = ()
    image: str | None = None
    versions: Mapping[str, tuple[Target, ...]] = field(default_factory=dict)
    parameters: Mapping[str, JsonValue] = field(default_factory=dict)
    timeout: timedelta | None = None
    command: tuple[str, ...] = ()

    def names(self) -> tuple[str, ...]:
        """Its name and its aliases."""
        return (self.name, *self.aliases)

    def targets_of(self, version: str) -> tuple[Target, ...]:
        """Where that version runs. Never empty."""
        return self.versions.get(version) or self.targets


class Registry:
    """Every entry. Immutable; a registry that is read again is another one."""

    def __init__(self, components: Iterable[RegisteredComponent], profiles: Mapping[str, ResourceAmounts]) -> None:
        self.components = {component.name: component for component in components}
        self.profiles = dict(profiles)
        self._by_any_name = {name: component for component in self.components.values() for name in component.names()}

    def names(self) -> tuple[str, ...]:
        """Every name and alias."""
        return tuple(self._by_any_name)

    def find(self, name: str) -> RegisteredComponent | None:
        """The entry of that name or alias, letter for letter; None: there is none."""
        return self._by_any_name.get(name)

    def lookup(self, name: str) -> RegisteredComponent:
        """As `find`; raises NotFound with the nearest name."""
        found = self.find(name)
        if found is None:
            hint = Faults().suggest(name, self.names())
            raise NotFound(f"unknown component {quoted(name)}{hint}", reason="COMPONENT_NOT_FOUND")
        return found


def parse_registry(text: str, *, path: str = "registry.yaml") -> Registry:
    """Reads a registry from YAML. `path` names it in errors.

    Raises InvalidArgument whose violations are every fault, each field a path such as
    `components.resize.targets.default.address`. The profiles small, medium, large and gpu are there unless
    the file says otherwise.
    """
    try:
        document = load_yaml(text)
    except InvalidArgument as exc:
        raise InvalidArgument(f"{path}: {exc.message}", reason="INVALID_REGISTRY") from exc
    reader = FieldReader(Faults())
    fields = reader.mapping(document, "", keys=("profiles", "components"))
    given = reader.mapping(fields.get("profiles"), "profiles")
    read = {name: reader.amounts(value, f"profiles.{name}") for name, value in given.items()}
    profiles = {**DEFAULT_PROFILES, **read}
    entries = reader.mapping(fields.get("components"), "components")
    if not entries:
        reader.faults.add("components", "name at least one component")
    components = [_read_component(name, entry, reader, profiles) for name, entry in entries.items()]
    _refuse_shared_names(components, reader.faults)
    if reader.faults.violations:
        listing = "".join(f"\n  {fault.field}: {fault.description}" for fault in reader.faults.violations)
        violations = reader.faults.violations
        raise InvalidArgument(f"{path}: {listing}", reason="INVALID_REGISTRY", violations=violations)
    return Registry(components, profiles)


def _read_component(
    name: str, value: JsonValue, reader: FieldReader, profiles: Mapping[str, ResourceAmounts]
) -> RegisteredComponent:
    path = joined("components", name)
    if not _NAME.fullmatch(name):
        reader.faults.add(path, "a name is 1 to 63 letters, digits, _ or -, and begins with a letter")
    fields = reader.mapping(value, path, keys=_COMPONENT_FIELDS)
    versions = reader.mapping(fields.get("versions"), f"{path}.versions")
    image = fields.get("image")
    return RegisteredComponent(
        name=ComponentName(name),
        targets=reader.targets(fields.get("targets"), f"{path}.targets", profiles),
        aliases=reader.texts(fields.get("aliases"), f"{path}.aliases"),
        image=None if image is None else reader.text(image, f"{path}.image"),
        versions={
            version: _read_version(entry, joined(f"{path}.versions", version), reader, profiles)
            for version, entry in versions.items()
        },
        parameters=reader.mapping(fields.get("parameters"), f"{path}.parameters"),
        timeout=reader.duration(fields.get("timeout"), f"{path}.timeout"),
        command=reader.texts(fields.get("command"), f"{path}.command"),
    )


def _read_version(
    value: JsonValue, path: str, reader: FieldReader, profiles: Mapping[str, ResourceAmounts]
) -> tuple[Target, ...]:
    """A version's own targets; empty: it runs where the component does."""
    fields = reader.mapping(value, path, keys=("targets",))
    if "targets" not in fields:
        return ()
    return reader.targets(fields["targets"], f"{path}.targets", profiles)


def _refuse_shared_names(components: Iterable[RegisteredComponent], faults: Faults) -> None:
    owners: dict[str, str] = {}
    for component in components:
        for name in component.names():
            if name in owners:
                faults.add(f"components.{component.name}", f"{quoted(name)} names {owners[name]} already")
            owners.setdefault(name, component.name)
