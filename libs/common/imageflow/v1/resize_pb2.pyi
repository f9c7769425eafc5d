from imageflow.v1 import component_pb2 as _component_pb2
from imageflow.v1 import image_pb2 as _image_pb2
from imageflow.v1 import parameter_pb2 as _parameter_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ResizeServiceProcessRequest(_message.Message):
    __slots__ = ("context", "inputs", "parameters", "output", "payload")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    context: _component_pb2.StepContext
    inputs: _containers.RepeatedCompositeFieldContainer[_image_pb2.Image]
    parameters: ResizeParameters
    output: _component_pb2.OutputOptions
    payload: bytes
    def __init__(self, context: _Optional[_Union[_component_pb2.StepContext, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[_image_pb2.Image, _Mapping]]] = ..., parameters: _Optional[_Union[ResizeParameters, _Mapping]] = ..., output: _Optional[_Union[_component_pb2.OutputOptions, _Mapping]] = ..., payload: _Optional[bytes] = ...) -> None: ...

class ResizeServiceProcessResponse(_message.Message):
    __slots__ = ("result", "image", "metadata", "payload")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    result: _component_pb2.StepResult
    image: _image_pb2.Image
    metadata: ResizeMetadata
    payload: bytes
    def __init__(self, result: _Optional[_Union[_component_pb2.StepResult, _Mapping]] = ..., image: _Optional[_Union[_image_pb2.Image, _Mapping]] = ..., metadata: _Optional[_Union[ResizeMetadata, _Mapping]] = ..., payload: _Optional[bytes] = ...) -> None: ...

class ResizeParameters(_message.Message):
    __slots__ = ("width", "height", "maintain_aspect_ratio", "fit", "gravity", "kernel", "enlarge")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    MAINTAIN_ASPECT_RATIO_FIELD_NUMBER: _ClassVar[int]
    FIT_FIELD_NUMBER: _ClassVar[int]
    GRAVITY_FIELD_NUMBER: _ClassVar[int]
    KERNEL_FIELD_NUMBER: _ClassVar[int]
    ENLARGE_FIELD_NUMBER: _ClassVar[int]
    width: int
    height: int
    maintain_aspect_ratio: bool
    fit: str
    gravity: str
    kernel: str
    enlarge: bool
    def __init__(self, width: _Optional[int] = ..., height: _Optional[int] = ..., maintain_aspect_ratio: _Optional[bool] = ..., fit: _Optional[str] = ..., gravity: _Optional[str] = ..., kernel: _Optional[str] = ..., enlarge: _Optional[bool] = ...) -> None: ...

class ResizeMetadata(_message.Message):
    __slots__ = ("input_width", "input_height", "output_width", "output_height")
    INPUT_WIDTH_FIELD_NUMBER: _ClassVar[int]
    INPUT_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_WIDTH_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    input_width: int
    input_height: int
    output_width: int
    output_height: int
    def __init__(self, input_width: _Optional[int] = ..., input_height: _Optional[int] = ..., output_width: _Optional[int] = ..., output_height: _Optional[int] = ...) -> None: ...
