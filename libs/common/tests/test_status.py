"""What errors keep on their way through gRPC."""

from __future__ import annotations

from datetime import timedelta

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.rpc.status_pb2 import Status

from imageflow_common import errors
from imageflow_common.errors import (
    FailedPrecondition,
    ImageFlowError,
    InvalidArgument,
    InvalidPipeline,
    Overloaded,
    Unavailable,
    Violation,
)
from imageflow_common.status import decode_error, encode_details, public_message, retry_after_seconds, status_code

EVERY_ERROR = sorted(
    (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ImageFlowError)),
    key=lambda kind: kind.__name__,
)


def _there_and_back(error: ImageFlowError) -> ImageFlowError:
    return decode_error(status_code(error), public_message(error), encode_details(error))


@pytest.mark.parametrize("kind", EVERY_ERROR)
def test_every_error_comes_back_as_its_class_with_code_reason_and_details(kind: type[ImageFlowError]) -> None:
    error = kind(
        "what happened",
        violations=[Violation("steps[a].parameters.width", "at most 5")],
        retry_after=timedelta(milliseconds=1500),
        metadata={"key": "value"},
    )
    back = _there_and_back(error)
    assert type(back) is kind
    assert (back.code, back.reason, back.message) == (kind.code, kind.reason, "what happened")
    assert (back.violations, back.retry_after, back.metadata) == (error.violations, error.retry_after, error.metadata)


def test_a_reason_that_has_no_class_comes_back_as_its_codes_class() -> None:
    back = _there_and_back(FailedPrecondition("no", reason="VERSION_NOT_SERVED"))
    assert (type(back), back.reason) == (FailedPrecondition, "VERSION_NOT_SERVED")


@pytest.mark.parametrize("text", ["x", "é", "🎨", "\ud800"])
def test_details_fit_into_a_header_whatever_they_hold(text: str) -> None:
    long = text * 5_000
    error = InvalidPipeline(
        long,
        reason="R" * 9_000,
        violations=[Violation(long, long)] * 5_000,
        metadata={f"{number}{long}": long for number in range(50)},
        retry_after=timedelta(days=9),
    )
    headers = len(encode_details(error)) * 4 / 3 + 3 * len(public_message(error).encode())
    assert headers < 8_000


def test_what_did_not_fit_is_counted() -> None:
    given = [Violation(f"steps[s{number}].parameters.width", "at most 5") for number in range(300)]
    back = _there_and_back(InvalidPipeline("many faults", violations=given))
    *listed, last = back.violations
    assert listed == given[: len(listed)]
    assert len(listed) > 20
    assert last == Violation("", f"and {300 - len(listed)} more")


@pytest.mark.parametrize(
    "details",
    [
        b"\xff\xff",
        Status(details=[Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff")]).SerializeToString(),
        Status(details=[Any(type_url="type.googleapis.com/acme.Unknown", value=b"1")]).SerializeToString(),
        None,
    ],
)
def test_details_that_are_none_leave_the_code_and_the_message(details: bytes | None) -> None:
    error = decode_error(grpc.StatusCode.UNAVAILABLE, "gone", details)
    assert type(error) is Unavailable
    assert (error.message, error.reason) == ("gone", "UNAVAILABLE")


def test_a_message_that_grpc_finds_too_large_is_not_an_overload() -> None:
    words = "CLIENT: Received message larger than max (5 vs. 4)"
    error = decode_error(grpc.StatusCode.RESOURCE_EXHAUSTED, words, None)
    assert type(error) is InvalidArgument
    assert (error.reason, error.retryable) == ("MESSAGE_TOO_LARGE", False)


@pytest.mark.parametrize(("milliseconds", "seconds"), [(0, "1"), (200, "1"), (1_000, "1"), (1_001, "2"), (2_500, "3")])
def test_retry_after_never_says_too_early(milliseconds: int, seconds: str) -> None:
    assert retry_after_seconds(Overloaded(retry_after=timedelta(milliseconds=milliseconds))) == seconds


def test_an_error_that_says_nothing_of_retrying_has_no_retry_after() -> None:
    assert retry_after_seconds(Unavailable()) is None
    assert _there_and_back(Unavailable()).retry_after is None
