from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor
PARAMETER_FIELD_NUMBER: _ClassVar[int]
parameter: _descriptor.FieldDescriptor

class ParameterOptions(_message.Message):
    __slots__ = ("default_json", "minimum", "maximum", "allowed_values", "unit", "required", "max_items", "max_length_bytes")
    DEFAULT_JSON_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_VALUES_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    MAX_ITEMS_FIELD_NUMBER: _ClassVar[int]
    MAX_LENGTH_BYTES_FIELD_NUMBER: _ClassVar[int]
    default_json: str
    minimum: float
    maximum: float
    allowed_values: _containers.RepeatedScalarFieldContainer[str]
    unit: str
    required: bool
    max_items: int
    max_length_bytes: int
    def __init__(self, default_json: _Optional[str] = ..., minimum: _Optional[float] = ..., maximum: _Optional[float] = ..., allowed_values: _Optional[_Iterable[str]] = ..., unit: _Optional[str] = ..., required: _Optional[bool] = ..., max_items: _Optional[int] = ..., max_length_bytes: _Optional[int] = ...) -> None: ...
