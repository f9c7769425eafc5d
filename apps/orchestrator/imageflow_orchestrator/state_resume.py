"""What stands of an interrupted execution, and what has to run again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import chain

from .definition import StepId
from .effects import Status, StepOutcome
from .planned import Plan, PlannedStep
from .state_track import feeding


@dataclass(frozen=True, slots=True)
class Standing:
    """The outcomes that came of the steps themselves and hold still, in the plan's order. Those of the steps in
    `passed_by` hold although the image that they passed on is not there: whoever takes it takes it from the step named
    there instead, which answers it again (None: the pipeline's input)."""

    outcomes: Mapping[StepId, StepOutcome]
    passed_by: Mapping[StepId, StepId | None]

    def feeding(self, step_id: StepId | None) -> StepId | None:
        """The step whose output is to be taken for this one's."""
        while step_id is not None and step_id in self.passed_by:
            step_id = self.passed_by[step_id]
        return step_id


NOTHING_STANDS = Standing({}, {})


def standing(plan: Plan, known: Mapping[StepId, StepOutcome], lost: Collection[StepId]) -> Standing:
    """What stands of what is known. A step's own image does not when it is asked for and no longer there."""
    there = _with_output(plan, known, lost)
    asked_for = {plan.output.step_id}
    found: dict[StepId, StepOutcome] = {}
    passed_by: dict[StepId, StepId | None] = {}
    for step in reversed(plan.steps):
        outcome = known.get(step.step_id)
        needed = step.step_id in asked_for
        if outcome is not None and _stands(outcome, needed=needed, there=step.step_id in there):
            found[step.step_id] = outcome
        elif outcome is not None and _passed_on(step, outcome) and step.step_id not in lost:
            found[step.step_id] = outcome
            source = passed_by[step.step_id] = _came_by(step, outcome)
            asked_for.update(() if source is None else (source,))
        else:
            asked_for.update(feeding(step))
    return Standing(dict(reversed(found.items())), passed_by)


def connected(plan: Plan, stands: Standing) -> Plan:
    """The plan in which a step also waits for what feeds it in place of a step that is passed by."""
    if not stands.passed_by:
        return plan
    soft = {step.step_id for step in plan.steps if step.soft and step.step_id not in stands.outcomes}
    return replace(plan, steps=tuple(_connected(step, stands, soft) for step in plan.steps))


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


def _connected(step: PlannedStep, stands: Standing, soft: Collection[StepId]) -> PlannedStep:
    fed_by = [stands.feeding(fed) for fed in feeding(step) if fed in stands.passed_by]
    new = [fed for fed in dict.fromkeys(fed_by) if fed is not None and fed not in step.dependencies]
    if step.step_id in stands.outcomes or not new:
        return step
    withheld_by = (*step.withheld_by, *(fed for fed in new if fed in soft))
    return replace(step, dependencies=(*step.dependencies, *new), withheld_by=withheld_by)


def _passed_on(step: PlannedStep, outcome: StepOutcome) -> bool:
    """Whether a step passed with the image it was given, and that is all that is asked of it."""
    return outcome.passed and outcome.image_source != step.step_id and not step.is_output


def _stands(outcome: StepOutcome, *, needed: bool, there: bool) -> bool:
    if outcome.passed:
        return there or not needed
    return outcome.status is Status.FAILED and outcome.failure is not None


def _with_output(plan: Plan, known: Mapping[StepId, StepOutcome], lost: Collection[StepId]) -> set[StepId]:
    """The steps that had passed and whose output is there: their own image, or that of one which is among them."""
    found: set[StepId] = set()
    for step in plan.steps:
        outcome = known.get(step.step_id)
        if outcome is None or not outcome.passed or step.step_id in lost:
            continue
        came_by = _came_by(step, outcome)
        if came_by is None or came_by in found:
            found.add(step.step_id)
    return found


def _came_by(step: PlannedStep, outcome: StepOutcome) -> StepId | None:
    """The step whose output a step passed on; None: the pipeline's input, or its image is its own."""
    return None if outcome.image_source == step.step_id else (outcome.call or step.call).passes_on
