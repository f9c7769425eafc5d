"""Writes one execution's record while it runs: one write at a time, always the newest state, none in the run's way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from imageflow.v1.record_pb2 import ExecutionRecord
from imageflow_common.errors import WriteConflict

from .news import RESERVED_NUMBERS
from .records import HeldRecord, Records, has_ended


class Checkpoint:
    """The record of an execution that this process runs. `cancelled` is called when another one asks for its end."""

    def __init__(self, records: Records, held: HeldRecord, cancelled: Callable[[str], None]) -> None:
        self._records = records
        self._held = held
        self._cancelled = cancelled
        self._lock = asyncio.Lock()
        self._dirty = False
        self._writer: asyncio.Task[None] | None = None

    @property
    def record(self) -> ExecutionRecord:
        """As it is now; change it and call `soon` or `write`."""
        return self._held.record

    async def write(self) -> None:
        """The record as it is now is stored when this returns. Raises WriteConflict when the execution was ended by
        somebody else: then nothing more may be written or published."""
        async with self._lock:
            self._dirty = False
            record = self._held.record
            record.reserved_event_number = record.execution.last_event_number + RESERVED_NUMBERS
            try:
                self._held = await self._records.replace(self._held, record)
            except WriteConflict:
                self._held = await self._over_a_mark()

    def soon(self) -> None:
        """Has the record written when the write under way, if any, is done."""
        self._dirty = True
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_while_dirty())

    async def settle(self) -> None:
        """Waits for what `soon` began. Raises as `write`."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            await writer

    async def abandon(self) -> None:
        """Stops writing."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)

    async def _write_while_dirty(self) -> None:
        while self._dirty:
            await self.write()

    async def _over_a_mark(self) -> HeldRecord:
        """Another replica may have marked the record for cancelling; nothing else may change it under us."""
        execution = self._held.record.execution
        stored = await self._records.hold(execution.namespace, execution.execution_id)
        if has_ended(stored.record.execution) or not stored.record.cancel_requested:
            raise WriteConflict("the execution was ended by another orchestrator", reason="FENCED")
        record = self._held.record
        record.cancel_requested, record.cancel_message = True, stored.record.cancel_message
        record.revision = max(record.revision, stored.record.revision)
        held = await self._records.replace(HeldRecord(record, stored.generation), record)
        self._cancelled(record.cancel_message)
        return held
