"""Which errors are worth another try, row by row (R50)."""

from __future__ import annotations

import grpc
import pytest

from imageflow_common.errors import (
    AlreadyExists,
    Cancelled,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    ImageFlowError,
    ImageTooLarge,
    InvalidArgument,
    InvalidImage,
    InvalidKey,
    InvalidParameters,
    InvalidPipeline,
    NotFound,
    ObjectNotFound,
    Overloaded,
    PermissionDenied,
    StorageFull,
    Unavailable,
    Unimplemented,
    UnsupportedImage,
    WriteConflict,
    error_of,
)
from imageflow_orchestrator.retryable import BY_CODE, is_retryable

ERRORS = {
    Unavailable: True,
    DeadlineExceeded: True,
    WriteConflict: True,
    Overloaded: True,
    ImageFlowError: True,
    StorageFull: False,
    InvalidArgument: False,
    InvalidPipeline: False,
    InvalidParameters: False,
    InvalidImage: False,
    UnsupportedImage: False,
    ImageTooLarge: False,
    InvalidKey: False,
    NotFound: False,
    ObjectNotFound: False,
    AlreadyExists: False,
    PermissionDenied: False,
    FailedPrecondition: False,
    Unimplemented: False,
    Cancelled: False,
    DataLoss: False,
}


def _kinds(kind: type[ImageFlowError]) -> set[type[ImageFlowError]]:
    return {kind}.union(*(_kinds(each) for each in kind.__subclasses__()))


@pytest.mark.parametrize(("kind", "retryable"), ERRORS.items(), ids=lambda value: getattr(value, "__name__", value))
def test_an_error_of_the_tree_is_retried_or_not(kind: type[ImageFlowError], retryable: bool) -> None:
    assert is_retryable(kind("x")) is retryable


def test_the_table_has_every_status_code_and_this_test_every_error() -> None:
    assert BY_CODE.keys() == {code.name for code in grpc.StatusCode} - {"OK"}
    assert ERRORS.keys() == {kind for kind in _kinds(ImageFlowError) if kind.__module__ == "imageflow_common.errors"}


@pytest.mark.parametrize(
    ("code", "reason", "retryable"),
    [
        ("RESOURCE_EXHAUSTED", "OVERLOADED", True),
        ("RESOURCE_EXHAUSTED", "", True),
        ("RESOURCE_EXHAUSTED", "STORAGE_FULL", False),
        ("INTERNAL", "BAD_ANSWER", True),
        ("INVALID_ARGUMENT", "MESSAGE_TOO_LARGE", False),
        ("UNAVAILABLE", "COMPONENT_UNAVAILABLE", True),
        ("FAILED_PRECONDITION", "SHARED_MEMORY_MISSING", False),
        ("NO_SUCH_CODE", "", True),
    ],
)
def test_an_error_that_a_component_answered_is_retried_by_its_code_and_reason(
    code: str, reason: str, retryable: bool
) -> None:
    """A code that nobody knows is a fault of ours."""
    assert is_retryable(error_of(code, reason)("x", reason=reason or None)) is retryable
