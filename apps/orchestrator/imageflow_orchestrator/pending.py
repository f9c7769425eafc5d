"""The records of executions that are not done with, as their markers say; what marks nothing is cleared away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, timedelta

from imageflow.v1.record_pb2 import ExecutionRecord
from imageflow_common.errors import DataLoss, ImageFlowError, NotFound
from imageflow_common.keys import IndexedExecution
from imageflow_common.logs import EventLog

from .live import Key
from .planned import SYNCHRONOUS
from .records import UNKNOWN_VERSION, HeldRecord, Records, marks, now

log = EventLog(__name__)

_ORPHAN_AFTER = timedelta(minutes=1)
"""A marker without a record is that of a crash by then, and not of one who is about to write it."""
_DEADLINE_MARGIN = timedelta(seconds=10)
"""What storing an outcome may take after the deadline of a run."""


class Pending:
    """What there is to take up, or to count. Reports what cannot be read, once."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._reported: set[Key] = set()
        self._surveyed = self._added = 0

    @property
    def known(self) -> int:
        """How many there were at the last survey, with those added since: what others added comes with the next."""
        return self._surveyed + self._added

    def add(self) -> None:
        """There is one more, for another process to take up."""
        self._added += 1

    async def take_up(
        self,
        take_up: Callable[[HeldRecord], Awaitable[int]],
        passes_over: Callable[[Key], bool],
        called_off: Callable[[Key], Awaitable[None]],
    ) -> int:
        """Takes up each, oldest first, but for those that it `passes_over`; answers the sum of what `take_up` answers.
        `called_off` is told of each whose end is asked for. One that cannot be taken up stops no other. Raises what
        listing raises."""
        total = 0
        async for marker in self._records.pending():
            entry = marker.entry
            key = entry.namespace, entry.execution_id
            try:
                if marker.cancelled:
                    await called_off(key)
                if not passes_over(key) and (held := await self._read(entry)) is not None and not passes_over(key):
                    total += await take_up(held)
            except Exception as exc:
                reason = exc.reason if isinstance(exc, ImageFlowError) else type(exc).__name__
                self._report("execution.not_recovered", entry, reason)
        return total

    async def survey(self, called_off: Callable[[Key], Awaitable[None]]) -> None:
        """Counts them; `called_off` is told as by `take_up`, and nothing is taken up."""
        added, keys = self._added, list[Key]()

        def count(key: Key) -> bool:
            keys.append(key)
            return True

        await self.take_up(_nothing, count, called_off)
        self._surveyed, self._added = len(keys), self._added - added

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


def deadline_passed(record: ExecutionRecord) -> bool:
    """Whether nobody can be at work any more on an execution whose caller waited."""
    timeout = record.request.pipeline.timeout.ToTimedelta() or SYNCHRONOUS.timeout
    return record.execution.create_time.ToDatetime(tzinfo=UTC) + timeout + _DEADLINE_MARGIN < now()


async def _nothing(_: HeldRecord) -> int:
    return 0


def outlives_process(record: ExecutionRecord) -> bool:
    """Whether an execution goes on when the process that accepted it has ended."""
    return record.kind in (ExecutionRecord.ASYNCHRONOUS, ExecutionRecord.BATCH)
