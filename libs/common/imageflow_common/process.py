"""One call of a component, from its request to its response: read, decode, compute, encode, write. Runs in a
thread and blocks; knows nothing of servers."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np
from google.protobuf.message import DecodeError, Message
from opentelemetry import trace

from imageflow.v1 import image_pb2
from imageflow.v1.component_pb2 import ComponentRequest, ComponentResponse, OutputOptions, StepTimings

from .component import Component, Result
from .errors import (
    FailedPrecondition,
    ImageFlowError,
    InvalidArgument,
    InvalidImage,
    PermissionDenied,
    Unimplemented,
)
from .formats import RAW, EncodedBytes, pixels_claimed
from .images import ImageLimits, decode, encode, probe
from .pixels import DTYPES, IDENTITY, Affine, Pixels
from .shared import Capability, SharedDirectory

_SAMPLE_TYPES = dict(
    zip(
        DTYPES,
        (image_pb2.RawLayout.UINT8, image_pb2.RawLayout.UINT16, image_pb2.RawLayout.FLOAT32),
        strict=True,
    )
)
_DTYPES = {number: np.dtype(name) for name, number in _SAMPLE_TYPES.items()}


@dataclass(slots=True)
class _Clock:
    """Gives each part of a call the time since the part before, and the call's span an event at its end."""

    last: float
    span: trace.Span = field(default_factory=trace.get_current_span)

    def lap(self, part: str) -> float:
        """Milliseconds since the last lap."""
        now = perf_counter()
        elapsed, self.last = (now - self.last) * 1e3, now
        self.span.add_event(part)
        return elapsed


class Processor:
    """Performs a component's calls; called by several threads at once."""

    def __init__(self, component: Component, *, shared: SharedDirectory | None, limits: ImageLimits) -> None:
        self._component = component
        self._shared = shared
        self._limits = limits

    def megapixels(self, request: ComponentRequest) -> float:
        """The size that all inputs claim; raises for inputs that are not where they should be."""
        self._check(request)
        return sum(self._input_megapixels(request, image) for image in request.inputs)

    def process(self, request: ComponentRequest) -> ComponentResponse:
        """Raises errors of the tree: InvalidArgument and its kin for the caller's faults."""
        start = perf_counter()
        clock, timings = _Clock(start), StepTimings()
        self._check(request)
        parameters = self._parameters(request.parameters)
        images = [self._read(request, image, parameters, clock, timings) for image in request.inputs]
        with np.errstate(all="ignore"):
            result = self._component(*images, parameters=parameters)
        timings.compute_ms = clock.lap("computed")
        response = ComponentResponse(metadata=self._component.encode_metadata(result.metadata))
        self._annotate_span(request, images[0], result)
        self._write(request, images[0], result, response, clock, timings)
        timings.total_ms = (perf_counter() - start) * 1e3
        response.result.timings.CopyFrom(timings)
        response.result.message = result.message
        response.result.component_version = self._component.version
        return response

    def discard_output(self, request: ComponentRequest) -> None:
        """Removes the file that `process` may have written for this request, when nobody waits for it any more."""
        name = request.output.shared_memory_name
        if name:
            with suppress(ImageFlowError):  # not the caller's to name, so nothing was written
                self._authorised(request, name).remove(name)

    def _parameters(self, data: bytes) -> Message:
        try:
            return self._component.parameters(data)
        except DecodeError as exc:
            raise InvalidArgument("the parameters are not a message of this component") from exc

    def _check(self, request: ComponentRequest) -> None:
        slots = self._component.slots
        needed = sum(not slot.optional for slot in slots)
        if not needed <= len(request.inputs) <= len(slots):
            expected = f"{needed}" if needed == len(slots) else f"{needed} to {len(slots)}"
            raise InvalidArgument(f"expected {expected} input image(s), got {len(request.inputs)}")
        version = request.context.component_version
        if version not in ("", self._component.version):
            raise FailedPrecondition(
                f"this serves version {self._component.version}, not {version}", reason="VERSION_NOT_SERVED"
            )
        if request.output.object_key:
            raise Unimplemented("images are not written to the object store by components")

    def _read(
        self,
        request: ComponentRequest,
        image: image_pb2.Image,
        parameters: Message,
        clock: _Clock,
        timings: StepTimings,
    ) -> Pixels:
        data = self._bytes_of(request, image)
        timings.transport_ms += clock.lap("read")
        pixels = raw_pixels(data, image) if image.media_type == RAW else self._decode(data, parameters)
        timings.decode_ms += clock.lap("decoded")
        if image.HasField("to_input"):
            pixels = replace(pixels, to_input=_affine(image.to_input) @ pixels.to_input)
        return pixels

    def _decode(self, data: EncodedBytes, parameters: Message) -> Pixels:
        if self._component.minimal_size is None:
            return decode(data, limits=self._limits)
        header = probe(data, limits=self._limits)
        minimal = self._component.minimal_size(parameters, header.width, header.height)
        return decode(data, limits=self._limits, min_size=minimal)

    def _bytes_of(self, request: ComponentRequest, image: image_pb2.Image) -> memoryview:
        match image.WhichOneof("location"):
            case "payload_range":
                start, size = image.payload_range.offset_bytes, image.payload_range.size_bytes
                payload = memoryview(request.payload)
                if start + size > len(payload):
                    raise InvalidArgument("the image lies outside the payload")
                return payload[start : start + size]
            case "shared_memory_name":
                shared = self._authorised(request, image.shared_memory_name)
                return shared.read(image.shared_memory_name, image.size_bytes)
            case "object_key":
                raise PermissionDenied("object references need a capability", reason="CAPABILITY_REQUIRED")
            case _:
                raise InvalidArgument("an input says nowhere where its bytes are")

    def _authorised(self, request: ComponentRequest, name: str) -> SharedDirectory:
        if self._shared is None:
            raise FailedPrecondition("this process shares no memory", reason="SHARED_MEMORY_MISSING")
        self._shared.verify(Capability(request.context.capability_name, request.context.capability), name)
        return self._shared

    def _write(
        self,
        request: ComponentRequest,
        source: Pixels,
        result: Result,
        response: ComponentResponse,
        clock: _Clock,
        timings: StepTimings,
    ) -> None:
        options = request.output
        if result.pixels is None and not options.always:
            return
        pixels = result.pixels or source
        data = _encoded(pixels, options)
        timings.encode_ms = clock.lap("encoded")
        response.image.CopyFrom(_image_message(pixels, data, options))
        if options.shared_memory_name:
            self._authorised(request, options.shared_memory_name).write(options.shared_memory_name, data)
            response.image.shared_memory_name = options.shared_memory_name
        else:
            response.payload = bytes(data)
            response.image.payload_range.size_bytes = len(data)
        timings.transport_ms += clock.lap("written")

    def _input_megapixels(self, request: ComponentRequest, image: image_pb2.Image) -> float:
        if image.media_type == RAW:
            return image.raw_layout.height * image.raw_layout.width / 1e6
        return pixels_claimed(self._bytes_of(request, image)) / 1e6

    def _annotate_span(self, request: ComponentRequest, source: Pixels, result: Result) -> None:
        span = trace.get_current_span()
        if not span.is_recording():
            return
        target = result.pixels or source
        span.set_attribute("input_format", request.inputs[0].media_type)
        span.set_attribute("input_size", f"{source.width}x{source.height}")
        span.set_attribute("target_size", f"{target.width}x{target.height}")


