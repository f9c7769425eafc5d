from google.api import annotations_pb2 as _annotations_pb2
from google.api import httpbody_pb2 as _httpbody_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListComponentsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListComponentsResponse(_message.Message):
    __slots__ = ("components", "next_page_token")
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    components: _containers.RepeatedCompositeFieldContainer[Component]
    next_page_token: str
    def __init__(self, components: _Optional[_Iterable[_Union[Component, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetComponentRequest(_message.Message):
    __slots__ = ("component_name",)
    COMPONENT_NAME_FIELD_NUMBER: _ClassVar[int]
    component_name: str
    def __init__(self, component_name: _Optional[str] = ...) -> None: ...

class Component(_message.Message):
    __slots__ = ("name", "aliases", "versions", "summary", "parameters_schema", "input_slots", "targets", "available")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    INPUT_SLOTS_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    name: str
    aliases: _containers.RepeatedScalarFieldContainer[str]
    versions: _containers.RepeatedScalarFieldContainer[str]
    summary: str
    parameters_schema: _struct_pb2.Struct
    input_slots: _containers.RepeatedScalarFieldContainer[str]
    targets: _containers.RepeatedScalarFieldContainer[str]
    available: bool
    def __init__(self, name: _Optional[str] = ..., aliases: _Optional[_Iterable[str]] = ..., versions: _Optional[_Iterable[str]] = ..., summary: _Optional[str] = ..., parameters_schema: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., input_slots: _Optional[_Iterable[str]] = ..., targets: _Optional[_Iterable[str]] = ..., available: _Optional[bool] = ...) -> None: ...

class ProcessWithComponentRequest(_message.Message):
    __slots__ = ("component_name", "version", "set", "output_format", "quality", "body")
    COMPONENT_NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SET_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FORMAT_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    component_name: str
    version: str
    set: _containers.RepeatedScalarFieldContainer[str]
    output_format: str
    quality: int
    body: _httpbody_pb2.HttpBody
    def __init__(self, component_name: _Optional[str] = ..., version: _Optional[str] = ..., set: _Optional[_Iterable[str]] = ..., output_format: _Optional[str] = ..., quality: _Optional[int] = ..., body: _Optional[_Union[_httpbody_pb2.HttpBody, _Mapping]] = ...) -> None: ...
