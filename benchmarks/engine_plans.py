"""What planning and scheduling cost, by the size of the plan; nothing is called."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from time import process_time

from imageflow.v1.pipeline_pb2 import Pipeline
from imageflow_orchestrator.definition import StepId
from imageflow_orchestrator.effects import AttemptSucceeded, StartAttempt
from imageflow_orchestrator.planned import Plan, PlannedInput, PlannedStep
from imageflow_orchestrator.planner import plan_given
from imageflow_orchestrator.state import advance, begin

from .engine_site import Site, chain, fan

PLANNED_STEPS = 1_000
"""The most that a pipeline may have."""
SCHEDULED_STEPS = (10, 100, 1_000, 5_000)


def validation_ms(site: Site, shape: Callable[[int], Pipeline], times: int) -> list[float]:
    """Milliseconds of the processor for a plan of a thousand steps, from the message to the plan."""
    pipeline = shape(PLANNED_STEPS)
    return [_spent_ms(lambda: _plan(site, pipeline)) for _ in range(times)]


def scheduling_us(site: Site, size: int, times: int) -> list[float]:
    """Microseconds of the processor for each step of a chain that succeeds, its beginning included."""
    plan = longer(_plan(site, chain(3)), size)
    return [_spent_ms(lambda: _run_through(plan)) / size * 1e3 for _ in range(times)]


def validated(site: Site, times: int) -> dict[str, list[float]]:
    """By shape."""
    return {"linear": validation_ms(site, chain, times), "wide": validation_ms(site, fan, times)}


def longer(plan: Plan, size: int) -> Plan:
    """A chain of so many steps, also of more than a definition may have."""
    first, middle, last = plan.steps
    steps = [first, *(_renamed(middle, number) for number in range(1, size - 1)), _renamed(last, size - 1)]
    output = replace(plan.output, step_id=steps[-1].step_id, source=steps[-1].step_id)
    return replace(plan, steps=tuple(steps), output=output)


def _renamed(step: PlannedStep, number: int) -> PlannedStep:
    before = StepId(f"s{number - 1}")
    fed = step.call.inputs[0]
    call = replace(step.call, inputs=(PlannedInput(fed.slot, fed.position, before, before),))
    return replace(
        step, step_id=StepId(f"s{number}"), call=call, dependencies=(before,), start_after=(before,), stage=number
    )


def _plan(site: Site, pipeline: Pipeline) -> Plan:
    return plan_given(pipeline, site.orchestrator.catalog, {})


def _run_through(plan: Plan) -> None:
    state, effects = begin(plan)
    waiting = deque(effect for effect in effects if isinstance(effect, StartAttempt))
    while waiting:
        start = waiting.popleft()
        state, effects = advance(state, AttemptSucceeded(start.step_id, start.attempt))
        waiting += [effect for effect in effects if isinstance(effect, StartAttempt)]
    assert state.finished


def _spent_ms(work: Callable[[], object]) -> float:
    started = process_time()
    work()
    return (process_time() - started) * 1e3
