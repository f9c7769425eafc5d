"""One execution as a state machine: what has happened and what is to be done about it. Nothing is done here.

`begin` and `advance` answer effects, to be performed in their order. Whatever the performer then sees comes
back as events. Events may come late or twice; what no longer matters has no effect.

An interrupted execution goes on by `resume`, from what is known of its steps.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from .definition import StepId
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
    RetryHopeless,
    ScheduleRetry,
    SkipReason,
    StartAttempt,
    Status,
    StepOutcome,
    StepSettled,
)
from .planned import Plan
from .state_machine import Machine
from .state_resume import NOTHING_STANDS, connected, standing

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
    "RetryHopeless",
    "ScheduleRetry",
    "SkipReason",
    "StartAttempt",
    "Status",
    "StepOutcome",
    "StepSettled",
    "advance",
    "begin",
    "resume",
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

    @property
    def idle(self) -> bool:
        """Whether no attempt runs, and only retries are waited for."""
        return self._machine.idle


def begin(plan: Plan) -> tuple[ExecutionState, tuple[Effect, ...]]:
    """A new execution and its first effects."""
    machine = Machine(plan, NOTHING_STANDS)
    machine.go_on()
    return ExecutionState(machine), machine.take_effects()


def resume(
    plan: Plan, known: Mapping[StepId, StepOutcome], *, lost: Collection[StepId] = ()
) -> tuple[ExecutionState, tuple[Effect, ...]]:
    """An interrupted execution and what is to be done now. `known` is what is known of its steps.

    A step that had passed (by its fallback too, or passed over by SKIP) or failed for good is settled as it
    was, without StartAttempt and StepSettled; leave failures out to have them tried again. Any other step runs
    when its turn comes, all its retries before it; its attempts are numbered on from the known ones.

    `lost` are the steps whose own image is no longer there. A finished step whose own image is lost runs again where
    an unfinished step, or the pipeline's output, takes it. One that passed on what it was given stands: what takes its
    output takes it from where that comes, if need be when that has run again. Raises KeyError for a step that the plan
    does not have.
    """
    stands = standing(plan, known, lost)
    machine = Machine(connected(plan, stands), stands)
    machine.number_from({step_id: outcome.attempts for step_id, outcome in known.items()})
    machine.go_on()
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
        case RetryHopeless():
            machine.stop_retries(event)
        case ExecutionTimedOut():
            machine.time_out()
        case CancelRequested(message):
            machine.cancel(message)
    return ExecutionState(machine), machine.take_effects()
