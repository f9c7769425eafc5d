"""Random pipelines, in a small form that the reference reads and in the form that the planner reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random
from typing import Any

from imageflow_orchestrator.component_spec import Catalog
from imageflow_orchestrator.definition import (
    PIPELINE_INPUT,
    ComponentName,
    Fallback,
    OnFailure,
    Persist,
    Pipeline,
    PipelineId,
    RetryPolicy,
    SlotName,
    Step,
    StepId,
)
from imageflow_orchestrator.plan import Plan, plan_execution


@dataclass(frozen=True)
class Node:
    """One step. `feeds` are the steps that feed its slots, the first of them what it passes on when it answers no
    image (None: the pipeline's input); all of them are in `needs`. Times are seconds."""

    name: str
    component: str
    looks: bool
    needs: tuple[str, ...]
    feeds: tuple[str | None, ...]
    on_failure: str
    fallback: str | None
    fallback_looks: bool
    retries: int
    first_delay: float
    factor: float
    longest_delay: float
    jitter: float
    kept_on_failure: bool


@dataclass(frozen=True)
class Dag:
    """Steps in an order in which they may run one by one."""

    nodes: tuple[Node, ...]
    output: str
    fail_fast: bool


_LOOKS = {"resize": False, "filter": False, "blend": False, "paint": False, "look": True, "detect": True}
_INSTEAD = {
    "resize": ["filter", "look"],
    "filter": ["resize", "detect"],
    "look": ["filter", "detect"],
    "detect": ["filter", "look"],
    "blend": ["paint"],
    "paint": ["blend"],
}


def random_dag(random: Random, *, largest: int = 10) -> Dag:
    nodes: list[Node] = []
    for number in range(random.randint(1, largest)):
        nodes.append(_random_node(random, f"s{number}", [node.name for node in nodes]))
    return Dag(tuple(nodes), random.choice(nodes).name, random.random() < 0.3)


def _random_node(random: Random, name: str, earlier: list[str]) -> Node:
    needs = random.sample(earlier, min(len(earlier), random.choice([0, 1, 1, 1, 2, 2, 3])))
    component = random.choice(["resize", "filter", "look", "look", "detect", "blend", "paint"])
    feeds: list[str | None] = [needs[0] if needs else None]
    if random.random() < 0.2:
        feeds = [random.choice([None, *needs])]
    if component in ("blend", "paint"):
        feeds.append(random.choice([None, *needs]))
    on_failure = random.choice(["FAIL", "SKIP", "FALLBACK"])
    fallback = random.choice(_INSTEAD[component]) if on_failure == "FALLBACK" else None
    first_delay = random.choice([0.0, 0.05, 2.0])
    return Node(
        name=name,
        component=component,
        looks=_LOOKS[component],
        needs=tuple(needs),
        feeds=tuple(feeds),
        on_failure=on_failure,
        fallback=fallback,
        fallback_looks=fallback is not None and _LOOKS[fallback],
        retries=random.randint(0, 3),
        first_delay=first_delay,
        factor=random.choice([1.0, 2.0, 10.0]),
        longest_delay=first_delay + random.choice([0.0, 1.0, 60.0]),
        jitter=random.choice([0.0, 0.2, 1.0]),
        kept_on_failure=random.random() < 0.15,
    )


def planned(dag: Dag, catalog: Catalog) -> tuple[Dag, Plan]:
    """The plan, and the steps in its order."""
    steps = tuple(_step(node) for node in dag.nodes)
    pipeline = Pipeline(PipelineId("p"), steps, output_step=StepId(dag.output), fail_fast=dag.fail_fast)
    plan = plan_execution(pipeline, catalog=catalog)
    by_name = {node.name: node for node in dag.nodes}
    return replace(dag, nodes=tuple(by_name[step.step_id] for step in plan.steps)), plan


def _step(node: Node) -> Step:
    slots = ("image", "mask")[: len(node.feeds)]
    options: dict[str, Any] = {}
    if node.fallback is not None:
        options["fallback"] = Fallback(ComponentName(node.fallback))
    return Step(
        StepId(node.name),
        ComponentName(node.component),
        dependencies=tuple(StepId(need) for need in node.needs),
        input_from={
            SlotName(slot): PIPELINE_INPUT if feed is None else StepId(feed)
            for slot, feed in zip(slots, node.feeds, strict=True)
        },
        retry_policy=RetryPolicy(
            node.retries,
            node.factor,
            timedelta(seconds=node.first_delay),
            timedelta(seconds=node.longest_delay),
            node.jitter,
        ),
        on_failure=OnFailure(node.on_failure),
        persist=Persist.ON_FAILURE if node.kept_on_failure else Persist.NEVER,
        **options,
    )
