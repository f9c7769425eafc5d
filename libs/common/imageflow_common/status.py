"""Errors on the wire: our exceptions to gRPC status with google.rpc details, and back."""

from __future__ import annotations

from datetime import timedelta

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from .errors import ImageFlowError, Violation, error_of

DETAILS_KEY = "grpc-status-details-bin"
ERROR_DOMAIN = "imageflow"
_MAX_VIOLATIONS_ON_WIRE = 50
_MAX_MESSAGE_LENGTH = 1_000


def status_code(error: ImageFlowError) -> grpc.StatusCode:
    return grpc.StatusCode[error.code]


def encode_details(error: ImageFlowError) -> bytes:
    """A serialised google.rpc.Status: ErrorInfo always, BadRequest for fields (the first 50), RetryInfo for overload.

    Bounded, since it travels in a header: a peer may refuse more than 8 kB of them.
    """
    details = [ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=error.metadata)]
    status = Status(code=status_code(error).value[0], message=error.message[:_MAX_MESSAGE_LENGTH])
    status.details.extend(_pack(detail) for detail in details)
    if error.violations:
        status.details.append(_pack(_bad_request(error)))
    if error.retry_after is not None:
        delay = Duration()
        delay.FromTimedelta(error.retry_after)
        status.details.append(_pack(RetryInfo(retry_delay=delay)))
    serialised: bytes = status.SerializeToString()
    return serialised


def decode_error(code: grpc.StatusCode, message: str, details: bytes | None) -> ImageFlowError:
    """The exception that a peer raised, as the class of its code with its reason and details."""
    kind = error_of(code.name)
    status = Status.FromString(details) if details else Status()
    reason, metadata, violations, retry_after = None, {}, [], None
    for detail in status.details:
        if detail.Is(ErrorInfo.DESCRIPTOR):
            info = ErrorInfo()
            detail.Unpack(info)
            reason, metadata = info.reason or None, dict(info.metadata)
        elif detail.Is(BadRequest.DESCRIPTOR):
            request = BadRequest()
            detail.Unpack(request)
            violations = [Violation(item.field, item.description) for item in request.field_violations]
        elif detail.Is(RetryInfo.DESCRIPTOR):
            info_retry = RetryInfo()
            detail.Unpack(info_retry)
            retry_after = info_retry.retry_delay.ToTimedelta()
    return kind(message, reason=reason, violations=violations, retry_after=retry_after, metadata=metadata)


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
    return str(max(1, round(error.retry_after / timedelta(seconds=1))))


def _bad_request(error: ImageFlowError) -> BadRequest:
    request = BadRequest()
    for violation in error.violations[:_MAX_VIOLATIONS_ON_WIRE]:
        request.field_violations.add(field=violation.field[:200], description=violation.description[:200])
    if len(error.violations) > _MAX_VIOLATIONS_ON_WIRE:
        more = len(error.violations) - _MAX_VIOLATIONS_ON_WIRE
        request.field_violations.add(field="", description=f"and {more} more")
    return request


def _pack(message: ErrorInfo | BadRequest | RetryInfo) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed
