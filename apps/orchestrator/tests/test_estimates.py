"""What a plan would cost is what its targets say of their own requests."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imageflow.v1.component_pb2 import RunningAverages
from imageflow_orchestrator.component_spec import Catalog, Target
from imageflow_orchestrator.definition import ComponentName, Pipeline, PipelineId, Step, StepId
from imageflow_orchestrator.estimates import estimate_plan
from imageflow_orchestrator.messages import write_plan
from imageflow_orchestrator.plan import Plan, PlannedCall, PlannedStep, plan_execution


def step(step_id: str, component: str, *dependencies: str) -> Step:
    return Step(StepId(step_id), ComponentName(component), dependencies=tuple(map(StepId, dependencies)))


@pytest.fixture
def fork(catalog: Catalog) -> Plan:
    """Two branches of one root: `b` alone, and `c` before `d`."""
    steps = (step("a", "resize"), step("b", "resize", "a"), step("c", "filter", "a"), step("d", "filter", "c"))
    plan = plan_execution(Pipeline(PipelineId("p"), steps, output_step=StepId("d")), catalog=catalog)
    return replace(plan, steps=tuple(replace(each, call=at_home(each)) for each in plan.steps))


def at_home(planned: PlannedStep) -> PlannedCall:
    """The step's call, at the target of its component."""
    call = planned.call
    return replace(call, target=replace(call.target, address=call.component_name))


def averages(plan: Plan, **milliseconds: float) -> dict[Target, RunningAverages]:
    return {
        step.call.target: RunningAverages(requests=3, processing_ms=milliseconds[step.step_id], megapixels=2.0)
        for step in plan.steps
        if step.step_id in milliseconds
    }


def test_a_plan_takes_as_long_as_its_longest_path(fork: Plan) -> None:
    said = averages(fork, a=10.0, c=7.0)
    written = write_plan(fork, transports={}, estimates=estimate_plan(fork, lambda target: said[target]))
    assert {step.step_id: step.estimated_ms for step in written.steps} == {"a": 10.0, "b": 10.0, "c": 7.0, "d": 7.0}
    assert written.estimated_ms == 24.0


def test_a_step_takes_the_memory_of_its_image_and_of_as_large_an_output(fork: Plan) -> None:
    said = averages(fork, a=10.0, c=7.0)
    written = write_plan(fork, transports={}, estimates=estimate_plan(fork, lambda target: said[target]))
    assert {step.estimated_memory_bytes for step in written.steps} == {12_000_000}


def test_what_is_not_known_of_every_step_is_not_guessed_for_the_plan(fork: Plan) -> None:
    said = averages(fork, a=10.0)
    estimates = estimate_plan(fork, lambda target: said.get(target, RunningAverages()))
    written = write_plan(fork, transports={}, estimates=estimates)
    known = {step.step_id: step.HasField("estimated_ms") for step in written.steps}
    assert known == {"a": True, "b": True, "c": False, "d": False}
    assert not written.HasField("estimated_ms")