def raw_pixels(data: memoryview, image: image_pb2.Image) -> Pixels:
    layout = image.raw_layout
    dtype = _DTYPES.get(layout.sample_type)
    shape = (layout.height, layout.width, layout.channels)
    if dtype is None or not 1 <= layout.channels <= 4 or 0 in shape:
        raise InvalidImage("the layout of the raw pixels is not one")
    if layout.height * layout.width * layout.channels * dtype.itemsize != len(data):
        raise InvalidImage("the raw pixels are not as many as their layout says")
    return Pixels(np.frombuffer(data, dtype).reshape(shape))


def _encoded(pixels: Pixels, options: OutputOptions) -> memoryview:
    if options.media_type in ("", RAW):
        return np.ascontiguousarray(pixels.array).data.cast("B")
    return memoryview(encode(pixels, media_type=options.media_type, quality=options.quality or None))


def _image_message(pixels: Pixels, data: memoryview, options: OutputOptions) -> image_pb2.Image:
    image = image_pb2.Image(
        media_type=options.media_type or RAW, size_bytes=len(data), width=pixels.width, height=pixels.height
    )
    if image.media_type == RAW:
        image.raw_layout.height, image.raw_layout.width = pixels.height, pixels.width
        image.raw_layout.channels = pixels.channels
        image.raw_layout.sample_type = _SAMPLE_TYPES[pixels.dtype]
    if pixels.to_input != IDENTITY:
        a = pixels.to_input
        image.to_input.CopyFrom(image_pb2.Affine(a=a.a, b=a.b, c=a.c, d=a.d, e=a.e, f=a.f))
    return image


def _affine(message: image_pb2.Affine) -> Affine:
    return Affine(message.a, message.b, message.c, message.d, message.e, message.f)
