"""The one tree of exceptions. An error says who is to blame (`code`), what happened (`reason`) and what the
caller may read (`message`); the cause, with its paths and keys, stays in `__cause__` and in the log.

`code` is the name of a gRPC status code, as text, so that code which must not import gRPC can raise errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Violation:
    """One fault in a request: `field` is a path such as `steps[resize].parameters.width`."""

    field: str
    description: str


class ImageFlowError(Exception):
    """The root. Raised as itself only for faults of ours."""

    code: ClassVar[str] = "INTERNAL"
    reason: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str = "internal error",
        *,
        reason: str | None = None,
        violations: Sequence[Violation] = (),
        retry_after: timedelta | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.violations = tuple(violations)
        self.retry_after = retry_after
        self.metadata = dict(metadata or {})
        if reason is not None:
            self.reason = reason  # type: ignore[misc]  # one instance narrows its class's reason


class InvalidArgument(ImageFlowError):
    """The request can never succeed as it stands."""

    code = "INVALID_ARGUMENT"
    reason = "INVALID_ARGUMENT"


class InvalidPipeline(InvalidArgument):
    """A definition with faults; `violations` holds every one of them."""

    reason = "INVALID_PIPELINE"


class InvalidParameters(InvalidArgument):
    """Parameters that are unknown, of a wrong type, or out of range."""

    reason = "INVALID_PARAMETERS"


class InvalidImage(InvalidArgument):
    """Bytes that are not an image, or a damaged one."""

    reason = "INVALID_IMAGE"


class UnsupportedImage(InvalidArgument):
    """An image in a format, depth or colour space that is not accepted."""

    reason = "UNSUPPORTED_IMAGE"


class ImageTooLarge(InvalidArgument):
    """More bytes, pixels or frames than the limit."""

    reason = "IMAGE_TOO_LARGE"


class InvalidKey(InvalidArgument):
    """An object key that is empty, too long, not normalised, or points outside its place."""

    reason = "INVALID_KEY"


class NotFound(ImageFlowError):
    code = "NOT_FOUND"
    reason = "NOT_FOUND"


class ObjectNotFound(NotFound):
    """No object under this key."""

    reason = "OBJECT_NOT_FOUND"


class AlreadyExists(ImageFlowError):
    code = "ALREADY_EXISTS"
    reason = "ALREADY_EXISTS"


class PermissionDenied(ImageFlowError):
    code = "PERMISSION_DENIED"
    reason = "PERMISSION_DENIED"


class FailedPrecondition(ImageFlowError):
    """The system is not in the state that the request needs, and a retry does not change that."""

    code = "FAILED_PRECONDITION"
    reason = "FAILED_PRECONDITION"


class WriteConflict(ImageFlowError):
    """A conditional write lost: the object is not at the generation that was expected."""

    code = "ABORTED"
    reason = "WRITE_CONFLICT"
    retryable = True


class Overloaded(ImageFlowError):
    """Too much in flight; come back after `retry_after`."""

    code = "RESOURCE_EXHAUSTED"
    reason = "OVERLOADED"
    retryable = True


class StorageFull(ImageFlowError):
    """The store has no room, or a quota is used up."""

    code = "RESOURCE_EXHAUSTED"
    reason = "STORAGE_FULL"


class Unavailable(ImageFlowError):
    """Something that the request needs cannot be reached."""

    code = "UNAVAILABLE"
    reason = "UNAVAILABLE"
    retryable = True


class DeadlineExceeded(ImageFlowError):
    code = "DEADLINE_EXCEEDED"
    reason = "DEADLINE_EXCEEDED"


class Cancelled(ImageFlowError):
    code = "CANCELLED"
    reason = "CANCELLED"


class Unimplemented(ImageFlowError):
    code = "UNIMPLEMENTED"
    reason = "UNIMPLEMENTED"


class DataLoss(ImageFlowError):
    """Stored bytes that are not what was written: truncated, or their checksum differs."""

    code = "DATA_LOSS"
    reason = "DATA_LOSS"


def error_of(code: str, reason: str = "") -> type[ImageFlowError]:
    """The class with this reason and gRPC status code's name, or else the first of that code; ImageFlowError itself
    for a fault of ours."""
    exact = _BY_REASON.get(reason)
    return exact if exact is not None and exact.code == code else _BY_CODE.get(code, ImageFlowError)


def _with_descendants(kind: type[ImageFlowError]) -> list[type[ImageFlowError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in _with_descendants(child))]


_BY_CODE = {kind.code: kind for kind in reversed(ImageFlowError.__subclasses__())}
_BY_REASON = {kind.reason: kind for kind in _with_descendants(ImageFlowError)}
