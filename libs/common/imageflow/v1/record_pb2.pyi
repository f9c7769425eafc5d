from google.protobuf import struct_pb2 as _struct_pb2
from imageflow.v1 import component_pb2 as _component_pb2
from imageflow.v1 import execution_pb2 as _execution_pb2
from imageflow.v1 import execution_service_pb2 as _execution_service_pb2
from imageflow.v1 import image_pb2 as _image_pb2
from imageflow.v1 import pipeline_pb2 as _pipeline_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExecutionRecord(_message.Message):
    __slots__ = ("schema_version", "execution", "request", "request_sha256", "kind", "steps", "revision", "reserved_event_number", "cancel_requested", "cancel_message", "trace_parent", "trace_links")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[ExecutionRecord.Kind]
        SYNCHRONOUS: _ClassVar[ExecutionRecord.Kind]
        ASYNCHRONOUS: _ClassVar[ExecutionRecord.Kind]
        BATCH: _ClassVar[ExecutionRecord.Kind]
    KIND_UNSPECIFIED: ExecutionRecord.Kind
    SYNCHRONOUS: ExecutionRecord.Kind
    ASYNCHRONOUS: ExecutionRecord.Kind
    BATCH: ExecutionRecord.Kind
    class StepsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: RecordedStep
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[RecordedStep, _Mapping]] = ...) -> None: ...
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    REQUEST_SHA256_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    RESERVED_EVENT_NUMBER_FIELD_NUMBER: _ClassVar[int]
    CANCEL_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    CANCEL_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TRACE_PARENT_FIELD_NUMBER: _ClassVar[int]
    TRACE_LINKS_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    execution: _execution_pb2.Execution
    request: RecordedRequest
    request_sha256: str
    kind: ExecutionRecord.Kind
    steps: _containers.MessageMap[str, RecordedStep]
    revision: int
    reserved_event_number: int
    cancel_requested: bool
    cancel_message: str
    trace_parent: str
    trace_links: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, schema_version: _Optional[int] = ..., execution: _Optional[_Union[_execution_pb2.Execution, _Mapping]] = ..., request: _Optional[_Union[RecordedRequest, _Mapping]] = ..., request_sha256: _Optional[str] = ..., kind: _Optional[_Union[ExecutionRecord.Kind, str]] = ..., steps: _Optional[_Mapping[str, RecordedStep]] = ..., revision: _Optional[int] = ..., reserved_event_number: _Optional[int] = ..., cancel_requested: _Optional[bool] = ..., cancel_message: _Optional[str] = ..., trace_parent: _Optional[str] = ..., trace_links: _Optional[_Iterable[str]] = ...) -> None: ...

class RecordedRequest(_message.Message):
    __slots__ = ("pipeline", "input_path", "output_path", "overrides", "output_format", "quality", "batch")
    class OverridesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _struct_pb2.Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ...) -> None: ...
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    INPUT_PATH_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_PATH_FIELD_NUMBER: _ClassVar[int]
    OVERRIDES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FORMAT_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    pipeline: _pipeline_pb2.Pipeline
    input_path: str
    output_path: str
    overrides: _containers.MessageMap[str, _struct_pb2.Value]
    output_format: str
    quality: int
    batch: _execution_service_pb2.BatchInputs
    def __init__(self, pipeline: _Optional[_Union[_pipeline_pb2.Pipeline, _Mapping]] = ..., input_path: _Optional[str] = ..., output_path: _Optional[str] = ..., overrides: _Optional[_Mapping[str, _struct_pb2.Value]] = ..., output_format: _Optional[str] = ..., quality: _Optional[int] = ..., batch: _Optional[_Union[_execution_service_pb2.BatchInputs, _Mapping]] = ...) -> None: ...

class RecordedStep(_message.Message):
    __slots__ = ("attempts", "image", "metadata", "result", "by_fallback", "passed_over", "failure", "image_source")
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    BY_FALLBACK_FIELD_NUMBER: _ClassVar[int]
    PASSED_OVER_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SOURCE_FIELD_NUMBER: _ClassVar[int]
    attempts: int
    image: _image_pb2.Image
    metadata: bytes
    result: _component_pb2.StepResult
    by_fallback: bool
    passed_over: bool
    failure: _execution_pb2.Failure
    image_source: str
    def __init__(self, attempts: _Optional[int] = ..., image: _Optional[_Union[_image_pb2.Image, _Mapping]] = ..., metadata: _Optional[bytes] = ..., result: _Optional[_Union[_component_pb2.StepResult, _Mapping]] = ..., by_fallback: _Optional[bool] = ..., passed_over: _Optional[bool] = ..., failure: _Optional[_Union[_execution_pb2.Failure, _Mapping]] = ..., image_source: _Optional[str] = ...) -> None: ...
