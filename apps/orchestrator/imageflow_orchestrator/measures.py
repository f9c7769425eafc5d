"""What an operator of the orchestrator sees besides R61: overhead, waits, retries, where time goes, ways of travel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from opentelemetry import metrics, trace

from imageflow.v1.execution_pb2 import Execution
from imageflow_common.labels import BoundedLabel
from imageflow_common.tally import Tally
from imageflow_common.telemetry import duration_histogram
from imageflow_common.utilization import utilization_gauge

from .admission import Admission
from .call import Answer

MAX_PIPELINES: Final = 200
"""Pipelines with time series of their own; what comes after them is `other`. Callers choose these ids."""
MAX_REASONS: Final = 50
"""Reasons of failed attempts, of which components may make up their own."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many executions were accepted and have not ended, and of how many that ended nobody has been told."""

    pending: int
    untold: int


class Lagging(Protocol):
    """What takes messages, and knows by partition how many there are still."""

    @property
    def lag(self) -> Mapping[int, int]: ...


class Measures:
    """Instruments, and what is recorded with them."""

    def __init__(self, meter: metrics.Meter) -> None:
        self.pipeline = BoundedLabel(MAX_PIPELINES)
        self._reason = BoundedLabel(MAX_REASONS)
        self._meter = meter
        self._overhead = duration_histogram(
            meter, "imageflow.orchestration.overhead", "Time of one execution between its steps and on the way to each"
        )
        self._wait = duration_histogram(meter, "imageflow.queue.wait", "Waiting of one execution for its turn")
        self._parts = Tally(
            meter,
            "imageflow.step.time.total",
            ("step.type", "part"),
            unit="s",
            description="Time of steps' successful attempts, by part",
        )
        self._transport = Tally(
            meter,
            "imageflow.step.transport.total",
            ("step.type", "transport"),
            description="Images sent to components, by how they travelled",
        )
        self._failed = Tally(
            meter,
            "imageflow.step.attempts.failed.total",
            ("step.type", "reason"),
            description="Attempts that failed, by reason",
        )
        self._retried = Tally(
            meter,
            "imageflow.step.retries.total",
            ("step.type", "reason"),
            description="Attempts made again, by the reason of the one before",
        )

    def answered(self, span: trace.Span, component: str, answer: Answer) -> None:
        """An attempt succeeded: where its time went, on the span too."""
        t = answer.result.timings
        parts = {
            "queue": t.queue_ms,
            "transport": answer.transport_ms,
            "decode": t.decode_ms,
            "compute": t.compute_ms,
            "encode": t.encode_ms,
        }
        for part, spent_ms in parts.items():
            self._parts.add(spent_ms / 1e3, component, part)
        self._transport.add(1, component, answer.transport)
        if span.is_recording():
            span.set_attributes({f"{part}_ms": round(spent_ms, 3) for part, spent_ms in parts.items()})
            span.set_attribute("transport", answer.transport)

    def failed(self, component: str, reason: str) -> None:
        self._failed.add(1, component, self._reason(reason))

    def retried(self, component: str, reason: str) -> None:
        self._retried.add(1, component, self._reason(reason))

    def finished(self, execution: Execution) -> None:
        """An execution ended. An orchestrator that has too much to do is late where a step's answer waits to be read,
        which is on the way."""
        on_the_way_ms = sum(each.timings.transport_ms for each in execution.results.values())
        self._overhead.record((execution.timings.overhead_ms + on_the_way_ms) / 1e3)
        self._wait.record(execution.timings.queue_ms / 1e3)

    def watch(self, admission: Admission, backlog: Callable[[], Backlog], queue: Lagging | None) -> None:
        """Reports how many executions run and wait, and how far the broker is behind, each time that metrics are
        collected."""

        def executions(_options: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
            return [
                metrics.Observation(admission.running, {"state": "running"}),
                metrics.Observation(admission.waiting, {"state": "waiting"}),
                metrics.Observation(backlog().pending, {"state": "pending"}),
            ]

        def untold(_options: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
            return [metrics.Observation(backlog().untold)]

        def lag(_options: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
            behind = queue.lag if queue is not None else {}
            return [metrics.Observation(count, {"partition": str(number)}) for number, count in behind.items()]

        def slots(_options: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
            labels = {"component": "orchestrator", "resource_type": "slots"}
            return [metrics.Observation(admission.running / admission.max_running, labels)]

        self._meter.create_observable_gauge(
            "imageflow.executions",
            [executions],
            description="Executions that run, that wait for a slot, and that were accepted and have not ended",
        )
        self._meter.create_observable_gauge(
            "imageflow.bus.outbox",
            [untold],
            description="Executions that have ended and of which the broker has not been told yet",
        )
        self._meter.create_observable_gauge(
            "imageflow.bus.consumer.lag",
            [lag],
            description="Requests of a partition that wait or are worked on",
        )
        utilization_gauge(self._meter, slots)
