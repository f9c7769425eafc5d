"""A pipeline as a person wrote it: nothing is checked yet and nothing filled in.

An identifier that was not given is `""`; any other field that was not given is None, or empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import NewType, TypeAlias

StepId = NewType("StepId", str)
PipelineId = NewType("PipelineId", str)
PipelineVersion = NewType("PipelineVersion", str)
ExecutionId = NewType("ExecutionId", str)
ComponentName = NewType("ComponentName", str)
SlotName = NewType("SlotName", str)

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

PIPELINE_INPUT = StepId("")
"""In `input_from`: the pipeline's own input instead of a step's output."""


class OnFailure(StrEnum):
    """What happens when a step has failed for good."""

    FAIL = "FAIL"
    SKIP = "SKIP"
    FALLBACK = "FALLBACK"


class Persist(StrEnum):
    """Whether a step's output is kept in the store."""

    NEVER = "NEVER"
    ON_FAILURE = "ON_FAILURE"
    ALWAYS = "ALWAYS"


@dataclass(frozen=True, slots=True)
class Resources:
    """What a step needs to run: Kubernetes quantities as text, or a profile.

    A quantity wins over the profile.
    """

    cpu: str | None = None
    memory: str | None = None
    gpu: str | None = None
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and when to try again."""

    max_retries: int | None = None
    backoff_factor: float | None = None
    initial_delay: timedelta | None = None
    max_delay: timedelta | None = None
    jitter: float | None = None


@dataclass(frozen=True, slots=True)
class Fallback:
    """What runs in place of a step that has failed for good."""

    component_name: ComponentName
    component_version: str | None = None
    parameters: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `input_from` maps a slot to a step, or to PIPELINE_INPUT."""

    step_id: StepId
    component_name: ComponentName
    component_version: str | None = None
    dependencies: tuple[StepId, ...] = ()
    parameters: Mapping[str, JsonValue] = field(default_factory=dict)
    input_from: Mapping[SlotName, StepId] = field(default_factory=dict)
    resources: Resources | None = None
    retry_policy: RetryPolicy | None = None
    timeout: timedelta | None = None
    on_failure: OnFailure | None = None
    fallback: Fallback | None = None
    persist: Persist | None = None


@dataclass(frozen=True, slots=True)
class PipelineMetadata:
    """Who made a pipeline, when, what for. Nothing depends on it."""

    created_by: str | None = None
    created_at: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class GlobalParameters:
    """What a request may leave out."""

    input_path: str | None = None
    output_path: str | None = None
    execution_id: ExecutionId | None = None


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A definition."""

    pipeline_id: PipelineId
    steps: tuple[Step, ...]
    version: PipelineVersion | None = None
    pipeline_name: str | None = None
    metadata: PipelineMetadata = PipelineMetadata()
    output_step: StepId | None = None
    fail_fast: bool = False
    timeout: timedelta | None = None
    global_parameters: GlobalParameters = GlobalParameters()
