"""A component's typed request and the orchestrator's generic one are the same bytes."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import given
from hypothesis import strategies as st

from imageflow.v1.component_pb2 import ComponentRequest, ComponentResponse
from imageflow_common.descriptors import own_descriptors

OWN = own_descriptors()
COMPONENTS = [
    name
    for name in OWN.service_names()
    if name.startswith("imageflow.v1.") and list(OWN.service(name).methods_by_name) == ["Process"]
]
SIDES = [(name, side) for name in COMPONENTS for side in ("input", "output")]
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_FLOAT: st.floats(width=32, allow_nan=False),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(allow_nan=False),
}


def _pair(service: str, side: str) -> tuple[Descriptor, type[Message]]:
    method = OWN.service(service).methods_by_name["Process"]
    return (method.input_type, ComponentRequest) if side == "input" else (method.output_type, ComponentResponse)


def _parameters_of(typed: Descriptor) -> Descriptor:
    descriptor = typed.fields_by_number[3].message_type
    assert descriptor is not None
    return descriptor


def _values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        one: st.SearchStrategy[Any] = _messages(field.message_type)
    elif field.enum_type is not None:
        one = st.sampled_from([value.number for value in field.enum_type.values])
    elif field.type == FieldDescriptor.TYPE_BYTES:
        one = st.binary(max_size=300)
    elif field.type == FieldDescriptor.TYPE_STRING:
        one = st.text(st.characters(codec="utf-8"), max_size=12)
    else:
        one = _INTEGERS[field.cpp_type]
    return st.lists(one, max_size=3) if field.is_repeated else one


def _messages(descriptor: Descriptor) -> st.SearchStrategy[Message]:
    """Any message, built field by field from its descriptor."""
    optional = {field.name: _values(field) for field in descriptor.fields}
    return st.fixed_dictionaries({}, optional=optional).map(lambda values: GetMessageClass(descriptor)(**values))


def _shuffled(data: bytes, random: Random) -> bytes:
    """The top-level fields of a message in another order; those of one repeated field stay in theirs."""
    by_number: dict[int, list[bytes]] = {}
    for number, piece in _pieces(data):
        by_number.setdefault(number, []).append(piece)
    groups = list(by_number.values())
    random.shuffle(groups)
    return b"".join(b"".join(group) for group in groups)


def _pieces(data: bytes) -> list[tuple[int, bytes]]:
    """Every field of an envelope with its tag: all are length-delimited."""
    pieces, position = [], 0
    while position < len(data):
        tag, after_tag = _varint(data, position)
        assert tag & 7 == 2
        length, start = _varint(data, after_tag)
        pieces.append((tag >> 3, data[position : start + length]))
        position = start + length
    return pieces


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def test_there_are_components() -> None:
    assert {"imageflow.v1.ResizeService", "imageflow.v1.DetectService", "imageflow.v1.FilterService"} <= set(COMPONENTS)


@pytest.mark.parametrize(("service", "side"), SIDES)
def test_every_envelope_has_the_same_numbers_and_reserves_the_same(service: str, side: str) -> None:
    typed, generic = _pair(service, side)
    assert {field.number: field.name for field in typed.fields} == {
        field.number: field.name for field in generic.DESCRIPTOR.fields
    }
    assert _reserved(typed) == _reserved(OWN.message(generic.DESCRIPTOR.full_name))


def _reserved(descriptor: Descriptor) -> list[tuple[int, int]]:
    from google.protobuf.descriptor_pb2 import DescriptorProto

    proto = DescriptorProto()
    descriptor.CopyToProto(proto)
    return [(span.start, span.end) for span in proto.reserved_range]


@pytest.mark.parametrize(("service", "side"), SIDES)
def test_typed_and_generic_read_each_other_in_any_order(service: str, side: str) -> None:
    typed, generic = _pair(service, side)
    typed_class = GetMessageClass(typed)
    inner = typed.fields_by_number[3]
    generic_inner = generic.DESCRIPTOR.fields_by_number[3].name

    @given(_messages(typed), st.randoms(use_true_random=False))
    def holds(message: Message, random: Random) -> None:
        held = getattr(message, inner.name)
        if not held.ByteSize():
            message.ClearField(inner.name)  # nothing in it is the same as none
        data = message.SerializeToString(deterministic=True)
        seen = generic.FromString(_shuffled(data, random))
        assert len(UnknownFieldSet(seen)) == 0
        assert GetMessageClass(_parameters_of(typed)).FromString(getattr(seen, generic_inner)) == held
        assert seen.SerializeToString(deterministic=True) == data
        assert typed_class.FromString(_shuffled(seen.SerializeToString(), random)) == message

    holds()
