import datetime

from google.api import annotations_pb2 as _annotations_pb2
from google.api import httpbody_pb2 as _httpbody_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from imageflow.v1 import execution_pb2 as _execution_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Pipeline(_message.Message):
    __slots__ = ("pipeline_id", "pipeline_name", "version", "metadata", "steps", "output_step", "fail_fast", "timeout", "global_parameters")
    PIPELINE_ID_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_STEP_FIELD_NUMBER: _ClassVar[int]
    FAIL_FAST_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    GLOBAL_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    pipeline_id: str
    pipeline_name: str
    version: str
    metadata: PipelineMetadata
    steps: _containers.RepeatedCompositeFieldContainer[Step]
    output_step: str
    fail_fast: bool
    timeout: _duration_pb2.Duration
    global_parameters: GlobalParameters
    def __init__(self, pipeline_id: _Optional[str] = ..., pipeline_name: _Optional[str] = ..., version: _Optional[str] = ..., metadata: _Optional[_Union[PipelineMetadata, _Mapping]] = ..., steps: _Optional[_Iterable[_Union[Step, _Mapping]]] = ..., output_step: _Optional[str] = ..., fail_fast: _Optional[bool] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., global_parameters: _Optional[_Union[GlobalParameters, _Mapping]] = ...) -> None: ...

class PipelineMetadata(_message.Message):
    __slots__ = ("created_by", "created_at", "description")
    CREATED_BY_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    created_by: str
    created_at: str
    description: str
    def __init__(self, created_by: _Optional[str] = ..., created_at: _Optional[str] = ..., description: _Optional[str] = ...) -> None: ...

