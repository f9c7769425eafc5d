"""Runs a plan over an image in hand and answers the image: the part that every way in shares."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Mapping
from dataclasses import dataclass
from time import perf_counter
from uuid import uuid4

from opentelemetry import trace

from imageflow.v1.execution_pb2 import Execution
from imageflow.v1.record_pb2 import ExecutionRecord
from imageflow_common.errors import ImageFlowError, ImageTooLarge, InvalidArgument, UnsupportedImage
from imageflow_common.formats import media_type_of
from imageflow_common.logs import EventLog
from imageflow_common.telemetry import Spans, TracePlace

from .admission import Admission, Slot
from .call import StepCaller
from .catalog import LiveCatalog
from .definition import StepId
from .effects import StepOutcome
from .encode import encode_artifact
from .images import Artifact, ImageTransport
from .outcome import write_outcome, write_step
from .plan import Plan
from .recorded import NOTHING, TakenOver
from .records import Records, now
from .run import Instruments, OutputFormat, Run, RunResult

log = EventLog(__name__)

Settled = Callable[[StepId, StepOutcome, Artifact | None], None]

_WRITABLE = {"image/jpeg", "image/png", "image/webp"}
_SHORT_NAMES = {"jpeg": "image/jpeg", "jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
_UNKNOWN_MEDIA_TYPES = {"", "application/octet-stream", "application/x-www-form-urlencoded", "image/*"}


@dataclass(frozen=True, slots=True)
class Requested:
    """What a caller asks of one run besides the plan. `plan_ms` is what making the plan took."""

    namespace: str = "default"
    execution_id: str = ""
    output_format: str = ""
    quality: int = 0
    plan_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Processed:
    """What a run over an image in hand came to. `data` is the encoded image, empty unless it completed."""

    execution: Execution
    media_type: str
    data: bytes
    steps: Mapping[StepId, StepOutcome]
    trace: TracePlace


def _nobody(_news: object) -> None:
    """Told, and does nothing."""


def _nobody_settled(_step: StepId, _outcome: StepOutcome, _image: Artifact | None) -> None:
    """Told, and does nothing."""


class Engine:
    """Runs plans. Holds what outlives a run. `process_records` says which runs of `process` leave a record:
    `none`, `failed` or `all`."""

    def __init__(
        self,
        *,
        catalog: LiveCatalog,
        caller: StepCaller,
        transport: ImageTransport,
        admission: Admission,
        instruments: Instruments,
        max_image_bytes: int,
        records: Records | None = None,
        process_records: str = "none",
    ) -> None:
        self.admission = admission
        self.transport = transport
        self.max_image_bytes = max_image_bytes
        self._catalog = catalog
        self._caller = caller
        self._instruments = instruments
        self._records = records
        self._process_records = process_records

    @property
    def spans(self) -> Spans:
        return self._instruments.spans

    async def process(
        self, plan: Plan, data: bytes, content_type: str, requested: Requested, *, with_metadata: bool = False
    ) -> Processed:
        """Image in, image out; nothing is stored but a record. A failed run is an execution that FAILED.
        What components found out is written into its results `with_metadata`, or for the record.

        Raises InvalidArgument and its kin for an input or an output format that cannot be, Overloaded.
        """
        output = self.output_format(data, content_type, requested)
        execution = new_execution(plan, requested)
        begun = perf_counter()
        async with self.admission.slot(requested.namespace, size_bytes=len(data)) as slot:
            execution.timings.queue_ms = since(begun)
            trace.get_current_span().add_event("admitted")
            result, image = await self.perform(plan, data, execution, output, slot=slot)
        recorded = self._process_records == "all" or (
            self._process_records == "failed" and result.outcome.status != "COMPLETED"
        )
        self.finish(execution, plan, result, requested, with_metadata=recorded or with_metadata)
        log_finished(execution)
        if recorded:
            await self._record(execution)
        return Processed(execution, output.media_type, image, result.outcome.steps, result.trace)

    async def perform(
        self,
        plan: Plan,
        data: bytes,
        execution: Execution,
        output: OutputFormat,
        *,
        settled: Settled = _nobody_settled,
        begun: Callable[[StepId], None] = _nobody,
        started: Callable[[Run], None] = _nobody,
        taken: TakenOver = NOTHING,
        load: Callable[[Artifact], Awaitable[None]] | None = None,
        slot: Slot | None = None,
    ) -> tuple[RunResult, bytes]:
        """Runs the plan; answers the result, and the final image encoded (empty unless the run completed).

        `settled` and `begun` are told of each step, `started` of the run. Steps that were `taken` over do not run;
        `load` brings their images into memory. The `slot` is given back while nothing runs.
        """
        run = Run(
            plan=plan,
            input=self.transport.input_image(data, media_type_of(data)),
            caller=self._caller,
            transport=self.transport,
            instruments=self._instruments,
            namespace=execution.namespace,
            execution_id=execution.execution_id,
            output=output,
            settled=settled,
            begun=begun,
            taken=taken,
            load=load,
            slot=slot,
        )
        started(run)
        result = await run.perform()
        if result.final is None:
            return result, b""
        try:
            await run.ensure_loaded(result.final)
            if result.encoded:
                return result, self.transport.bytes_of(result.final)
            encoded = await encode_artifact(
                result.final, self.transport, media_type=output.media_type, quality=output.quality
            )
            return result, encoded
        finally:
            self.transport.release(result.final)

    def finish(
        self,
        execution: Execution,
        plan: Plan,
        result: RunResult,
        requested: Requested,
        *,
        with_metadata: bool,
        kept: Container[StepId] = (),
    ) -> None:
        """Writes what the run came to into the execution; steps that are `kept` stay as they are written there."""
        write_outcome(execution, plan, result, self._catalog, with_metadata=with_metadata, kept=kept)
        execution.end_time.FromDatetime(now())
        timings = execution.timings
        timings.plan_ms = requested.plan_ms
        timings.overhead_ms = max(0.0, result.total_ms - result.busy_ms)
        self._instruments.measures.finished(execution)
        execution.execution_time_ms = timings.queue_ms + timings.plan_ms + timings.store_ms + result.total_ms

    def output_format(self, data: bytes, content_type: str, requested: Requested) -> OutputFormat:
        """Checks what can be seen of the input without decoding it, and chooses the output's format."""
        if len(data) > self.max_image_bytes:
            raise ImageTooLarge(f"the image has {len(data)} bytes, more than {self.max_image_bytes}")
        found = media_type_of(data)
        declared = content_type.partition(";")[0].strip().lower()
        if declared not in _UNKNOWN_MEDIA_TYPES and declared != found:
            raise UnsupportedImage(f"the content type is {declared[:100]}, but the image is {found}")
        chosen = chosen_format(requested) or (found if found in _WRITABLE else "image/png")
        return OutputFormat(chosen, requested.quality)

    def write_step(self, execution: Execution, run: Run, step_id: StepId, outcome: StepOutcome) -> None:
        """Writes one step's outcome, which is final, into an execution that still runs."""
        write_step(execution, step_id, outcome, run.times_of(step_id), self._catalog)

    async def _record(self, execution: Execution) -> None:
        """Best effort: a record that cannot be written is logged, and the caller has his answer all the same."""
        if self._records is None:
            return
        try:
            await self._records.create(ExecutionRecord(execution=execution, kind=ExecutionRecord.SYNCHRONOUS))
        except ImageFlowError as exc:
            log.warning("record.not_written", execution_id=execution.execution_id, error_type=exc.reason)


