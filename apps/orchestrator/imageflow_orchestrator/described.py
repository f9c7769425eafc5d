"""What a component's targets say of themselves, read and joined with what the registry says of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from google.protobuf.json_format import MessageToDict, SerializeToJsonError
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from imageflow.v1.component_pb2 import DescribeResponse
from imageflow_common.descriptors import parse_descriptors
from imageflow_common.errors import ImageFlowError
from imageflow_common.schema import ParameterSchema, read_schema

from .component_spec import ComponentSpec, ComponentVersion, ImageEffect, InputSlot, Target
from .definition import ComponentName, JsonValue, SlotName
from .registry import RegisteredComponent

_NOT_ITS_OWN = "a component answered metadata that is not its own"
_DEFAULT_TIMEOUT = timedelta(seconds=30)
_LONGEST_TIMEOUT_SECONDS = 24 * 3600.0


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
            raise ImageFlowError(_NOT_ITS_OWN, reason="BAD_ANSWER") from exc

    def metadata_json(self, data: bytes) -> dict[str, JsonValue]:
        """As `read_metadata`, as JSON."""
        try:
            fields: dict[str, JsonValue] = MessageToDict(
                self.read_metadata(data), always_print_fields_with_no_presence=True
            )
        except SerializeToJsonError as exc:
            raise ImageFlowError(_NOT_ITS_OWN, reason="BAD_ANSWER") from exc
        return fields


@dataclass(frozen=True, slots=True)
class KnownComponent:
    """A component of the registry with what its targets said: for the planner, and by version."""

    spec: ComponentSpec
    descriptions: Mapping[str, Description]


def read_description(answer: DescribeResponse) -> Description:
    """Raises for descriptors, a schema or names that are none, whatever a component may have put there."""
    descriptors = parse_descriptors(answer.descriptor_set)
    schema = read_schema(descriptors.message(answer.parameters_message), comments=descriptors.comments)
    metadata = GetMessageClass(descriptors.message(answer.metadata_message))
    descriptors.service(answer.service_name)
    if not answer.versions or not all(answer.versions):
        raise ValueError("it serves no version")
    if not answer.input_slots:
        raise ValueError("it takes no image")
    if answer.image_effect == DescribeResponse.WHEN_PARAMETER:
        parameter = schema.parameters.get(answer.image_effect_parameter)
        if parameter is None or parameter.type != "boolean" or parameter.repeated:
            raise ValueError(f"it has no boolean parameter {answer.image_effect_parameter!r}")
    return Description(answer, schema, metadata)


def join(entry: RegisteredComponent, said: Mapping[tuple[str, str], Description]) -> KnownComponent | None:
    """What a component's targets said, by its name and their addresses, under the registry's defaults. None: none
    has said anything. Its own targets decide which version is the default.

    Raises InvalidParameters for defaults that the component refuses.
    """
    found: dict[str, Description] = {}
    for version, targets in entry.versions.items():
        for description in _said_by(entry, targets, said):
            if targets and version in description.message.versions:
                found.setdefault(version, description)
    for description in _said_by(entry, entry.targets, said):
        for version in description.message.versions:
            if not entry.versions.get(version):
                found.setdefault(version, description)
    if not found:
        return None
    descriptions = {
        version: replace(description, schema=description.schema.with_defaults(entry.parameters))
        for version, description in found.items()
    }
    versions = tuple(_version(entry, version, description) for version, description in descriptions.items())
    return KnownComponent(ComponentSpec(ComponentName(entry.name), versions), descriptions)


def all_targets(entry: RegisteredComponent) -> Iterable[Target]:
    yield from entry.targets
    for targets in entry.versions.values():
        yield from targets


def same_description(known: DescribeResponse, answer: DescribeResponse) -> bool:
    """Whether it is what was said before, running averages aside."""
    a, b = DescribeResponse(), DescribeResponse()
    a.CopyFrom(known)
    b.CopyFrom(answer)
    for message in (a, b):
        message.ClearField("averages")
        message.ClearField("shared_memory")
    return a == b


def _said_by(
    entry: RegisteredComponent, targets: Iterable[Target], said: Mapping[tuple[str, str], Description]
) -> list[Description]:
    return [said[entry.name, target.address] for target in targets if (entry.name, target.address) in said]


def _version(entry: RegisteredComponent, version: str, description: Description) -> ComponentVersion:
    message = description.message
    return ComponentVersion(
        version=version,
        schema=description.schema,
        targets=entry.targets_of(version),
        timeout=entry.timeout or _timeout(message.limits.timeout_seconds),
        input_slots=tuple(InputSlot(SlotName(slot.name), slot.optional) for slot in message.input_slots),
        image_effect=_EFFECTS.get(message.image_effect, ImageEffect.CHANGES),
        image_effect_parameter=message.image_effect_parameter or None,
    )


_EFFECTS = {
    DescribeResponse.LOOKS: ImageEffect.LOOKS,
    DescribeResponse.WHEN_PARAMETER: ImageEffect.WHEN_PARAMETER,
}


def _timeout(seconds: float) -> timedelta:
    if not math.isfinite(seconds) or not 0 < seconds <= _LONGEST_TIMEOUT_SECONDS:
        return _DEFAULT_TIMEOUT
    return timedelta(seconds=seconds)
