"""Serves a component: admission, threads, health, reflection, Describe, telemetry, an orderly end."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass
from datetime import timedelta
from time import perf_counter
from typing import Any

from opentelemetry import metrics

from imageflow.v1.component_pb2 import (
    ComponentLimits,
    ComponentRequest,
    ComponentResponse,
    DescribeRequest,
    DescribeResponse,
    RunningAverages,
)

from .allocator import giving_back_freed_memory, keep_freed_memory
from .component import Component, describe
from .descriptors import own_descriptors
from .errors import DeadlineExceeded, Overloaded, PermissionDenied, Unavailable
from .images import ImageLimits
from .lifetime import Lifetime, living
from .logs import EventLog, configure_logs, log_with
from .process import Processor
from .readiness import Unready, keeping_health, why_unready
from .rpc import Context, came_through_gateway, run, service_handler, start_server, time_remaining, wait_for_signal
from .settings import ComponentSettings, load_settings
from .settings_live import LiveSettings
from .shared import Capability, SharedDirectory
from .telemetry import Spans, configure_telemetry, duration_histogram
from .utilization import utilization_gauge

log = EventLog(__name__)

STUCK_SECONDS = 5.0
_RETRY_AFTER = timedelta(milliseconds=200)


@dataclass(slots=True)
class Admission:
    """Counts what is in flight, running and waiting, in requests and in megapixels; refuses what is too much."""

    max_requests: int
    max_megapixels: float
    requests: int = 0
    megapixels: float = 0.0

    def admit(self, megapixels: float) -> None:
        """Raises Overloaded. One image is always taken, however large: other limits refuse it."""
        if self.requests >= self.max_requests:
            raise Overloaded(f"{self.requests} requests are in flight", retry_after=_RETRY_AFTER)
        if self.requests and self.megapixels + megapixels > self.max_megapixels:
            raise Overloaded(f"{self.megapixels:.0f} megapixels are in flight", retry_after=_RETRY_AFTER)
        self.requests += 1
        self.megapixels += megapixels

    def release(self, megapixels: float) -> None:
        self.requests -= 1
        self.megapixels -= megapixels


@dataclass(slots=True)
class _Averages:
    requests: int = 0
    processing_ms: float = 0.0
    megapixels: float = 0.0

    def add(self, processing_ms: float, megapixels: float) -> None:
        self.requests += 1
        self.processing_ms += (processing_ms - self.processing_ms) / self.requests
        self.megapixels += (megapixels - self.megapixels) / self.requests


@dataclass(frozen=True, slots=True)
class _Job:
    """One call between the loop and its thread. `answer` is the loop's."""

    request: ComponentRequest
    queued: float
    lifetime: Lifetime
    megapixels: float
    answer: asyncio.Future[ComponentResponse]


