from imageflow.v1 import image_pb2 as _image_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DescribeRequest(_message.Message):
    __slots__ = ("shared_memory_capability_name", "shared_memory_capability")
    SHARED_MEMORY_CAPABILITY_NAME_FIELD_NUMBER: _ClassVar[int]
    SHARED_MEMORY_CAPABILITY_FIELD_NUMBER: _ClassVar[int]
    shared_memory_capability_name: str
    shared_memory_capability: str
    def __init__(self, shared_memory_capability_name: _Optional[str] = ..., shared_memory_capability: _Optional[str] = ...) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("component_name", "versions", "service_name", "parameters_message", "metadata_message", "descriptor_set", "parameters_schema_json", "input_slots", "image_effect", "image_effect_parameter", "limits", "shared_memory", "summary", "averages")
    class ImageEffect(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        IMAGE_EFFECT_UNSPECIFIED: _ClassVar[DescribeResponse.ImageEffect]
        CHANGES: _ClassVar[DescribeResponse.ImageEffect]
        LOOKS: _ClassVar[DescribeResponse.ImageEffect]
        WHEN_PARAMETER: _ClassVar[DescribeResponse.ImageEffect]
    IMAGE_EFFECT_UNSPECIFIED: DescribeResponse.ImageEffect
    CHANGES: DescribeResponse.ImageEffect
    LOOKS: DescribeResponse.ImageEffect
    WHEN_PARAMETER: DescribeResponse.ImageEffect
    COMPONENT_NAME_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    SERVICE_NAME_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTOR_SET_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_SCHEMA_JSON_FIELD_NUMBER: _ClassVar[int]
    INPUT_SLOTS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_EFFECT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_EFFECT_PARAMETER_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    SHARED_MEMORY_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    AVERAGES_FIELD_NUMBER: _ClassVar[int]
    component_name: str
    versions: _containers.RepeatedScalarFieldContainer[str]
    service_name: str
    parameters_message: str
    metadata_message: str
    descriptor_set: bytes
    parameters_schema_json: str
    input_slots: _containers.RepeatedCompositeFieldContainer[InputSlot]
    image_effect: DescribeResponse.ImageEffect
    image_effect_parameter: str
    limits: ComponentLimits
    shared_memory: bool
    summary: str
    averages: RunningAverages
    def __init__(self, component_name: _Optional[str] = ..., versions: _Optional[_Iterable[str]] = ..., service_name: _Optional[str] = ..., parameters_message: _Optional[str] = ..., metadata_message: _Optional[str] = ..., descriptor_set: _Optional[bytes] = ..., parameters_schema_json: _Optional[str] = ..., input_slots: _Optional[_Iterable[_Union[InputSlot, _Mapping]]] = ..., image_effect: _Optional[_Union[DescribeResponse.ImageEffect, str]] = ..., image_effect_parameter: _Optional[str] = ..., limits: _Optional[_Union[ComponentLimits, _Mapping]] = ..., shared_memory: _Optional[bool] = ..., summary: _Optional[str] = ..., averages: _Optional[_Union[RunningAverages, _Mapping]] = ...) -> None: ...

class InputSlot(_message.Message):
    __slots__ = ("name", "optional", "description")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OPTIONAL_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    name: str
    optional: bool
    description: str
    def __init__(self, name: _Optional[str] = ..., optional: _Optional[bool] = ..., description: _Optional[str] = ...) -> None: ...

class ComponentLimits(_message.Message):
    __slots__ = ("max_in_flight", "max_running", "timeout_seconds", "max_megapixels_in_flight", "max_payload_bytes")
    MAX_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_RUNNING_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_MEGAPIXELS_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    max_in_flight: int
    max_running: int
    timeout_seconds: float
    max_megapixels_in_flight: float
    max_payload_bytes: int
    def __init__(self, max_in_flight: _Optional[int] = ..., max_running: _Optional[int] = ..., timeout_seconds: _Optional[float] = ..., max_megapixels_in_flight: _Optional[float] = ..., max_payload_bytes: _Optional[int] = ...) -> None: ...

class RunningAverages(_message.Message):
    __slots__ = ("requests", "processing_ms", "megapixels")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    PROCESSING_MS_FIELD_NUMBER: _ClassVar[int]
    MEGAPIXELS_FIELD_NUMBER: _ClassVar[int]
    requests: int
    processing_ms: float
    megapixels: float
    def __init__(self, requests: _Optional[int] = ..., processing_ms: _Optional[float] = ..., megapixels: _Optional[float] = ...) -> None: ...

class StepContext(_message.Message):
    __slots__ = ("namespace", "execution_id", "step_id", "attempt", "component_version", "capability_name", "capability", "max_image_bytes")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    CAPABILITY_NAME_FIELD_NUMBER: _ClassVar[int]
    CAPABILITY_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    execution_id: str
    step_id: str
    attempt: int
    component_version: str
    capability_name: str
    capability: str
    max_image_bytes: int
    def __init__(self, namespace: _Optional[str] = ..., execution_id: _Optional[str] = ..., step_id: _Optional[str] = ..., attempt: _Optional[int] = ..., component_version: _Optional[str] = ..., capability_name: _Optional[str] = ..., capability: _Optional[str] = ..., max_image_bytes: _Optional[int] = ...) -> None: ...

class OutputOptions(_message.Message):
    __slots__ = ("media_type", "quality", "shared_memory_name", "always", "object_key")
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    SHARED_MEMORY_NAME_FIELD_NUMBER: _ClassVar[int]
    ALWAYS_FIELD_NUMBER: _ClassVar[int]
    OBJECT_KEY_FIELD_NUMBER: _ClassVar[int]
    media_type: str
    quality: int
    shared_memory_name: str
    always: bool
    object_key: str
    def __init__(self, media_type: _Optional[str] = ..., quality: _Optional[int] = ..., shared_memory_name: _Optional[str] = ..., always: _Optional[bool] = ..., object_key: _Optional[str] = ...) -> None: ...

class StepResult(_message.Message):
    __slots__ = ("timings", "message", "component_version")
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    timings: StepTimings
    message: str
    component_version: str
    def __init__(self, timings: _Optional[_Union[StepTimings, _Mapping]] = ..., message: _Optional[str] = ..., component_version: _Optional[str] = ...) -> None: ...

class StepTimings(_message.Message):
    __slots__ = ("queue_ms", "transport_ms", "decode_ms", "compute_ms", "encode_ms", "total_ms")
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    TRANSPORT_MS_FIELD_NUMBER: _ClassVar[int]
    DECODE_MS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_MS_FIELD_NUMBER: _ClassVar[int]
    ENCODE_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    queue_ms: float
    transport_ms: float
    decode_ms: float
    compute_ms: float
    encode_ms: float
    total_ms: float
    def __init__(self, queue_ms: _Optional[float] = ..., transport_ms: _Optional[float] = ..., decode_ms: _Optional[float] = ..., compute_ms: _Optional[float] = ..., encode_ms: _Optional[float] = ..., total_ms: _Optional[float] = ...) -> None: ...

class ComponentRequest(_message.Message):
    __slots__ = ("context", "inputs", "parameters", "output", "payload")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    context: StepContext
    inputs: _containers.RepeatedCompositeFieldContainer[_image_pb2.Image]
    parameters: bytes
    output: OutputOptions
    payload: bytes
    def __init__(self, context: _Optional[_Union[StepContext, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[_image_pb2.Image, _Mapping]]] = ..., parameters: _Optional[bytes] = ..., output: _Optional[_Union[OutputOptions, _Mapping]] = ..., payload: _Optional[bytes] = ...) -> None: ...

class ComponentResponse(_message.Message):
    __slots__ = ("result", "image", "metadata", "payload")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    result: StepResult
    image: _image_pb2.Image
    metadata: bytes
    payload: bytes
    def __init__(self, result: _Optional[_Union[StepResult, _Mapping]] = ..., image: _Optional[_Union[_image_pb2.Image, _Mapping]] = ..., metadata: _Optional[bytes] = ..., payload: _Optional[bytes] = ...) -> None: ...
