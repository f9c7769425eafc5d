"""The component registry: which components there are, where each runs, and with what resources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from .component_spec import Target
from .definition import ComponentName, JsonValue
from .quantities import ResourceAmounts


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

    def targets_of(self, version: str) -> tuple[Target, ...]:
        """Where that version runs. Never empty."""
        return self.versions.get(version) or self.targets


@dataclass(frozen=True, slots=True)
class Registry:
    """Every entry, by the component's own name."""

    components: Mapping[str, RegisteredComponent]
    profiles: Mapping[str, ResourceAmounts]

    def names(self) -> tuple[str, ...]:
        """Every name and alias."""
        raise NotImplementedError

    def find(self, name: str) -> RegisteredComponent | None:
        """The entry of that name or alias, letter for letter; None: there is none."""
        raise NotImplementedError

    def lookup(self, name: str) -> RegisteredComponent:
        """As `find`; raises NotFound with the nearest name."""
        raise NotImplementedError


def parse_registry(text: str, *, path: str = "registry.yaml") -> Registry:
    """Reads a registry from YAML. `path` names it in errors.

    Raises InvalidArgument whose violations are every fault, each field a path such as
    `components.resize.targets.default.address`.
    """
    raise NotImplementedError
