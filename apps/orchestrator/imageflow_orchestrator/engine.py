"""The two synchronous ways to run a pipeline: over an image in the store, and over an image in hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter
from uuid import uuid4

from google.protobuf.json_format import MessageToDict

from imageflow.v1.execution_pb2 import Execution
from imageflow_common.errors import ImageFlowError, ImageTooLarge, InvalidArgument, UnsupportedImage
from imageflow_common.formats import media_type_of
from imageflow_common.keys import artifact_key, metadata_key, parse_user_key
from imageflow_common.logs import EventLog
from imageflow_common.store import ObjectKey, ObjectStore

from .admission import Admission
from .call import Answer, StepCaller
from .catalog import LiveCatalog
from .definition import Persist, StepId
from .effects import StepOutcome
from .encode import encode_artifact
from .images import Artifact, ImageTransport
from .outcome import write_outcome
from .plan import Plan, PlannedStep
from .records import HeldRecord, Records, now
from .run import Instruments, OutputFormat, Run, RunResult

log = EventLog(__name__)

_WRITABLE = {"image/jpeg", "image/png", "image/webp"}
_SHORT_NAMES = {"jpeg": "image/jpeg", "jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
_UNKNOWN_MEDIA_TYPES = {"", "application/octet-stream", "application/x-www-form-urlencoded", "image/*"}
_METADATA_TYPE = "application/json"
_TIFF = "image/tiff"


@dataclass(frozen=True, slots=True)
class Requested:
    """What a caller asks of one run besides the plan."""

    namespace: str = "default"
    execution_id: str = ""
    output_format: str = ""
    quality: int = 0
    plan_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Processed:
    """A run over an image in hand: the execution, the encoded image if it completed, and each step's answer."""

    execution: Execution
    media_type: str
    data: bytes
    answers: Mapping[StepId, Answer]
    result: RunResult


@dataclass(slots=True)
class _Kept:
    """Intermediates to be stored: written while the next steps run, or at the end if the execution failed."""

    steps: Mapping[StepId, PlannedStep]
    writes: dict[StepId, asyncio.Task[None]] = field(default_factory=dict)
    on_failure: list[tuple[PlannedStep, StepOutcome, bytes, Artifact]] = field(default_factory=list)


