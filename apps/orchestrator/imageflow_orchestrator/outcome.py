"""From what a run came to, to the execution that a caller and the record see (R14)."""

from __future__ import annotations

from collections.abc import Container

from imageflow.v1.execution_pb2 import Execution, StepBreakdown, StepOutcome

from . import effects
from .call import Answer
from .catalog import LiveCatalog
from .definition import StepId
from .messages import write_call, write_failure
from .plan import Plan
from .run import RunResult, StepTimes

STATES = {
    effects.Status.PENDING: Execution.PENDING,
    effects.Status.RUNNING: Execution.RUNNING,
    effects.Status.COMPLETED: Execution.COMPLETED,
    effects.Status.FAILED: Execution.FAILED,
    effects.Status.CANCELLED: Execution.CANCELLED,
    effects.Status.SKIPPED: Execution.SKIPPED,
}
SKIP_REASONS = {
    effects.SkipReason.CONDITION_FALSE: StepOutcome.CONDITION_FALSE,
    effects.SkipReason.FAILURE_SKIPPED: StepOutcome.FAILURE_SKIPPED,
    effects.SkipReason.DEPENDENCY_FAILED: StepOutcome.DEPENDENCY_FAILED,
    effects.SkipReason.EXECUTION_ENDED: StepOutcome.EXECUTION_ENDED,
}


def write_outcome(
    execution: Execution,
    plan: Plan,
    result: RunResult,
    catalog: LiveCatalog,
    *,
    with_metadata: bool,
    kept: Container[StepId] = (),
) -> None:
    """Fills in status, error and each step's outcome, but for steps that are `kept` as they are. What components found
    out costs most, so only on demand."""
    outcome = result.outcome
    execution.status = STATES[outcome.status]
    execution.trace_id = result.trace.trace_id
    if outcome.failure is not None:
        execution.error.CopyFrom(write_failure(outcome.failure))
    for step in plan.steps:
        if step.step_id not in kept:
            times = result.times.get(step.step_id, StepTimes())
            described = catalog if with_metadata else None
            write_step(execution, step.step_id, outcome.steps[step.step_id], times, described)


def write_step(
    execution: Execution,
    step_id: StepId,
    outcome: effects.StepOutcome,
    times: StepTimes,
    catalog: LiveCatalog | None,
) -> None:
    """Fills in one step's outcome; with a catalog, what its component found out too."""
    written = execution.results[step_id]
    written.step_id = step_id
    _write_step(outcome, times, written)
    if catalog is not None:
        _write_metadata(outcome, written, catalog)


def _write_step(outcome: effects.StepOutcome, times: StepTimes, written: StepOutcome) -> None:
    written.status = STATES[outcome.status]
    written.attempts = outcome.attempts
    written.processing_time_ms = times.processing_ms
    if outcome.skip_reason is not None:
        written.skip_reason = SKIP_REASONS[outcome.skip_reason]
    write_call(outcome.call, written)
    if outcome.failure is not None:
        written.error.CopyFrom(write_failure(outcome.failure))
        written.message = outcome.failure.message
    elif outcome.because_of is not None:
        written.message = f"{outcome.because_of} did not succeed"
    if isinstance(outcome.result, Answer):
        written.message = outcome.result.result.message or written.message
        written.timings.CopyFrom(breakdown(outcome.result, times))


def _write_metadata(outcome: effects.StepOutcome, written: StepOutcome, catalog: LiveCatalog) -> None:
    if isinstance(outcome.result, Answer) and outcome.call is not None:
        description = catalog.description(outcome.call.component_name, outcome.call.component_version)
        written.metadata.update(description.metadata_json(outcome.result.metadata))


def breakdown(answer: Answer, times: StepTimes) -> StepBreakdown:
    """Where the last attempt's time went."""
    inside = answer.result.timings
    return StepBreakdown(
        queue_ms=inside.queue_ms,
        transport_ms=answer.transport_ms,
        decode_ms=inside.decode_ms,
        compute_ms=inside.compute_ms,
        encode_ms=inside.encode_ms,
        retry_ms=times.retry_ms,
        transport=answer.transport,
    )
