"""Runs over images in the store: the output, what was found out, and the record are stored before it is answered."""

from __future__ import annotations

import asyncio
import json
from time import perf_counter

from google.protobuf.json_format import MessageToDict

from imageflow.v1.execution_pb2 import Execution
from imageflow_common.errors import ImageFlowError, ImageTooLarge
from imageflow_common.keys import artifact_key, metadata_key, parse_user_key
from imageflow_common.logs import EventLog
from imageflow_common.store import ObjectKey, ObjectStore

from .engine import Engine, Requested, chosen_format, log_finished, new_execution, since
from .kept import KeptImages
from .plan import Plan
from .records import HeldRecord, Records, now
from .run import OutputFormat, RunResult

log = EventLog(__name__)

_JSON = "application/json"


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
        if destination is not None:
            metadata_key(destination)
        chosen_format(requested)
        execution = new_execution(plan, requested)
        execution.input_path = source
        begun = perf_counter()
        async with self._engine.admission.slot():
            execution.timings.queue_ms = since(begun)
            execution.status = Execution.RUNNING
            execution.start_time.FromDatetime(now())
            held = await self._claim(execution)
            try:
                await self._run(plan, source, destination, requested, execution)
                await self._records.replace(held, execution)
                log_finished(execution)
            except ImageFlowError as exc:
                await self._close(held, Execution.FAILED, exc.code, exc.reason, exc.message)
                raise
            except asyncio.CancelledError:
                await asyncio.shield(self._cancelled(held))
                raise
            except Exception:
                await self._close(held, Execution.FAILED, "INTERNAL", "INTERNAL", "internal error")
                raise
        return execution

    async def _claim(self, execution: Execution) -> HeldRecord:
        """Writes the record. When this is cancelled meanwhile, the record is closed again."""
        creating = asyncio.create_task(self._records.create(execution))
        try:
            return await asyncio.shield(creating)
        except asyncio.CancelledError:
            await asyncio.shield(self._cancelled(await creating))
            raise

    async def _run(
        self, plan: Plan, source: ObjectKey, destination: ObjectKey | None, requested: Requested, execution: Execution
    ) -> None:
        begun = perf_counter()
        data = await self._read_input(source)
        execution.timings.store_ms = since(begun)
        output = self._engine.output_format(data, "", requested)
        kept = KeptImages(plan, execution, self._store, self._engine.transport)
        try:
            result, image = await self._engine.perform(plan, data, execution, output, kept.settled)
            self._engine.finish(execution, plan, result, requested, with_metadata=True)
            begun = perf_counter()
            await kept.finish(failed=result.final is None)
            if result.final is not None:
                await self._store_output(execution, plan, result, output, image, destination)
            execution.timings.store_ms += since(begun)
            execution.execution_time_ms += since(begun)
            execution.end_time.FromDatetime(now())
        finally:
            await kept.close()

    async def _read_input(self, key: ObjectKey) -> bytes:
        info = await self._store.head(key)
        if info.size_bytes > self._engine.max_image_bytes:
            raise ImageTooLarge(f"the image has {info.size_bytes} bytes, more than {self._engine.max_image_bytes}")
        return (await self._store.get(key)).data

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
        beside = metadata_key(key)
        metadata = {
            "executionId": execution.execution_id,
            "pipelineId": execution.pipeline_id,
            "pipelineVersion": execution.pipeline_version,
            "inputPath": execution.input_path,
            "steps": {step.step_id: MessageToDict(execution.results[step.step_id].metadata) for step in plan.steps},
        }
        found_out = json.dumps(metadata, ensure_ascii=False).encode()
        writes = (
            self._store.put(key, image, media_type=output.media_type),
            self._store.put(beside, found_out, media_type=_JSON),
        )
        for outcome in await asyncio.gather(*writes, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        execution.final_output_path = key
        execution.results[step_id].output_path = key

    async def _cancelled(self, held: HeldRecord) -> None:
        message = "the caller went away before the execution ended"
        await self._close(held, Execution.CANCELLED, "CANCELLED", "CLIENT_WENT_AWAY", message)

    async def _close(self, held: HeldRecord, status: Execution.State, code: str, reason: str, message: str) -> None:
        """Ends the record of an execution that came to no result."""
        execution = held.execution
        execution.status = status
        execution.error.code, execution.error.reason, execution.error.message = code, reason, message
        execution.final_output_path = ""
        execution.end_time.FromDatetime(now())
        log_finished(execution)
        try:
            await self._records.replace(held, execution)
        except ImageFlowError as exc:
            log.warning("record.not_written", execution_id=execution.execution_id, error_type=exc.reason)
