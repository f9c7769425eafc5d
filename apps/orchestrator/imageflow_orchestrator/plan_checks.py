"""The faults that show in a definition alone: sizes, ids, times, retry policies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence, Sized
from datetime import timedelta
from typing import Protocol

from imageflow_common.errors import InvalidPipeline

from .definition import OnFailure, Pipeline, RetryPolicy, Step, StepId
from .faults import Faults, quoted

MAX_STEPS = 1_000
MAX_DEPENDENCIES = 10_000
MAX_DURATION = timedelta(hours=24)
MAX_RETRIES = 100
MAX_BACKOFF_FACTOR = 100

_STEP_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
_ID = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,128}")


class Linked(Protocol):
    """A step, as a message or as it was read."""

    @property
    def dependencies(self) -> Sized: ...

    @property
    def input_from(self) -> Sized: ...


def refuse_oversize(steps: Sequence[Linked]) -> None:
    """Raises InvalidPipeline, at once and with nothing else, for more than can be looked at."""
    faults = Faults()
    if len(steps) > MAX_STEPS:
        faults.add("steps", f"{len(steps):,} steps; at most {MAX_STEPS:,} are allowed")
    edges = sum(len(step.dependencies) + len(step.input_from) for step in steps[: MAX_STEPS + 1])
    if edges > MAX_DEPENDENCIES:
        faults.add("steps", f"{edges:,} dependencies in all; at most {MAX_DEPENDENCIES:,} are allowed")
    raise_any(faults)


def raise_any(faults: Faults) -> None:
    """Raises InvalidPipeline with the faults there are; returns when there is none."""
    if not faults.violations:
        return
    first, *rest = faults.violations
    more = f" (and {len(rest):,} more)" if rest else ""
    message = f"the pipeline cannot run: {first.field}: {first.description}{more}"
    raise InvalidPipeline(message, violations=faults.violations)


def check_pipeline(pipeline: Pipeline, faults: Faults, *, stored: bool) -> None:
    """What the pipeline says of itself. A stored one needs a version, and has no execution's id."""
    _check_id("pipelineId", pipeline.pipeline_id, faults)
    if pipeline.version or stored:
        _check_id("version", pipeline.version or "", faults)
    execution_id = pipeline.global_parameters.execution_id
    if execution_id and stored:
        faults.add("globalParameters.executionId", "a stored definition cannot hold the id of an execution")
    elif execution_id:
        _check_id("globalParameters.executionId", execution_id, faults)
    if not pipeline.steps:
        faults.add("steps", "a pipeline needs at least one step")
    _check_timeout("timeout", pipeline.timeout, faults)


def name_steps(steps: Iterable[Step], faults: Faults) -> tuple[list[str], dict[StepId, int]]:
    """Each step's path, such as `steps[resize]`, and the place of each id.

    A step whose id is missing, wrong or taken is `steps[3]`, and the id is a fault.
    """
    paths: list[str] = []
    places: dict[StepId, int] = {}
    for place, step in enumerate(steps):
        fault = _id_fault(step.step_id, places)
        paths.append(f"steps[{place if fault else step.step_id}]")
        if fault:
            faults.add(f"{paths[-1]}.stepId", fault)
        if step.step_id:
            places.setdefault(step.step_id, place)
    return paths, places


def check_step(path: str, step: Step, faults: Faults) -> None:
    """A step's times, its retries, and whether it says what happens on failure."""
    _check_timeout(f"{path}.timeout", step.timeout, faults)
    if step.retry_policy is not None:
        _check_retry(f"{path}.retryPolicy", step.retry_policy, faults)
    if step.on_failure is OnFailure.FALLBACK and step.fallback is None:
        faults.add(f"{path}.fallback", "onFailure is FALLBACK, but no fallback is given")
    if step.on_failure is not OnFailure.FALLBACK and step.fallback is not None:
        faults.add(f"{path}.onFailure", "a fallback is given, so onFailure must be FALLBACK")


def _id_fault(step_id: StepId, taken: dict[StepId, int]) -> str | None:
    if not step_id:
        return "missing"
    if not _STEP_ID.fullmatch(step_id):
        return f"{quoted(step_id)} is not an id: a letter or _, then at most 62 letters, digits, _ or -"
    if step_id in taken:
        return f"{step_id!r} is the id of steps[{taken[step_id]}] already"
    return None


def _check_id(path: str, value: str, faults: Faults) -> None:
    if not value:
        faults.add(path, "missing")
    elif not _ID.fullmatch(value):
        faults.add(path, f"{quoted(value)} is not an id: 1 to 128 letters, digits, '.', '_' or '-'")


def _check_timeout(path: str, value: timedelta | None, faults: Faults) -> None:
    if value is not None and not timedelta(0) < value <= MAX_DURATION:
        faults.add(path, f"{value.total_seconds():g} s is not more than 0 and at most 24 hours")


def _check_retry(path: str, policy: RetryPolicy, faults: Faults) -> None:
    _check_range(f"{path}.maxRetries", policy.max_retries, 0, MAX_RETRIES, faults)
    _check_range(f"{path}.backoffFactor", policy.backoff_factor, 1, MAX_BACKOFF_FACTOR, faults)
    _check_range(f"{path}.jitter", policy.jitter, 0, 1, faults)
    _check_delay(f"{path}.initialDelay", policy.initial_delay, faults)
    _check_delay(f"{path}.maxDelay", policy.max_delay, faults)
    first, cap = policy.initial_delay, policy.max_delay
    if first is not None and cap is not None and first > cap:
        faults.add(f"{path}.maxDelay", "less than initialDelay")


def _check_range(path: str, value: float | None, low: int, high: int, faults: Faults) -> None:
    if value is not None and not low <= value <= high:  # false for NaN too
        faults.add(path, f"{value:g} is not between {low} and {high}")


def _check_delay(path: str, value: timedelta | None, faults: Faults) -> None:
    if value is not None and not timedelta(0) <= value <= MAX_DURATION:
        faults.add(path, f"{value.total_seconds():g} s is not between 0 and 24 hours")