class ComponentServer:
    """The RPCs of one component. A slot is free only when its thread is: a call that is given up goes on counting
    until the computation has ended."""

    def __init__(self, component: Component, settings: ComponentSettings, shared: SharedDirectory | None) -> None:
        self._component = component
        self._settings = settings
        self._shared = shared
        limits = ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=int(settings.max_image_megapixels * 1e6))
        self._processor = Processor(component, shared=shared, limits=limits)
        self._admission = Admission(settings.max_in_flight, settings.max_megapixels_in_flight)
        self._averages = _Averages()
        self._outlived: dict[asyncio.Future[ComponentResponse], float] = {}
        """Since when what is computed still is so for nobody."""
        self._threads = ThreadPoolExecutor(settings.max_running, thread_name_prefix=component.name)
        self._spans = Spans()
        meter = metrics.get_meter("imageflow")
        self._duration = duration_histogram(meter, "imageflow.processing.duration", "Time of one call of a component")
        self._total = meter.create_counter("imageflow.processing.total", description="Calls of a component")
        utilization_gauge(meter, self._in_use)
        self._description = self._describe()

    @property
    def in_flight(self) -> int:
        """Requests that are waiting or computed, given up by their callers or not."""
        return self._admission.requests

    def stuck(self) -> str:
        """Why nothing can be computed: no thread comes back from calls that were over long ago; empty when one has."""
        now = perf_counter()
        longest = [now - since for since in list(self._outlived.values()) if now - since > STUCK_SECONDS]
        if len(longest) < self._settings.max_running:
            return ""
        return f"all {len(longest)} threads compute what nobody waits for, for up to {max(longest):.0f} s"

    def change(self, settings: ComponentSettings) -> None:
        """Takes over the bounds, and the time that requests to come may take; never the number of threads. What is in
        flight past a bound goes on, and nothing is admitted until enough of it has ended."""
        self._settings = settings
        self._admission.max_requests = settings.max_in_flight
        self._admission.max_megapixels = settings.max_megapixels_in_flight
        self._description = self._describe()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def describe(self, request: DescribeRequest, context: Context) -> DescribeResponse:
        if reason := self.stuck():
            raise Unavailable(f"{self._component.name}: {reason}", reason="WORKERS_STUCK")
        response = DescribeResponse()
        response.CopyFrom(self._description)
        capability = Capability(request.shared_memory_capability_name, request.shared_memory_capability)
        response.shared_memory = self._sees(capability)
        average = self._averages
        response.averages.CopyFrom(
            RunningAverages(
                requests=average.requests, processing_ms=average.processing_ms, megapixels=average.megapixels
            )
        )
        return response

    async def process(self, request: ComponentRequest, context: Context) -> ComponentResponse:
        log_with(
            component=self._component.name, execution_id=request.context.execution_id, step_id=request.context.step_id
        )
        if came_through_gateway(context):
            request.context.capability = ""  # there it counts for nothing: only inline images are accepted
        megapixels = self._processor.megapixels(request)
        self._admission.admit(megapixels)
        timeout = time_remaining(context, self._settings.timeout_seconds)
        job = _Job(request, perf_counter(), Lifetime(timeout), megapixels, asyncio.get_running_loop().create_future())
        work = self._threads.submit(copy_context().run, self._work, job)
        try:
            async with asyncio.timeout(timeout):
                response = await job.answer
        except BaseException as exc:
            job.lifetime.give_up()
            if work.cancel():  # no thread has begun it, and none will
                self._admission.release(megapixels)
            elif job.answer.cancelled():
                self._outlived[job.answer] = perf_counter()
            if isinstance(exc, TimeoutError):
                raise DeadlineExceeded(f"{self._component.name} took longer than {timeout:.3g} s") from exc
            raise
        self._averages.add(response.result.timings.total_ms, megapixels)
        return response

    def _work(self, job: _Job) -> None:
        try:
            response = self._computed(job.request, job.queued, job.lifetime)
        except BaseException as exc:
            self._tell(job, exc)
        else:
            self._tell(job, response)

    def _tell(self, job: _Job, outcome: ComponentResponse | BaseException) -> None:
        """The loop, once: each time wakes it up."""
        with suppress(RuntimeError):  # it is closed: nobody waits or is admitted any more
            job.answer.get_loop().call_soon_threadsafe(self._end, job, outcome)

    def _end(self, job: _Job, outcome: ComponentResponse | BaseException) -> None:
        self._admission.release(job.megapixels)
        self._outlived.pop(job.answer, None)
        if job.answer.done():  # it was given up
            self._processor.discard_output(job.request)
        elif isinstance(outcome, BaseException):
            job.answer.set_exception(outcome)
        else:
            job.answer.set_result(outcome)

    def _computed(self, request: ComponentRequest, queued: float, lifetime: Lifetime) -> ComponentResponse:
        started = perf_counter()
        if not lifetime.remaining():
            raise DeadlineExceeded("the deadline passed while waiting for a slot")
        with self._observed(request, queued), living(lifetime):
            response = self._processor.process(request)
        response.result.timings.queue_ms = (started - queued) * 1e3
        response.result.timings.total_ms += response.result.timings.queue_ms
        return response

    @contextmanager
    def _observed(self, request: ComponentRequest, queued: float) -> Iterator[None]:
        """The call's span, from when it was admitted, and its metrics, from when a thread had it."""
        operation = self._component.name
        attributes = {"execution.id": request.context.execution_id, "step.id": request.context.step_id}
        start, status = perf_counter(), "failed"
        with self._spans.current(f"image_{operation}", attributes, begun=queued) as span:
            span.add_event("dequeued")
            try:
                yield
                status = "success"
            finally:
                labels = {"operation": operation, "status": status}
                self._duration.record(perf_counter() - start, labels)
                self._total.add(1, labels)

    def _in_use(self, options: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
        admission = self._admission
        shares = {
            "slots": admission.requests / admission.max_requests,
            "megapixels": admission.megapixels / admission.max_megapixels,
        }
        name = self._component.name
        return [
            metrics.Observation(share, {"component": name, "resource_type": kind}) for kind, share in shares.items()
        ]

    def _sees(self, capability: Capability) -> bool:
        try:
            if self._shared is None:
                return False
            self._shared.verify(capability)
        except PermissionDenied:
            return False
        return True

    def _describe(self) -> DescribeResponse:
        settings = self._settings
        response = describe(self._component)
        response.parameters_schema_json = json.dumps(self._component.schema.json_schema())
        response.limits.CopyFrom(
            ComponentLimits(
                max_in_flight=settings.max_in_flight,
                max_running=settings.max_running,
                timeout_seconds=settings.timeout_seconds,
                max_megapixels_in_flight=settings.max_megapixels_in_flight,
                max_payload_bytes=settings.max_image_bytes,
            )
        )
        return response


async def serve_component(
    component: Component,
    settings: ComponentSettings,
    *,
    on_ready: Callable[[int], None] | None = None,
    unready: Unready | None = None,
) -> int:
    """Serves until SIGTERM or SIGINT, then ends in order. Tells the port it took by `on_ready`; its health follows
    `unready` and its threads. Answers how many requests are computed still, because they outlived the grace period."""
    end = wait_for_signal()
    shared = SharedDirectory(settings.shared_directory) if settings.shared_directory else None
    server = ComponentServer(component, settings, shared)
    describe_service = own_descriptors().service("imageflow.v1.ComponentService")
    process_service = component.descriptors.service(component.service_name)
    envelope: dict[str, Any] = {"Process.input": ComponentRequest, "Process.output": ComponentResponse}
    names = [process_service.full_name, describe_service.full_name]

    def why() -> str:
        return server.stuck() or (unready() if unready is not None else "")

    reason = await why_unready(why)
    running = await start_server(
        settings,
        [
            service_handler(describe_service, {"Describe": server.describe}),
            service_handler(process_service, {"Process": server.process}, messages=envelope),
        ],
        service_names=names,
        descriptors=component.descriptors,
        ready=not reason,
    )
    log.info("component.ready", component=component.name, version=component.version, port=running.port)
    if on_ready is not None:
        on_ready(running.port)
    live = LiveSettings(settings, server.change)
    try:
        async with giving_back_freed_memory(), keeping_health(running, names, why, known=reason), live.watched():
            await end
    finally:
        await running.stop()
        server.close()
        log.info("component.stopped", component=component.name, abandoned=server.in_flight)
    return server.in_flight


def serve(component: Component, settings: ComponentSettings | None = None, *, unready: Unready | None = None) -> None:
    """The whole main program of a component's process. `--version` as its only argument prints that. `unready` says why
    the component cannot serve, empty when it can; asked each second, in a thread."""
    if sys.argv[1:] == ["--version"]:
        print(component.name, component.version)
        return
    settings = settings or load_settings(ComponentSettings)
    keep_freed_memory()
    configure_logs(
        service=component.name, version=component.version, style=settings.log_format, level=settings.log_level
    )
    flush = configure_telemetry(service=component.name, version=component.version)
    abandoned = 0
    try:
        abandoned = run(lambda: serve_component(component, settings, unready=unready))
    except OSError as exc:
        print(f"{component.name}: {exc}", file=sys.stderr)
        raise SystemExit(1) from exc
    finally:
        flush()
    if abandoned:
        os._exit(1)  # an ordinary end would wait for their threads
