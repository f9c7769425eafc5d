"""Writes one execution's record while it runs: one write at a time, always the newest state, none in the run's way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from imageflow.v1.record_pb2 import ExecutionRecord
from imageflow_common.errors import ImageFlowError, NotFound, WriteConflict
from imageflow_common.logs import EventLog

from .news import RESERVED_NUMBERS
from .patience import Patience
from .records import HeldRecord, Records, has_ended
from .unbroken import unbroken

log = EventLog(__name__)


class Checkpoint:
    """The record of an execution that this process runs. `cancelled` is called when another one asks for its end; a
    store that is away is asked again with `patience`."""

    def __init__(
        self, records: Records, held: HeldRecord, cancelled: Callable[[str], None], patience: Patience
    ) -> None:
        self._records = records
        self._held = held
        self._cancelled = cancelled
        self._patience = patience
        self._lock = asyncio.Lock()
        self._dirty = False
        self._writer: asyncio.Task[None] | None = None
        self._uncertain = 0  # the first revision, since one that is stored, whose write failed and may have happened
        self._fenced = False

    @property
    def record(self) -> ExecutionRecord:
        """As it is now; change it and call `soon` or `write`."""
        return self._held.record

    async def write(self) -> None:
        """The record as it is now, or newer, is stored when this returns. Raises WriteConflict when the execution was
        ended by somebody else: then nothing more may be written or published."""
        async with self._lock:
            await self._patience.ask(self._write)

    def soon(self) -> None:
        """Has the record written when the write under way, if any, is done. One that fails is made up for by the next;
        only the last one, of the outcome, has to succeed."""
        self._dirty = True
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_while_dirty())

    async def settle(self) -> None:
        """Waits for what `soon` began."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            await writer

    async def abandon(self) -> None:
        """Stops writing."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)

    async def _write(self) -> None:
        if self._fenced:
            raise _ended_elsewhere()
        self._dirty = False
        await unbroken(self._replace())

    async def _write_while_dirty(self) -> None:
        while self._dirty:
            try:
                await self.write()
            except ImageFlowError as exc:
                execution_id = self.record.execution.execution_id
                log.warning("checkpoint.not_written", execution_id=execution_id, error_type=exc.reason)

    async def _replace(self) -> None:
        record = self._held.record
        record.reserved_event_number = record.execution.last_event_number + RESERVED_NUMBERS
        try:
            await self._write_over(self._held.generation)
        except WriteConflict:
            await self._write_over(await self._over_another())

    async def _write_over(self, generation: str) -> None:
        record = self._held.record
        try:
            self._held = await self._records.replace(replace(self._held, generation=generation), record)
        except WriteConflict:
            raise
        except ImageFlowError:
            self._uncertain = self._uncertain or record.revision
            raise
        self._uncertain = 0

    async def _over_another(self) -> str:
        """The generation of a record that is to be written over although it is not the last that is known: another
        replica marked it for cancelling, or a write of ours succeeded although it failed. Nothing else may change it
        under us."""
        record = self._held.record
        stored = await self._stored()
        if stored.record.cancel_requested and not has_ended(stored.record.execution):
            self._cancelled(stored.record.cancel_message)
            record.cancel_requested, record.cancel_message = True, stored.record.cancel_message
        elif not self._may_be_ours(stored.record):
            self._fenced = True
            raise _ended_elsewhere()
        record.revision = max(record.revision, stored.record.revision)
        return stored.generation

    def _may_be_ours(self, stored: ExecutionRecord) -> bool:
        """Whether a write that failed has left this record."""
        if not 0 < self._uncertain <= stored.revision:
            return False
        return not has_ended(stored.execution) or stored.execution.end_time == self.record.execution.end_time

    async def _stored(self) -> HeldRecord:
        execution = self._held.record.execution
        try:
            return await self._records.hold(execution.namespace, execution.execution_id)
        except NotFound as exc:
            self._fenced = True
            raise _ended_elsewhere() from exc


def _ended_elsewhere() -> WriteConflict:
    return WriteConflict("the execution was ended by another orchestrator", reason="FENCED")
