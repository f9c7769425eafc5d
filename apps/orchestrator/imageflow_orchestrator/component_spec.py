"""What the planner knows of components: what each says of itself, and where the registry says it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

from imageflow_common.errors import Violation

from .definition import ComponentName, JsonValue, SlotName
from .quantities import ResourceAmounts


class ImageEffect(StrEnum):
    """What a component does to the image of its first slot."""

    CHANGES = "CHANGES"
    LOOKS = "LOOKS"
    WHEN_PARAMETER = "WHEN_PARAMETER"


class ParameterSchema(Protocol):
    """The parameters that one version of a component takes."""

    def complete(self, given: Mapping[str, JsonValue]) -> tuple[dict[str, JsonValue], list[Violation]]:
        """Every parameter by canonical name, defaults filled in; every fault, its field the parameter."""
        ...

    def encode(self, values: Mapping[str, JsonValue]) -> bytes:
        """The serialised parameters message of values that `complete` answered without a fault."""
        ...


@dataclass(frozen=True, slots=True)
class InputSlot:
    """One image input of a component."""

    name: SlotName
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """One place where a component runs. `max_in_flight` None: as many as the component says it takes."""

    name: str
    address: str
    amounts: ResourceAmounts
    max_in_flight: int | None = None


@dataclass(frozen=True, slots=True)
class ComponentVersion:
    """One version: what it takes, what it does, where it runs. `targets` is never empty.

    `image_effect_parameter` is the boolean parameter that decides, for WHEN_PARAMETER. `timeout` is the
    longest one attempt takes where the step gives no time of its own.
    """

    version: str
    schema: ParameterSchema
    targets: tuple[Target, ...]
    timeout: timedelta
    input_slots: tuple[InputSlot, ...] = (InputSlot(SlotName("image")),)
    image_effect: ImageEffect = ImageEffect.CHANGES
    image_effect_parameter: str | None = None

    def changes_image(self, values: Mapping[str, JsonValue]) -> bool:
        """Whether it answers an image of its own under these parameters, which are complete."""
        if self.image_effect is ImageEffect.WHEN_PARAMETER:
            return bool(values.get(self.image_effect_parameter or ""))
        return self.image_effect is ImageEffect.CHANGES


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """One component under its own name. `versions` is never empty; the last is the default."""

    name: ComponentName
    versions: tuple[ComponentVersion, ...]

    def version(self, version: str | None) -> ComponentVersion | None:
        """The version of that name, the default for None or "", or None where there is no such version."""
        if not version:
            return self.versions[-1]
        return next((known for known in self.versions if known.version == version), None)


class Catalog(Protocol):
    """Every component that there is."""

    @property
    def profiles(self) -> Mapping[str, ResourceAmounts]:
        """The amounts behind each profile's name."""
        ...

    def names(self) -> Iterable[str]:
        """Every name and alias, to suggest one from."""
        ...

    def component(self, name: str) -> ComponentSpec | None:
        """The component of that name or alias; None: there is none.

        Raises Unavailable when there is one that has not described itself yet.
        """
        ...
