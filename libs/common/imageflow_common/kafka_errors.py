"""From errors of kafka-python to ours."""

from __future__ import annotations

from kafka import errors

from imageflow_common.errors import ImageFlowError, InvalidArgument, PermissionDenied, Unavailable

AWAY = "KAFKA_AWAY"
"""The reason of Unavailable while no broker answers."""

_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
_MISSING = (errors.UnknownTopicOrPartitionError, errors.InvalidTopicError)


def as_error(exc: BaseException) -> ImageFlowError:
    """What is to blame, in our terms. The cause's own words name hosts, so they are not for callers."""
    if isinstance(exc, ImageFlowError):
        return exc
    if isinstance(exc, _TOO_LARGE):
        return InvalidArgument("the message is larger than the broker takes", reason="MESSAGE_TOO_LARGE")
    if isinstance(exc, _MISSING):
        return Unavailable("a topic is missing at the broker", reason="TOPIC_MISSING")
    if isinstance(exc, errors.AuthorizationError | errors.SaslAuthenticationFailedError):
        return PermissionDenied("the broker refuses what we may do or who we are", reason="KAFKA_DENIED")
    return away()


def away() -> Unavailable:
    return Unavailable("Kafka is not reachable", reason=AWAY)
