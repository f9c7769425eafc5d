"""Where one step of an execution is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from .definition import Persist, StepId
from .effects import Failure, StepOutcome
from .planned import PlannedCall, PlannedStep


class Phase(Enum):
    WAITING = auto()
    RUNNING = auto()
    BACKING_OFF = auto()
    ANSWERED = auto()
    SETTLED = auto()


@dataclass(slots=True, eq=False)
class Track:
    """Where one step is. `missing` and `withheld` count the steps that it waits for to start, and to count.

    `attempt` is the last one started, `tries` those of `call`. `image` is whose own image its output is, as
    far as it is known. `takers` are those that may still ask for its output, and `held_inputs` the steps
    whose output it may ask for itself.
    """

    step: PlannedStep
    call: PlannedCall
    held_inputs: tuple[StepId, ...]
    missing: int = 0
    withheld: int = 0
    takers: int = 0
    phase: Phase = Phase.WAITING
    attempt: int = 0
    tries: int = 0
    image: StepId | None = None
    failure: Failure | None = None
    withheld_outcome: StepOutcome | None = None
    outcome: StepOutcome | None = None

    @property
    def in_fallback(self) -> bool:
        return self.call is self.step.fallback

    @property
    def passed(self) -> bool:
        return self.outcome is not None and self.outcome.passed

    @property
    def has_own_image(self) -> bool:
        return self.image == self.step.step_id

    @property
    def wanted(self) -> bool:
        """Whether a step, the pipeline's output or the store may still ask for its output."""
        stored_later = self.step.persist is Persist.ON_FAILURE and self.has_own_image
        return self.passed and (self.takers > 0 or stored_later)


def feeding(step: PlannedStep) -> tuple[StepId, ...]:
    """The steps whose output a step or its fallback takes, each once."""
    calls = (step.call, step.fallback)
    fed_by = [fed.step_id for call in calls if call for fed in call.inputs if fed.step_id is not None]
    return tuple(dict.fromkeys(fed_by))
