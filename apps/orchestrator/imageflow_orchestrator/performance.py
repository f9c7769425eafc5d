"""Performs an execution that has a record: input from the store, output and findings into it, the record kept true."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from time import perf_counter

from google.protobuf.json_format import MessageToDict

from imageflow.v1.execution_pb2 import Execution
from imageflow.v1.image_pb2 import Image
from imageflow.v1.record_pb2 import ExecutionRecord
from imageflow_common.errors import ImageTooLarge, ObjectNotFound
from imageflow_common.keys import artifact_key, artifacts_prefix, metadata_key, parse_user_key
from imageflow_common.logs import EventLog
from imageflow_common.store import ObjectKey

from .admission import Slot
from .checkpoint import Checkpoint
from .definition import StepId
from .effects import StepOutcome
from .engine import Engine, Requested, since
from .images import Artifact
from .kept import KeptImages
from .news import News
from .patience import PatientStore
from .plan import Plan
from .recorded import KeptImage, TakenOver, record_step, take_over
from .records import now
from .run import OutputFormat, Run, RunResult

log = EventLog(__name__)

_JSON = "application/json"


@dataclass(slots=True, eq=False)
class Performance:
    """One execution's turn: from RUNNING to its outcome, which is not in the record yet. `started` is told the run, so
    that it can be cancelled."""

    engine: Engine
    store: PatientStore
    plan: Plan
    checkpoint: Checkpoint
    news: News
    plan_ms: float
    started: Callable[[Run], None]

    @property
    def record(self) -> ExecutionRecord:
        return self.checkpoint.record

    @property
    def execution(self) -> Execution:
        return self.record.execution

    async def perform(self, slot: Slot | None) -> Execution:
        """How it ended: status, error, end time and final output, to be merged into the execution when all else is
        stored; the record, written all the time, must not claim success before.

        Raises errors of the tree for an input that is not there or is no image, and what the store raises.
        """
        begun = perf_counter()
        data = await self._read_input(parse_user_key(self.record.request.input_path))
        output = self.engine.output_format(data, "", self._requested())
        taken = await self._still_there(take_over(self.record, self.plan))
        self.execution.timings.store_ms = since(begun)
        kept = KeptImages(self.plan, self.execution, self.store, self.engine.transport, self._finished)

        runs: list[Run] = []

        def started(run: Run) -> None:
            runs.append(run)
            self.started(run)

        def begun_step(step_id: StepId) -> None:
            self.execution.trace_id = runs[0].trace.trace_id
            self.execution.results[step_id].Clear()
            self.execution.results[step_id].step_id = step_id
            self.execution.results[step_id].status = Execution.RUNNING
            self.news.progress(step_id, "RUNNING")

        def settled(step_id: StepId, outcome: StepOutcome, image: Artifact | None) -> None:
            self.engine.write_step(self.execution, runs[0], step_id, outcome)
            self.news.progress(step_id, outcome.status, outcome.failure.message if outcome.failure else "")
            kept.settled(step_id, outcome, image)

        try:
            result, image = await self.engine.perform(
                self.plan,
                data,
                self.execution,
                output,
                settled=settled,
                begun=begun_step,
                started=started,
                taken=taken,
                load=self._load,
                slot=slot,
            )
            self.engine.finish(
                self.execution, self.plan, result, self._requested(), with_metadata=True, kept=result.taken
            )
            reused = [step_id for step_id in self.execution.reused_steps if step_id in result.taken]
            self.execution.reused_steps[:] = reused
            ended = _withheld(self.execution)
            await self._store_rest(kept, result, output, image, ended)
            return ended
        finally:
            await kept.close()

    async def _store_rest(
        self, kept: KeptImages, result: RunResult, output: OutputFormat, image: bytes, ended: Execution
    ) -> None:
        begun = perf_counter()
        if result.final is None:
            await kept.finish(failed=True)
        else:
            if not self.record.request.output_path:
                await kept.finish(failed=False)  # what is kept may be the output
            ended.final_output_path = await self._store_output(kept, result, output, image)
        self.execution.timings.store_ms += since(begun)
        self.execution.execution_time_ms += since(begun)
        ended.end_time.FromDatetime(now())

    def _requested(self) -> Requested:
        request = self.record.request
        return Requested(output_format=request.output_format, quality=request.quality, plan_ms=self.plan_ms)

    def _finished(self, step_id: StepId, outcome: StepOutcome, image: KeptImage | None) -> None:
        fallback = next(step.fallback for step in self.plan.steps if step.step_id == step_id)
        by_fallback = fallback is not None and outcome.call is fallback
        self.record.steps[step_id].CopyFrom(record_step(outcome, image, by_fallback=by_fallback))
        if self.record.kind is not ExecutionRecord.SYNCHRONOUS:  # one that is cut off is not resumed
            self.checkpoint.soon()

    async def _read_input(self, key: ObjectKey) -> bytes:
        info = await self.store.head(key)
        if info.size_bytes > self.engine.max_image_bytes:
            raise ImageTooLarge(f"the image has {info.size_bytes} bytes, more than {self.engine.max_image_bytes}")
        return (await self.store.get(key)).data

    async def _still_there(self, taken: TakenOver) -> TakenOver:
        """With the steps whose image is no longer in the store, or not as it was."""
        lost = {step_id for step_id, image in taken.images.items() if not await self._is_there(step_id, image)}
        return replace(taken, lost=frozenset(lost))

    async def _is_there(self, step_id: StepId, image: Artifact) -> bool:
        """An image of the execution that this one is a rerun of is copied first."""
        key, size = ObjectKey(image.description.object_key), image.description.size_bytes
        try:
            if key.startswith(artifacts_prefix(self.execution.namespace, self.execution.execution_id)):
                return (await self.store.head(key)).size_bytes == size
            stored = await self.store.get(key)
        except ObjectNotFound:
            return False
        own = self._own_key(step_id, self.record.steps[step_id].attempts)
        await self.store.put(own, stored.data, media_type=stored.info.media_type)
        image.description.object_key = self.record.steps[step_id].image.object_key = own
        self.execution.results[step_id].output_path = own
        return len(stored.data) == size

    async def _load(self, image: Artifact) -> None:
        """Brings an image that was taken over into memory."""
        image.data = (await self.store.get(ObjectKey(image.description.object_key))).data

    async def _store_output(self, kept: KeptImages, result: RunResult, output: OutputFormat, image: bytes) -> ObjectKey:
        """The output, what was found out next to it (R31), and what is left of the intermediates, side by side."""
        execution, step_id = self.execution, self.plan.output.step_id
        key, written = self._output_key(max(1, result.outcome.steps[step_id].attempts), output.media_type)
        metadata = {
            "executionId": execution.execution_id,
            "pipelineId": execution.pipeline_id,
            "pipelineVersion": execution.pipeline_version,
            "inputPath": execution.input_path,
            "steps": {
                step.step_id: MessageToDict(execution.results[step.step_id].metadata) for step in self.plan.steps
            },
        }
        found_out = json.dumps(metadata, ensure_ascii=False).encode()
        writes: list[Awaitable[object]] = [self.store.put(metadata_key(key), found_out, media_type=_JSON)]
        if not written:
            writes.append(self.store.put(key, image, media_type=output.media_type))
        writes.append(kept.finish(failed=False))
        for outcome in await asyncio.gather(*writes, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        execution.results[step_id].output_path = key
        return key

    def _output_key(self, attempts: int, media_type: str) -> tuple[ObjectKey, bool]:
        """Where the output goes, and whether it is there: what the output step answered is kept as an artifact, but as
        raw pixels where other steps take it too."""
        step_id, asked = self.plan.output.step_id, self.record.request.output_path
        if asked:
            return parse_user_key(asked), False
        own = self._own_key(step_id, attempts)
        kept = self.record.steps[step_id].image if step_id in self.record.steps else Image()
        if kept.object_key != own:
            return own, False
        return (own, True) if kept.media_type == media_type else (ObjectKey(f"{own}-output"), False)

    def _own_key(self, step_id: StepId, attempts: int) -> ObjectKey:
        return artifact_key(self.execution.namespace, self.execution.execution_id, step_id, attempts)


def _withheld(execution: Execution) -> Execution:
    """Takes from an execution how it ended."""
    ended = Execution(status=execution.status)
    if execution.HasField("error"):
        ended.error.CopyFrom(execution.error)
    execution.status = Execution.RUNNING
    execution.ClearField("error")
    execution.ClearField("end_time")
    return ended
