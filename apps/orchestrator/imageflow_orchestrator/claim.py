"""What makes a request an execution, and the same request the same execution."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from google.protobuf.json_format import MessageToDict

from imageflow.v1.record_pb2 import ExecutionRecord, RecordedRequest
from imageflow_common.errors import AlreadyExists
from imageflow_common.keys import metadata_key, parse_user_key

from .engine import Requested, chosen_format, new_execution
from .news import RESERVED_NUMBERS
from .plan import Plan


def check_request(request: RecordedRequest, requested: Requested) -> None:
    """Raises InvalidKey, and InvalidArgument for an output format that cannot be."""
    parse_user_key(request.input_path)
    if request.output_path:
        metadata_key(parse_user_key(request.output_path))
    chosen_format(requested)


def new_record(
    request: RecordedRequest,
    plan: Plan,
    requested: Requested,
    kind: ExecutionRecord.Kind,
    *,
    request_sha256: str = "",
) -> ExecutionRecord:
    """The record of an execution that is about to be accepted. `request_sha256` where what was asked for is more, or
    less, than the request has become."""
    execution = new_execution(plan, requested)
    execution.input_path = request.input_path
    return ExecutionRecord(
        execution=execution,
        request=request,
        request_sha256=request_sha256 or fingerprint(request),
        kind=kind,
        reserved_event_number=RESERVED_NUMBERS,
    )


def fingerprint(request: RecordedRequest, *more: str) -> str:
    """What tells the same request, with `more` that was asked for, from another."""
    data = [request.SerializeToString(deterministic=True), *(text.encode() for text in more)]
    return hashlib.sha256(b"\0".join(data)).hexdigest()


def refuse_another(known: ExecutionRecord, given: ExecutionRecord) -> None:
    """Raises AlreadyExists, with where they differ, unless both were asked for alike."""
    if known.request_sha256 == given.request_sha256:
        return
    differ = ", ".join(_differences(known.request, given.request)) or "request"
    raise AlreadyExists(
        f"the execution {given.execution.execution_id!r} was asked for with another {differ}",
        reason="EXECUTION_EXISTS",
    )


def _differences(known: RecordedRequest, given: RecordedRequest) -> list[str]:
    """The first few places where two requests differ."""
    a, b = dict(_leaves(MessageToDict(known))), dict(_leaves(MessageToDict(given)))
    return sorted(place for place in a.keys() | b.keys() if a.get(place) != b.get(place))[:5]


def _leaves(value: object, path: str = "") -> Iterable[tuple[str, object]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            label = item.get("stepId", index) if isinstance(item, dict) else index
            yield from _leaves(item, f"{path}[{label}]")
    else:
        yield path, value
