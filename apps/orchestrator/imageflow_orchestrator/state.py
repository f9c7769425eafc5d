"""One execution as a state machine: what has happened and what is to be done about it. Nothing is done here.

`begin` and `advance` answer effects, to be performed in their order. Whatever the performer then sees comes
back as events. Events may come late or twice; what no longer matters has no effect.
"""

from __future__ import annotations

from .effects import (
    AttemptFailed,
    AttemptSucceeded,
    CancelAttempt,
    CancelRequested,
    Effect,
    Event,
    ExecutionOutcome,
    ExecutionTimedOut,
    Failure,
    Finished,
    ReleaseOutput,
    ResolvedInput,
    RetryDue,
    ScheduleRetry,
    SkipReason,
    StartAttempt,
    Status,
    StepOutcome,
    StepSettled,
)
from .planned import Plan

__all__ = [
    "AttemptFailed",
    "AttemptSucceeded",
    "CancelAttempt",
    "CancelRequested",
    "Effect",
    "Event",
    "ExecutionOutcome",
    "ExecutionState",
    "ExecutionTimedOut",
    "Failure",
    "Finished",
    "ReleaseOutput",
    "ResolvedInput",
    "RetryDue",
    "ScheduleRetry",
    "SkipReason",
    "StartAttempt",
    "Status",
    "StepOutcome",
    "StepSettled",
    "advance",
    "begin",
]


class ExecutionState:
    """One execution so far. Opaque."""


def begin(plan: Plan) -> tuple[ExecutionState, tuple[Effect, ...]]:
    """A new execution and its first effects."""
    raise NotImplementedError


def advance(state: ExecutionState, event: Event) -> tuple[ExecutionState, tuple[Effect, ...]]:
    """The execution after the event, and what is to be done now."""
    raise NotImplementedError
