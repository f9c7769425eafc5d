"""Removes executions whose time is over: records and artifacts, never those of an execution that has not ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from imageflow_common.errors import DataLoss, ImageFlowError, InvalidKey, NotFound
from imageflow_common.keys import INDEX_PREFIX, IndexedExecution, index_key, index_prefix, parse_index_key
from imageflow_common.logs import EventLog
from imageflow_common.store import ObjectKey, ObjectStore

from .records import Records, has_ended, now

log = EventLog(__name__)


class Janitor:
    """Looks at what is older than `retention`, in every namespace, every `period`."""

    def __init__(self, store: ObjectStore, records: Records, *, retention: timedelta, period: timedelta) -> None:
        self._store = store
        self._records = records
        self._retention = retention
        self._period = period

    async def run(self) -> None:
        while True:
            try:
                if removed := await self.sweep(now()):
                    log.info("executions.expired", count=removed)
            except ImageFlowError as exc:
                log.warning("janitor.failed", error_type=exc.reason)
            await asyncio.sleep(self._period.total_seconds())

    async def sweep(self, moment: datetime) -> int:
        """Removes what had expired by that moment; answers how many executions. Only what is older than the retention
        is looked at: the index is ordered by time."""
        removed = 0
        async for namespace in self._namespaces():
            removed += await self._sweep(namespace, moment)
        return removed

    async def _sweep(self, namespace: str, moment: datetime) -> int:
        removed = 0
        start: str | None = index_key(namespace, moment - self._retention, "-")
        while True:
            page = await self._store.list(index_prefix(namespace), start_after=start)
            for item in page.items:
                start = item.key
                with suppress(InvalidKey):  # somebody else's
                    entry = parse_index_key(item.key)
                    removed += await self._remove(entry, item.key, moment)
            if page.next_page_token is None:
                return removed

    async def _remove(self, entry: IndexedExecution, index: ObjectKey, moment: datetime) -> int:
        try:
            execution = await self._records.get(entry.namespace, entry.execution_id)
        except NotFound:
            await self._store.delete(index)
            return 0
        except DataLoss:
            return 0
        if not has_ended(execution) or execution.expire_time.ToDatetime(tzinfo=UTC) > moment:
            return 0
        await self._records.delete(execution)
        return 1

    async def _namespaces(self) -> AsyncIterator[str]:
        """Jumps from one namespace to the next, however many executions lie between."""
        start: str | None = None
        while (page := await self._store.list(INDEX_PREFIX, page_size=1, start_after=start)).items:
            namespace = page.items[0].key.removeprefix(INDEX_PREFIX).partition("/")[0]
            yield namespace
            start = f"{INDEX_PREFIX}{namespace}/\U0010ffff"