def chosen_format(requested: Requested) -> str:
    """The media type that was asked for, or nothing. Raises InvalidArgument for one that cannot be written."""
    if requested.quality > 100:
        raise InvalidArgument(f"quality must be 1 to 100, not {requested.quality}")
    name = requested.output_format.lower()
    chosen = _SHORT_NAMES.get(name, name)
    if chosen and chosen not in _WRITABLE:
        raise InvalidArgument(f"the output format must be jpeg, png or webp, not {requested.output_format[:100]!r}")
    return chosen


def new_execution(plan: Plan, requested: Requested) -> Execution:
    """An execution that has been accepted and not begun."""
    execution = Execution(
        execution_id=requested.execution_id or str(uuid4()),
        namespace=requested.namespace,
        pipeline_id=plan.pipeline_id,
        pipeline_version=plan.version or "",
        status=Execution.PENDING,
    )
    execution.create_time.FromDatetime(now())
    return execution


def log_finished(execution: Execution) -> None:
    """One line for each execution; of what may be known, what is."""
    known = {
        "input_path": execution.input_path,
        "output_path": execution.final_output_path,
        "error_type": execution.error.reason,
        "error": execution.error.message,
    }
    log.info(
        "execution.finished",
        execution_id=execution.execution_id,
        pipeline_id=execution.pipeline_id,
        status=Execution.State.Name(execution.status),
        processing_time_seconds=round(execution.execution_time_ms / 1e3, 4),
        **{name: value for name, value in known.items() if value},
    )


def since(start: float) -> float:
    """Milliseconds since a reading of perf_counter."""
    return (perf_counter() - start) * 1e3
