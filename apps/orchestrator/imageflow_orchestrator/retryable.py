"""Which errors may pass when the same call is made again (R50): the one table."""

from __future__ import annotations

from imageflow_common.errors import ImageFlowError

BY_CODE = {
    "UNAVAILABLE": True,  # it may come back
    "RESOURCE_EXHAUSTED": True,  # overload passes
    "ABORTED": True,  # a race that was lost
    "DEADLINE_EXCEEDED": True,  # it may be quicker next time
    "INTERNAL": True,  # a fault of the component's, perhaps of one replica
    "UNKNOWN": True,  # as INTERNAL
    "INVALID_ARGUMENT": False,
    "OUT_OF_RANGE": False,
    "NOT_FOUND": False,
    "ALREADY_EXISTS": False,
    "PERMISSION_DENIED": False,
    "UNAUTHENTICATED": False,
    "FAILED_PRECONDITION": False,
    "UNIMPLEMENTED": False,
    "DATA_LOSS": False,
    "CANCELLED": False,  # somebody wanted it so
}
"""By the name of the gRPC status code. What the request itself is to blame for does not pass."""

BY_REASON = {
    ("RESOURCE_EXHAUSTED", "STORAGE_FULL"): False,  # nobody makes room within a retry's delay
}
"""Where the reason decides otherwise than the code."""


def is_retryable(error: ImageFlowError) -> bool:
    """Whether the same call may succeed later. A code that is in no table: no."""
    return BY_REASON.get((error.code, error.reason), BY_CODE.get(error.code, False))
