"""The client's part for executions: accepted, watched, cancelled, run again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, cast

from imageflow.v1 import execution_service_pb2 as executions
from imageflow.v1.execution_pb2 import Execution
from imageflow_common.errors import Cancelled, DeadlineExceeded, ImageFlowError, Unavailable

from .client_calls import Calls, Definition, pages, with_definition, with_overrides
from .rpc import receive_stream

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0
_PATIENCE = timedelta(seconds=60)


class ExecutionCalls(Calls):
    """Calls ExecutionService."""

    async def create_execution(
        self,
        pipeline: Definition | None = None,
        *,
        pipeline_id: str = "",
        version: str = "",
        input_path: str = "",
        output_path: str = "",
        batch: executions.BatchInputs | None = None,
        execution_id: str = "",
        overrides: Mapping[str, object] | None = None,
        output_format: str = "",
        quality: int = 0,
    ) -> Execution:
        """Has a pipeline, given or stored, run over a stored image, or over a batch of them; answers at once. The
        same id with the same request answers the execution that there is. Raises AlreadyExists for an id that is
        taken by another request."""
        request = executions.CreateExecutionRequest(
            pipeline_id=pipeline_id,
            version=version,
            input_path=input_path,
            output_path=output_path,
            execution_id=execution_id,
            output_format=output_format,
            quality=quality,
            batch=batch,
        )
        request = with_definition(request, pipeline, overrides or {})
        return await self._call("ExecutionService/CreateExecution", request, Execution)

    async def get_execution(self, execution_id: str) -> Execution:
        request = executions.GetExecutionRequest(execution_id=execution_id)
        return await self._call("ExecutionService/GetExecution", request, Execution)

    async def list_executions(
        self,
        *,
        pipeline_id: str = "",
        status: int = Execution.STATE_UNSPECIFIED,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        parent_execution_id: str = "",
    ) -> AsyncIterator[Execution]:
        """Newest first: those of a pipeline, in a state, accepted at or after and before a time, of a batch."""

        async def page(token: str) -> executions.ListExecutionsResponse:
            request = executions.ListExecutionsRequest(
                pipeline_id=pipeline_id,
                status=cast(Any, status),
                created_after=created_after.isoformat() if created_after else "",
                created_before=created_before.isoformat() if created_before else "",
                parent_execution_id=parent_execution_id,
                page_token=token,
            )
            return await self._call("ExecutionService/ListExecutions", request, executions.ListExecutionsResponse)

        async for response in pages(page):
            for execution in response.executions:
                yield execution

    async def watch_execution(
        self, execution_id: str, *, after_event: int = 0, patience: timedelta = _PATIENCE
    ) -> AsyncIterator[executions.ExecutionEvent]:
        """How the execution stands (number 0), then every event, the terminal one last.

        When the connection breaks it asks again from the last event's number, so that how the execution stands may
        come again in between; it gives up when nothing has come for as long as its `patience`. A server that does not
        answer at all raises ServerUnreachable at once.
        """
        seen, heard, pause, silence = after_event, 0.0, _FIRST_PAUSE_SECONDS, patience.total_seconds()
        while True:
            request = executions.WatchExecutionRequest(execution_id=execution_id, after_event=seen)
            broken: ImageFlowError | None = None
            try:
                async for event in receive_stream(
                    self._channel, "ExecutionService/WatchExecution", request, executions.ExecutionEvent, silence
                ):
                    heard, pause = monotonic(), _FIRST_PAUSE_SECONDS
                    seen = max(seen, event.number)
                    yield event
                    if event.terminal:
                        return
            except (Unavailable, DeadlineExceeded, Cancelled) as exc:
                broken = exc
            if monotonic() - heard > silence:
                raise broken or Unavailable("the watch ended before the execution did")
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def cancel_execution(self, execution_id: str, *, message: str = "") -> Execution:
        """Raises FailedPrecondition when it has ended."""
        request = executions.CancelExecutionRequest(execution_id=execution_id, message=message)
        return await self._call("ExecutionService/CancelExecution", request, Execution)

    async def rerun_execution(
        self,
        execution_id: str,
        *,
        from_step: str = "",
        overrides: Mapping[str, object] | None = None,
        new_execution_id: str = "",
    ) -> Execution:
        """A new execution that takes over what the ended one had finished before `from_step`; without it, whatever
        had finished."""
        request = executions.RerunExecutionRequest(
            execution_id=execution_id, from_step=from_step, new_execution_id=new_execution_id
        )
        request = with_overrides(request, overrides or {})
        return await self._call("ExecutionService/RerunExecution", request, Execution)

    async def delete_execution(self, execution_id: str) -> None:
        """Removes the record and the artifacts. Raises FailedPrecondition when it has not ended."""
        request = executions.DeleteExecutionRequest(execution_id=execution_id)
        await self._call("ExecutionService/DeleteExecution", request, executions.DeleteExecutionResponse)
