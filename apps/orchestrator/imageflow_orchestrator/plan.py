"""From a definition to a plan, or to every fault that keeps it from running."""

from __future__ import annotations

from collections.abc import Mapping

from .component_spec import Catalog
from .definition import JsonValue, Pipeline
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
    raise NotImplementedError