class GlobalParameters(_message.Message):
    __slots__ = ("input_path", "output_path", "execution_id")
    INPUT_PATH_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_PATH_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    input_path: str
    output_path: str
    execution_id: str
    def __init__(self, input_path: _Optional[str] = ..., output_path: _Optional[str] = ..., execution_id: _Optional[str] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("step_id", "component_name", "component_version", "dependencies", "parameters", "input_from", "resources", "retry_policy", "timeout", "on_failure", "fallback", "persist")
    class OnFailure(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ON_FAILURE_UNSPECIFIED: _ClassVar[Step.OnFailure]
        FAIL: _ClassVar[Step.OnFailure]
        SKIP: _ClassVar[Step.OnFailure]
        FALLBACK: _ClassVar[Step.OnFailure]
    ON_FAILURE_UNSPECIFIED: Step.OnFailure
    FAIL: Step.OnFailure
    SKIP: Step.OnFailure
    FALLBACK: Step.OnFailure
    class Persist(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PERSIST_UNSPECIFIED: _ClassVar[Step.Persist]
        NEVER: _ClassVar[Step.Persist]
        ON_FAILURE: _ClassVar[Step.Persist]
        ALWAYS: _ClassVar[Step.Persist]
    PERSIST_UNSPECIFIED: Step.Persist
    NEVER: Step.Persist
    ON_FAILURE: Step.Persist
    ALWAYS: Step.Persist
    class InputFromEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    STEP_ID_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_NAME_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    DEPENDENCIES_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    INPUT_FROM_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    RETRY_POLICY_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    ON_FAILURE_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    PERSIST_FIELD_NUMBER: _ClassVar[int]
    step_id: str
    component_name: str
    component_version: str
    dependencies: _containers.RepeatedScalarFieldContainer[str]
    parameters: _struct_pb2.Struct
    input_from: _containers.ScalarMap[str, str]
    resources: Resources
    retry_policy: RetryPolicy
    timeout: _duration_pb2.Duration
    on_failure: Step.OnFailure
    fallback: Fallback
    persist: Step.Persist
    def __init__(self, step_id: _Optional[str] = ..., component_name: _Optional[str] = ..., component_version: _Optional[str] = ..., dependencies: _Optional[_Iterable[str]] = ..., parameters: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., input_from: _Optional[_Mapping[str, str]] = ..., resources: _Optional[_Union[Resources, _Mapping]] = ..., retry_policy: _Optional[_Union[RetryPolicy, _Mapping]] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., on_failure: _Optional[_Union[Step.OnFailure, str]] = ..., fallback: _Optional[_Union[Fallback, _Mapping]] = ..., persist: _Optional[_Union[Step.Persist, str]] = ...) -> None: ...

class Resources(_message.Message):
    __slots__ = ("cpu", "memory", "gpu", "profile")
    CPU_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    GPU_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    cpu: str
    memory: str
    gpu: str
    profile: str
    def __init__(self, cpu: _Optional[str] = ..., memory: _Optional[str] = ..., gpu: _Optional[str] = ..., profile: _Optional[str] = ...) -> None: ...

class RetryPolicy(_message.Message):
    __slots__ = ("max_retries", "backoff_factor", "initial_delay", "max_delay", "jitter")
    MAX_RETRIES_FIELD_NUMBER: _ClassVar[int]
    BACKOFF_FACTOR_FIELD_NUMBER: _ClassVar[int]
    INITIAL_DELAY_FIELD_NUMBER: _ClassVar[int]
    MAX_DELAY_FIELD_NUMBER: _ClassVar[int]
    JITTER_FIELD_NUMBER: _ClassVar[int]
    max_retries: int
    backoff_factor: float
    initial_delay: _duration_pb2.Duration
    max_delay: _duration_pb2.Duration
    jitter: float
    def __init__(self, max_retries: _Optional[int] = ..., backoff_factor: _Optional[float] = ..., initial_delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., jitter: _Optional[float] = ...) -> None: ...

class Fallback(_message.Message):
    __slots__ = ("component_name", "component_version", "parameters")
    COMPONENT_NAME_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    component_name: str
    component_version: str
    parameters: _struct_pb2.Struct
    def __init__(self, component_name: _Optional[str] = ..., component_version: _Optional[str] = ..., parameters: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class ExecutePipelineRequest(_message.Message):
    __slots__ = ("pipeline", "pipeline_id", "version", "input_path", "output_path", "execution_id", "overrides", "output_format", "quality", "body")
    class OverridesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _struct_pb2.Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ...) -> None: ...
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    INPUT_PATH_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_PATH_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    OVERRIDES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FORMAT_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    pipeline: Pipeline
    pipeline_id: str
    version: str
    input_path: str
    output_path: str
    execution_id: str
    overrides: _containers.MessageMap[str, _struct_pb2.Value]
    output_format: str
    quality: int
    body: _httpbody_pb2.HttpBody
    def __init__(self, pipeline: _Optional[_Union[Pipeline, _Mapping]] = ..., pipeline_id: _Optional[str] = ..., version: _Optional[str] = ..., input_path: _Optional[str] = ..., output_path: _Optional[str] = ..., execution_id: _Optional[str] = ..., overrides: _Optional[_Mapping[str, _struct_pb2.Value]] = ..., output_format: _Optional[str] = ..., quality: _Optional[int] = ..., body: _Optional[_Union[_httpbody_pb2.HttpBody, _Mapping]] = ...) -> None: ...

class ValidatePipelineRequest(_message.Message):
    __slots__ = ("pipeline", "overrides", "body")
    class OverridesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _struct_pb2.Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ...) -> None: ...
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    OVERRIDES_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    pipeline: Pipeline
    overrides: _containers.MessageMap[str, _struct_pb2.Value]
    body: _httpbody_pb2.HttpBody
    def __init__(self, pipeline: _Optional[_Union[Pipeline, _Mapping]] = ..., overrides: _Optional[_Mapping[str, _struct_pb2.Value]] = ..., body: _Optional[_Union[_httpbody_pb2.HttpBody, _Mapping]] = ...) -> None: ...

class Plan(_message.Message):
    __slots__ = ("steps", "output_step", "estimated_ms")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_STEP_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_MS_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.RepeatedCompositeFieldContainer[PlannedStep]
    output_step: str
    estimated_ms: float
    def __init__(self, steps: _Optional[_Iterable[_Union[PlannedStep, _Mapping]]] = ..., output_step: _Optional[str] = ..., estimated_ms: _Optional[float] = ...) -> None: ...

class PlannedStep(_message.Message):
    __slots__ = ("step_id", "component_name", "component_version", "stage", "dependencies", "input_from", "parameters", "target", "transport", "estimated_ms", "estimated_memory_bytes")
    class InputFromEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    STEP_ID_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_NAME_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    DEPENDENCIES_FIELD_NUMBER: _ClassVar[int]
    INPUT_FROM_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    TRANSPORT_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_MS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    step_id: str
    component_name: str
    component_version: str
    stage: int
    dependencies: _containers.RepeatedScalarFieldContainer[str]
    input_from: _containers.ScalarMap[str, str]
    parameters: _struct_pb2.Struct
    target: str
    transport: str
    estimated_ms: float
    estimated_memory_bytes: int
    def __init__(self, step_id: _Optional[str] = ..., component_name: _Optional[str] = ..., component_version: _Optional[str] = ..., stage: _Optional[int] = ..., dependencies: _Optional[_Iterable[str]] = ..., input_from: _Optional[_Mapping[str, str]] = ..., parameters: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., target: _Optional[str] = ..., transport: _Optional[str] = ..., estimated_ms: _Optional[float] = ..., estimated_memory_bytes: _Optional[int] = ...) -> None: ...

class ProcessImageRequest(_message.Message):
    __slots__ = ("pipeline_id", "version", "set", "output_format", "quality", "body", "execution_id")
    PIPELINE_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SET_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FORMAT_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    pipeline_id: str
    version: str
    set: _containers.RepeatedScalarFieldContainer[str]
    output_format: str
    quality: int
    body: _httpbody_pb2.HttpBody
    execution_id: str
    def __init__(self, pipeline_id: _Optional[str] = ..., version: _Optional[str] = ..., set: _Optional[_Iterable[str]] = ..., output_format: _Optional[str] = ..., quality: _Optional[int] = ..., body: _Optional[_Union[_httpbody_pb2.HttpBody, _Mapping]] = ..., execution_id: _Optional[str] = ...) -> None: ...

class CreatePipelineRequest(_message.Message):
    __slots__ = ("pipeline", "body")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    pipeline: Pipeline
    body: _httpbody_pb2.HttpBody
    def __init__(self, pipeline: _Optional[_Union[Pipeline, _Mapping]] = ..., body: _Optional[_Union[_httpbody_pb2.HttpBody, _Mapping]] = ...) -> None: ...

class GetPipelineRequest(_message.Message):
    __slots__ = ("pipeline_id", "version")
    PIPELINE_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    pipeline_id: str
    version: str
    def __init__(self, pipeline_id: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class ListPipelinesRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "pipeline_id")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_ID_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    pipeline_id: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., pipeline_id: _Optional[str] = ...) -> None: ...

class ListPipelinesResponse(_message.Message):
    __slots__ = ("pipelines", "next_page_token")
    PIPELINES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    pipelines: _containers.RepeatedCompositeFieldContainer[PipelineSummary]
    next_page_token: str
    def __init__(self, pipelines: _Optional[_Iterable[_Union[PipelineSummary, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class PipelineSummary(_message.Message):
    __slots__ = ("pipeline_id", "version", "pipeline_name", "create_time")
    PIPELINE_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_NAME_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    pipeline_id: str
    version: str
    pipeline_name: str
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, pipeline_id: _Optional[str] = ..., version: _Optional[str] = ..., pipeline_name: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class DeletePipelineRequest(_message.Message):
    __slots__ = ("pipeline_id", "version")
    PIPELINE_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    pipeline_id: str
    version: str
    def __init__(self, pipeline_id: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class DeletePipelineResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
