from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Image(_message.Message):
    __slots__ = ("media_type", "payload_range", "shared_memory_name", "object_key", "size_bytes", "raw_layout", "to_input", "width", "height")
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_RANGE_FIELD_NUMBER: _ClassVar[int]
    SHARED_MEMORY_NAME_FIELD_NUMBER: _ClassVar[int]
    OBJECT_KEY_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    RAW_LAYOUT_FIELD_NUMBER: _ClassVar[int]
    TO_INPUT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    media_type: str
    payload_range: PayloadRange
    shared_memory_name: str
    object_key: str
    size_bytes: int
    raw_layout: RawLayout
    to_input: Affine
    width: int
    height: int
    def __init__(self, media_type: _Optional[str] = ..., payload_range: _Optional[_Union[PayloadRange, _Mapping]] = ..., shared_memory_name: _Optional[str] = ..., object_key: _Optional[str] = ..., size_bytes: _Optional[int] = ..., raw_layout: _Optional[_Union[RawLayout, _Mapping]] = ..., to_input: _Optional[_Union[Affine, _Mapping]] = ..., width: _Optional[int] = ..., height: _Optional[int] = ...) -> None: ...

class PayloadRange(_message.Message):
    __slots__ = ("offset_bytes", "size_bytes")
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    offset_bytes: int
    size_bytes: int
    def __init__(self, offset_bytes: _Optional[int] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class RawLayout(_message.Message):
    __slots__ = ("height", "width", "channels", "sample_type")
    class SampleType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SAMPLE_TYPE_UNSPECIFIED: _ClassVar[RawLayout.SampleType]
        UINT8: _ClassVar[RawLayout.SampleType]
        UINT16: _ClassVar[RawLayout.SampleType]
        FLOAT32: _ClassVar[RawLayout.SampleType]
    SAMPLE_TYPE_UNSPECIFIED: RawLayout.SampleType
    UINT8: RawLayout.SampleType
    UINT16: RawLayout.SampleType
    FLOAT32: RawLayout.SampleType
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_TYPE_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    channels: int
    sample_type: RawLayout.SampleType
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., channels: _Optional[int] = ..., sample_type: _Optional[_Union[RawLayout.SampleType, str]] = ...) -> None: ...

class Affine(_message.Message):
    __slots__ = ("a", "b", "c", "d", "e", "f")
    A_FIELD_NUMBER: _ClassVar[int]
    B_FIELD_NUMBER: _ClassVar[int]
    C_FIELD_NUMBER: _ClassVar[int]
    D_FIELD_NUMBER: _ClassVar[int]
    E_FIELD_NUMBER: _ClassVar[int]
    F_FIELD_NUMBER: _ClassVar[int]
    a: float
    b: float
    c: float
    d: float
    e: float
    f: float
    def __init__(self, a: _Optional[float] = ..., b: _Optional[float] = ..., c: _Optional[float] = ..., d: _Optional[float] = ..., e: _Optional[float] = ..., f: _Optional[float] = ...) -> None: ...
