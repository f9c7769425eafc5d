"""Executions and plans, as people read them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .output import Output, byte_size, message_json, milliseconds

if TYPE_CHECKING:
    from imageflow.v1.execution_pb2 import Execution, StepOutcome
    from imageflow.v1.pipeline_pb2 import Plan

_TIMING_COLUMNS = ("step", "status", "queue", "transport", "decode", "compute", "encode", "retries", "total")


def show_execution(out: Output, execution: Execution, order: Sequence[str] = ()) -> None:
    """The outcome, a timing table in milliseconds, and the error; steps in `order`, the others behind, by id."""
    status = state_name(execution.status)
    version = f" {execution.pipeline_version}" if execution.pipeline_version else ""
    name = f"{execution.pipeline_id}{version}".strip()
    out.line(f"{name}: {status} in {milliseconds(execution.execution_time_ms)} ({execution.execution_id})")
    show_timings(out, execution, order)
    for outcome in _outcomes(execution, order):
        _show_remark(out, outcome)
    if execution.final_output_path:
        out.line(f"output: {execution.final_output_path}")
    if execution.HasField("error"):
        where = f" in step {execution.error.step_id}" if execution.error.step_id else ""
        out.line(f"error{where}: {execution.error.reason or execution.error.code}: {execution.error.message}")


def show_timings(out: Output, execution: Execution, order: Sequence[str] = ()) -> None:
    """Where the time went, step by step, and what no step took, in milliseconds."""
    rows = [_timing_row(outcome) for outcome in _outcomes(execution, order)]
    out.table(_TIMING_COLUMNS, rows, right=_TIMING_COLUMNS[2:])
    timings = execution.timings
    out.line(
        f"orchestrator: overhead {milliseconds(timings.overhead_ms)}, plan {milliseconds(timings.plan_ms)}, "
        f"queue {milliseconds(timings.queue_ms)}, store {milliseconds(timings.store_ms)}"
    )


def show_plan(out: Output, plan: Plan) -> None:
    rows = [
        [
            str(step.stage),
            step.step_id,
            f"{step.component_name} {step.component_version}".strip(),
            ", ".join(f"{slot} ← {source or '(input)'}" for slot, source in step.input_from.items()),
            step.target,
            milliseconds(step.estimated_ms) if step.HasField("estimated_ms") else "?",
            byte_size(step.estimated_memory_bytes) if step.HasField("estimated_memory_bytes") else "?",
            " ".join(f"{name}={json.dumps(value)}" for name, value in sorted(message_json(step.parameters).items())),
        ]
        for step in plan.steps
    ]
    columns = ["stage", "step", "component", "image", "target", "time", "memory", "parameters"]
    out.table(columns, rows, right=["time", "memory"])
    out.line(f"output: {plan.output_step}")
    if plan.HasField("estimated_ms"):
        out.line(f"estimated: {milliseconds(plan.estimated_ms)} along the longest path")


def state_name(state: int) -> str:
    from imageflow.v1.execution_pb2 import Execution

    return Execution.State.Name(state)


def _outcomes(execution: Execution, order: Sequence[str]) -> list[StepOutcome]:
    """A map has no order of its own."""
    places = {step_id: place for place, step_id in enumerate(order)}
    names = sorted(execution.results, key=lambda name: (places.get(name, len(places)), name))
    return [execution.results[name] for name in names]


def _timing_row(outcome: StepOutcome) -> list[str]:
    t = outcome.timings
    parts = (t.queue_ms, t.transport_ms, t.decode_ms, t.compute_ms, t.encode_ms, t.retry_ms)
    figures = [f"{value:.1f}" for value in (*parts, outcome.processing_time_ms)]
    return [outcome.step_id, state_name(outcome.status), *figures]


def _show_remark(out: Output, outcome: StepOutcome) -> None:
    if outcome.message:
        out.line(f"  {outcome.step_id}: {outcome.message}")
