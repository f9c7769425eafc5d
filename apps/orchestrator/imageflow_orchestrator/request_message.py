"""A message of `pipeline-executions` (R40), read: which execution it asks for, and what that is to be.

`{execution_id, pipeline_config, input_data: {input_path, output_path, output_format, quality}, parameters}`. What else
it has is passed over, as a later version may have put it there; within the definition every unknown field is a fault.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from google.protobuf.json_format import ParseDict

from imageflow.v1.execution_service_pb2 import CreateExecutionRequest
from imageflow.v1.pipeline_pb2 import Pipeline
from imageflow_common.errors import InvalidArgument, Violation
from imageflow_common.schema import JsonValue
from imageflow_common.workqueue import Message

from .asked import read_json
from .identity import DEFAULT_NAMESPACE, check_id
from .json_body import load_object
from .news import CONTENT_TYPE, CONTENT_TYPE_HEADER, NAMESPACE_HEADER, SCHEMA_VERSION, VERSION_HEADER

T = TypeVar("T")

_NAMES = {str: "text", dict: "an object", int: "a whole number"}
_SHOWN_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a message asks for. The `sha256` of all that counts tells it from another request for the same id."""

    namespace: str
    execution_id: str
    request: CreateExecutionRequest
    faults: list[Violation]
    sha256: str


def named_execution(message: Message) -> tuple[str, str] | None:
    """The namespace and id that a message names, also where nothing else of it can be read."""
    try:
        namespace = check_id("namespace", message.headers.get(NAMESPACE_HEADER, DEFAULT_NAMESPACE))
        named = load_object(message.body).get("execution_id")
        return namespace, check_id("execution_id", named if isinstance(named, str) else "")
    except InvalidArgument:
        return None


def read_wanted(message: Message) -> Wanted:
    """Raises InvalidArgument for what is no request of a version that is known. Faults of the definition are kept, to
    be reported with those of the plan."""
    _check_headers(message.headers)
    if not message.body:
        raise InvalidArgument("the message is empty", reason="INVALID_JSON")
    fields = _Fields(load_object(message.body))
    execution_id = check_id("execution_id", fields.text("execution_id"))
    config = fields.object("pipeline_config")
    inputs = _Fields(fields.object("input_data"), "input_data.", fields.faults)
    parameters = fields.object("parameters")
    request = CreateExecutionRequest(
        execution_id=execution_id,
        input_path=inputs.text("input_path"),
        output_path=inputs.text("output_path"),
        output_format=inputs.text("output_format"),
        quality=inputs.number("quality", at_most=100),
    )
    for name, value in parameters.items():
        ParseDict(cast(Any, value), request.overrides[name])
    _read_pipeline(config, request, fields.faults)
    return Wanted(
        namespace=check_id("namespace", message.headers.get(NAMESPACE_HEADER, DEFAULT_NAMESPACE)),
        execution_id=execution_id,
        request=request,
        faults=fields.faults,
        sha256=_sha256(config, dict(inputs.said), parameters),
    )


class _Fields:
    """The fields of an object, each of the type that it must have; absent and null are the same."""

    def __init__(self, fields: Mapping[str, JsonValue], path: str = "", faults: list[Violation] | None = None) -> None:
        self._fields = fields
        self._path = path
        self.faults: list[Violation] = [] if faults is None else faults
        self.said: dict[str, JsonValue] = {}

    def text(self, name: str) -> str:
        return self._typed(name, str, "")

    def object(self, name: str) -> dict[str, JsonValue]:
        return self._typed(name, dict, {})

    def number(self, name: str, *, at_most: int) -> int:
        value = self._typed(name, int, 0)
        if 0 <= value <= at_most:
            return value
        self.faults.append(Violation(f"{self._path}{name}", f"0 to {at_most}, not {value}"))
        return 0

    def _typed(self, name: str, kind: type[T], default: T) -> T:
        value = self._fields.get(name)
        if value is None:
            return default
        if not isinstance(value, kind) or isinstance(value, bool):
            self.faults.append(Violation(f"{self._path}{name}", f"expected {_NAMES[kind]}"))
            return default
        self.said[name] = value  # type: ignore[assignment]
        return value


def _read_pipeline(config: dict[str, JsonValue], request: CreateExecutionRequest, faults: list[Violation]) -> None:
    """A definition as it stands, or the name of a stored one alone."""
    named = config.get("pipelineId", config.get("pipeline_id"))
    if "steps" not in config and isinstance(named, str) and named:
        request.pipeline_id = named
        version = config.get("version")
        request.version = version if isinstance(version, str) else ""
        return
    pipeline, found = read_json(json.dumps(config).encode(), Pipeline)
    request.pipeline.CopyFrom(pipeline)
    faults += [Violation(f"pipeline_config.{each.field}", each.description) for each in found]


def _check_headers(headers: Mapping[str, str]) -> None:
    version = headers.get(VERSION_HEADER, SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        shown = version[:_SHOWN_CHARACTERS]
        raise InvalidArgument(f"schema version {shown!r} is not known", reason="UNKNOWN_SCHEMA_VERSION")
    content_type = headers.get(CONTENT_TYPE_HEADER, CONTENT_TYPE)
    if content_type.partition(";")[0].strip().lower() != CONTENT_TYPE:
        shown = content_type[:_SHOWN_CHARACTERS]
        raise InvalidArgument(f"the content type is {shown!r}, not {CONTENT_TYPE}", reason="UNKNOWN_CONTENT_TYPE")


def _sha256(*parts: JsonValue | dict[str, JsonValue]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
