from imageflow.v1 import component_pb2 as _component_pb2
from imageflow.v1 import image_pb2 as _image_pb2
from imageflow.v1 import parameter_pb2 as _parameter_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FilterServiceProcessRequest(_message.Message):
    __slots__ = ("context", "inputs", "parameters", "output", "payload")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    context: _component_pb2.StepContext
    inputs: _containers.RepeatedCompositeFieldContainer[_image_pb2.Image]
    parameters: FilterParameters
    output: _component_pb2.OutputOptions
    payload: bytes
    def __init__(self, context: _Optional[_Union[_component_pb2.StepContext, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[_image_pb2.Image, _Mapping]]] = ..., parameters: _Optional[_Union[FilterParameters, _Mapping]] = ..., output: _Optional[_Union[_component_pb2.OutputOptions, _Mapping]] = ..., payload: _Optional[bytes] = ...) -> None: ...

class FilterServiceProcessResponse(_message.Message):
    __slots__ = ("result", "image", "metadata", "payload")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    result: _component_pb2.StepResult
    image: _image_pb2.Image
    metadata: FilterMetadata
    payload: bytes
    def __init__(self, result: _Optional[_Union[_component_pb2.StepResult, _Mapping]] = ..., image: _Optional[_Union[_image_pb2.Image, _Mapping]] = ..., metadata: _Optional[_Union[FilterMetadata, _Mapping]] = ..., payload: _Optional[bytes] = ...) -> None: ...

class FilterParameters(_message.Message):
    __slots__ = ("filter_type", "filter_intensity")
    FILTER_TYPE_FIELD_NUMBER: _ClassVar[int]
    FILTER_INTENSITY_FIELD_NUMBER: _ClassVar[int]
    filter_type: str
    filter_intensity: float
    def __init__(self, filter_type: _Optional[str] = ..., filter_intensity: _Optional[float] = ...) -> None: ...

class FilterMetadata(_message.Message):
    __slots__ = ("filter_type", "filter_intensity")
    FILTER_TYPE_FIELD_NUMBER: _ClassVar[int]
    FILTER_INTENSITY_FIELD_NUMBER: _ClassVar[int]
    filter_type: str
    filter_intensity: float
    def __init__(self, filter_type: _Optional[str] = ..., filter_intensity: _Optional[float] = ...) -> None: ...
