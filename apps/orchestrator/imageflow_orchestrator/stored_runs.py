"""Runs over images in the store: the output, what was found out, and the record are stored before it is answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter

from google.protobuf.json_format import MessageToDict

from imageflow.v1.execution_pb2 import Execution
from imageflow_common.errors import ImageFlowError, ImageTooLarge
from imageflow_common.keys import artifact_key, metadata_key, parse_user_key
from imageflow_common.logs import EventLog
from imageflow_common.store import ObjectKey, ObjectStore

from .definition import Persist, StepId
from .effects import StepOutcome
from .encode import encode_artifact
from .engine import Engine, Requested, chosen_format, new_execution, since
from .images import Artifact
from .plan import Plan, PlannedStep
from .records import HeldRecord, Records, now
from .run import OutputFormat, RunResult

log = EventLog(__name__)

_JSON = "application/json"
_TIFF = "image/tiff"


@dataclass(slots=True)
class _Kept:
    """Copies of intermediates that are to be stored: while the next steps run, or at the end if the run failed."""

    steps: Mapping[StepId, PlannedStep]
    writes: dict[StepId, asyncio.Task[None]] = field(default_factory=dict)
    on_failure: list[tuple[StepId, int, Artifact]] = field(default_factory=list)


class StoredRuns:
    """Performs `ExecutePipeline`."""

    def __init__(self, engine: Engine, store: ObjectStore, records: Records) -> None:
        self._engine = engine
        self._store = store
        self._records = records

    async def execute(self, plan: Plan, input_path: str, output_path: str, requested: Requested) -> Execution:
        """Runs over the object `input_path`; the output goes to `output_path`, or to a key of the execution's own.

        Raises AlreadyExists for an execution id that is taken, ObjectNotFound, InvalidKey, InvalidArgument and its
        kin, Overloaded. A run that failed is an execution that FAILED.
        """
        source = parse_user_key(input_path)
        destination = parse_user_key(output_path) if output_path else None
        chosen_format(requested)
        execution = new_execution(plan, requested)
        execution.input_path = source
        begun = perf_counter()
        async with self._engine.admission.slot():
            execution.timings.queue_ms = since(begun)
            execution.status = Execution.RUNNING
            execution.start_time.FromDatetime(now())
            held = await self._records.create(execution)
            try:
                await self._run(plan, source, destination, requested, execution)
            except ImageFlowError as exc:
                await self._close(held, Execution.FAILED, exc.code, exc.reason, exc.message)
                raise
            except asyncio.CancelledError:
                message = "the caller went away before the execution ended"
                closing = self._close(held, Execution.CANCELLED, "CANCELLED", "CLIENT_WENT_AWAY", message)
                await asyncio.shield(closing)
                raise
            await self._records.replace(held, execution)
        return execution

    async def _run(
        self, plan: Plan, source: ObjectKey, destination: ObjectKey | None, requested: Requested, execution: Execution
    ) -> None:
        begun = perf_counter()
        data = await self._read_input(source)
        execution.timings.store_ms = since(begun)
        output = self._engine.output_format(data, "", requested)
        kept = _Kept({step.step_id: step for step in plan.steps})
        try:
            result, image = await self._engine.perform(
                plan, data, execution, output, lambda *settled: self._keep(plan, execution, kept, *settled)
            )
            self._engine.finish(execution, plan, result, requested, with_metadata=True)
            begun = perf_counter()
            await self._store_kept(execution, kept, failed=result.outcome.status != "COMPLETED")
            if image:
                await self._store_output(execution, plan, result, output, image, destination)
            execution.timings.store_ms += since(begun)
            execution.execution_time_ms += since(begun)
        finally:
            for write in kept.writes.values():
                write.cancel()

    async def _read_input(self, key: ObjectKey) -> bytes:
        info = await self._store.head(key)
        if info.size_bytes > self._engine.max_image_bytes:
            raise ImageTooLarge(f"the image has {info.size_bytes} bytes, more than {self._engine.max_image_bytes}")
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
        persist = kept.steps[step_id].persist
        final = plan.output.step_id == step_id and not plan.output.also_feeds
        if image is None or outcome.status != "COMPLETED" or persist is Persist.NEVER or final:
            return
        copy = Artifact(image.description, self._engine.transport.bytes_of(image))
        if persist is Persist.ALWAYS:
            write = self._store_intermediate(execution, step_id, outcome.attempts, copy)
            kept.writes[step_id] = asyncio.create_task(write)
        else:
            kept.on_failure.append((step_id, outcome.attempts, copy))

    async def _store_kept(self, execution: Execution, kept: _Kept, *, failed: bool) -> None:
        if failed:
            for step_id, attempt, image in kept.on_failure:
                write = self._store_intermediate(execution, step_id, attempt, image)
                kept.writes[step_id] = asyncio.create_task(write)
        await asyncio.gather(*kept.writes.values())

    async def _store_intermediate(self, execution: Execution, step_id: StepId, attempt: int, image: Artifact) -> None:
        """As uncompressed TIFF: exact, quick to write, and any viewer opens it."""
        key = artifact_key(execution.namespace, execution.execution_id, step_id, attempt)
        tiff = await encode_artifact(image, self._engine.transport, media_type=_TIFF, quality=0)
        await self._store.put(key, tiff, media_type=_TIFF)
        execution.results[step_id].output_path = key

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
        metadata = {
            "executionId": execution.execution_id,
            "pipelineId": execution.pipeline_id,
            "pipelineVersion": execution.pipeline_version,
            "inputPath": execution.input_path,
            "steps": {name: MessageToDict(step.metadata) for name, step in execution.results.items()},
        }
        found_out = json.dumps(metadata, ensure_ascii=False).encode()
        await asyncio.gather(
            self._store.put(key, image, media_type=output.media_type),
            self._store.put(metadata_key(key), found_out, media_type=_JSON),
        )
        execution.final_output_path = key
        execution.results[step_id].output_path = key

    async def _close(self, held: HeldRecord, status: Execution.State, code: str, reason: str, message: str) -> None:
        """Ends the record of an execution that came to no result."""
        execution = held.execution
        execution.status = status
        execution.error.code, execution.error.reason, execution.error.message = code, reason, message
        execution.end_time.FromDatetime(now())
        try:
            await self._records.replace(held, execution)
        except ImageFlowError as exc:
            log.warning("record.not_written", execution_id=execution.execution_id, error_type=exc.reason)
