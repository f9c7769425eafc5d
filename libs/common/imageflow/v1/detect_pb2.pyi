from imageflow.v1 import component_pb2 as _component_pb2
from imageflow.v1 import image_pb2 as _image_pb2
from imageflow.v1 import parameter_pb2 as _parameter_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DetectServiceProcessRequest(_message.Message):
    __slots__ = ("context", "inputs", "parameters", "output", "payload")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    context: _component_pb2.StepContext
    inputs: _containers.RepeatedCompositeFieldContainer[_image_pb2.Image]
    parameters: DetectParameters
    output: _component_pb2.OutputOptions
    payload: bytes
    def __init__(self, context: _Optional[_Union[_component_pb2.StepContext, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[_image_pb2.Image, _Mapping]]] = ..., parameters: _Optional[_Union[DetectParameters, _Mapping]] = ..., output: _Optional[_Union[_component_pb2.OutputOptions, _Mapping]] = ..., payload: _Optional[bytes] = ...) -> None: ...

class DetectServiceProcessResponse(_message.Message):
    __slots__ = ("result", "image", "metadata", "payload")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    result: _component_pb2.StepResult
    image: _image_pb2.Image
    metadata: DetectMetadata
    payload: bytes
    def __init__(self, result: _Optional[_Union[_component_pb2.StepResult, _Mapping]] = ..., image: _Optional[_Union[_image_pb2.Image, _Mapping]] = ..., metadata: _Optional[_Union[DetectMetadata, _Mapping]] = ..., payload: _Optional[bytes] = ...) -> None: ...

class DetectParameters(_message.Message):
    __slots__ = ("model_name", "model_version", "confidence_threshold", "nms_threshold", "max_detections", "classes", "annotate", "class_agnostic", "min_box_size", "tile_size", "tile_overlap", "coco", "on_unavailable")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    NMS_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    MAX_DETECTIONS_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    ANNOTATE_FIELD_NUMBER: _ClassVar[int]
    CLASS_AGNOSTIC_FIELD_NUMBER: _ClassVar[int]
    MIN_BOX_SIZE_FIELD_NUMBER: _ClassVar[int]
    TILE_SIZE_FIELD_NUMBER: _ClassVar[int]
    TILE_OVERLAP_FIELD_NUMBER: _ClassVar[int]
    COCO_FIELD_NUMBER: _ClassVar[int]
    ON_UNAVAILABLE_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    model_version: str
    confidence_threshold: float
    nms_threshold: float
    max_detections: int
    classes: _containers.RepeatedScalarFieldContainer[str]
    annotate: bool
    class_agnostic: bool
    min_box_size: float
    tile_size: int
    tile_overlap: float
    coco: bool
    on_unavailable: str
    def __init__(self, model_name: _Optional[str] = ..., model_version: _Optional[str] = ..., confidence_threshold: _Optional[float] = ..., nms_threshold: _Optional[float] = ..., max_detections: _Optional[int] = ..., classes: _Optional[_Iterable[str]] = ..., annotate: _Optional[bool] = ..., class_agnostic: _Optional[bool] = ..., min_box_size: _Optional[float] = ..., tile_size: _Optional[int] = ..., tile_overlap: _Optional[float] = ..., coco: _Optional[bool] = ..., on_unavailable: _Optional[str] = ...) -> None: ...

class DetectMetadata(_message.Message):
    __slots__ = ("detections", "model_name", "model_version", "backend", "inference_ms", "coco", "fallback_reason")
    DETECTIONS_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_MS_FIELD_NUMBER: _ClassVar[int]
    COCO_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_REASON_FIELD_NUMBER: _ClassVar[int]
    detections: _containers.RepeatedCompositeFieldContainer[Detection]
    model_name: str
    model_version: str
    backend: str
    inference_ms: float
    coco: CocoDataset
    fallback_reason: str
    def __init__(self, detections: _Optional[_Iterable[_Union[Detection, _Mapping]]] = ..., model_name: _Optional[str] = ..., model_version: _Optional[str] = ..., backend: _Optional[str] = ..., inference_ms: _Optional[float] = ..., coco: _Optional[_Union[CocoDataset, _Mapping]] = ..., fallback_reason: _Optional[str] = ...) -> None: ...

class Detection(_message.Message):
    __slots__ = ("label", "class_id", "confidence", "box", "input_box")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    CLASS_ID_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    INPUT_BOX_FIELD_NUMBER: _ClassVar[int]
    label: str
    class_id: int
    confidence: float
    box: Box
    input_box: Box
    def __init__(self, label: _Optional[str] = ..., class_id: _Optional[int] = ..., confidence: _Optional[float] = ..., box: _Optional[_Union[Box, _Mapping]] = ..., input_box: _Optional[_Union[Box, _Mapping]] = ...) -> None: ...

class Box(_message.Message):
    __slots__ = ("x", "y", "width", "height")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    x: float
    y: float
    width: float
    height: float
    def __init__(self, x: _Optional[float] = ..., y: _Optional[float] = ..., width: _Optional[float] = ..., height: _Optional[float] = ...) -> None: ...

class CocoDataset(_message.Message):
    __slots__ = ("images", "annotations", "categories")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[CocoImage]
    annotations: _containers.RepeatedCompositeFieldContainer[CocoAnnotation]
    categories: _containers.RepeatedCompositeFieldContainer[CocoCategory]
    def __init__(self, images: _Optional[_Iterable[_Union[CocoImage, _Mapping]]] = ..., annotations: _Optional[_Iterable[_Union[CocoAnnotation, _Mapping]]] = ..., categories: _Optional[_Iterable[_Union[CocoCategory, _Mapping]]] = ...) -> None: ...

class CocoImage(_message.Message):
    __slots__ = ("id", "width", "height", "file_name")
    ID_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    FILE_NAME_FIELD_NUMBER: _ClassVar[int]
    id: int
    width: int
    height: int
    file_name: str
    def __init__(self, id: _Optional[int] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., file_name: _Optional[str] = ...) -> None: ...

class CocoAnnotation(_message.Message):
    __slots__ = ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "score")
    ID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_ID_FIELD_NUMBER: _ClassVar[int]
    BBOX_FIELD_NUMBER: _ClassVar[int]
    AREA_FIELD_NUMBER: _ClassVar[int]
    ISCROWD_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    id: int
    image_id: int
    category_id: int
    bbox: _containers.RepeatedScalarFieldContainer[float]
    area: float
    iscrowd: int
    score: float
    def __init__(self, id: _Optional[int] = ..., image_id: _Optional[int] = ..., category_id: _Optional[int] = ..., bbox: _Optional[_Iterable[float]] = ..., area: _Optional[float] = ..., iscrowd: _Optional[int] = ..., score: _Optional[float] = ...) -> None: ...

class CocoCategory(_message.Message):
    __slots__ = ("id", "name")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    id: int
    name: str
    def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ...) -> None: ...
