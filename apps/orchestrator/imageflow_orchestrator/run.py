"""Performs one execution: does what the state machine says, and tells it what came of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from time import perf_counter

from opentelemetry import metrics, trace

from imageflow_common.errors import ImageFlowError
from imageflow_common.logs import EventLog
from imageflow_common.tally import Tally
from imageflow_common.telemetry import Spans, TracePlace, duration_histogram, place_of

from .admission import Slot
from .call import Answer, StepCaller, Wanted
from .definition import StepId
from .effects import (
    AttemptFailed,
    AttemptSucceeded,
    CancelAttempt,
    CancelRequested,
    Effect,
    Event,
    ExecutionOutcome,
    ExecutionTimedOut,
    Failure,
    Finished,
    ReleaseOutput,
    RetryDue,
    RetryHopeless,
    ScheduleRetry,
    SkipReason,
    StartAttempt,
    StepOutcome,
    StepSettled,
)
from .images import Artifact, ImageTransport
from .measures import Measures
from .plan import Plan, PlannedStep
from .recorded import NOTHING, TakenOver
from .retryable import is_retryable
from .state import advance, resume

log = EventLog(__name__)


@dataclass(slots=True)
class StepTimes:
    """When a step's attempts began and ended, in seconds of perf_counter."""

    first_start: float = 0.0
    last_start: float = 0.0
    end: float = 0.0

    @property
    def processing_ms(self) -> float:
        return max(0.0, self.end - self.first_start) * 1e3

    @property
    def retry_ms(self) -> float:
        return max(0.0, self.last_start - self.first_start) * 1e3


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run came to. `final` is the output image; None unless COMPLETED. `encoded` says whether the output
    step's component encoded it as was asked. `busy_ms` is the time in which at least one step ran, or waited for its
    next attempt. `taken` are
    the steps whose outcome is that of an earlier run. `trace` is where its span is."""

    outcome: ExecutionOutcome
    final: Artifact | None
    encoded: bool
    times: dict[StepId, StepTimes]
    busy_ms: float
    total_ms: float
    taken: frozenset[StepId]
    trace: TracePlace = field(default_factory=TracePlace)


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """The media type and quality (0: the format's default) of the final image."""

    media_type: str
    quality: int = 0


class Instruments:
    """The orchestrator's metrics (R61)."""

    def __init__(
        self, tracers: trace.TracerProvider | None = None, meters: metrics.MeterProvider | None = None
    ) -> None:
        meter = metrics.get_meter("imageflow", meter_provider=meters)
        self.spans = Spans(tracers)
        self.duration = duration_histogram(meter, "imageflow.pipeline.execution.duration", "Time of one execution")
        self.steps = Tally(
            meter, "imageflow.step.executions.total", ("step.type", "status"), description="Steps that ended"
        )
        self.measures = Measures(meter)


_METRIC_STATUS = {"COMPLETED": "success", "CANCELLED": "cancelled"}


def metric_status(status: str) -> str:
    """`success`, `failed` or `cancelled`."""
    return _METRIC_STATUS.get(status, "failed")


@dataclass(slots=True)
class _Busy:
    """How long at least one attempt ran."""

    running: int = 0
    since: float = 0.0
    seconds: float = 0.0

    def start(self) -> None:
        if self.running == 0:
            self.since = perf_counter()
        self.running += 1

    def stop(self) -> None:
        self.running -= 1
        if self.running == 0:
            self.seconds += perf_counter() - self.since


@dataclass(slots=True)
class Run:
    """One execution of a plan over one image. `settled` is told each step's outcome as it becomes final, and the
    step's own image if it has one; `begun` of each attempt. Steps that were `taken` over from an earlier run do not run
    again; `load` brings their images into memory. The `slot` is given back while all that is left waits for a retry."""

    plan: Plan
    input: Artifact
    caller: StepCaller
    transport: ImageTransport
    instruments: Instruments
    namespace: str
    execution_id: str
    output: OutputFormat
    settled: Callable[[StepId, StepOutcome, Artifact | None], None] = lambda _step, _outcome, _image: None
    begun: Callable[[StepId], None] = lambda _step: None
    taken: TakenOver = NOTHING
    load: Callable[[Artifact], Awaitable[None]] | None = None
    slot: Slot | None = None
    trace: TracePlace = field(init=False, default_factory=TracePlace)
    _images: dict[tuple[StepId, int], Artifact] = field(default_factory=dict)
    _last: dict[StepId, Artifact] = field(default_factory=dict)
    _tasks: dict[tuple[StepId, int], asyncio.Task[None]] = field(default_factory=dict)
    _times: dict[StepId, StepTimes] = field(default_factory=dict)
    _busy: _Busy = field(default_factory=_Busy)
    _under_way: _Busy = field(default_factory=_Busy)
    _failed_for: dict[StepId, str] = field(default_factory=dict)
    _steps: dict[StepId, PlannedStep] = field(init=False)
    _group: asyncio.TaskGroup = field(init=False)
    _finished: asyncio.Future[ExecutionOutcome] = field(init=False)
    _deadline: float = field(init=False)
    _state: object = field(init=False)

    async def perform(self) -> RunResult:
        """Runs to the end. When this is cancelled, so are all attempts, and nothing is left behind."""
        started = perf_counter()
        self._steps = {step.step_id: step for step in self.plan.steps}
        self._finished = asyncio.get_running_loop().create_future()
        self._deadline = started + self.plan.timeout.total_seconds()
        attributes = {
            "pipeline.id": self.plan.pipeline_id,
            "execution.id": self.execution_id,
            "operation.type": "execute",
        }
        status, final = "failed", None
        with self.instruments.spans.current("pipeline.execute", attributes) as span:
            self.trace = place_of(span)
            try:
                outcome = await self._until_finished()
                status, final = metric_status(outcome.status), self._final(outcome)
                if outcome.failure is not None:
                    span.set_status(trace.StatusCode.ERROR, outcome.failure.reason)
            except asyncio.CancelledError:
                status = "cancelled"
                raise
            finally:
                self._free_all(keep=final)
                total = perf_counter() - started
                span.set_attribute("status", status)
                pipeline = self.instruments.measures.pipeline(self.plan.pipeline_id)
                self.instruments.duration.record(total, {"pipeline.id": pipeline, "status": status})
        taken = frozenset(self.taken.outcomes.keys() - self._times.keys())
        busy_ms = self._under_way.seconds * 1e3
        return RunResult(outcome, final, self._encoded(outcome), self._times, busy_ms, total * 1e3, taken, self.trace)

    def times_of(self, step_id: StepId) -> StepTimes:
        """When a step's attempts began and ended so far."""
        return self._times.get(step_id, StepTimes())

    def cancel(self, message: str = "cancelled on request") -> None:
        """Ends the run as CANCELLED."""
        self._on(CancelRequested(message))

    async def _until_finished(self) -> ExecutionOutcome:
        """No task raises, so the group does not either: what goes wrong is in `_finished`."""
        self._last.update(self.taken.images)
        self._state, effects = resume(self.plan, self.taken.outcomes, lost=self.taken.lost)
        async with asyncio.TaskGroup() as group:
            self._group = group
            timeout = self.plan.timeout.total_seconds()
            timer = asyncio.get_running_loop().call_later(timeout, self._on, ExecutionTimedOut())
            try:
                self._apply(effects)
                await asyncio.wait([self._finished])
            except asyncio.CancelledError:
                self.cancel("the caller went away")
                raise
            finally:
                timer.cancel()
                for task in self._tasks.values():
                    task.cancel()
        return self._finished.result()

    def _on(self, event: Event) -> None:
        if self._finished.done():
            return
        self._state, effects = advance(self._state, event)  # type: ignore[arg-type]
        self._apply(effects)

    def _apply(self, effects: tuple[Effect, ...]) -> None:
        """An effect that cannot be performed ends the run with its error, rather than leave it waiting for ever."""
        try:
            for effect in effects:
                self._do(effect)
        except Exception as exc:
            log.error("execution.broken", execution_id=self.execution_id, exc_info=exc)
            if not self._finished.done():
                self._finished.set_exception(exc)

    def _do(self, effect: Effect) -> None:
        match effect:
            case StartAttempt():
                self._busy.start()
                self._under_way.start()
                self._spawn(effect.step_id, effect.attempt, self._attempt(effect))
            case ScheduleRetry():
                self._under_way.start()
                self._spawn(effect.step_id, effect.attempt, self._retry(effect))
            case CancelAttempt():
                if task := self._tasks.pop((effect.step_id, effect.attempt), None):
                    task.cancel()
            case ReleaseOutput():
                self._release(effect.step_id, effect.attempt)
            case StepSettled():
                self._settle(effect.step_id, effect.outcome)
            case Finished():
                self._finished.set_result(effect.outcome)

    def _spawn(self, step_id: StepId, attempt: int, work: Coroutine[None, None, None]) -> None:
        self._tasks[step_id, attempt] = self._group.create_task(work)

    async def _retry(self, effect: ScheduleRetry) -> None:
        try:
            delay = effect.drawn(random.random()).total_seconds()  # noqa: S311 - spreads load, no secret
            if perf_counter() + delay >= self._deadline:
                self._on(RetryHopeless(effect.step_id, effect.attempt))
                return
            await asyncio.sleep(delay)
            reason = self._failed_for.pop(effect.step_id, "")
            self.instruments.measures.retried(self._steps[effect.step_id].call.component_name, reason)
            self._on(RetryDue(effect.step_id, effect.attempt))
        finally:
            self._under_way.stop()

    async def _attempt(self, start: StartAttempt) -> None:
        try:
            if self.slot is not None:
                await self.slot.acquire()
            times = self._times.setdefault(start.step_id, StepTimes(first_start=perf_counter()))
            times.last_start = perf_counter()
            self.begun(start.step_id)
            event = await self._call(start)
            times.end = perf_counter()
            self._on(event)
        finally:
            self._busy.stop()
            self._under_way.stop()
            if self.slot is not None and not self._busy.running and not self._finished.done():
                self.slot.release()

    async def _call(self, start: StartAttempt) -> Event:
        attributes: dict[str, str | int] = {
            "step.id": start.step_id,
            "step.type": start.call.component_name,
            "execution.id": self.execution_id,
            "attempt": start.attempt,
        }
        with self.instruments.spans.current("step.execute", attributes) as span:
            try:
                answer = await self._answer(start)
            except Exception as exc:
                failure = self._failure(exc, start)
                span.record_exception(exc)
                span.set_status(trace.StatusCode.ERROR, failure.reason)
                self._failed_for[start.step_id] = failure.reason
                self.instruments.measures.failed(start.call.component_name, failure.reason)
                return AttemptFailed(start.step_id, start.attempt, failure)
            self.instruments.measures.answered(span, start.call.component_name, answer)
            if answer.image is not None:
                self._images[start.step_id, start.attempt] = self._last[start.step_id] = answer.image
            return AttemptSucceeded(start.step_id, start.attempt, answer, unchanged=answer.image is None)

    async def _answer(self, start: StartAttempt) -> Answer:
        remaining = self._deadline - perf_counter()
        inputs = [self._source(item.source) for item in start.inputs]
        for image in inputs:
            await self.ensure_loaded(image)
        return await self.caller.attempt(
            start,
            inputs,
            self._wanted(start),
            namespace=self.namespace,
            execution_id=self.execution_id,
            timeout=max(0.001, min(start.call.timeout.total_seconds(), remaining)),
        )

    async def ensure_loaded(self, image: Artifact) -> None:
        """Brings an image that was taken over into memory."""
        if self.load is not None and image.data is None and image.shared_name is None:
            await self.load(image)

    def _wanted(self, start: StartAttempt) -> Wanted:
        output = self.plan.output
        if start.step_id != output.step_id or output.also_feeds:
            return Wanted()
        return Wanted(self.output.media_type, self.output.quality, always=True)

    def _source(self, step_id: StepId | None) -> Artifact:
        return self.input if step_id is None else self._last[step_id]

    def _settle(self, step_id: StepId, outcome: StepOutcome) -> None:
        component = outcome.call.component_name if outcome.call else self._steps[step_id].call.component_name
        if outcome.attempts:
            self.instruments.steps.add(1, component, _step_status(outcome))
        times = self.times_of(step_id)
        log.info(
            "step.finished",
            execution_id=self.execution_id,
            step_id=step_id,
            component=component,
            status=outcome.status,
            attempts=outcome.attempts,
            processing_time_seconds=round(times.processing_ms / 1e3, 4),
            **_why(outcome),
        )
        self.settled(step_id, outcome, self._last.get(step_id))

    def _final(self, outcome: ExecutionOutcome) -> Artifact | None:
        if outcome.status != "COMPLETED":
            return None
        own = self._last.get(self.plan.output.step_id) if outcome.encoded_by_output_step else None
        return own or self._source(outcome.image_source)

    def _encoded(self, outcome: ExecutionOutcome) -> bool:
        output = self.plan.output
        return outcome.encoded_by_output_step and not output.also_feeds and output.step_id in self._last

    def _release(self, step_id: StepId, attempt: int) -> None:
        if image := self._images.pop((step_id, attempt), None):
            self.transport.release(image)

    def _free_all(self, keep: Artifact | None) -> None:
        """The final image is the caller's to release."""
        for image in (self.input, *self.taken.images.values(), *self._images.values()):
            if image is not keep:
                self.transport.release(image)

    def _failure(self, error: Exception, start: StartAttempt) -> Failure:
        """What is no error of the tree is a fault of ours: it is logged whole, told to nobody, and not repeated."""
        if isinstance(error, ImageFlowError):
            retryable = is_retryable(error)
            return Failure(error.code, error.reason, error.message, retryable, error.retry_after, start.step_id)
        log.error(
            "step.broken",
            execution_id=self.execution_id,
            step_id=start.step_id,
            component=start.call.component_name,
            exc_info=error,
        )
        return Failure("INTERNAL", "INTERNAL", "internal error", step_id=start.step_id)


def _step_status(outcome: StepOutcome) -> str:
    """A step whose success was withheld, or that the execution's end stopped, was cancelled."""
    if outcome.skip_reason in (SkipReason.DEPENDENCY_FAILED, SkipReason.EXECUTION_ENDED):
        return "cancelled"
    return metric_status(outcome.status)


def _why(outcome: StepOutcome) -> dict[str, str]:
    if outcome.failure is not None:
        return {"error_type": outcome.failure.reason, "error": outcome.failure.message}
    return {"skip_reason": outcome.skip_reason} if outcome.skip_reason else {}
