"""The queue's holder on a store that several machines share: the one who has written the newest epoch.

An orchestrator that starts takes the queue: it writes the next epoch, on condition that it replaces the one that it
read. The one before finds that its own beat is refused, and begins nothing more; what it still runs is fenced by the
records' generations. A holder beats all the time; one whose beats stop is followed by whoever sees so first, by his own
clock. Nobody's wall clock matters.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass, replace
from time import monotonic
from uuid import uuid4

from imageflow_common.errors import ImageFlowError, ObjectNotFound, WriteConflict
from imageflow_common.keys import QUEUE_KEY
from imageflow_common.logs import EventLog
from imageflow_common.store import ObjectStore

log = EventLog(__name__)

BEAT_SECONDS = 5.0
SILENT_SECONDS = 20.0
"""After this without a beat the holder is taken for gone. It may only be slow: fencing is what keeps the records."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """What the store has of the queue. `holder` is empty when it was let go."""

    number: int = 0
    holder: str = ""
    beat: int = 0


@dataclass(frozen=True, slots=True)
class _Stored:
    epoch: Epoch
    generation: str | None


class EpochHold:
    """A `QueueHold` in an object store."""

    def __init__(
        self, store: ObjectStore, *, beat_seconds: float = BEAT_SECONDS, silent_seconds: float = SILENT_SECONDS
    ) -> None:
        self._store = store
        self._beat_seconds = beat_seconds
        self._silent_seconds = silent_seconds
        self._me = uuid4().hex
        self._found: int | None = None
        self._mine: _Stored | None = None

    async def take(self) -> None:
        generation, since = None, monotonic()
        while True:
            try:
                stored = await self._read()
                if stored.generation != generation:
                    generation, since = stored.generation, monotonic()
                if self._may_take(stored.epoch) or monotonic() - since > self._silent_seconds:
                    self._mine = await self._write(stored, Epoch(stored.epoch.number + 1, self._me))
                    return
            except WriteConflict:
                continue  # the holder has beaten meanwhile, or another one has taken it
            except ImageFlowError as exc:
                log.warning("queue.not_taken", error_type=exc.reason)
            await asyncio.sleep(self._beat_seconds)

    def _may_take(self, epoch: Epoch) -> bool:
        """Whether nobody has it, or nobody has followed the one who had it when this process started."""
        if self._found is None:
            self._found = epoch.number
        return not epoch.holder or epoch.number == self._found

    async def lost(self) -> None:
        while self._mine is not None:
            await asyncio.sleep(self._beat_seconds)
            try:
                self._mine = await self._beat(self._mine)
            except ImageFlowError as exc:
                log.warning("queue.no_beat", error_type=exc.reason)

    async def let_go(self) -> None:
        if self._mine is None:
            return
        try:
            await self._write(self._mine, replace(self._mine.epoch, holder=""))
        except ImageFlowError as exc:
            log.warning("queue.not_let_go", error_type=exc.reason)
        self._mine = None

    async def _beat(self, mine: _Stored) -> _Stored | None:
        """None when the queue is another's. A beat whose answer was lost has made the object's generation another."""
        try:
            return await self._write(mine, replace(mine.epoch, beat=mine.epoch.beat + 1))
        except WriteConflict:
            stored = await self._read()
            same = (stored.epoch.number, stored.epoch.holder) == (mine.epoch.number, mine.epoch.holder)
            return stored if same else None

    async def _read(self) -> _Stored:
        try:
            stored = await self._store.get(QUEUE_KEY)
        except ObjectNotFound:
            return _Stored(Epoch(), None)
        return _Stored(_decoded(stored.data), stored.info.generation)

    async def _write(self, over: _Stored, epoch: Epoch) -> _Stored:
        info = await self._store.put(
            QUEUE_KEY,
            json.dumps(asdict(epoch)).encode(),
            media_type="application/json",
            if_absent=over.generation is None,
            if_generation=over.generation,
        )
        return _Stored(epoch, info.generation)


def _decoded(data: bytes) -> Epoch:
    """What cannot be read counts as let go."""
    try:
        return Epoch(**json.loads(data))
    except (ValueError, TypeError):
        log.error("queue.damaged")
        return Epoch()
