"""Who asks, and ids as callers give them."""

from __future__ import annotations

import re

from imageflow_common.errors import InvalidArgument, Violation
from imageflow_common.rpc import Context

_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,128}")
CLIENT_ID = "x-client-id"
"""The metadata in which the gateway says who the client is; it takes away what the client itself says there."""
DEFAULT_NAMESPACE = "default"


def namespace_of(context: Context) -> str:
    """The namespace of the client that the gateway knows; `default` without one."""
    for key, value in context.invocation_metadata() or ():
        if key == CLIENT_ID and isinstance(value, str) and value:
            return check_id("namespace", value)
    return DEFAULT_NAMESPACE


def check_id(field: str, value: str, *, optional: bool = False) -> str:
    """Raises InvalidArgument for what is not an id."""
    if (optional and not value) or _ID.fullmatch(value):
        return value
    raise InvalidArgument(
        f"{field} is not an id",
        violations=[Violation(field, "1 to 128 of A-Z a-z 0-9 . _ - and neither '.' nor '..'")],
    )
