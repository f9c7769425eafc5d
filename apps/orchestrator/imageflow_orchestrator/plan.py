"""From a definition to a plan, or to every fault that keeps it from running."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from imageflow_common.errors import Unavailable

from .component_spec import Catalog
from .definition import Fallback, JsonValue, Pipeline, Step, StepId
from .faults import Faults, clipped, listed, quoted
from .plan_assembly import DraftStep, assemble
from .plan_calls import CallPlanner, DraftCall, Wanted, plain
from .plan_checks import check_pipeline, check_step, name_steps, raise_any, refuse_oversize
from .plan_graph import Graph, choose_output, read_graph
from .planned import (
    ASYNCHRONOUS,
    SYNCHRONOUS,
    Plan,
    PlanDefaults,
    PlannedCall,
    PlannedInput,
    PlannedOutput,
    PlannedRetry,
    PlannedStep,
)

__all__ = [
    "ASYNCHRONOUS",
    "SYNCHRONOUS",
    "Plan",
    "PlanDefaults",
    "PlannedCall",
    "PlannedInput",
    "PlannedOutput",
    "PlannedRetry",
    "PlannedStep",
    "plan_execution",
]


def plan_execution(
    pipeline: Pipeline,
    *,
    catalog: Catalog,
    overrides: Mapping[str, JsonValue] | None = None,
    defaults: PlanDefaults = SYNCHRONOUS,
    stored: bool = False,
) -> Plan:
    """Checks a definition and says how it runs; `stored`: it is to be stored, so that more is asked of it.

    `overrides` maps `stepId.parameter` to a value of this run. Raises InvalidPipeline whose violations are
    every fault there is, and Unavailable when there is none but a component has not described itself yet. A
    fault that only follows from another, such as an extra sink because of a misspelt dependency, is not
    reported.
    """
    refuse_oversize(pipeline.steps)
    faults = Faults()
    check_pipeline(pipeline, faults, stored=stored)
    paths, places = name_steps(pipeline.steps, faults)
    graph = read_graph(pipeline.steps, paths, places, faults)
    changed = _read_overrides(overrides or {}, places, faults)
    planner = CallPlanner(catalog, faults)
    drafts = [
        _draft_step(place, step, paths[place], graph, changed.get(place, {}), planner, faults)
        for place, step in enumerate(pipeline.steps)
    ]
    output = choose_output(graph, pipeline.output_step, pipeline.steps, places, faults)
    raise_any(faults)
    if planner.silent:
        names = listed([quoted(name) for name in planner.silent])
        raise Unavailable(f"not reachable yet, so that the pipeline cannot be checked: {names}")
    whole = [draft for draft in drafts if draft is not None]
    assert output is not None
    assert len(whole) == len(drafts)
    return assemble(pipeline, graph, whole, output, defaults)


def _draft_step(
    place: int,
    step: Step,
    path: str,
    graph: Graph,
    overrides: Mapping[str, tuple[str, str, JsonValue]],
    planner: CallPlanner,
    faults: Faults,
) -> DraftStep | None:
    check_step(path, step, faults)
    wanted = Wanted(
        path=path,
        component_name=step.component_name,
        component_version=step.component_version,
        parameters=step.parameters,
        sources=graph.sources[place],
        first=next(iter(graph.written[place]), None),
        overrides=overrides,
        resources=step.resources,
        timeout=step.timeout,
    )
    call = planner.draft(wanted)
    if step.fallback is None:
        return None if call is None else DraftStep(step, call, None)
    fallback = planner.draft(_wanted_instead(wanted, step.fallback))
    if call is None or fallback is None:
        return None
    if _same(call, fallback):
        faults.add(f"{path}.fallback", f"the same call of {call.component.name} that has failed")
    return DraftStep(step, call, fallback)


def _wanted_instead(wanted: Wanted, fallback: Fallback) -> Wanted:
    """A fallback takes the step's inputs and time. Its target is its own: it is often the smaller machine."""
    return replace(
        wanted,
        path=f"{wanted.path}.fallback",
        component_name=fallback.component_name,
        component_version=fallback.component_version,
        parameters=fallback.parameters,
        overrides={},
        resources=None,
    )


def _same(call: DraftCall, fallback: DraftCall) -> bool:
    return call.version is fallback.version and call.parameters == fallback.parameters


def _read_overrides(
    overrides: Mapping[str, JsonValue], places: Mapping[StepId, int], faults: Faults
) -> dict[int, dict[str, tuple[str, str, JsonValue]]]:
    """By step and plain parameter name: the key, the parameter's name as given, and the value."""
    read: dict[int, dict[str, tuple[str, str, JsonValue]]] = {}
    for key, value in overrides.items():
        path = f"overrides[{clipped(key)}]"
        step_id, _, name = key.partition(".")
        place = places.get(StepId(step_id))
        if not name or not step_id:
            faults.add(path, "not of the form stepId.parameter")
        elif place is None:
            faults.add(path, f"there is no step {quoted(step_id)}{faults.suggest(step_id, places)}")
        elif plain(name) in read.setdefault(place, {}):
            faults.add(path, f"given twice, as {quoted(read[place][plain(name)][0])} too")
        else:
            read[place][plain(name)] = (key, name, value)
    return read
