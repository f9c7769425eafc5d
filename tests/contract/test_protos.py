"""What callers and components of other versions and languages build on: field numbers, defaults, routes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from imageflow.v1.component_pb2 import ComponentRequest, ComponentResponse
from imageflow_common.descriptors import Descriptors, load_descriptors, own_descriptors
from imageflow_common.schema import read_schema

TREE = Path(__file__).resolve().parents[2]
COMPONENTS = {
    **{name: f"imageflow.v1.{name.title()}Service" for name in ("resize", "detect", "filter")},
    "a user's": "acme.v1.TintService",
}
TYPED = 3
"""The field that each component has a message of its own for, which the orchestrator sees as bytes."""


def descriptors_of(service: str) -> Descriptors:
    """The user's component is compiled from its .proto, as its process does."""
    tint = TREE / "tests" / "e2e" / "tint" / "acme" / "v1" / "tint.proto"
    return load_descriptors(tint) if service.startswith("acme.") else own_descriptors()


def fields(message: Descriptor) -> dict[int, tuple[str, int, bool, str]]:
    """Each field's name, wire type, whether it repeats, and the message that it is, by number."""
    return {
        field.number: (
            field.name,
            FieldDescriptor.TYPE_BYTES if field.number == TYPED else field.type,
            field.is_repeated,
            field.message_type.full_name if field.message_type and field.number != TYPED else "",
        )
        for field in message.fields
    }


@pytest.mark.parametrize("service", COMPONENTS.values(), ids=COMPONENTS)
def test_every_component_has_the_one_envelope_on_the_wire(service: str) -> None:
    method = descriptors_of(service).service(service).methods_by_name["Process"]
    assert fields(method.input_type) == fields(ComponentRequest.DESCRIPTOR)
    assert fields(method.output_type) == fields(ComponentResponse.DESCRIPTOR)
    assert not method.client_streaming
    assert not method.server_streaming


@pytest.mark.parametrize(
    ("message", "defaults"),
    [
        ("ResizeParameters", {"width": 800, "height": 600, "maintainAspectRatio": True}),
        ("DetectParameters", {"modelName": "yolo11", "confidenceThreshold": 0.5, "nmsThreshold": 0.4}),
        ("FilterParameters", {"filterType": "gaussian", "filterIntensity": 1.0}),
    ],
)
def test_the_defaults_are_those_of_r20_to_r22(message: str, defaults: dict[str, object]) -> None:
    own = own_descriptors()
    schema = read_schema(own.message(f"imageflow.v1.{message}"), comments=own.comments).json_schema()
    shown = {name: each["default"] for name, each in schema["properties"].items() if name in defaults}
    assert shown == defaults


def test_the_gateway_transcodes_every_service_that_has_http_routes() -> None:
    own = own_descriptors()
    with_routes = {
        name
        for name in own.service_names()
        if name.startswith("imageflow.v1.")
        and any(method.GetOptions().HasExtension(annotations_pb2.http) for method in own.service(name).methods)
    }
    text = (TREE / "gateway" / "envoy.yaml").read_text()
    assert with_routes == set(_transcoded(yaml.safe_load(text)))
    for name in own.service_names():
        if name.startswith("imageflow.v1.") and name != "imageflow.v1.ComponentService":
            assert f"/{name}/" in text, f"no route for {name}"


FOR_OPERATORS = {"GetDependencies"}
"""Methods that the gateway passes to nobody."""


@pytest.mark.parametrize("service", ["Pipeline", "Execution", "Image", "Catalog", "System"])
def test_every_method_for_callers_can_be_called_over_http(service: str) -> None:
    for method in own_descriptors().service(f"imageflow.v1.{service}Service").methods:
        assert method.GetOptions().HasExtension(annotations_pb2.http) != (method.name in FOR_OPERATORS), (
            method.full_name
        )


def _transcoded(node: object) -> list[str]:
    """The services of every transcoder in the gateway's configuration."""
    if isinstance(node, list):
        return [name for item in node for name in _transcoded(item)]
    if not isinstance(node, dict):
        return []
    here = node.get("services", []) if "GrpcJsonTranscoder" in str(node.get("@type")) else []
    return here + [name for item in node.values() for name in _transcoded(item)]
