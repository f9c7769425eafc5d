"""How the command ends: exit statuses, and errors as a person, or a program, can read them."""

from __future__ import annotations

import json
import sys
from enum import IntEnum

from imageflow_common.errors import ImageFlowError, Unavailable


class Exit(IntEnum):
    """The exit status. Others may be added; these do not change."""

    OK = 0
    FAILED = 1
    """A run, or what was asked for, failed."""
    USAGE = 2
    """The command line, or a file that it names, is wrong."""
    UNREACHABLE = 3
    """No server answers at the URL."""
    INVALID_PIPELINE = 4
    """A pipeline, or its parameters, with faults."""
    IN_USE = 5
    """The port or the data folder of `imageflow up` is in use."""
    GAVE_UP = 6
    """A process of `imageflow up` does not stay alive, or is not ready in time."""
    INTERRUPTED = 130
    """Ended by a second Ctrl-C."""


class ServerUnreachable(Unavailable):
    """No server answers at the URL."""

    reason = "SERVER_UNREACHABLE"


class UsageFault(ImageFlowError):
    """A file or a value on the command line that cannot be used."""

    code = "INVALID_ARGUMENT"
    reason = "USAGE"


def exit_status(error: ImageFlowError) -> Exit:
    """The status that belongs to an error."""
    if isinstance(error, ServerUnreachable):
        return Exit.UNREACHABLE
    if isinstance(error, UsageFault) or error.reason == "INVALID_REGISTRY":
        return Exit.USAGE
    if error.reason in ("INVALID_PIPELINE", "INVALID_PARAMETERS"):
        return Exit.INVALID_PIPELINE
    return Exit.FAILED


def show_error(error: ImageFlowError, *, as_json: bool) -> None:
    """On standard output as one JSON object, or on standard error with a line for each violation."""
    if as_json:
        print(json.dumps({"error": error_json(error)}, ensure_ascii=False))
        return
    print(f"error: {error.message}", file=sys.stderr)
    lines = [f"{each.field or '(request)'}: {each.description}" for each in error.violations]
    if lines != [error.message]:
        for line in lines:
            print(f"  {line}", file=sys.stderr)
    if error.retry_after is not None:
        print(f"  try again in {error.retry_after.total_seconds():.3g} s", file=sys.stderr)


def error_json(error: ImageFlowError) -> dict[str, object]:
    violations = [{"field": each.field, "description": each.description} for each in error.violations]
    return {"code": error.code, "reason": error.reason, "message": error.message, "violations": violations}
