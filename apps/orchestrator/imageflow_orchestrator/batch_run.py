"""Performs a batch: an execution for each image, a few at a time, counted as they end (R55)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from imageflow.v1.execution_pb2 import BatchCounts, Execution
from imageflow.v1.record_pb2 import ExecutionRecord
from imageflow_common.errors import FailedPrecondition, ImageFlowError, NotFound
from imageflow_common.logs import EventLog

from . import batch
from .claim import new_record
from .engine import Requested
from .live import Live
from .patience import may_pass

if TYPE_CHECKING:
    from .executions import Executions

log = EventLog(__name__)

_STORE_AGAIN_SECONDS = 1.0


class BatchRun:
    """One batch's turn. It holds no slot; its children do. What of them ended before a crash is only counted."""

    def __init__(self, executions: Executions, live: Live) -> None:
        self._executions = executions
        self._live = live
        self._images = batch.children(live.record)
        self._concurrency = batch.concurrency(live.record)

    async def perform(self) -> None:
        """Returns when every image's execution has ended. When this is cancelled on request, so are they."""
        self._execution.batch.CopyFrom(BatchCounts(total=len(self._images)))
        try:
            await self._perform_all()
        except asyncio.CancelledError:
            if self._live.cancel_message is not None:
                await self.cancel(self._live.cancel_message)
            raise

    async def cancel(self, message: str) -> None:
        """Ends every child that there is, and counts them all. They were accepted in order: past the first few that are
        not there, there are none."""
        self._execution.batch.CopyFrom(BatchCounts(total=len(self._images)))
        for child in self._images:  # all of them before the first is waited for: none shall get another's slot
            if (live := self._executions.live(self._execution.namespace, self._id(child))) is not None:
                live.cancel(message)
        absent = 0
        for child in self._images:
            ended = await self._cancel(child, message)
            if ended is not None:
                batch.count(self._execution, ended.status)
            elif (absent := absent + 1) > self._concurrency:
                return

    @property
    def _execution(self) -> Execution:
        return self._live.execution

    async def _perform_all(self) -> None:
        total, waiting = len(self._images), iter(self._images)
        running: set[asyncio.Task[Execution.State]] = set()
        try:
            while batch.done(self._execution) < total:
                while len(running) < self._concurrency and (child := next(waiting, None)) is not None:
                    running.add(asyncio.create_task(self._perform_child(child)))
                ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    batch.count(self._execution, task.result())
                self._live.news.progress("", "RUNNING", f"{batch.done(self._execution)} of {total} images")
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _perform_child(self, child: batch.Child) -> Execution.State:
        """What one image's execution came to. One that cannot be has failed, alone."""
        while True:
            try:
                accepted = await self._executions.accept_child(await self._record(child))
                ended = await self._executions.until_ended(accepted.namespace, accepted.execution_id)
            except ImageFlowError as exc:
                if may_pass(exc):
                    await asyncio.sleep(_STORE_AGAIN_SECONDS)
                    continue
                log.warning("batch.child_refused", execution_id=self._id(child), error_type=exc.reason)
                return Execution.FAILED
            else:
                return ended.status

    async def _record(self, child: batch.Child) -> ExecutionRecord:
        request = batch.child_request(self._live.record, child)
        requested = Requested(namespace=self._execution.namespace, execution_id=self._id(child))
        plan = await self._executions.plan(request)
        record = new_record(request, plan, requested, ExecutionRecord.ASYNCHRONOUS)
        record.execution.parent_execution_id = self._execution.execution_id
        return record

    async def _cancel(self, child: batch.Child, message: str) -> Execution | None:
        namespace = self._execution.namespace
        try:
            return await self._executions.cancel(namespace, self._id(child), message)
        except FailedPrecondition:
            return await self._executions.known(namespace, self._id(child))
        except NotFound:
            return None

    def _id(self, child: batch.Child) -> str:
        return batch.child_id(self._live.record, child)
