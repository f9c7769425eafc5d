"""The records of executions that are not done with, as their markers say; what marks nothing is cleared away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

from imageflow_common.errors import DataLoss, ImageFlowError, NotFound
from imageflow_common.keys import IndexedExecution
from imageflow_common.logs import EventLog

from .live import Key
from .records import UNKNOWN_VERSION, HeldRecord, Records, marks, now

log = EventLog(__name__)

_ORPHAN_AFTER = timedelta(minutes=1)
"""A marker without a record is that of a crash by then, and not of one who is about to write it."""


class Pending:
    """What there is to take up. Reports what cannot be read, once."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._reported: set[Key] = set()

    async def take_up(self, take_up: Callable[[HeldRecord], Awaitable[int]], passes_over: Callable[[Key], bool]) -> int:
        """Takes up each, oldest first, but for those that it `passes_over`; answers the sum of what `take_up` answers.
        One that cannot be taken up stops no other. Raises what listing raises."""
        total = 0
        async for entry in self._records.pending():
            key = entry.namespace, entry.execution_id
            if passes_over(key):
                continue
            try:
                held = await self._read(entry)
                if held is not None and not passes_over(key):
                    total += await take_up(held)
            except Exception as exc:
                reason = exc.reason if isinstance(exc, ImageFlowError) else type(exc).__name__
                self._report("execution.not_recovered", entry, reason)
        return total

    async def _read(self, entry: IndexedExecution) -> HeldRecord | None:
        try:
            held = await self._records.hold(entry.namespace, entry.execution_id)
        except NotFound as exc:
            if now() - entry.created > _ORPHAN_AFTER:
                self._report("record.set_aside", entry, exc.reason)
                await self._records.forget_marker(entry)
            return None
        except DataLoss as exc:
            self._report("record.set_aside", entry, exc.reason)
            if exc.reason != UNKNOWN_VERSION:
                await self._records.forget_marker(entry)
            return None
        if marks(entry, held.record.execution):
            return held
        await self._records.forget_marker(entry)  # it lost the race for its id
        return None

    def _report(self, event: str, entry: IndexedExecution, reason: str) -> None:
        key = entry.namespace, entry.execution_id
        if key not in self._reported:
            self._reported.add(key)
            log.error(event, execution_id=entry.execution_id, namespace=entry.namespace, error_type=reason)
