"""From checked drafts to the plan: what may start when, and whose pixels each step takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .definition import OnFailure, Pipeline, RetryPolicy, Step, StepId
from .plan_calls import Binding, DraftCall
from .plan_graph import Graph
from .planned import (
    Plan,
    PlanDefaults,
    PlannedCall,
    PlannedInput,
    PlannedOutput,
    PlannedRetry,
    PlannedStep,
)


@dataclass(frozen=True, slots=True)
class DraftStep:
    """A step without a fault."""

    step: Step
    call: DraftCall
    fallback: DraftCall | None

    def calls(self) -> tuple[DraftCall, ...]:
        return (self.call,) if self.fallback is None else (self.call, self.fallback)

    @property
    def soft(self) -> bool:
        """Whether what depends on it may start beside it: its output is its input, whatever becomes of it."""
        return not self.call.changes_image and self.step.on_failure is not OnFailure.FALLBACK


@dataclass(slots=True)
class _Timing:
    """When each step may start, by its place; filled in the plan's order."""

    stage: dict[int, int] = field(default_factory=dict)
    start_after: dict[int, tuple[int, ...]] = field(default_factory=dict)
    withheld_by: dict[int, tuple[int, ...]] = field(default_factory=dict)


def assemble(
    pipeline: Pipeline, graph: Graph, drafts: Sequence[DraftStep], output: int, defaults: PlanDefaults
) -> Plan:
    """The plan of drafts that have no fault. `output` is the place of the output step."""
    timing = _time(graph, drafts)
    images = _resolve_images(graph, drafts)
    consumers = Counter(images[source] for draft in drafts for source in draft.call.sources())
    consumers[images[output]] += 1
    ids = [draft.step.step_id for draft in drafts]
    plan_call = _CallAssembly(images, ids).plan
    steps = tuple(
        PlannedStep(
            step_id=ids[place],
            call=plan_call(drafts[place].call),
            dependencies=tuple(ids[other] for other in graph.dependencies[place]),
            start_after=tuple(ids[other] for other in timing.start_after[place]),
            withheld_by=tuple(ids[other] for other in timing.withheld_by[place]),
            stage=timing.stage[place],
            retry=fill_retry(drafts[place].step.retry_policy, defaults.retry),
            on_failure=drafts[place].step.on_failure or OnFailure.FAIL,
            fallback=None if (fallback := drafts[place].fallback) is None else plan_call(fallback),
            persist=drafts[place].step.persist or defaults.persist,
            is_output=place == output,
            consumers=consumers[place] if drafts[place].call.changes_image else 0,
        )
        for place in graph.order
    )
    return Plan(
        pipeline_id=pipeline.pipeline_id,
        version=pipeline.version or None,
        steps=steps,
        output=PlannedOutput(ids[output], _id(images[output], ids), _also_feeds(output, drafts)),
        fail_fast=pipeline.fail_fast,
        timeout=pipeline.timeout or defaults.timeout,
    )


def _also_feeds(output: int, drafts: Sequence[DraftStep]) -> bool:
    """Whether the output step may answer an image of its own that another step may take."""
    calls = [call for draft in drafts for call in draft.calls()]
    changes = any(call.changes_image for call in drafts[output].calls())
    return changes and any(output in call.sources() for call in calls)


def fill_retry(policy: RetryPolicy | None, defaults: PlannedRetry) -> PlannedRetry:
    """The policy with its gaps filled.

    Where only one of the two delays is given, the other gives way to it.
    """
    if policy is None:
        return defaults
    first, cap = policy.initial_delay, policy.max_delay
    if first is None:
        first = defaults.initial_delay if cap is None else min(defaults.initial_delay, cap)
    if cap is None:
        cap = max(defaults.max_delay, first)
    return PlannedRetry(
        max_retries=defaults.max_retries if policy.max_retries is None else policy.max_retries,
        initial_delay=first,
        backoff_factor=defaults.backoff_factor if policy.backoff_factor is None else policy.backoff_factor,
        max_delay=cap,
        jitter=defaults.jitter if policy.jitter is None else policy.jitter,
    )


def _time(graph: Graph, drafts: Sequence[DraftStep]) -> _Timing:
    timing = _Timing()
    for place in graph.order:
        dependencies = graph.dependencies[place]
        soft = tuple(other for other in dependencies if drafts[other].soft)
        hard = tuple(other for other in dependencies if not drafts[other].soft)
        later = (timing.stage[other] + (not drafts[other].soft) for other in dependencies)
        timing.stage[place] = max(later, default=0)
        timing.withheld_by[place] = soft
        timing.start_after[place] = _before(hard, [timing.start_after[other] for other in soft])
    return timing


def _before(hard: tuple[int, ...], through_soft: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    if not through_soft:
        return hard
    if not hard and len(through_soft) == 1:
        return through_soft[0]
    return tuple(dict.fromkeys([*hard, *(other for others in through_soft for other in others)]))


def _resolve_images(graph: Graph, drafts: Sequence[DraftStep]) -> Mapping[int | None, int | None]:
    """Whose own image each step's output is when every step succeeds; None: the pipeline's input."""
    images: dict[int | None, int | None] = {None: None}
    for place in graph.order:
        call = drafts[place].call
        passed_on = call.bindings[0].source if call.bindings else None
        images[place] = place if call.changes_image else images[passed_on]
    return images


class _CallAssembly:
    """Makes the calls of one plan; the same parameters of the same component are encoded once."""

    def __init__(self, images: Mapping[int | None, int | None], ids: Sequence[StepId]) -> None:
        self._images = images
        self._ids = ids
        self._encoded: dict[tuple[str, str, str], bytes] = {}

    def plan(self, draft: DraftCall) -> PlannedCall:
        return PlannedCall(
            component_name=draft.component.name,
            component_version=draft.version.version,
            target=draft.target,
            parameters=draft.parameters,
            encoded_parameters=self._encode(draft),
            timeout=draft.timeout,
            changes_image=draft.changes_image,
            inputs=tuple(self._plan_input(binding) for binding in draft.bindings),
        )

    def _plan_input(self, binding: Binding) -> PlannedInput:
        source = self._images[binding.source]
        return PlannedInput(binding.slot, binding.position, _id(binding.source, self._ids), _id(source, self._ids))

    def _encode(self, draft: DraftCall) -> bytes:
        key = draft.component.name, draft.version.version, repr(draft.parameters)  # True, 1 and 1.0 are not the same
        if key not in self._encoded:
            self._encoded[key] = draft.version.schema.encode(draft.parameters)
        return self._encoded[key]


def _id(place: int | None, ids: Sequence[StepId]) -> StepId | None:
    return None if place is None else ids[place]
