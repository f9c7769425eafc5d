"""A pipeline that can run, and how: complete and immutable. Planned once, run any number of times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from .component_spec import Target
from .definition import (
    ComponentName,
    JsonValue,
    OnFailure,
    Persist,
    PipelineId,
    PipelineVersion,
    SlotName,
    StepId,
)


@dataclass(frozen=True, slots=True)
class PlannedRetry:
    """How often and when to try again. `jitter` is the share of a delay that is drawn at random."""

    max_retries: int
    initial_delay: timedelta
    backoff_factor: float
    max_delay: timedelta
    jitter: float

    def delay(self, retry: int) -> timedelta:
        """The delay before the `retry`-th attempt after the first, from 1, without its jitter."""
        # Past max_retries of 100 a power may overflow a float; a timedelta overflows much earlier.
        seconds = self.initial_delay.total_seconds() * self.backoff_factor ** min(retry - 1, 100)
        return timedelta(seconds=min(seconds, self.max_delay.total_seconds()))


@dataclass(frozen=True, slots=True)
class PlanDefaults:
    """What holds where a definition is silent."""

    retry: PlannedRetry
    persist: Persist
    timeout: timedelta


SYNCHRONOUS = PlanDefaults(
    PlannedRetry(2, timedelta(milliseconds=50), 2.0, timedelta(seconds=1), 0.2),
    Persist.NEVER,
    timedelta(seconds=60),
)
ASYNCHRONOUS = PlanDefaults(
    PlannedRetry(3, timedelta(seconds=30), 2.0, timedelta(minutes=5), 0.2),
    Persist.ALWAYS,
    timedelta(hours=1),  # three retries alone may wait three and a half minutes
)


@dataclass(frozen=True, slots=True)
class PlannedInput:
    """What feeds one slot. None stands for the pipeline's input.

    `position` is the slot's place among the component's. `step_id` is the step that feeds it. `source` is the
    step whose own image that is when every step succeeds: one that only looks passes its input on.
    """

    slot: SlotName
    position: int
    step_id: StepId | None
    source: StepId | None


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """One component and all that a call of it needs but the pixels.

    An optional slot left open is not in `inputs`.
    """

    component_name: ComponentName
    component_version: str
    target: Target
    parameters: Mapping[str, JsonValue]
    encoded_parameters: bytes
    timeout: timedelta
    changes_image: bool
    inputs: tuple[PlannedInput, ...]

    @property
    def passes_on(self) -> StepId | None:
        """The step whose output is this call's too, when it answers no image; None: the pipeline's input."""
        return self.inputs[0].step_id if self.inputs else None


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step, ready to run.

    Of its `dependencies`, one that only looks and has no fallback is soft: the step may start beside it, and
    its own success is withheld until the other has succeeded. `start_after` must have succeeded before the
    step may start; it goes through soft dependencies, so it may name steps that are not dependencies.
    `withheld_by` are the soft dependencies. Steps of one `stage`, from 0, may run at the same time.
    `consumers` counts the input slots, and the pipeline's output, that take this step's own image when every
    step succeeds.
    """

    step_id: StepId
    call: PlannedCall
    dependencies: tuple[StepId, ...]
    start_after: tuple[StepId, ...]
    withheld_by: tuple[StepId, ...]
    stage: int
    retry: PlannedRetry
    on_failure: OnFailure
    fallback: PlannedCall | None
    persist: Persist
    is_output: bool
    consumers: int

    @property
    def soft(self) -> bool:
        """Whether a step after it may start beside it."""
        return not self.call.changes_image and self.fallback is None

    @property
    def only_looks(self) -> bool:
        """Whether its output image is its input, however it ends."""
        return not self.call.changes_image and (self.fallback is None or not self.fallback.changes_image)


@dataclass(frozen=True, slots=True)
class PlannedOutput:
    """Which step's component encodes the final image, and whose pixels those are when every step succeeds.

    `source` is `step_id` itself, or the step that a looker took its pixels from (None: the pipeline's input);
    the looker must then be told to answer an image all the same. `also_feeds`: other steps take the output
    step's own image too, as raw pixels, so that it cannot be encoded in the same call.
    """

    step_id: StepId
    source: StepId | None
    also_feeds: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """A pipeline that can run. `steps` are in an order in which they may run one by one."""

    pipeline_id: PipelineId
    version: PipelineVersion | None
    steps: tuple[PlannedStep, ...]
    output: PlannedOutput
    fail_fast: bool
    timeout: timedelta