class Engine:
    """Runs plans. Holds what outlives a run."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        records: Records,
        catalog: LiveCatalog,
        caller: StepCaller,
        transport: ImageTransport,
        admission: Admission,
        instruments: Instruments,
        max_image_bytes: int,
        process_records: str,
    ) -> None:
        self._store = store
        self._records = records
        self._catalog = catalog
        self._caller = caller
        self._transport = transport
        self._admission = admission
        self._instruments = instruments
        self._max_image_bytes = max_image_bytes
        self._process_records = process_records

    async def process(self, plan: Plan, data: bytes, content_type: str, requested: Requested) -> Processed:
        """Image in, image out; nothing is stored but a record (D7). A failed run is an execution that FAILED."""
        output = self._output(data, content_type, requested)
        execution = _new_execution(plan, requested)
        begun = perf_counter()
        async with self._admission.slot():
            queue_ms = _since(begun)
            run = self._run(plan, data, content_type, execution, output)
            result, image = await self._performed(run, output)
        recorded = self._process_records == "all" or (
            self._process_records == "failed" and result.outcome.status != "COMPLETED"
        )
        self._finish(execution, plan, result, requested, queue_ms, store_ms=0.0, with_metadata=recorded)
        if recorded:
            await self._record_process(execution)
        return Processed(execution, output.media_type, image, _answers(result), result)

    async def execute(self, plan: Plan, input_path: str, output_path: str, requested: Requested) -> Execution:
        """Runs over an object of the store; the output and the record are stored before this returns."""
        source = parse_user_key(input_path)
        destination = parse_user_key(output_path) if output_path else None
        self._check_format(requested)
        execution = _new_execution(plan, requested)
        execution.input_path = source
        begun = perf_counter()
        async with self._admission.slot():
            queue_ms = _since(begun)
            execution.status = Execution.RUNNING
            execution.start_time.FromDatetime(now())
            held = await self._records.create(execution)
            return await self._execute(plan, source, destination, requested, held, queue_ms)

    async def _execute(
        self,
        plan: Plan,
        source: ObjectKey,
        destination: ObjectKey | None,
        requested: Requested,
        held: HeldRecord,
        queue_ms: float,
    ) -> Execution:
        execution = held.execution
        try:
            begun = perf_counter()
            stored = await self._read_input(source)
            store_ms = _since(begun)
            output = self._output(stored, "", requested)
            kept = _Kept({step.step_id: step for step in plan.steps})
            run = self._run(plan, stored, "", execution, output)
            run.settled = lambda step, outcome, image: self._keep(plan, execution, kept, step, outcome, image)
            result, image = await self._performed(run, output)
            begun = perf_counter()
            await self._store_kept(execution, kept, failed=result.outcome.status != "COMPLETED")
            self._finish(execution, plan, result, requested, queue_ms, store_ms)
            if image:
                await self._store_output(execution, plan, result, output, image, destination)
            execution.timings.store_ms = store_ms + _since(begun)
        except ImageFlowError as exc:
            await self._close_failed(held, exc)
            raise
        except asyncio.CancelledError:
            await asyncio.shield(self._close_cancelled(held))
            raise
        await self._records.replace(held, execution)
        return execution

    async def _performed(self, run: Run, output: OutputFormat) -> tuple[RunResult, bytes]:
        """The result, and the final image encoded (empty unless the run completed)."""
        result = await run.perform()
        if result.final is None:
            return result, b""
        try:
            if result.outcome.encoded_by_output_step and not run.plan.output.also_feeds:
                return result, self._transport.bytes_of(result.final)
            data = await encode_artifact(
                result.final, self._transport, media_type=output.media_type, quality=output.quality
            )
            return result, data
        finally:
            self._transport.release(result.final)

    def _run(self, plan: Plan, data: bytes, content_type: str, execution: Execution, output: OutputFormat) -> Run:
        return Run(
            plan=plan,
            input=self._transport.input_image(data, media_type_of(data)),
            caller=self._caller,
            transport=self._transport,
            instruments=self._instruments,
            namespace=execution.namespace,
            execution_id=execution.execution_id,
            output=output,
        )

    def _output(self, data: bytes, content_type: str, requested: Requested) -> OutputFormat:
        """Checks what can be seen of the input without decoding it, and chooses the output's format."""
        if len(data) > self._max_image_bytes:
            raise ImageTooLarge(f"the image has {len(data)} bytes, more than {self._max_image_bytes}")
        found = media_type_of(data)
        declared = content_type.partition(";")[0].strip().lower()
        if declared not in _UNKNOWN_MEDIA_TYPES and declared != found:
            raise UnsupportedImage(f"the content type is {declared[:100]}, but the image is {found}")
        chosen = self._check_format(requested) or (found if found in _WRITABLE else "image/png")
        return OutputFormat(chosen, requested.quality)

    def _check_format(self, requested: Requested) -> str:
        if requested.quality > 100:
            raise InvalidArgument(f"quality must be 1 to 100, not {requested.quality}")
        name = requested.output_format.lower()
        chosen = _SHORT_NAMES.get(name, name)
        if chosen and chosen not in _WRITABLE:
            raise InvalidArgument(f"the output format must be jpeg, png or webp, not {requested.output_format[:100]!r}")
        return chosen

    async def _read_input(self, key: ObjectKey) -> bytes:
        info = await self._store.head(key)
        if info.size_bytes > self._max_image_bytes:
            raise ImageTooLarge(f"the image has {info.size_bytes} bytes, more than {self._max_image_bytes}")
        return (await self._store.get(key)).data

    def _keep(
        self,
        plan: Plan,
        execution: Execution,
        kept: _Kept,
        step_id: StepId,
        outcome: StepOutcome,
        image: Artifact | None,
    ) -> None:
        """Takes a copy of an intermediate that is to be stored, while it is there."""
        step = kept.steps[step_id]
        if image is None or outcome.status != "COMPLETED" or step.persist is Persist.NEVER or _is_final(plan, step_id):
            return
        item = (step, outcome, self._transport.bytes_of(image), image)
        if step.persist is Persist.ALWAYS:
            kept.writes[step_id] = asyncio.create_task(self._store_intermediate(execution, *item))
        else:
            kept.on_failure.append(item)

    async def _store_kept(self, execution: Execution, kept: _Kept, *, failed: bool) -> None:
        if failed:
            for item in kept.on_failure:
                kept.writes[item[0].step_id] = asyncio.create_task(self._store_intermediate(execution, *item))
        await asyncio.gather(*kept.writes.values())

    async def _store_intermediate(
        self, execution: Execution, step: PlannedStep, outcome: StepOutcome, data: bytes, image: Artifact
    ) -> None:
        key = artifact_key(execution.namespace, execution.execution_id, step.step_id, outcome.attempts)
        copy = Artifact(image.description, data)
        tiff = await encode_artifact(copy, self._transport, media_type=_TIFF, quality=0)
        await self._store.put(key, tiff, media_type=_TIFF)
        execution.results[step.step_id].output_path = key

    async def _store_output(
        self,
        execution: Execution,
        plan: Plan,
        result: RunResult,
        output: OutputFormat,
        image: bytes,
        destination: ObjectKey | None,
    ) -> None:
        """The output, and what was found out next to it (R31)."""
        step_id = plan.output.step_id
        attempts = max(1, result.outcome.steps[step_id].attempts)
        key = destination or artifact_key(execution.namespace, execution.execution_id, step_id, attempts)
        execution.final_output_path = key
        execution.results[step_id].output_path = key
        metadata = {
            "executionId": execution.execution_id,
            "pipelineId": execution.pipeline_id,
            "pipelineVersion": execution.pipeline_version,
            "inputPath": execution.input_path,
            "steps": {name: MessageToDict(outcome.metadata) for name, outcome in execution.results.items()},
        }
        async with asyncio.TaskGroup() as group:
            group.create_task(self._store.put(key, image, media_type=output.media_type))
            group.create_task(
                self._store.put(
                    metadata_key(key), json.dumps(metadata, ensure_ascii=False).encode(), media_type=_METADATA_TYPE
                )
            )

    def _finish(
        self,
        execution: Execution,
        plan: Plan,
        result: RunResult,
        requested: Requested,
        queue_ms: float,
        store_ms: float,
        *,
        with_metadata: bool = True,
    ) -> None:
        write_outcome(execution, plan, result, self._catalog, with_metadata=with_metadata)
        execution.end_time.FromDatetime(now())
        timings = execution.timings
        timings.queue_ms, timings.plan_ms, timings.store_ms = queue_ms, requested.plan_ms, store_ms
        timings.overhead_ms = max(0.0, result.total_ms - result.busy_ms)
        execution.execution_time_ms = queue_ms + requested.plan_ms + store_ms + result.total_ms
        log.info(
            "execution.finished",
            execution_id=execution.execution_id,
            pipeline_id=execution.pipeline_id,
            status=result.outcome.status,
            processing_time_seconds=round(execution.execution_time_ms / 1e3, 4),
            error_type=execution.error.reason,
            error=execution.error.message,
        )

    async def _record_process(self, execution: Execution) -> None:
        """Best effort: a record that cannot be written is logged, and the caller has his answer all the same."""
        try:
            await self._records.create(execution)
        except ImageFlowError as exc:
            log.warning("record.not_written", execution_id=execution.execution_id, error_type=exc.reason)

    async def _close_failed(self, held: HeldRecord, exc: ImageFlowError) -> None:
        execution = held.execution
        execution.status = Execution.FAILED
        execution.error.code, execution.error.reason, execution.error.message = exc.code, exc.reason, exc.message
        await self._close(held)

    async def _close_cancelled(self, held: HeldRecord) -> None:
        held.execution.status = Execution.CANCELLED
        held.execution.error.code, held.execution.error.reason = "CANCELLED", "CLIENT_WENT_AWAY"
        held.execution.error.message = "the caller went away before the execution ended"
        await self._close(held)

    async def _close(self, held: HeldRecord) -> None:
        held.execution.end_time.FromDatetime(now())
        try:
            await self._records.replace(held, held.execution)
        except ImageFlowError as exc:
            log.warning("record.not_written", execution_id=held.execution.execution_id, error_type=exc.reason)


def _new_execution(plan: Plan, requested: Requested) -> Execution:
    execution = Execution(
        execution_id=requested.execution_id or str(uuid4()),
        namespace=requested.namespace,
        pipeline_id=plan.pipeline_id,
        pipeline_version=plan.version or "",
        status=Execution.PENDING,
    )
    execution.create_time.FromDatetime(now())
    return execution


def _answers(result: RunResult) -> dict[StepId, Answer]:
    return {
        step_id: outcome.result
        for step_id, outcome in result.outcome.steps.items()
        if isinstance(outcome.result, Answer)
    }


def _is_final(plan: Plan, step_id: StepId) -> bool:
    return plan.output.step_id == step_id and not plan.output.also_feeds


def _since(start: float) -> float:
    return (perf_counter() - start) * 1e3
