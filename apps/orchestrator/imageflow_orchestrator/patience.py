"""What an accepted execution asks of a store that is away or full for a while is asked again, and so not lost (R53)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar

from imageflow.v1.record_pb2 import ExecutionRecord
from imageflow_common.errors import ImageFlowError
from imageflow_common.logs import EventLog
from imageflow_common.store import ObjectInfo, ObjectKey, ObjectStore, StoredObject

from .planned import ASYNCHRONOUS

T = TypeVar("T")

log = EventLog(__name__)

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 5.0
_AWAY = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}
"""The codes by which a store says that it is away, has too much to do, or is full until somebody makes room."""


def may_pass(error: ImageFlowError) -> bool:
    """Whether a store that raised this may do the same later."""
    return error.code in _AWAY


@dataclass(frozen=True, slots=True)
class Patience:
    """For how long a store that is away is asked again, each time that it is; 0: its first error counts."""

    seconds: float

    async def ask(self, work: Callable[[], Awaitable[T]]) -> T:
        """What the work answers, in the end. Raises its error when that does not pass, or not in time."""
        begun, pause, tries = perf_counter(), _FIRST_PAUSE_SECONDS, 1
        while True:
            try:
                answer = await work()
            except ImageFlowError as exc:
                if not may_pass(exc) or perf_counter() - begun + pause > self.seconds:
                    raise
                if tries == 1:
                    log.warning("store.away", error_type=exc.reason)
            else:
                if tries > 1:
                    log.info("store.back", tries=tries, seconds=round(perf_counter() - begun, 2))
                return answer
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, no secret
            pause, tries = min(2 * pause, _LONGEST_PAUSE_SECONDS), tries + 1


def patience_of(record: ExecutionRecord) -> Patience:
    """As long as the execution itself may take; none for a caller who waits, and may ask again himself."""
    if record.kind not in (ExecutionRecord.ASYNCHRONOUS, ExecutionRecord.BATCH):
        return Patience(0.0)
    return Patience((record.request.pipeline.timeout.ToTimedelta() or ASYNCHRONOUS.timeout).total_seconds())


@dataclass(frozen=True, slots=True)
class PatientStore:
    """The store as one execution uses it: whole objects that nobody else writes, so that any call may be repeated."""

    store: ObjectStore
    patience: Patience

    async def put(self, key: ObjectKey, data: bytes, *, media_type: str) -> ObjectInfo:
        return await self.patience.ask(lambda: self.store.put(key, data, media_type=media_type))

    async def get(self, key: ObjectKey) -> StoredObject:
        return await self.patience.ask(lambda: self.store.get(key))

    async def head(self, key: ObjectKey) -> ObjectInfo:
        return await self.patience.ask(lambda: self.store.head(key))
