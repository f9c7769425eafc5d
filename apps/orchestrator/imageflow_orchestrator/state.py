"""One execution as a state machine: what has happened and what is to be done about it. Nothing is done here.

`begin` and `advance` answer effects, to be performed in their order. Whatever the performer then sees comes
back as events. Events may come late or twice; what no longer matters has no effect.

An interrupted execution is resumed by `begin` and answering each StartAttempt of a step that had finished
with the AttemptSucceeded of then, instead of calling the component.
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
from .state_machine import Machine

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
    """One execution so far. Opaque, and used up by `advance`: go on with what that answers.

    Inside it is mutable, so that an event costs what it concerns and not a copy of every step.
    """

    __slots__ = ("_machine",)

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    @property
    def finished(self) -> bool:
        """Whether Finished has been answered."""
        return self._machine.finished


def begin(plan: Plan) -> tuple[ExecutionState, tuple[Effect, ...]]:
    """A new execution and its first effects."""
    machine = Machine(plan)
    machine.start_roots()
    return ExecutionState(machine), machine.take_effects()


def advance(state: ExecutionState, event: Event) -> tuple[ExecutionState, tuple[Effect, ...]]:
    """The execution after the event, and what is to be done now. `state` must not be used again.

    Finished is answered exactly once; afterwards only ReleaseOutput, for answers that come too late. Raises
    KeyError for an event about a step that the plan does not have.
    """
    machine = state._machine
    match event:
        case AttemptSucceeded():
            machine.succeed(event)
        case AttemptFailed():
            machine.fail(event)
        case RetryDue():
            machine.retry(event)
        case ExecutionTimedOut():
            machine.time_out()
        case CancelRequested(message):
            machine.cancel(message)
    return ExecutionState(machine), machine.take_effects()
