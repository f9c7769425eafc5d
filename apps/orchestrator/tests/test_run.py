"""A run does what the state machine says: it calls, waits, tries again, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from orchestrator_scripted import (
    JPEG,
    QUICK,
    Bench,
    Gate,
    answer,
    bench,
    eventually,
    lines,
    never,
    step,
)

from imageflow.v1.component_pb2 import ComponentRequest, ComponentResponse
from imageflow_common.errors import DeadlineExceeded, InvalidImage, Overloaded, Unavailable
from imageflow_orchestrator.definition import StepId
from imageflow_orchestrator.effects import StepOutcome
from imageflow_orchestrator.images import Artifact
from imageflow_orchestrator.plan import Plan
from imageflow_orchestrator.run import Instruments, OutputFormat, Run, RunResult

PNG = "image/png"


@pytest.fixture(params=["inline", "shared"])
async def at(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """Every behaviour holds however images travel, and nothing is left behind."""
    monkeypatch.setattr("imageflow_orchestrator.images.INLINE_BELOW_BYTES", 1)
    async with bench(tmp_path / "shared" if request.param == "shared" else None) as made:
        yield made
        assert made.files() == []
        assert asyncio.all_tasks() == {asyncio.current_task()}


def run_of(at: Bench, plan: Plan, **options: Any) -> Run:
    return Run(
        plan=plan,
        input=at.transport.input_image(JPEG, "image/jpeg"),
        caller=at.step_caller,
        transport=at.transport,
        instruments=options.pop("instruments", None) or Instruments(),
        namespace="default",
        execution_id="e",
        output=OutputFormat(PNG),
        **options,
    )


async def performed(at: Bench, plan: Plan, **options: Any) -> RunResult:
    result = await run_of(at, plan, **options).perform()
    if result.final is not None:
        at.transport.release(result.final)
    return result


async def final_bytes(at: Bench, plan: Plan) -> bytes:
    result = await run_of(at, plan).perform()
    assert result.final is not None
    data = at.transport.bytes_of(result.final)
    at.transport.release(result.final)
    return data


def statuses(result: RunResult) -> dict[str, str]:
    return {step_id: str(outcome.status) for step_id, outcome in result.outcome.steps.items()}


async def test_each_step_takes_the_image_of_the_one_before_and_the_last_encodes(at: Bench) -> None:
    """R13"""
    plan = at.plan(step("a", "resize"), step("b", "filter", "a"), step("c", "filter", "b"))

    assert await final_bytes(at, plan) == b"c#1"

    asked = {call.step_id: call.request.output.media_type for call in at.caller.calls}
    assert asked == {"a": "image/x-raw", "b": "image/x-raw", "c": PNG}
    if at.directory is None:
        assert [call.input for call in at.caller.calls] == [JPEG, b"a#1", b"b#1"]


async def test_independent_steps_run_at_the_same_time(at: Bench) -> None:
    """R12"""
    gates = [Gate(), Gate()]
    at.caller.script = {"b": [gates[0]], "c": [gates[1]]}
    plan = at.plan(step("a"), step("b", "filter", "a"), step("c", "filter", "a"), outputStep="c")
    running = asyncio.create_task(performed(at, plan))

    await eventually(lambda: at.caller.running == {"b", "c"})
    for gate in gates:
        gate.open()

    assert (await running).outcome.status == "COMPLETED"


async def test_what_follows_a_looker_starts_beside_it_and_counts_only_when_it_has_succeeded(at: Bench) -> None:
    gate = Gate()
    settled: list[str] = []
    at.caller.script = {"look": [gate]}
    plan = at.plan(step("a"), step("look", "detect", "a"), step("b", "filter", "look"))

    def note(step_id: StepId, outcome: StepOutcome, image: Artifact | None) -> None:
        settled.append(step_id)

    running = asyncio.create_task(performed(at, plan, settled=note))
    await eventually(lambda: len(at.caller.called("b")) == 1 and at.caller.running == {"look"})
    assert settled == ["a"]
    gate.open()

    assert (await running).outcome.status == "COMPLETED"
    assert settled == ["a", "look", "b"]


async def test_the_withheld_result_of_a_failed_lookers_follower_counts_for_nothing(at: Bench) -> None:
    gate = Gate(then=InvalidImage("it cannot look at this"))
    at.caller.script = {"look": [gate]}
    plan = at.plan(step("a"), step("look", "detect", "a"), step("b", "filter", "look"))
    running = asyncio.create_task(performed(at, plan))
    await eventually(lambda: len(at.caller.called("b")) == 1 and at.caller.running == {"look"})
    gate.open()

    result = await running

    assert statuses(result) == {"a": "COMPLETED", "look": "FAILED", "b": "SKIPPED"}
    assert result.final is None


async def test_a_looker_as_the_output_step_encodes_what_it_looked_at(at: Bench) -> None:
    plan = at.plan(step("a"), step("look", "detect", "a"))

    result = await performed(at, plan)

    assert result.encoded
    assert at.caller.called("look")[0].request.output.always


async def test_an_output_step_that_feeds_others_answers_raw_pixels(at: Bench) -> None:
    plan = at.plan(step("a"), step("b", "filter", "a"), outputStep="a")

    result = await performed(at, plan)

    assert not result.encoded
    assert at.caller.called("a")[0].request.output.media_type == "image/x-raw"


async def test_an_output_step_that_answers_no_image_passes_its_input_on(at: Bench) -> None:
    at.caller.script = {"b": [ComponentResponse()]}
    plan = at.plan(step("a"), step("b", "filter", "a"))

    result = await run_of(at, plan).perform()

    assert result.final is not None
    assert (at.transport.bytes_of(result.final), result.encoded) == (b"a#1", False)
    at.transport.release(result.final)


@pytest.mark.parametrize("error", [Unavailable("x"), DeadlineExceeded("x"), Overloaded("x")])
async def test_an_error_that_may_pass_is_tried_again_within_the_policy(at: Bench, error: Exception) -> None:
    """R50"""
    at.caller.script = {"a": [error, error]}
    plan = at.plan(step("a", retryPolicy={"maxRetries": 2, **QUICK}))

    result = await performed(at, plan)

    assert result.outcome.status == "COMPLETED"
    assert [call.attempt for call in at.caller.calls] == [1, 2, 3]


async def test_an_error_that_cannot_pass_is_not_tried_again(at: Bench) -> None:
    """R50"""
    at.caller.script = {"a": [InvalidImage("not an image")]}

    result = await performed(at, at.plan(step("a", retryPolicy={"maxRetries": 5, **QUICK})))

    assert len(at.caller.calls) == 1
    assert result.outcome.failure is not None
    assert (result.outcome.failure.reason, result.outcome.failure.step_id) == ("INVALID_IMAGE", "a")


async def test_the_delay_grows_by_the_factor_up_to_the_cap(at: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """R50"""
    slept: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds:
            slept.append(seconds)
        await real(0)

    monkeypatch.setattr("imageflow_orchestrator.run.asyncio.sleep", sleep)
    at.caller.script = {"a": [Unavailable("x")] * 4}
    policy = {"maxRetries": 4, "initialDelay": "10s", "backoffFactor": 3, "maxDelay": "60s", "jitter": 0}

    await performed(at, at.plan(step("a", retryPolicy=policy), timeout="3600s"))

    assert slept == [10, 30, 60, 60]


async def test_a_failed_step_leaves_independent_branches_alone(at: Bench) -> None:
    """R51"""
    at.caller.script = {"b": [InvalidImage("x")]}
    plan = at.plan(
        step("a"), step("b", "filter", "a"), step("c", "filter", "a"), step("d", "filter", "b"), outputStep="c"
    )

    result = await performed(at, plan)

    assert result.outcome.status == "FAILED"
    assert statuses(result) == {"a": "COMPLETED", "b": "FAILED", "c": "COMPLETED", "d": "SKIPPED"}


async def test_fail_fast_ends_the_other_branches(at: Bench) -> None:
    """R51"""
    at.caller.script = {"a": [InvalidImage("x")], "b": [never]}
    plan = at.plan(step("b"), step("a"), outputStep="b", failFast=True)

    result = await performed(at, plan)

    assert statuses(result) == {"a": "FAILED", "b": "CANCELLED"}
    assert at.caller.cancelled == ["b"]


async def test_a_step_that_may_be_skipped_passes_its_input_through(at: Bench) -> None:
    """R52"""
    at.caller.script = {"b": [InvalidImage("x")]}
    plan = at.plan(step("a"), step("b", "filter", "a", onFailure="SKIP"))

    result = await run_of(at, plan).perform()

    assert result.outcome.status == "COMPLETED"
    assert result.final is not None
    assert (at.transport.bytes_of(result.final), result.encoded) == (b"a#1", False)
    at.transport.release(result.final)


async def test_a_fallback_runs_in_a_failed_steps_place(at: Bench) -> None:
    """R52"""
    at.caller.script = {"a": [InvalidImage("x")]}
    fallback = {"componentName": "resize", "parameters": {"width": 5}}

    result = await performed(at, at.plan(step("a", onFailure="FALLBACK", fallback=fallback)))

    assert result.outcome.status == "COMPLETED"
    assert [(call.component, call.attempt) for call in at.caller.calls] == [("filter", 1), ("resize", 2)]


async def test_an_execution_that_takes_too_long_fails_and_its_attempts_are_cancelled(at: Bench) -> None:
    """R54"""
    at.caller.script = {"a": [never]}

    result = await performed(at, at.plan(step("a"), timeout="0.05s"))

    assert result.outcome.status == "FAILED"
    assert result.outcome.failure is not None
    assert result.outcome.failure.reason == "EXECUTION_TIMED_OUT"
    assert at.caller.cancelled == ["a"]


async def test_an_attempt_gets_the_steps_time_or_what_is_left_of_the_executions(at: Bench) -> None:
    """R54: deadlines travel with the calls."""
    await performed(at, at.plan(step("a", timeout="7s"), step("b", "filter", "a", timeout="90s"), timeout="20s"))

    first, second = (call.timeout for call in at.caller.calls)
    assert first == pytest.approx(7, abs=1)
    assert 15 < second <= 20


async def test_a_cancelled_run_ends_as_cancelled(at: Bench) -> None:
    """R54"""
    at.caller.script = {"b": [never]}
    run = run_of(at, at.plan(step("a"), step("b", "filter", "a"), step("c", "filter", "b")))
    performing = asyncio.create_task(run.perform())
    await eventually(lambda: at.caller.running == {"b"})

    run.cancel()
    result = await performing

    assert statuses(result) == {"a": "COMPLETED", "b": "CANCELLED", "c": "SKIPPED"}
    assert at.caller.cancelled == ["b"]


async def test_a_run_whose_caller_goes_away_cancels_its_attempts_and_frees_every_image(at: Bench) -> None:
    at.caller.script = {"b": [never], "c": [Unavailable("x")]}
    settled: list[tuple[str, str]] = []
    plan = at.plan(
        step("a"),
        step("b", "filter", "a"),
        step("c", "filter", "a", retryPolicy={"initialDelay": "60s", "maxDelay": "60s"}),
        outputStep="b",
    )
    run = run_of(at, plan, settled=lambda step_id, outcome, _: settled.append((step_id, str(outcome.status))))
    performing = asyncio.create_task(run.perform())
    await eventually(lambda: at.caller.running == {"b"} and len(at.caller.called("c")) == 1)

    performing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await performing

    assert at.caller.cancelled == ["b"]
    assert settled == [("a", "COMPLETED"), ("b", "CANCELLED"), ("c", "CANCELLED")]


@pytest.mark.parametrize("error", [ZeroDivisionError("/secret/path"), KeyError("k"), ExceptionGroup("g", [OSError()])])
async def test_a_bug_in_an_attempt_fails_the_step_as_internal_and_only_the_log_says_more(
    at: Bench, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    at.caller.script = {"a": [error]}
    plan = at.plan(step("a"), step("b"), outputStep="b")

    result = await performed(at, plan)

    assert statuses(result) == {"a": "FAILED", "b": "COMPLETED"}
    assert len(at.caller.called("a")) == 1
    failure = result.outcome.steps[StepId("a")].failure
    assert failure is not None
    assert (failure.code, failure.message) == ("INTERNAL", "internal error")
    (record,) = [record for record in caplog.records if record.getMessage() == "step.broken"]
    assert record.exc_info is not None
    assert record.exc_info[1] is error


@pytest.mark.parametrize("outcome", ["success", "failure", "timeout"])
async def test_a_bug_in_who_is_told_ends_the_run_with_the_original_error(at: Bench, outcome: str) -> None:
    script: dict[str, Any] = {"success": [], "failure": [InvalidImage("x")], "timeout": [never]}
    at.caller.script = {"a": script[outcome]}

    def break_down(step_id: StepId, outcome: StepOutcome, image: Artifact | None) -> None:
        raise ZeroDivisionError("ours")

    with pytest.raises(ZeroDivisionError, match="ours"):
        await performed(at, at.plan(step("a"), step("b"), outputStep="a", timeout="0.05s"), settled=break_down)


async def test_an_answer_that_is_not_what_was_asked_fails_the_step(at: Bench) -> None:
    async def wrong(request: ComponentRequest) -> ComponentResponse:
        response = answer(request)
        response.image.media_type = "image/gif"
        return response

    at.caller.script = {"a": [wrong]}

    result = await performed(at, at.plan(step("a", retryPolicy={"maxRetries": 0})))

    assert result.outcome.failure is not None
    assert result.outcome.failure.reason == "BAD_ANSWER"


async def test_a_step_takes_the_image_that_input_from_names(at: Bench) -> None:
    """R13"""
    plan = at.plan(
        step("a"), step("b"), step("c", "filter", "a", "b", inputFrom={"image": "b"}), step("d", "filter", "c")
    )

    await performed(at, plan)

    if at.directory is None:
        assert at.caller.called("c")[0].input == b"b#1"


async def test_every_step_and_attempt_has_a_span_and_every_outcome_a_number(at: Bench) -> None:
    """R60, R61"""
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider([reader])
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    instruments = Instruments(tracers, meters)
    at.caller.script = {"a": [Unavailable("x")], "b": [InvalidImage("x")]}
    plan = at.plan(step("a", "resize", retryPolicy=QUICK), step("b", "filter", "a"), step("c", "filter", "b"))

    await performed(at, plan, instruments=instruments)

    spans = exporter.get_finished_spans()
    (root,) = [span for span in spans if span.name == "pipeline.execute"]
    steps = [span for span in spans if span.name == "step.execute"]
    assert root.attributes is not None
    assert {"pipeline.id": "p", "execution.id": "e", "operation.type": "execute"}.items() <= root.attributes.items()
    assert root.status.status_code is StatusCode.ERROR
    assert all(span.parent is not None and span.parent.span_id == root.context.span_id for span in steps)
    attributes = [span.attributes or {} for span in steps]
    assert [(each["step.id"], each["step.type"], each["attempt"]) for each in attributes] == [
        ("a", "resize", 1),
        ("a", "resize", 2),
        ("b", "filter", 1),
    ]
    assert [span.status.status_code for span in steps] == [StatusCode.ERROR, StatusCode.UNSET, StatusCode.ERROR]
    assert _points(reader, "imageflow.step.executions.total") == [
        {"step.type": "resize", "status": "success"},
        {"step.type": "filter", "status": "failed"},
    ]
    assert _points(reader, "imageflow.pipeline.execution.duration") == [{"pipeline.id": "p", "status": "failed"}]
    failed = {"step.type": "resize", "reason": "UNAVAILABLE"}, {"step.type": "filter", "reason": "INVALID_IMAGE"}
    assert _points(reader, "imageflow.step.attempts.failed.total") == [*failed]
    assert _points(reader, "imageflow.step.retries.total") == [failed[0]]
    parts = [(each["step.type"], each["part"]) for each in _points(reader, "imageflow.step.time.total")]
    assert parts == [("resize", part) for part in ("queue", "transport", "decode", "compute", "encode")]
    assert [each["step.type"] for each in _points(reader, "imageflow.step.transport.total")] == ["resize"]
    assert {"queue_ms", "transport_ms", "decode_ms", "compute_ms", "encode_ms", "transport"} <= attributes[1].keys()


async def test_a_result_says_which_trace_has_it(at: Bench) -> None:
    """R67"""
    exporter, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))

    result = await performed(at, at.plan(step("a")), instruments=Instruments(tracers))

    (root,) = [span for span in exporter.get_finished_spans() if span.name == "pipeline.execute"]
    (header,) = result.trace.response_metadata()
    assert header == ("traceresponse", f"00-{root.context.trace_id:032x}-{root.context.span_id:016x}-01")
    untraced = await performed(at, at.plan(step("a")))
    assert untraced.trace.response_metadata() == []


async def test_a_run_whose_caller_goes_away_is_counted_as_cancelled(at: Bench) -> None:
    """R61"""
    reader = InMemoryMetricReader()
    at.caller.script = {"a": [never]}
    run = run_of(at, at.plan(step("a")), instruments=Instruments(TracerProvider(), MeterProvider([reader])))
    performing = asyncio.create_task(run.perform())
    await eventually(lambda: bool(at.caller.running))

    performing.cancel()
    await asyncio.wait([performing])

    assert _points(reader, "imageflow.pipeline.execution.duration") == [{"pipeline.id": "p", "status": "cancelled"}]
    assert _points(reader, "imageflow.step.executions.total") == [{"step.type": "filter", "status": "cancelled"}]


def _points(reader: InMemoryMetricReader, name: str) -> list[dict[str, Any]]:
    data = reader.get_metrics_data()
    assert data is not None
    metrics = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics if m.name == name]
    return [dict(point.attributes or {}) for metric in metrics for point in metric.data.data_points]


async def test_every_steps_outcome_is_one_line_of_the_log(at: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """R62"""
    caplog.set_level(logging.INFO)
    at.caller.script = {"b": [InvalidImage("no image")]}

    await performed(at, at.plan(step("a", "resize"), step("b", "filter", "a"), step("c", "detect", "b")))

    a, b, c = lines(caplog, "step.finished")
    assert a.pop("processing_time_seconds") >= 0
    assert a == {"execution_id": "e", "step_id": "a", "component": "resize", "status": "COMPLETED", "attempts": 1}
    assert (b["status"], b["error_type"], b["error"]) == ("FAILED", "INVALID_IMAGE", "no image")
    assert (c["status"], c["component"], c["skip_reason"]) == ("SKIPPED", "detect", "DEPENDENCY_FAILED")


async def test_retries_end_at_once_when_the_next_would_come_after_the_deadline(at: Bench) -> None:
    """R50: the step fails with its own error, not with the execution's time-out."""
    at.caller.script = {"a": [Unavailable("gone")]}
    policy = {"maxRetries": 5, "initialDelay": "50s", "maxDelay": "50s", "jitter": 0}

    result = await performed(at, at.plan(step("a", retryPolicy=policy), timeout="20s"))

    assert result.outcome.failure is not None
    assert result.outcome.failure.reason == "UNAVAILABLE"
    assert len(at.caller.calls) == 1
