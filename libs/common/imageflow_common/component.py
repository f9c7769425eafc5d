"""The contract of a component: one plain function from pixels and parameters to pixels and metadata.

    @component(name="tint", service="acme.v1.TintService", descriptors=Path(__file__).with_name("tint.proto"))
    def tint(image, parameters):
        return Result(image.with_array(…), metadata={"hue": …})

    if __name__ == "__main__":
        serve(tint)

The service's `Process` method takes and answers messages with the fields of ComponentRequest and ComponentResponse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from imageflow.v1.component_pb2 import ComponentRequest, ComponentResponse, DescribeResponse

from .descriptors import Descriptors, load_descriptors, own_descriptors, prefer_generated
from .pixels import Pixels
from .protos import DESCRIPTOR_SET
from .schema import ParameterSchema, read_schema

ImageEffect: TypeAlias = "DescribeResponse.ImageEffect"

_REMEMBERED_BYTES = 4_096
"""Parameters up to this size are decoded once, and remembered."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a component's function answers. `pixels` None: the image is unchanged. `metadata` is the component's
    metadata message, or its fields by name. `message` is a remark for people."""

    pixels: Pixels | None = None
    metadata: Message | Mapping[str, Any] = field(default_factory=dict)
    message: str = ""


@dataclass(frozen=True, slots=True)
class Slot:
    """An image input beside the first, which is always `image`."""

    name: str
    optional: bool = False
    description: str = ""


MinimalSize: TypeAlias = Callable[[Any, int, int], tuple[int, int] | None]
"""(parameters, width, height) → the smallest size at which the function still has all it needs, or None for full
size: what lets a JPEG be shrunk while it is decoded."""


@dataclass(frozen=True, slots=True)
class Component:
    """A function and all that is known about it. Call it as the function it is."""

    name: str
    version: str
    summary: str
    function: Callable[..., Result]
    service_name: str
    schema: ParameterSchema
    metadata_descriptor: Descriptor
    descriptors: Descriptors
    slots: tuple[Slot, ...]
    effect: ImageEffect
    effect_parameter: str
    minimal_size: MinimalSize | None
    _decode: Callable[[bytes], Message]

    def __call__(self, *images: Pixels, parameters: Message) -> Result:
        left_open = [None] * (len(self.slots) - len(images))
        return self.function(*images, *left_open, parameters)

    def parameters(self, data: bytes = b"") -> Message:
        """The typed parameters of these bytes, checked and with defaults filled in; the caller's own to change.

        Raises InvalidParameters, and DecodeError for bytes that are none."""
        decoded = self._decode(data) if len(data) <= _REMEMBERED_BYTES else self.schema.decode(data)
        parameters = type(decoded)()
        parameters.CopyFrom(decoded)
        return parameters

    def encode_metadata(self, metadata: Message | Mapping[str, Any]) -> bytes:
        if not isinstance(metadata, Message):
            metadata = GetMessageClass(self.metadata_descriptor)(**metadata)
        return metadata.SerializeToString()


def component(
    *,
    name: str,
    service: str,
    descriptors: Path | Descriptors = DESCRIPTOR_SET,
    version: str = "1.0.0",
    effect: ImageEffect = DescribeResponse.CHANGES,
    effect_parameter: str = "",
    slots: Sequence[Slot] = (),
    minimal_size: MinimalSize | None = None,
) -> Callable[[Callable[..., Result]], Component]:
    """Makes a component of a function `(image, …further slots, parameters) -> Result`. A slot that is left open is
    None; optional slots come last.

    `descriptors` is a .proto file or a compiled descriptor set that has `service`. The function runs in a thread, may
    be called by several at once, and must not keep the pixels. Its docstring's first line is the summary.
    Raises ValueError for a service that is not a component's.
    """
    if [slot.optional for slot in slots] != sorted(slot.optional for slot in slots):
        raise ValueError("optional slots come after those that are needed")
    loaded = _load(descriptors)
    request, response = _envelope(loaded, service)
    schema = read_schema(prefer_generated(_message_of(request, 3)), comments=loaded.comments)
    if effect == DescribeResponse.WHEN_PARAMETER:
        _check_decides(schema, effect_parameter, service)

    def decorate(function: Callable[..., Result]) -> Component:
        return Component(
            name=name,
            version=version,
            summary=(function.__doc__ or "").strip().partition("\n")[0],
            function=function,
            service_name=service,
            schema=schema,
            metadata_descriptor=prefer_generated(_message_of(response, 3)),
            descriptors=loaded,
            slots=(Slot("image"), *slots),
            effect=effect,
            effect_parameter=effect_parameter,
            minimal_size=minimal_size,
            _decode=lru_cache(maxsize=256)(schema.decode),
        )

    return decorate


def describe(component: Component) -> DescribeResponse:
    """What `ComponentService.Describe` answers, without what depends on the process that serves it."""
    file_name = component.descriptors.service(component.service_name).file.name
    response = DescribeResponse(
        component_name=component.name,
        versions=[component.version],
        service_name=component.service_name,
        parameters_message=component.schema.descriptor.full_name,
        metadata_message=component.metadata_descriptor.full_name,
        descriptor_set=component.descriptors.subset(file_name).SerializeToString(),
        image_effect=component.effect,
        image_effect_parameter=component.effect_parameter,
        summary=component.summary,
    )
    for slot in component.slots:
        response.input_slots.add(name=slot.name, optional=slot.optional, description=slot.description)
    return response


def _check_decides(schema: ParameterSchema, parameter: str, service: str) -> None:
    deciding = schema.parameters.get(parameter)
    if deciding is None or deciding.repeated or deciding.type != "boolean":
        raise ValueError(f"{service} has no boolean parameter {parameter!r}")


def _load(descriptors: Path | Descriptors) -> Descriptors:
    if isinstance(descriptors, Descriptors):
        return descriptors
    return own_descriptors() if descriptors == DESCRIPTOR_SET else load_descriptors(descriptors)


def _envelope(descriptors: Descriptors, service: str) -> tuple[Descriptor, Descriptor]:
    try:
        method = descriptors.service(service).methods_by_name["Process"]
    except KeyError as exc:
        raise ValueError(f"there is no {service} with a method Process") from exc
    if method.client_streaming or method.server_streaming:
        raise ValueError(f"{service}.Process must not stream")
    for message, envelope in ((method.input_type, ComponentRequest), (method.output_type, ComponentResponse)):
        _check_envelope(message, envelope.DESCRIPTOR)
    return method.input_type, method.output_type


def _check_envelope(message: Descriptor, envelope: Any) -> None:
    """The same numbers, names and types, but for field 3, which is a message of the component's own."""
    for wanted in envelope.fields:
        found = message.fields_by_number.get(wanted.number)
        if found is None or (wanted.number != 3 and not _same_field(found, wanted)):
            raise ValueError(
                f"{message.full_name}: field {wanted.number} must be `{wanted.name}` as in {envelope.name}"
            )


def _same_field(found: Any, wanted: Any) -> bool:
    found_type = found.message_type.full_name if found.message_type else found.type
    wanted_type = wanted.message_type.full_name if wanted.message_type else wanted.type
    return (found.name, found_type, found.is_repeated) == (wanted.name, wanted_type, wanted.is_repeated)


def _message_of(envelope: Descriptor, number: int) -> Descriptor:
    field = envelope.fields_by_number[number]
    if field.message_type is None or field.is_repeated:
        raise ValueError(f"{envelope.full_name}: field {number} must be a message")
    return field.message_type
