"""What a plan would cost, from what components say of the requests they have had."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from imageflow.v1.component_pb2 import RunningAverages

from .component_spec import Target
from .definition import StepId
from .plan import Plan

_RGB_BYTES = 3
_INPUT_AND_OUTPUT = 2


@dataclass(frozen=True, slots=True)
class Estimate:
    """The mean of a target's requests, whatever their parameters and images were."""

    milliseconds: float
    memory_bytes: int


def estimate_plan(plan: Plan, averages: Callable[[Target], RunningAverages]) -> dict[StepId, Estimate]:
    """The estimates of those steps whose target has had requests."""
    known = {step.step_id: averages(step.call.target) for step in plan.steps}
    return {step_id: _estimate(average) for step_id, average in known.items() if average.requests}


def longest_path_ms(plan: Plan, estimates: Mapping[StepId, Estimate]) -> float | None:
    """The time of the steps that wait for each other longest. None: it is not known of every step."""
    if any(step.step_id not in estimates for step in plan.steps):
        return None
    ends: dict[StepId, float] = {}
    for step in plan.steps:
        begins = max((ends[before] for before in step.start_after), default=0.0)
        ends[step.step_id] = begins + estimates[step.step_id].milliseconds
    return max(ends.values())


def _estimate(average: RunningAverages) -> Estimate:
    pixels = average.megapixels * 1e6
    return Estimate(average.processing_ms, round(pixels * _RGB_BYTES * _INPUT_AND_OUTPUT))
