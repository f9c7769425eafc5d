import datetime

from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Execution(_message.Message):
    __slots__ = ("execution_id", "status", "pipeline_id", "pipeline_version", "execution_time_ms", "results", "final_output_path", "error", "input_path", "create_time", "start_time", "end_time", "timings", "namespace", "rerun_of", "reused_steps", "parent_execution_id", "batch", "last_event_number", "expire_time", "trace_id")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Execution.State]
        PENDING: _ClassVar[Execution.State]
        RUNNING: _ClassVar[Execution.State]
        COMPLETED: _ClassVar[Execution.State]
        FAILED: _ClassVar[Execution.State]
        CANCELLED: _ClassVar[Execution.State]
        SKIPPED: _ClassVar[Execution.State]
    STATE_UNSPECIFIED: Execution.State
    PENDING: Execution.State
    RUNNING: Execution.State
    COMPLETED: Execution.State
    FAILED: Execution.State
    CANCELLED: Execution.State
    SKIPPED: Execution.State
    class ResultsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: StepOutcome
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[StepOutcome, _Mapping]] = ...) -> None: ...
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_ID_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_VERSION_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    FINAL_OUTPUT_PATH_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    INPUT_PATH_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    RERUN_OF_FIELD_NUMBER: _ClassVar[int]
    REUSED_STEPS_FIELD_NUMBER: _ClassVar[int]
    PARENT_EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    LAST_EVENT_NUMBER_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    status: Execution.State
    pipeline_id: str
    pipeline_version: str
    execution_time_ms: float
    results: _containers.MessageMap[str, StepOutcome]
    final_output_path: str
    error: Failure
    input_path: str
    create_time: _timestamp_pb2.Timestamp
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    timings: ExecutionTimings
    namespace: str
    rerun_of: str
    reused_steps: _containers.RepeatedScalarFieldContainer[str]
    parent_execution_id: str
    batch: BatchCounts
    last_event_number: int
    expire_time: _timestamp_pb2.Timestamp
    trace_id: str
    def __init__(self, execution_id: _Optional[str] = ..., status: _Optional[_Union[Execution.State, str]] = ..., pipeline_id: _Optional[str] = ..., pipeline_version: _Optional[str] = ..., execution_time_ms: _Optional[float] = ..., results: _Optional[_Mapping[str, StepOutcome]] = ..., final_output_path: _Optional[str] = ..., error: _Optional[_Union[Failure, _Mapping]] = ..., input_path: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., timings: _Optional[_Union[ExecutionTimings, _Mapping]] = ..., namespace: _Optional[str] = ..., rerun_of: _Optional[str] = ..., reused_steps: _Optional[_Iterable[str]] = ..., parent_execution_id: _Optional[str] = ..., batch: _Optional[_Union[BatchCounts, _Mapping]] = ..., last_event_number: _Optional[int] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., trace_id: _Optional[str] = ...) -> None: ...

class BatchCounts(_message.Message):
    __slots__ = ("total", "completed", "failed", "cancelled")
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    total: int
    completed: int
    failed: int
    cancelled: int
    def __init__(self, total: _Optional[int] = ..., completed: _Optional[int] = ..., failed: _Optional[int] = ..., cancelled: _Optional[int] = ...) -> None: ...

class ExecutionTimings(_message.Message):
    __slots__ = ("queue_ms", "plan_ms", "store_ms", "overhead_ms")
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    PLAN_MS_FIELD_NUMBER: _ClassVar[int]
    STORE_MS_FIELD_NUMBER: _ClassVar[int]
    OVERHEAD_MS_FIELD_NUMBER: _ClassVar[int]
    queue_ms: float
    plan_ms: float
    store_ms: float
    overhead_ms: float
    def __init__(self, queue_ms: _Optional[float] = ..., plan_ms: _Optional[float] = ..., store_ms: _Optional[float] = ..., overhead_ms: _Optional[float] = ...) -> None: ...

class StepOutcome(_message.Message):
    __slots__ = ("step_id", "status", "skip_reason", "output_path", "processing_time_ms", "attempts", "message", "metadata", "timings", "error", "component_name", "component_version")
    class SkipReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SKIP_REASON_UNSPECIFIED: _ClassVar[StepOutcome.SkipReason]
        CONDITION_FALSE: _ClassVar[StepOutcome.SkipReason]
        FAILURE_SKIPPED: _ClassVar[StepOutcome.SkipReason]
        DEPENDENCY_FAILED: _ClassVar[StepOutcome.SkipReason]
        EXECUTION_ENDED: _ClassVar[StepOutcome.SkipReason]
    SKIP_REASON_UNSPECIFIED: StepOutcome.SkipReason
    CONDITION_FALSE: StepOutcome.SkipReason
    FAILURE_SKIPPED: StepOutcome.SkipReason
    DEPENDENCY_FAILED: StepOutcome.SkipReason
    EXECUTION_ENDED: StepOutcome.SkipReason
    STEP_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SKIP_REASON_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_PATH_FIELD_NUMBER: _ClassVar[int]
    PROCESSING_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_NAME_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    step_id: str
    status: Execution.State
    skip_reason: StepOutcome.SkipReason
    output_path: str
    processing_time_ms: float
    attempts: int
    message: str
    metadata: _struct_pb2.Struct
    timings: StepBreakdown
    error: Failure
    component_name: str
    component_version: str
    def __init__(self, step_id: _Optional[str] = ..., status: _Optional[_Union[Execution.State, str]] = ..., skip_reason: _Optional[_Union[StepOutcome.SkipReason, str]] = ..., output_path: _Optional[str] = ..., processing_time_ms: _Optional[float] = ..., attempts: _Optional[int] = ..., message: _Optional[str] = ..., metadata: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., timings: _Optional[_Union[StepBreakdown, _Mapping]] = ..., error: _Optional[_Union[Failure, _Mapping]] = ..., component_name: _Optional[str] = ..., component_version: _Optional[str] = ...) -> None: ...

class StepBreakdown(_message.Message):
    __slots__ = ("queue_ms", "transport_ms", "decode_ms", "compute_ms", "encode_ms", "retry_ms", "transport")
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    TRANSPORT_MS_FIELD_NUMBER: _ClassVar[int]
    DECODE_MS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_MS_FIELD_NUMBER: _ClassVar[int]
    ENCODE_MS_FIELD_NUMBER: _ClassVar[int]
    RETRY_MS_FIELD_NUMBER: _ClassVar[int]
    TRANSPORT_FIELD_NUMBER: _ClassVar[int]
    queue_ms: float
    transport_ms: float
    decode_ms: float
    compute_ms: float
    encode_ms: float
    retry_ms: float
    transport: str
    def __init__(self, queue_ms: _Optional[float] = ..., transport_ms: _Optional[float] = ..., decode_ms: _Optional[float] = ..., compute_ms: _Optional[float] = ..., encode_ms: _Optional[float] = ..., retry_ms: _Optional[float] = ..., transport: _Optional[str] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("code", "reason", "message", "step_id")
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    STEP_ID_FIELD_NUMBER: _ClassVar[int]
    code: str
    reason: str
    message: str
    step_id: str
    def __init__(self, code: _Optional[str] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., step_id: _Optional[str] = ...) -> None: ...
