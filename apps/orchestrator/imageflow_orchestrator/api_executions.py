"""The front door: ExecutionService. Decodes, delegates, encodes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from time import perf_counter

from imageflow.v1 import execution_service_pb2 as service
from imageflow.v1.execution_pb2 import Execution
from imageflow_common.errors import FailedPrecondition, InvalidArgument, Violation
from imageflow_common.rpc import Context, Method

from .acceptance import prepare_record
from .asked import read_asked, read_request
from .executions import Executions
from .identity import check_id, namespace_of
from .paging import page_size
from .planner import Planner
from .records import Records, has_ended
from .rerun import Reruns
from .watch import Watcher


class ExecutionApi:
    """ExecutionService."""

    def __init__(
        self, executions: Executions, records: Records, planner: Planner, reruns: Reruns, watcher: Watcher
    ) -> None:
        self._executions = executions
        self._records = records
        self._planner = planner
        self._reruns = reruns
        self._watcher = watcher

    def methods(self) -> dict[str, Method]:
        return {
            "CreateExecution": self.create,
            "GetExecution": self.get,
            "ListExecutions": self.list,
            "WatchExecution": self.watch,
            "CancelExecution": self.cancel,
            "RerunExecution": self.rerun,
            "DeleteExecution": self.delete,
        }

    async def create(self, request: service.CreateExecutionRequest, context: Context) -> Execution:
        begun = perf_counter()
        asked = await read_asked(request, self._planner)
        store, namespace = self._executions.store, namespace_of(context)
        return await self._executions.accept(
            await prepare_record(asked, self._planner, store, namespace=namespace, begun=begun)
        )

    async def get(self, request: service.GetExecutionRequest, context: Context) -> Execution:
        namespace, execution_id = namespace_of(context), check_id("executionId", request.execution_id)
        return await self._executions.known(namespace, execution_id)

    async def list(self, request: service.ListExecutionsRequest, context: Context) -> service.ListExecutionsResponse:
        """Filters are applied to each page, so that a page may hold fewer than asked for, but for the times: the page
        begins at `createdBefore`, and the list ends at `createdAfter`."""
        after, before = _time("createdAfter", request.created_after), _time("createdBefore", request.created_before)
        found, token = await self._records.page(
            namespace_of(context),
            page_size=page_size(request.page_size),
            page_token=request.page_token or None,
            before=before,
        )
        recent = [each for each in found if after is None or _created(each) >= after]
        if len(recent) < len(found):
            token = None
        wanted = [each for each in recent if (before is None or _created(each) < before) and _wanted(each, request)]
        return service.ListExecutionsResponse(executions=wanted, next_page_token=token or "")

    async def watch(
        self, request: service.WatchExecutionRequest, context: Context
    ) -> AsyncIterator[service.ExecutionEvent]:
        execution_id = check_id("executionId", request.execution_id)
        async for event in self._watcher.watch(namespace_of(context), execution_id, request.after_event):
            yield event

    async def cancel(self, request: service.CancelExecutionRequest, context: Context) -> Execution:
        execution_id = check_id("executionId", request.execution_id)
        request, faults = read_request(request)
        _refuse(faults)
        return await self._executions.cancel(namespace_of(context), execution_id, request.message[:1_000])

    async def rerun(self, request: service.RerunExecutionRequest, context: Context) -> Execution:
        execution_id = check_id("executionId", request.execution_id)
        request, faults = read_request(request)
        _refuse(faults)
        record = await self._reruns.prepare(
            namespace_of(context),
            execution_id,
            from_step=request.from_step,
            overrides=request.overrides,
            new_execution_id=check_id("newExecutionId", request.new_execution_id, optional=True),
        )
        return await self._executions.accept(record)

    async def delete(
        self, request: service.DeleteExecutionRequest, context: Context
    ) -> service.DeleteExecutionResponse:
        execution_id = check_id("executionId", request.execution_id)
        execution = await self._records.get(namespace_of(context), execution_id)
        if not has_ended(execution):
            raise FailedPrecondition("the execution has not ended; cancel it first", reason="EXECUTION_RUNNING")
        await self._records.delete(execution)
        return service.DeleteExecutionResponse()


def _created(execution: Execution) -> datetime:
    return execution.create_time.ToDatetime(tzinfo=UTC)


def _wanted(execution: Execution, request: service.ListExecutionsRequest) -> bool:
    return (
        (not request.pipeline_id or execution.pipeline_id == request.pipeline_id)
        and (not request.status or execution.status == request.status)
        and (not request.parent_execution_id or execution.parent_execution_id == request.parent_execution_id)
    )


def _time(field: str, text: str) -> datetime | None:
    """RFC 3339. Raises InvalidArgument."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise InvalidArgument(
            f"{field} is not a time", violations=[Violation(field, "a time such as 2026-01-31T12:00:00Z")]
        ) from exc
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _refuse(faults: list[Violation]) -> None:
    if faults:
        raise InvalidArgument(f"{faults[0].field}: {faults[0].description}", violations=faults)
