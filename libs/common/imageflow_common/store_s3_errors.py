"""What goes wrong with an S3 server, in our words: who is to blame, whether it may pass, and nothing secret."""

from __future__ import annotations

from typing import Any

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    SSLError,
)

from imageflow_common.errors import (
    FailedPrecondition,
    ImageFlowError,
    InvalidArgument,
    InvalidKey,
    ObjectNotFound,
    PermissionDenied,
    StorageFull,
    Unavailable,
    WriteConflict,
)

FAULTS = (ClientError, BotoCoreError, aiohttp.ClientError, TimeoutError, OSError)
"""What a call to a server raises when something is wrong with it or the way to it."""

INCOMPLETE = {"IncompleteBody", "ClientDisconnected"}
"""Of a request that arrived in part, or that MinIO's disk took in part since it is full: nothing is written, and the
same request again succeeds or is told why not."""

BUCKET_EXISTS = "BUCKET_EXISTS"
"""The reason of `FailedPrecondition` when a bucket that is to be made is there and ours."""

_NOT_FOUND = {"NoSuchKey", "404", "NotFound"}
_NO_BUCKET = {"NoSuchBucket"}
_CONFLICT = {"PreconditionFailed", "412", "ConditionalRequestConflict"}
_FULL = {"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientStorage", "507"}
_SLOW = {"SlowDown", "SlowDownRead", "SlowDownWrite", "ServiceUnavailable", "RequestLimitExceeded", "Throttling",
         "TooManyRequests", "XMinioServerNotInitialized", "503", "429"}  # fmt: skip
_KEY = {"KeyTooLongError", "XMinioInvalidObjectName", "XMinioParentIsObject", "XMinioObjectExistsAsDirectory"}
_DENIED_STATUS = (401, 403)


def our_error(exc: BaseException) -> ImageFlowError:
    """The error of our tree for one of `FAULTS`. No message names a key, a bucket, an address or a credential."""
    if isinstance(exc, ClientError):
        return _answered(code_of(exc), status_of(exc))
    if isinstance(exc, NoCredentialsError | PartialCredentialsError):
        return PermissionDenied("there are no credentials for the object store", reason="STORE_NO_CREDENTIALS")
    if isinstance(exc, SSLError | aiohttp.ClientSSLError):
        return Unavailable("the object store's certificate is not to be trusted", reason="STORE_CERTIFICATE")
    if isinstance(exc, TimeoutError | ConnectTimeoutError | ReadTimeoutError):
        return Unavailable("the object store did not answer in time", reason="STORE_TIMEOUT")
    return Unavailable("the object store cannot be reached", reason="STORE_UNREACHABLE")


def code_of(exc: ClientError) -> str:
    """The `Code` that S3 answered, or the HTTP status where an answer has no body."""
    return str(_error(exc).get("Code", ""))


def status_of(exc: ClientError) -> int:
    metadata: dict[str, Any] = exc.response.get("ResponseMetadata", {})
    return int(metadata.get("HTTPStatusCode", 0))


def _answered(code: str, status: int) -> ImageFlowError:
    if code in _NO_BUCKET:
        return FailedPrecondition("the object store's bucket does not exist", reason="BUCKET_NOT_FOUND")
    if code in _NOT_FOUND:
        return ObjectNotFound("there is no such object")
    if code == "BucketAlreadyOwnedByYou":
        return FailedPrecondition("the bucket exists", reason=BUCKET_EXISTS)
    if code in _CONFLICT or status == 412:
        return WriteConflict("the object is not what it was expected to be")
    if code in _KEY:
        return InvalidKey("the object store does not take this key")
    if code == "InvalidArgument":
        return InvalidArgument("the object store does not take an argument")
    if status == 416:
        return InvalidArgument("the range starts behind the object's end", reason="RANGE_NOT_SATISFIABLE")
    if code in _FULL or status == 507:
        return StorageFull("the object store is full")
    if code == "RequestTimeTooSkewed":
        return PermissionDenied("the object store's clock is not ours", reason="STORE_CLOCK")
    if status in _DENIED_STATUS:
        return PermissionDenied(f"the object store refuses us ({code})", reason="STORE_DENIED")
    if code in INCOMPLETE:
        return Unavailable("the object store got the request in part only", reason="STORE_UNREACHABLE")
    if code in _SLOW or status in (429, 503):
        return Unavailable("the object store asks to be called less often", reason="STORE_SLOW")
    if status >= 500:
        return Unavailable(f"the object store does not work at the moment ({code})", reason="STORE_BROKEN")
    return FailedPrecondition(f"the object store refuses the request ({code or status})", reason="STORE_REFUSED")


def _error(exc: ClientError) -> dict[str, Any]:
    error: dict[str, Any] = exc.response.get("Error", {})
    return error
