"""From what a run came to, to the execution that a caller and the record see (R14)."""

from __future__ import annotations

from imageflow.v1.execution_pb2 import Execution, StepBreakdown, StepOutcome

from . import effects
from .call import Answer
from .catalog import LiveCatalog
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
    execution: Execution, plan: Plan, result: RunResult, catalog: LiveCatalog, *, with_metadata: bool
) -> None:
    """Fills in status, error and each step's outcome. What components found out costs most, so only on demand."""
    outcome = result.outcome
    execution.status = STATES[outcome.status]
    if outcome.failure is not None:
        execution.error.CopyFrom(write_failure(outcome.failure))
    for step in plan.steps:
        written = execution.results[step.step_id]
        written.step_id = step.step_id
        times = result.times.get(step.step_id, StepTimes())
        _write_step(outcome.steps[step.step_id], times, written)
        if with_metadata:
            _write_metadata(outcome.steps[step.step_id], written, catalog)


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
