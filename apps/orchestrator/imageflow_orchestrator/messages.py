"""Between protobuf messages and the values that the engine works on: nothing is checked or decided here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import cast

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict, SerializeToJsonError
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value

from imageflow.v1 import execution_pb2, pipeline_pb2
from imageflow_common.errors import InvalidArgument, InvalidPipeline, Violation

from .definition import (
    ComponentName,
    ExecutionId,
    Fallback,
    GlobalParameters,
    JsonValue,
    OnFailure,
    Persist,
    Pipeline,
    PipelineId,
    PipelineMetadata,
    PipelineVersion,
    Resources,
    RetryPolicy,
    SlotName,
    Step,
    StepId,
)
from .effects import Failure
from .estimates import Estimate, longest_path_ms
from .json_body import MAX_BODY_BYTES, MAX_FREE_VALUES
from .plan import Plan, PlannedCall
from .plan_checks import refuse_oversize

_LEAST_VALUE_BYTES = 4
"""Of a value in a list: with less than that for each of the most allowed, none need be counted."""


def read_pipeline(message: pipeline_pb2.Pipeline) -> Pipeline:
    """Raises InvalidPipeline for a definition that is far too large to be read, or that holds what JSON cannot say."""
    if (size := message.ByteSize()) > MAX_BODY_BYTES:
        raise _fault("", f"a definition of {size:,} bytes; at most {MAX_BODY_BYTES:,} are read")
    refuse_oversize(message.steps)
    _check_values((value for step in message.steps for value in (step.parameters, step.fallback.parameters)), "steps")
    given = message.global_parameters
    return Pipeline(
        pipeline_id=PipelineId(message.pipeline_id),
        steps=tuple(_read_step(step) for step in message.steps),
        version=PipelineVersion(message.version) if message.version else None,
        pipeline_name=message.pipeline_name or None,
        metadata=PipelineMetadata(
            message.metadata.created_by or None,
            message.metadata.created_at or None,
            message.metadata.description or None,
        ),
        output_step=StepId(message.output_step) if message.output_step else None,
        fail_fast=message.fail_fast,
        timeout=_duration(message, "timeout"),
        global_parameters=GlobalParameters(
            given.input_path or None,
            given.output_path or None,
            ExecutionId(given.execution_id) if given.execution_id else None,
        ),
    )


def _read_step(message: pipeline_pb2.Step) -> Step:
    return Step(
        step_id=StepId(message.step_id),
        component_name=ComponentName(message.component_name),
        component_version=message.component_version or None,
        dependencies=tuple(StepId(name) for name in message.dependencies),
        parameters=_read_json(message.parameters, f"steps[{message.step_id[:64]}].parameters"),
        input_from={SlotName(slot): StepId(step) for slot, step in message.input_from.items()},
        resources=_read_resources(message.resources) if message.HasField("resources") else None,
        retry_policy=_read_retry(message.retry_policy) if message.HasField("retry_policy") else None,
        timeout=_duration(message, "timeout"),
        on_failure=_read_on_failure(message),
        fallback=_read_fallback(message.fallback, message.step_id) if message.HasField("fallback") else None,
        persist=_read_persist(message),
    )


def _read_on_failure(message: pipeline_pb2.Step) -> OnFailure | None:
    if not message.on_failure:
        return None
    if message.on_failure not in pipeline_pb2.Step.OnFailure.values():
        raise _fault(f"steps[{message.step_id[:64]}].onFailure", f"unknown value {message.on_failure}")
    return OnFailure(pipeline_pb2.Step.OnFailure.Name(message.on_failure))


def _read_persist(message: pipeline_pb2.Step) -> Persist | None:
    if not message.persist:
        return None
    if message.persist not in pipeline_pb2.Step.Persist.values():
        raise _fault(f"steps[{message.step_id[:64]}].persist", f"unknown value {message.persist}")
    return Persist(pipeline_pb2.Step.Persist.Name(message.persist))


def _read_resources(message: pipeline_pb2.Resources) -> Resources:
    return Resources(message.cpu or None, message.memory or None, message.gpu or None, message.profile or None)


def _read_retry(message: pipeline_pb2.RetryPolicy) -> RetryPolicy:
    return RetryPolicy(
        message.max_retries if message.HasField("max_retries") else None,
        message.backoff_factor if message.HasField("backoff_factor") else None,
        _duration(message, "initial_delay"),
        _duration(message, "max_delay"),
        message.jitter if message.HasField("jitter") else None,
    )


def _read_fallback(message: pipeline_pb2.Fallback, step_id: str) -> Fallback:
    return Fallback(
        ComponentName(message.component_name),
        message.component_version or None,
        _read_json(message.parameters, f"steps[{step_id[:64]}].fallback.parameters"),
    )


def read_values(values: Mapping[str, Value]) -> dict[str, JsonValue]:
    """Overrides as JSON values. Raises InvalidPipeline for a number that JSON has not, and for too many."""
    _check_values(values.values(), "overrides")
    return {name: cast(JsonValue, _read_any(value, f"overrides[{name[:80]}]")) for name, value in values.items()}


def write_plan(
    plan: Plan, *, transports: Mapping[str, str], estimates: Mapping[StepId, Estimate] | None = None
) -> pipeline_pb2.Plan:
    """`transports` says how images would travel to each step, `estimates` what is known of its cost."""
    estimates = estimates or {}
    message = pipeline_pb2.Plan(output_step=plan.output.step_id, estimated_ms=longest_path_ms(plan, estimates))
    for step in plan.steps:
        planned = message.steps.add(
            step_id=step.step_id,
            component_name=step.call.component_name,
            component_version=step.call.component_version,
            stage=step.stage,
            dependencies=step.dependencies,
            input_from={item.slot: item.step_id or "" for item in step.call.inputs},
            target=step.call.target.name,
            transport=transports.get(step.step_id, ""),
        )
        planned.parameters.update(dict(step.call.parameters))
        if (estimate := estimates.get(step.step_id)) is not None:
            planned.estimated_ms, planned.estimated_memory_bytes = estimate.milliseconds, estimate.memory_bytes
    return message


def write_failure(failure: Failure) -> execution_pb2.Failure:
    return execution_pb2.Failure(
        code=failure.code, reason=failure.reason, message=failure.message, step_id=failure.step_id or ""
    )


def write_call(call: PlannedCall | None, outcome: execution_pb2.StepOutcome) -> None:
    if call is not None:
        outcome.component_name = call.component_name
        outcome.component_version = call.component_version


def _duration(message: Message, name: str) -> timedelta | None:
    """A duration beyond what timedelta holds is as good as the longest it holds."""
    if not message.HasField(name):
        return None
    value: Duration = getattr(message, name)
    try:
        return value.ToTimedelta()
    except OverflowError:
        return timedelta.max if value.seconds > 0 else timedelta.min


def _check_values(given: Iterable[Struct | Value], path: str) -> None:
    """A client of gRPC can send as many as fit into a message, and each costs some 10 µs to read."""
    most = MAX_FREE_VALUES
    large = [each for each in given if each.ByteSize() > _LEAST_VALUE_BYTES]
    if sum(each.ByteSize() for each in large) <= most * _LEAST_VALUE_BYTES:
        return
    waiting: list[Iterator[Struct | Value]] = [iter(large)]
    found = 0
    while waiting:
        if (message := next(waiting[-1], None)) is None:
            waiting.pop()
            continue
        found += 1
        if found > most:
            raise _fault(path, f"more than {most:,} values in parameters")
        waiting.append(_within(message))


def _within(message: Struct | Value) -> Iterator[Value]:
    if isinstance(message, Value):
        kind = message.WhichOneof("kind")
        if kind == "struct_value":
            return iter(message.struct_value.fields.values())
        return iter(message.list_value.values if kind == "list_value" else ())
    return iter(message.fields.values())


def _read_json(message: Struct, path: str) -> dict[str, JsonValue]:
    return cast("dict[str, JsonValue]", _read_any(message, path))


def _read_any(message: Message, path: str) -> object:
    """A client of gRPC can send what JSON cannot: NaN, infinity, a value of no kind."""
    try:
        return MessageToDict(message)
    except (SerializeToJsonError, ValueError, TypeError) as exc:
        raise _fault(path, "not a JSON value") from exc


def _fault(path: str, description: str) -> InvalidArgument:
    return InvalidPipeline(f"{path}: {description}", violations=[Violation(path, description)])
