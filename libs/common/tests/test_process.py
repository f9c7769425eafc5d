"""One call of a component: where its images come from and go to, and what it refuses."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imageflow.v1.component_pb2 import ComponentRequest, ComponentResponse, OutputOptions
from imageflow.v1.image_pb2 import Affine, Image, PayloadRange, RawLayout
from imageflow_common.component import Component
from imageflow_common.errors import (
    FailedPrecondition,
    ImageFlowError,
    ImageTooLarge,
    InvalidArgument,
    InvalidImage,
    InvalidParameters,
    PermissionDenied,
    Unimplemented,
)
from imageflow_common.formats import RAW
from imageflow_common.images import ImageLimits, decode, encode
from imageflow_common.pixels import Pixels
from imageflow_common.process import Processor
from imageflow_common.shared import Capability, SharedDirectory

Make = Callable[..., ComponentRequest]
LIMITS = ImageLimits(max_bytes=1_000_000, max_pixels=1_000_000)


@pytest.fixture
def processor(probe: Component) -> Processor:
    return Processor(probe, shared=None, limits=LIMITS)


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[SharedDirectory]:
    directory = SharedDirectory(tmp_path / "shm")
    yield directory
    directory.close()


@pytest.fixture
def sharing(probe: Component, shared: SharedDirectory) -> Processor:
    return Processor(probe, shared=shared, limits=LIMITS)


def _pixels_of(response: ComponentResponse) -> list[int]:
    span = response.image.payload_range
    return list(response.payload[span.offset_bytes : span.offset_bytes + span.size_bytes])


def _through_memory(request: ComponentRequest, shared: SharedDirectory, capability: Capability) -> ComponentRequest:
    """The same request with its image in `o1.in`, the answer wanted in `o1.out`."""
    shared.write("o1.in", request.payload)
    request.ClearField("payload")
    request.inputs[0].shared_memory_name = "o1.in"
    request.output.shared_memory_name = "o1.out"
    request.context.capability_name, request.context.capability = capability.name, capability.secret
    return request


def test_raw_pixels_in_the_payload_come_back_in_the_payload(processor: Processor, probe_request: Make) -> None:
    response = processor.process(probe_request(2, 2, invert=True))
    assert _pixels_of(response) == [255, 254, 253, 252]
    assert (response.image.media_type, response.image.size_bytes) == (RAW, 4)
    assert response.image.raw_layout == RawLayout(width=2, height=2, channels=1, sample_type=RawLayout.UINT8)
    assert response.result.message == "done"
    assert response.result.component_version == "1.2.0"


def test_an_image_may_be_any_range_of_the_payload(processor: Processor, probe_request: Make) -> None:
    request = probe_request(2, 1, invert=True)
    request.payload = b"??" + request.payload + b"?"
    request.inputs[0].payload_range.offset_bytes = 2
    assert _pixels_of(processor.process(request)) == [255, 254]


def test_two_images_share_a_payload(processor: Processor, probe: Component, probe_request: Make) -> None:
    request = probe_request(2, 2)
    request.inputs.append(request.inputs[0])
    metadata = _metadata(probe, processor.process(request))
    assert metadata.masked


def test_an_encoded_image_is_decoded_and_encoded_as_asked(processor: Processor, probe: Component) -> None:
    png = encode(Pixels(np.full((5, 7, 3), 200, np.uint8)), media_type="image/png")
    request = ComponentRequest(payload=png, parameters=probe.schema.encode({"invert": True}))
    request.inputs.add(media_type="image/png", payload_range=PayloadRange(size_bytes=len(png)))
    request.output.CopyFrom(OutputOptions(media_type="image/webp", quality=90))
    response = processor.process(request)
    back = decode(response.payload, limits=LIMITS)
    assert response.image.media_type == "image/webp"
    assert (response.image.width, response.image.height, back.width, back.height) == (7, 5, 7, 5)
    assert abs(int(back.array.mean()) - 55) <= 1
    assert not response.image.HasField("raw_layout")


@pytest.mark.parametrize(
    "options", [OutputOptions(media_type="image/bmp"), OutputOptions(media_type="image/jpeg", quality=101)]
)
def test_an_output_that_cannot_be_made_is_the_callers_fault(
    processor: Processor, probe_request: Make, options: OutputOptions
) -> None:
    request = probe_request(invert=True)
    request.output.CopyFrom(options)
    with pytest.raises(InvalidArgument):
        processor.process(request)


def test_a_component_that_only_looks_answers_no_image(processor: Processor, probe_request: Make) -> None:
    response = processor.process(probe_request())
    assert not response.HasField("image")
    assert response.payload == b""


def test_always_answers_the_unchanged_image(processor: Processor, probe_request: Make) -> None:
    request = probe_request(2, 2)
    request.output.always = True
    assert _pixels_of(processor.process(request)) == [0, 1, 2, 3]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_raw_pixels_of_every_kind_pass_through(
    processor: Processor, dtype: str, channels: int, probe: Component
) -> None:
    array = np.arange(2 * 3 * channels).reshape(2, 3, channels).astype(dtype)
    sample_type = {"uint8": RawLayout.UINT8, "uint16": RawLayout.UINT16, "float32": RawLayout.FLOAT32}[dtype]
    request = ComponentRequest(payload=array.tobytes(), output=OutputOptions(always=True))
    image = request.inputs.add(media_type=RAW, payload_range=PayloadRange(size_bytes=array.nbytes))
    image.raw_layout.CopyFrom(RawLayout(width=3, height=2, channels=channels, sample_type=sample_type))
    response = processor.process(request)
    assert response.payload == array.tobytes()
    assert response.image.raw_layout == image.raw_layout


def test_images_travel_through_shared_memory_with_a_capability(
    sharing: Processor, shared: SharedDirectory, probe_request: Make
) -> None:
    request = _through_memory(probe_request(2, 2, invert=True), shared, shared.grant("o1"))
    response = sharing.process(request)
    assert response.image.shared_memory_name == "o1.out"
    assert response.payload == b""
    with shared.read("o1.out", response.image.size_bytes) as data:
        assert list(data) == [255, 254, 253, 252]


@pytest.mark.parametrize(
    ("name", "secret"), [("", ""), ("o1", ""), ("o1", "f" * 64), ("o2", "own"), ("o9", "own"), ("../o1", "own")]
)
def test_a_forged_capability_reads_and_writes_nothing(
    sharing: Processor, shared: SharedDirectory, probe_request: Make, name: str, secret: str
) -> None:
    own, other = shared.grant("o1"), shared.grant("o2")
    given = Capability(name, {"own": other.secret}.get(secret, secret))
    request = _through_memory(probe_request(invert=True), shared, given)
    with pytest.raises(PermissionDenied):
        sharing.process(request)
    with pytest.raises(PermissionDenied):
        sharing.megapixels(_encoded(request))
    inline = probe_request(invert=True)
    inline.context.CopyFrom(request.context)
    inline.output.shared_memory_name = "o1.out"
    with pytest.raises(PermissionDenied):
        sharing.process(inline)
    assert sorted(shared.names()) == ["o1", "o1.in", "o2"]
    assert own.secret != other.secret


def _encoded(request: ComponentRequest) -> ComponentRequest:
    changed = ComponentRequest()
    changed.CopyFrom(request)
    changed.inputs[0].media_type = "image/png"
    return changed


@pytest.mark.parametrize("name", ["o2.1", "o2", "o1", "o1/../o2.1", "../o1.x", "", "o1\0.x"])
def test_a_capability_opens_no_other_names(
    sharing: Processor, shared: SharedDirectory, probe_request: Make, name: str
) -> None:
    capability = shared.grant("o1")
    shared.grant("o2")
    shared.write("o2.1", bytes(12))
    reading = _through_memory(probe_request(), shared, capability)
    reading.inputs[0].shared_memory_name = name
    with pytest.raises(PermissionDenied):
        sharing.process(reading)
    if name:
        writing = _through_memory(probe_request(invert=True), shared, capability)
        writing.output.shared_memory_name = name
        with pytest.raises(PermissionDenied):
            sharing.process(writing)


def test_a_process_without_shared_memory_says_so(
    processor: Processor, shared: SharedDirectory, probe_request: Make
) -> None:
    with pytest.raises(FailedPrecondition) as raised:
        processor.process(_through_memory(probe_request(), shared, shared.grant("o1")))
    assert raised.value.reason == "SHARED_MEMORY_MISSING"


def test_shared_memory_that_is_gone_or_cut_is_said(
    sharing: Processor, shared: SharedDirectory, probe_request: Make, tmp_path: Path
) -> None:
    request = _through_memory(probe_request(), shared, shared.grant("o1"))
    os.truncate(tmp_path / "shm" / "o1.in", 5)
    for _ in range(2):
        with pytest.raises(FailedPrecondition) as raised:
            sharing.process(request)
        assert raised.value.reason == "SHARED_MEMORY_MISSING"
        shared.remove("o1.in")


def test_output_that_nobody_waits_for_is_removed_only_for_who_may_name_it(
    sharing: Processor, shared: SharedDirectory, probe_request: Make
) -> None:
    request = _through_memory(probe_request(invert=True), shared, shared.grant("o1"))
    sharing.process(request)
    stranger = ComponentRequest()
    stranger.CopyFrom(request)
    stranger.context.capability = "0" * 64
    sharing.discard_output(stranger)
    assert "o1.out" in shared.names()
    sharing.discard_output(request)
    assert "o1.out" not in shared.names()
    sharing.discard_output(request)


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"width": 4, "height": 3, "channels": 1},
        {"width": 4, "height": 3, "channels": 1, "sample_type": 99},
        {"width": 4, "height": 3, "channels": 0, "sample_type": RawLayout.UINT8},
        {"width": 1, "height": 2, "channels": 6, "sample_type": RawLayout.UINT8},
        {"width": 0, "height": 0, "channels": 1, "sample_type": RawLayout.UINT8},
        {"width": 5, "height": 3, "channels": 1, "sample_type": RawLayout.UINT8},
        {"width": 2, "height": 3, "channels": 1, "sample_type": RawLayout.UINT8},
        {"width": 4, "height": 3, "channels": 1, "sample_type": RawLayout.FLOAT32},
        {"width": 2**32 - 1, "height": 2**32 - 1, "channels": 4, "sample_type": RawLayout.FLOAT32},
    ],
)
def test_a_layout_that_lies_is_refused(processor: Processor, probe_request: Make, layout: dict[str, int]) -> None:
    request = probe_request(4, 3)
    request.inputs[0].raw_layout.CopyFrom(RawLayout(**layout))  # type: ignore[arg-type]
    with pytest.raises(InvalidImage):
        processor.process(request)


@pytest.mark.parametrize(
    ("offset", "size"), [(0, 13), (1, 12), (12, 1), (2**64 - 1, 1), (2**63, 2**63), (0, 2**64 - 1), (13, 0)]
)
def test_a_range_outside_the_payload_is_refused(
    processor: Processor, probe_request: Make, offset: int, size: int
) -> None:
    request = probe_request(4, 3)
    request.inputs[0].payload_range.CopyFrom(PayloadRange(offset_bytes=offset, size_bytes=size))
    with pytest.raises(InvalidArgument):
        processor.process(request)


@pytest.mark.parametrize("count", [0, 3, 1000])
def test_a_wrong_number_of_inputs_is_refused_before_anything_is_read(
    processor: Processor, probe_request: Make, count: int
) -> None:
    request = probe_request()
    request.inputs[0].media_type = "image/png"
    inputs = [request.inputs[0]] * count
    del request.inputs[:]
    request.inputs.extend(inputs)
    for use in (processor.process, processor.megapixels):
        with pytest.raises(InvalidArgument, match=f"expected 1 to 2 input image.* got {count}"):
            use(request)


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (Image(media_type=RAW), InvalidArgument),
        (Image(media_type=RAW, object_key="artifacts/a"), PermissionDenied),
        (Image(media_type="image/png", payload_range=PayloadRange(size_bytes=12)), InvalidArgument),
        (Image(media_type="image/png", payload_range=PayloadRange()), InvalidImage),
    ],
)
def test_an_image_that_is_nowhere_or_none_is_refused(
    processor: Processor, probe_request: Make, image: Image, kind: type[ImageFlowError]
) -> None:
    request = probe_request()
    request.inputs[0].CopyFrom(image)
    with pytest.raises(kind):
        processor.process(request)


def test_an_encoded_image_past_the_limits_is_refused_by_its_header(processor: Processor) -> None:
    png = encode(Pixels(np.zeros((1001, 1000, 1), np.uint8)), media_type="image/png")
    request = ComponentRequest(payload=png)
    request.inputs.add(media_type="image/png", payload_range=PayloadRange(size_bytes=len(png)))
    assert processor.megapixels(request) == pytest.approx(1.001)
    with pytest.raises(ImageTooLarge):
        processor.process(request)


def test_the_size_of_inputs_is_known_from_their_headers(processor: Processor, probe_request: Make) -> None:
    request = probe_request(1000, 200)
    assert processor.megapixels(request) == pytest.approx(0.2)
    png = encode(Pixels(np.zeros((100, 200, 1), np.uint8)), media_type="image/png")
    encoded = ComponentRequest(payload=png)
    encoded.inputs.add(media_type="image/png", payload_range=PayloadRange(size_bytes=len(png)))
    assert processor.megapixels(encoded) == pytest.approx(0.02)


@pytest.mark.parametrize(("version", "served"), [("", True), ("1.2.0", True), ("1.2", False), ("2.0.0", False)])
def test_only_the_version_that_is_served_answers(
    processor: Processor, probe_request: Make, version: str, served: bool
) -> None:
    request = probe_request()
    request.context.component_version = version
    if served:
        assert processor.process(request).result.component_version == "1.2.0"
        return
    with pytest.raises(FailedPrecondition) as raised:
        processor.process(request)
    assert raised.value.reason == "VERSION_NOT_SERVED"


def test_output_to_the_object_store_is_refused(processor: Processor, probe_request: Make) -> None:
    request = probe_request()
    request.output.object_key = "artifacts/x"
    with pytest.raises(Unimplemented):
        processor.process(request)


def test_parameters_that_are_none_or_not_allowed_are_refused(processor: Processor, probe_request: Make) -> None:
    request = probe_request(cutLeft=2_000)
    with pytest.raises(InvalidParameters):
        processor.process(request)
    request.parameters = b"\xff\xff"
    with pytest.raises(InvalidArgument):
        processor.process(request)


def test_coordinates_are_traced_to_the_pipelines_input(
    processor: Processor, probe: Component, probe_request: Make
) -> None:
    request = probe_request(6, 2, cutLeft=2)
    request.inputs[0].to_input.CopyFrom(Affine(a=3, c=10, e=2, f=20))
    response = processor.process(request)
    assert list(_metadata(probe, response).to_input) == [3, 0, 10, 0, 2, 20]
    assert response.image.to_input == Affine(a=3, c=16, e=2, f=20)


def test_an_image_that_is_the_input_says_nothing_of_a_map(processor: Processor, probe_request: Make) -> None:
    assert not processor.process(probe_request(invert=True)).image.HasField("to_input")


def test_timings_add_up_to_no_more_than_the_total(processor: Processor, probe: Component) -> None:
    jpeg = encode(Pixels(np.zeros((300, 400, 3), np.uint8)), media_type="image/jpeg")
    request = ComponentRequest(payload=jpeg, parameters=probe.schema.encode({"invert": True}))
    request.inputs.add(media_type="image/jpeg", payload_range=PayloadRange(size_bytes=len(jpeg)))
    request.output.media_type = "image/png"
    timings = processor.process(request).result.timings
    parts = [timings.transport_ms, timings.decode_ms, timings.compute_ms, timings.encode_ms]
    assert min(parts) > 0
    assert timings.queue_ms == 0
    assert sum(parts) <= timings.total_ms


def _metadata(probe: Component, response: ComponentResponse) -> Any:
    from google.protobuf.message_factory import GetMessageClass

    return GetMessageClass(probe.metadata_descriptor).FromString(response.metadata)
