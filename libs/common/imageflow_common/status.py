"""Errors on the wire: our exceptions to gRPC status with google.rpc details, and back."""

from __future__ import annotations

import math
from datetime import timedelta

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from .errors import ImageFlowError, InvalidArgument, Violation, error_of

DETAILS_KEY = "grpc-status-details-bin"
ERROR_DOMAIN = "imageflow"
_MAX_MESSAGE_BYTES = 512
_MAX_TEXT_BYTES = 200
_MAX_METADATA_ENTRIES = 4
_MAX_VIOLATIONS_BYTES = 2_300
_TOO_LARGE = "message larger than max"


def status_code(error: ImageFlowError) -> grpc.StatusCode:
    return grpc.StatusCode[error.code]


def encode_details(error: ImageFlowError) -> bytes:
    """A serialised google.rpc.Status: ErrorInfo always, BadRequest for fields (the first ones), RetryInfo for overload.

    At most 4,500 bytes, since it travels in a header, in base64, and a peer may refuse more than 8 kB of headers.
    """
    status = Status(code=status_code(error).value[0], message=public_message(error))
    metadata = {_cut(key, 100): _cut(value, 100) for key, value in [*error.metadata.items()][:_MAX_METADATA_ENTRIES]}
    status.details.append(_pack(ErrorInfo(reason=_cut(error.reason), domain=ERROR_DOMAIN, metadata=metadata)))
    if error.violations:
        status.details.append(_pack(_bad_request(error)))
    if error.retry_after is not None:
        delay = Duration()
        delay.FromTimedelta(error.retry_after)
        status.details.append(_pack(RetryInfo(retry_delay=delay)))
    serialised: bytes = status.SerializeToString()
    return serialised


def public_message(error: ImageFlowError) -> str:
    """The error's message as it travels: well-formed and not too long for a header."""
    return _cut(error.message, _MAX_MESSAGE_BYTES)


def decode_error(code: grpc.StatusCode, message: str, details: bytes | None) -> ImageFlowError:
    """The exception that a peer raised, with its reason and details. Details that are none count for nothing."""
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE in message:  # gRPC's own words; no retry helps
        return InvalidArgument("the message is larger than the other end takes", reason="MESSAGE_TOO_LARGE")
    info, request, retry = ErrorInfo(), BadRequest(), RetryInfo()
    try:
        for detail in Status.FromString(details or b"").details:
            for message_of_kind in (info, request, retry):
                detail.Unpack(message_of_kind)
        retry_after = retry.retry_delay.ToTimedelta() if retry.HasField("retry_delay") else None
    except (DecodeError, ValueError):
        return error_of(code.name)(message)
    return error_of(code.name, info.reason)(
        message,
        reason=info.reason or None,
        violations=[Violation(item.field, item.description) for item in request.field_violations],
        retry_after=retry_after,
        metadata=dict(info.metadata),
    )


def from_rpc_error(error: grpc.aio.AioRpcError) -> ImageFlowError:
    """The exception behind a failed call."""
    details = next((value for key, value in error.trailing_metadata() or () if key == DETAILS_KEY), None)
    return decode_error(
        error.code(), error.details() or error.code().name, details if isinstance(details, bytes) else None
    )


def retry_after_seconds(error: ImageFlowError) -> str | None:
    """The value of HTTP's Retry-After: whole seconds, at least 1."""
    if error.retry_after is None:
        return None
    return str(max(1, math.ceil(error.retry_after / timedelta(seconds=1))))


def _bad_request(error: ImageFlowError) -> BadRequest:
    request = BadRequest()
    for number, violation in enumerate(error.violations):
        if request.ByteSize() > _MAX_VIOLATIONS_BYTES:
            request.field_violations.add(field="", description=f"and {len(error.violations) - number} more")
            break
        request.field_violations.add(field=_cut(violation.field), description=_cut(violation.description))
    return request


def _cut(text: str, most: int = _MAX_TEXT_BYTES) -> str:
    """At most so many bytes of UTF-8; what has no encoding becomes `?`."""
    data = text.encode("utf-8", "replace")
    return text if len(data) <= most and text.isascii() else data[:most].decode("utf-8", "ignore")


def _pack(message: ErrorInfo | BadRequest | RetryInfo) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed
