"""Begins and ends an execution: what is stored, what is told, and in which order (R53)."""

from __future__ import annotations

from datetime import timedelta

from opentelemetry import trace

from imageflow.v1.execution_pb2 import Execution
from imageflow_common.errors import Cancelled, ImageFlowError, WriteConflict
from imageflow_common.events import Events
from imageflow_common.logs import EventLog

from .engine import log_finished
from .live import Live
from .news import COMPLETION_EVENTS, News
from .records import Records, now, since_acceptance
from .unbroken import unbroken

log = EventLog(__name__)


class Lifecycle:
    """The first and the last of an execution."""

    def __init__(self, records: Records, events: Events, retention: timedelta) -> None:
        self._records = records
        self._events = events
        self._retention = retention
        self._untold: set[str] = set()

    @property
    def untold(self) -> int:
        """Ends that are stored and could not be told of yet."""
        return len(self._untold)

    def forget_untold(self) -> None:
        """Whoever looks at all that is pending finds them again, unless another process has told of them."""
        self._untold.clear()

    async def start(self, live: Live) -> None:
        """Nothing is told before the record reserves its number."""
        live.execution.status = Execution.RUNNING
        if not live.execution.HasField("start_time"):
            live.execution.start_time.FromDatetime(now())
        await live.checkpoint.write()
        live.news.progress("", "RUNNING")

    async def end(self, live: Live, ended: Execution) -> None:
        """Stores the outcome, then tells it, then lets the marker go: whatever breaks off here is taken up again."""
        await unbroken(self._store_and_tell(live, ended))

    async def _store_and_tell(self, live: Live, ended: Execution) -> None:
        execution = live.execution
        await live.checkpoint.settle()
        execution.MergeFrom(ended)
        execution.expire_time.FromDatetime(now() + self._retention)
        execution.last_event_number += COMPLETION_EVENTS
        live.counted += COMPLETION_EVENTS
        await live.checkpoint.write()
        live.stored = True
        log_finished(execution)
        await self._tell(live.news, execution)

    async def tell_again(self, execution: Execution) -> bool:
        """Tells of an end that is stored, and may have been told before; answers whether it could be told."""
        return await self._tell(News(self._events, execution), execution)

    async def _tell(self, news: News, execution: Execution) -> bool:
        """While it cannot be told, or the marker not removed, the same is told again, under the same numbers."""
        news.completion()
        if not await news.flush():
            log.debug("completion.not_told", execution_id=execution.execution_id)
            self._untold.add(execution.execution_id)
            return False
        self._untold.discard(execution.execution_id)
        try:
            await self._records.settle(execution)
        except ImageFlowError as exc:
            log.warning("marker.not_removed", execution_id=execution.execution_id, error_type=exc.reason)
        return True

    async def close(self, live: Live, error: ImageFlowError) -> None:
        """Ends an execution that came to no result; one whose outcome is stored has ended already."""
        execution = live.execution
        if isinstance(error, WriteConflict):
            log.warning("execution.fenced", execution_id=execution.execution_id)
        if live.stored or isinstance(error, WriteConflict):
            return
        execution.ClearField("final_output_path")
        if not isinstance(error, Cancelled):
            trace.get_current_span().set_status(trace.StatusCode.ERROR, error.reason)
        ended = Execution(status=Execution.CANCELLED if isinstance(error, Cancelled) else Execution.FAILED)
        ended.error.code, ended.error.reason, ended.error.message = error.code, error.reason, error.message
        ended.end_time.FromDatetime(now())
        execution.execution_time_ms = max(execution.execution_time_ms, since_acceptance(execution))
        try:
            await self.end(live, ended)
        except ImageFlowError as exc:
            log.warning("record.not_written", execution_id=execution.execution_id, error_type=exc.reason)
