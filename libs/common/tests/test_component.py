"""What may call itself a component, and what it says of itself."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError

from imageflow.v1.component_pb2 import DescribeResponse
from imageflow.v1.resize_pb2 import ResizeMetadata, ResizeParameters
from imageflow_common.component import Component, Result, Slot, component, describe
from imageflow_common.descriptors import parse_descriptors
from imageflow_common.errors import InvalidParameters
from imageflow_common.pixels import Pixels

REQUEST_FIELDS = {
    1: "imageflow.v1.StepContext context = 1;",
    2: "repeated imageflow.v1.Image inputs = 2;",
    3: "Parameters parameters = 3;",
    4: "imageflow.v1.OutputOptions output = 4;",
    2047: "bytes payload = 2047;",
}
RESPONSE_FIELDS = {
    1: "imageflow.v1.StepResult result = 1;",
    2: "imageflow.v1.Image image = 2;",
    3: "Metadata metadata = 3;",
    2047: "bytes payload = 2047;",
}


def _service(*, request: dict[int, str] | None = None, response: dict[int, str] | None = None, rpc: str = "") -> str:
    rpc = rpc or "rpc Process(Request) returns (Response);"
    return f"""
        message Parameters {{ optional bool draw = 1; optional uint32 size = 2; }}
        message Metadata {{ uint32 found = 1; }}
        message Request {{ {"".join((REQUEST_FIELDS | (request or {})).values())} }}
        message Response {{ {"".join((RESPONSE_FIELDS | (response or {})).values())} }}
        service TintService {{ {rpc} }}"""


def _declare(compile_proto: Any, body: str, **options: Any) -> Component:
    def tint(*arguments: Any) -> Result:
        """Tints an image.

        At length."""
        return Result()

    decorate = component(name="tint", service="acme.v1.TintService", descriptors=compile_proto(body), **options)
    return decorate(tint)


def test_a_function_whose_service_has_the_envelope_is_a_component(compile_proto: Any) -> None:
    tint = _declare(compile_proto, _service())
    assert (tint.name, tint.version, tint.summary) == ("tint", "1.0.0", "Tints an image.")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"request": {1: ""}}, "Request: field 1 must be `context`"),
        ({"request": {1: "imageflow.v1.StepContext ctx = 1;"}}, "field 1 must be `context`"),
        ({"request": {2: "imageflow.v1.Image inputs = 2;"}}, "field 2 must be `inputs`"),
        ({"request": {4: "imageflow.v1.StepContext output = 4;"}}, "field 4 must be `output`"),
        ({"request": {2047: "bytes payload = 5;"}}, "field 2047 must be `payload`"),
        ({"request": {2047: "string payload = 2047;"}}, "field 2047 must be `payload`"),
        ({"request": {3: ""}}, "field 3 must be `parameters`"),
        ({"request": {3: "bytes parameters = 3;"}}, "field 3 must be a message"),
        ({"request": {3: "repeated Parameters parameters = 3;"}}, "field 3 must be a message"),
        ({"response": {2: ""}}, "Response: field 2 must be `image`"),
        ({"response": {3: "uint32 metadata = 3;"}}, "field 3 must be a message"),
        ({"rpc": "rpc Do(Request) returns (Response);"}, "no acme.v1.TintService with a method Process"),
        ({"rpc": "rpc Process(stream Request) returns (Response);"}, "must not stream"),
        ({"rpc": "rpc Process(Request) returns (stream Response);"}, "must not stream"),
        ({"rpc": "rpc Process(Response) returns (Request);"}, "must be `context`"),
    ],
)
def test_a_service_with_another_envelope_is_refused(compile_proto: Any, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        _declare(compile_proto, _service(**changed))


def test_a_service_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"there is no acme\.v1\.Missing"):
        component(name="x", service="acme.v1.Missing")


@pytest.mark.parametrize("name", ["", "size", "missing"])
def test_only_a_boolean_parameter_can_decide_whether_the_image_changes(compile_proto: Any, name: str) -> None:
    options = {"effect": DescribeResponse.WHEN_PARAMETER, "effect_parameter": name}
    with pytest.raises(ValueError, match="no boolean parameter"):
        _declare(compile_proto, _service(), **options)
    assert _declare(compile_proto, _service(), **options | {"effect_parameter": "draw"}).effect_parameter == "draw"


def test_optional_slots_come_last(compile_proto: Any) -> None:
    with pytest.raises(ValueError, match="optional slots"):
        _declare(compile_proto, _service(), slots=[Slot("mask", optional=True), Slot("overlay")])


def test_a_slot_that_is_left_open_is_none(probe: Component) -> None:
    image = Pixels(np.zeros((2, 3, 1), np.uint8))
    seen = [probe(*images, parameters=probe.parameters()).metadata for images in ((image,), (image, image))]
    assert [metadata["masked"] for metadata in seen] == [False, True]  # type: ignore[index]


def test_parameters_come_typed_with_their_defaults(probe: Component) -> None:
    parameters = probe.parameters()
    assert parameters.DESCRIPTOR.full_name == "acme.v1.ProbeParameters"
    assert parameters.HasField("invert")
    assert not parameters.HasField("awaited_file")


def test_parameters_are_their_callers_own(probe: Component) -> None:
    probe.parameters().invert = True  # type: ignore[attr-defined]
    assert not probe.parameters().invert  # type: ignore[attr-defined]


def test_parameters_out_of_range_and_bytes_that_are_none_are_refused(probe: Component) -> None:
    with pytest.raises(InvalidParameters, match="not allowed") as raised:
        probe.parameters(probe.schema.encode({"cutLeft": 1001}))
    assert raised.value.violations[0].field == "cutLeft"
    with pytest.raises(DecodeError):
        probe.parameters(b"\xff\xff")


def test_large_parameters_are_read_but_not_remembered(probe: Component) -> None:
    before = probe._decode.cache_info().currsize  # type: ignore[attr-defined]
    padding = b"\x82\x7d" + b"\xff\xff\x03" + b"x" * 65535  # an unknown field 2000
    assert not probe.parameters(padding).invert  # type: ignore[attr-defined]
    assert probe._decode.cache_info().currsize == before  # type: ignore[attr-defined]


def test_the_generated_class_is_used_where_there_is_one() -> None:
    @component(name="resize", service="imageflow.v1.ResizeService")
    def resize(image: Pixels, parameters: ResizeParameters) -> Result:
        return Result()

    assert isinstance(resize.parameters(), ResizeParameters)
    assert resize.summary == ""
    assert resize.encode_metadata({"input_width": 3}) == ResizeMetadata(input_width=3).SerializeToString()
    assert resize.encode_metadata(ResizeMetadata(input_width=3)) == ResizeMetadata(input_width=3).SerializeToString()


def test_a_description_says_all_that_a_caller_needs(probe: Component) -> None:
    description = describe(probe)
    assert description.component_name == "probe"
    assert description.versions == ["1.2.0"]
    assert description.service_name == "acme.v1.ProbeService"
    assert description.summary == "Does as it is told."
    assert (description.image_effect, description.image_effect_parameter) == (
        DescribeResponse.WHEN_PARAMETER,
        "invert",
    )
    assert [(slot.name, slot.optional) for slot in description.input_slots] == [("image", False), ("mask", True)]
    shipped = parse_descriptors(description.descriptor_set)
    assert shipped.message(description.parameters_message).fields_by_name["cut_left"].number == 4
    assert shipped.message(description.metadata_message)
    assert shipped.comments["acme.v1.ProbeParameters.cut_left"] == "Pixels to cut off on the left."
