"""Events, effects and outcomes: the words between an execution's state machine and whoever performs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TypeAlias

from .definition import SlotName, StepId
from .planned import PlannedCall


class Status(StrEnum):
    """Where a step or an execution is."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    SKIPPED = "SKIPPED"


class SkipReason(StrEnum):
    """Why a step was skipped."""

    CONDITION_FALSE = "CONDITION_FALSE"
    FAILURE_SKIPPED = "FAILURE_SKIPPED"
    DEPENDENCY_FAILED = "DEPENDENCY_FAILED"
    EXECUTION_ENDED = "EXECUTION_ENDED"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt, a step or an execution did not succeed. `code` is a gRPC status code's name."""

    code: str
    reason: str
    message: str
    retryable: bool = False
    retry_after: timedelta | None = None
    step_id: StepId | None = None


@dataclass(frozen=True, slots=True)
class AttemptSucceeded:
    """`result` is the performer's own.

    `unchanged`: the component answered no image; its output is its input.
    """

    step_id: StepId
    attempt: int
    result: object = None
    unchanged: bool = False


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    step_id: StepId
    attempt: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class RetryDue:
    """The delay before this attempt is over."""

    step_id: StepId
    attempt: int


@dataclass(frozen=True, slots=True)
class RetryHopeless:
    """This attempt, if it waited out its delay, would come after the execution's deadline."""

    step_id: StepId
    attempt: int


@dataclass(frozen=True, slots=True)
class ExecutionTimedOut:
    pass


@dataclass(frozen=True, slots=True)
class CancelRequested:
    message: str = "cancelled on request"


Event: TypeAlias = AttemptSucceeded | AttemptFailed | RetryDue | RetryHopeless | ExecutionTimedOut | CancelRequested


@dataclass(frozen=True, slots=True)
class ResolvedInput:
    """Whose own image goes into a slot, `position` among the component's; None: the pipeline's input."""

    slot: SlotName
    position: int
    source: StepId | None


@dataclass(frozen=True, slots=True)
class StartAttempt:
    """Call `call` with `inputs`. Attempts of a step are numbered from 1, its fallback's on from its own."""

    step_id: StepId
    attempt: int
    call: PlannedCall
    inputs: tuple[ResolvedInput, ...]
    is_fallback: bool


@dataclass(frozen=True, slots=True)
class ScheduleRetry:
    """Send RetryDue of this attempt after `drawn(u)`, u drawn from 0 to 1.

    When that would be after the execution's deadline, send RetryHopeless at once instead: the retries end
    with the last error (R50), and a fallback or SKIP has what time is left.
    """

    step_id: StepId
    attempt: int
    delay: timedelta
    jitter: float
    at_least: timedelta

    def drawn(self, u: float) -> timedelta:
        """The delay less its random share, and never less than what the component asked for."""
        return max(self.at_least, self.delay * (1 - self.jitter * u))


@dataclass(frozen=True, slots=True)
class CancelAttempt:
    """Stop this attempt, running or scheduled. What it still answers changes nothing."""

    step_id: StepId
    attempt: int


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What a step came to. `call` is the component that ran last; None: none ran.

    `image_source` is the step whose own image its output is (None: the pipeline's input), where `passed` is
    true. `because_of` is the step that did not succeed, for DEPENDENCY_FAILED.
    """

    status: Status
    attempts: int = 0
    call: PlannedCall | None = None
    result: object = None
    failure: Failure | None = None
    skip_reason: SkipReason | None = None
    because_of: StepId | None = None
    image_source: StepId | None = None

    @property
    def passed(self) -> bool:
        """Whether what depends on the step may go on."""
        return self.status is Status.COMPLETED or self.skip_reason is SkipReason.FAILURE_SKIPPED


@dataclass(frozen=True, slots=True)
class StepSettled:
    """The step's outcome, which is final."""

    step_id: StepId
    outcome: StepOutcome


@dataclass(frozen=True, slots=True)
class ReleaseOutput:
    """No step will ask for the image that this attempt answered. May be said twice."""

    step_id: StepId
    attempt: int


@dataclass(frozen=True, slots=True)
class ExecutionOutcome:
    """What the execution came to. `steps` has every step, in the plan's order.

    For COMPLETED, `image_source` is the step whose own image the final one is (None: the pipeline's input),
    and `encoded_by_output_step` whether the output step's component answered it: false when that step was
    passed over, so that the image is still as `image_source` left it.
    """

    status: Status
    steps: Mapping[StepId, StepOutcome]
    failure: Failure | None = None
    image_source: StepId | None = None
    encoded_by_output_step: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """The last effect but for late releases. Outputs not released by now are the performer's to free."""

    outcome: ExecutionOutcome


Effect: TypeAlias = StartAttempt | ScheduleRetry | CancelAttempt | StepSettled | ReleaseOutput | Finished
