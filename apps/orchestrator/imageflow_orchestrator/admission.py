"""How many executions run and wait at once; what is more is refused (R75, docs/adr/0008-admission.md)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from imageflow_common.errors import Overloaded

_RETRY_AFTER = timedelta(seconds=1)


class Admission:
    """Two bounds: `max_running`, and `max_waiting` for their turn, first come first served."""

    def __init__(self, *, max_running: int, max_waiting: int) -> None:
        self._slots = asyncio.Semaphore(max_running)
        self._max_waiting = max_waiting
        self.waiting = 0
        """Executions that wait for their turn now."""

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Waits for a turn. Raises Overloaded when too many wait already."""
        if self._slots.locked() and self.waiting >= self._max_waiting:
            raise Overloaded(f"{self.waiting} executions are waiting", retry_after=_RETRY_AFTER)
        self.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self.waiting -= 1
        try:
            yield
        finally:
            self._slots.release()
