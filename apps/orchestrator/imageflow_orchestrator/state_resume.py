"""What stands of an interrupted execution, and what has to run again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import chain

from .definition import StepId
from .effects import Status, StepOutcome
from .planned import Plan, PlannedStep
from .state_track import feeding


def standing(plan: Plan, known: Mapping[StepId, StepOutcome], lost: Collection[StepId]) -> dict[StepId, StepOutcome]:
    """The outcomes that came of the steps themselves and hold still, in the plan's order.

    One that passed does not hold when its output is asked for and is no longer there.
    """
    there = _with_output(plan, known, lost)
    asked_for = {plan.output.step_id}
    found: dict[StepId, StepOutcome] = {}
    for step in reversed(plan.steps):
        outcome = known.get(step.step_id)
        if outcome is not None and _stands(outcome, needed=step.step_id in asked_for, there=step.step_id in there):
            found[step.step_id] = outcome
        else:
            asked_for.update(feeding(step))
    return dict(reversed(found.items()))


def starts_after(plan: Plan, adopted: Mapping[StepId, StepOutcome]) -> dict[StepId, tuple[StepId, ...]]:
    """What each step waits for to start. Nothing is waited for because of a step whose outcome is adopted: a
    looker may stand while what it looked at runs again, and what follows the looker need not wait for that."""
    if not adopted:
        return {step.step_id: step.start_after for step in plan.steps}
    found: dict[StepId, tuple[StepId, ...]] = {}
    for step in plan.steps:
        left = [other for other in step.dependencies if other not in adopted]
        through = [found[other] if other in step.withheld_by else (other,) for other in left]
        found[step.step_id] = tuple(dict.fromkeys(chain.from_iterable(through)))
    return found


def _stands(outcome: StepOutcome, *, needed: bool, there: bool) -> bool:
    if outcome.passed:
        return there or not needed
    return outcome.status is Status.FAILED and outcome.failure is not None


def _with_output(plan: Plan, known: Mapping[StepId, StepOutcome], lost: Collection[StepId]) -> set[StepId]:
    """The steps that had passed and whose output is there.

    Where that is another's image, so must be all outputs by which it came: one of those steps, run again, may
    answer an image where it answered none, or none where it answered one.
    """
    found: set[StepId] = set()
    for step in plan.steps:
        outcome = known.get(step.step_id)
        if outcome is not None and outcome.passed and _is_there(step, outcome, known, found, lost):
            found.add(step.step_id)
    return found


def _is_there(
    step: PlannedStep,
    outcome: StepOutcome,
    known: Mapping[StepId, StepOutcome],
    there: Collection[StepId],
    lost: Collection[StepId],
) -> bool:
    """Whether a step's output is, if `there` has those before it."""
    if outcome.image_source is None:
        return True
    if outcome.image_source == step.step_id:
        return step.step_id not in lost
    came_by = (outcome.call or step.call).passes_on
    return came_by is not None and came_by in there and known[came_by].image_source == outcome.image_source
