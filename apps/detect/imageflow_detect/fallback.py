"""Inference on the backend that is configured, or on another where that cannot be had."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from time import perf_counter

from opentelemetry import metrics, trace

from imageflow_common.durations import Recorder
from imageflow_common.errors import ImageFlowError
from imageflow_common.logs import EventLog
from imageflow_common.telemetry import Spans, duration_histogram
from imageflow_detect.backend import Backend, BackendUnavailable, ModelNotServed
from imageflow_detect.models import Model
from imageflow_detect.tensors import Array, Tensor

log = EventLog(__name__)


@dataclass(frozen=True, slots=True)
class Ran:
    """Where a model ran, and why not where it should have; empty where it did."""

    backend: str
    fallback_reason: str = ""


class Inference:
    """All that is inferred for one question, by one thread. Once the backend cannot be had, everything that follows is
    the fallback's; without a fallback that is an error."""

    def __init__(self, backend: Backend, fallback: Backend | None = None) -> None:
        self._backend = backend
        self._fallback = fallback
        self.ran = Ran(backend.name)

    def prepare(self, model: Model) -> None:
        """See Backend."""
        try:
            self._backend.prepare(model)
        except (BackendUnavailable, ModelNotServed) as exc:
            self._fall_back(exc)
            self._backend.prepare(model)

    def infer(self, model: Model, tensor: Tensor) -> tuple[Array, ...]:
        """See Backend."""
        try:
            return self._infer(model, tensor)
        except (BackendUnavailable, ModelNotServed) as exc:
            self._fall_back(exc)
            return self._infer(model, tensor)

    def _infer(self, model: Model, tensor: Tensor) -> tuple[Array, ...]:
        labels = {"model": model.name, "backend": self._backend.name}
        begun, status = perf_counter(), "failed"
        try:
            with _spans().current("model.infer", {**labels, "version": model.version}, kind=trace.SpanKind.CLIENT):
                answer = self._backend.infer(model, tensor)
            status = "success"
        finally:
            _duration().record(perf_counter() - begun, {**labels, "status": status})
        return answer

    def _fall_back(self, error: ImageFlowError) -> None:
        if self._fallback is None:
            raise error
        log.warning("detect.fallback", backend=self._fallback.name, reason=error.reason)
        self._backend, self._fallback = self._fallback, None
        self.ran = Ran(self._backend.name, error.message)


@cache
def _spans() -> Spans:
    """When the first is made: by then it is known whether there are any."""
    return Spans()


@cache
def _duration() -> Recorder:
    return duration_histogram(metrics.get_meter("imageflow"), "imageflow.inference.duration", "Time of one inference")
