from google.api import annotations_pb2 as _annotations_pb2
from google.api import httpbody_pb2 as _httpbody_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class StreamExecutionRequest(_message.Message):
    __slots__ = ("execution_id", "after_event")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_EVENT_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    after_event: int
    def __init__(self, execution_id: _Optional[str] = ..., after_event: _Optional[int] = ...) -> None: ...
