"""Executions as the store keeps them: a record each, a time-ordered index, and a marker while one is pending."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from google.protobuf.json_format import ParseDict, ParseError

from imageflow.v1.execution_pb2 import Execution
from imageflow.v1.record_pb2 import ExecutionRecord
from imageflow_common.errors import AlreadyExists, DataLoss, InvalidKey, NotFound, ObjectNotFound, WriteConflict
from imageflow_common.keys import (
    PENDING_PREFIX,
    IndexedExecution,
    artifacts_prefix,
    index_key,
    index_prefix,
    parse_index_key,
    parse_pending_key,
    pending_key,
    record_key,
)
from imageflow_common.store import MAX_PAGE_SIZE, ObjectKey, ObjectStore

from .record_encoder import RecordEncoder

SCHEMA_VERSION = 1
UNKNOWN_VERSION = "UNKNOWN_RECORD_VERSION"
"""The reason of DataLoss for a record that a later version wrote: nothing is wrong with it."""
_JSON = "application/json"
_EMPTY = "application/octet-stream"
_CANCEL = b"cancel"
_ENDED = {Execution.COMPLETED, Execution.FAILED, Execution.CANCELLED}


@dataclass(frozen=True, slots=True)
class HeldRecord:
    """A record as it stands in the store: what a conditional write needs."""

    record: ExecutionRecord
    generation: str
    encoder: RecordEncoder = field(default_factory=RecordEncoder, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Marker:
    """Says of an execution that it is not done with; `cancelled`, that somebody asked for its end."""

    entry: IndexedExecution
    cancelled: bool


class Records:
    """The records of executions. Every write is conditional on what was read."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def create(self, record: ExecutionRecord, *, pending: bool = False) -> HeldRecord:
        """Claims the execution's id. Raises AlreadyExists when it is taken.

        Marker and index entry are written first: a crash leaves these without a record, never a record that nobody
        finds.
        """
        execution = record.execution
        first = [_entry_of(execution), *([self._marker(execution)] if pending else [])]
        for written in await asyncio.gather(*map(self._put_empty, first), return_exceptions=True):
            if isinstance(written, BaseException):
                raise written
        try:
            data = _encode(record, RecordEncoder())
            info = await self._store.put(self._key(execution), data, media_type=_JSON, if_absent=True)
        except WriteConflict as exc:
            await self._withdraw(execution)
            taken = f"there is an execution {execution.execution_id!r} already"
            raise AlreadyExists(taken, reason="EXECUTION_EXISTS") from exc
        return HeldRecord(record, info.generation)

    async def replace(self, held: HeldRecord, record: ExecutionRecord) -> HeldRecord:
        """Writes the record again. Raises WriteConflict when somebody else did."""
        record.revision += 1
        data = _encode(record, held.encoder)
        info = await self._store.put(self._key(record.execution), data, media_type=_JSON, if_generation=held.generation)
        return HeldRecord(record, info.generation, held.encoder)

    async def settle(self, execution: Execution) -> None:
        """Nothing is left to do for an execution: its marker goes."""
        await self._store.delete(self._marker(execution))

    async def mark_cancelled(self, execution: Execution) -> None:
        """Has its marker say that its end is asked for, so that whoever runs it sees that without reading its record.
        The marker of one that has ended meanwhile is removed by whoever looks at what is pending."""
        await self._store.put(self._marker(execution), _CANCEL, media_type=_EMPTY)

    async def is_pending(self, execution: Execution) -> bool:
        """Whether its marker is there."""
        try:
            await self._store.head(self._marker(execution))
        except ObjectNotFound:
            return False
        return True

    async def hold(self, namespace: str, execution_id: str) -> HeldRecord:
        """Raises NotFound, and DataLoss for a record that cannot be read."""
        try:
            stored = await self._store.get(record_key(namespace, execution_id))
        except ObjectNotFound as exc:
            raise NotFound(f"there is no execution {execution_id!r}", reason="EXECUTION_NOT_FOUND") from exc
        return HeldRecord(_decode(stored.data), stored.info.generation)

    async def get(self, namespace: str, execution_id: str) -> Execution:
        """Raises as `hold`."""
        return (await self.hold(namespace, execution_id)).record.execution

    async def page(
        self, namespace: str, *, page_size: int, page_token: str | None, before: datetime | None = None
    ) -> tuple[list[Execution], str | None]:
        """Executions, newest first, from those accepted before a time. One whose record is gone or damaged is passed
        over."""
        start = index_key(namespace, before, "-") if before is not None and page_token is None else None
        page = await self._store.list(
            index_prefix(namespace), page_size=page_size, page_token=page_token, start_after=start
        )
        return [item async for item in self._read(namespace, [entry.key for entry in page.items])], page.next_page_token

    async def pending(self) -> AsyncIterator[Marker]:
        """The marker of every execution that is not done with, oldest first."""
        token: str | None = None
        while True:
            page = await self._store.list(PENDING_PREFIX, page_size=MAX_PAGE_SIZE, page_token=token)
            for item in page.items:
                with suppress(InvalidKey):  # somebody else's
                    yield Marker(parse_pending_key(item.key), cancelled=item.size_bytes > 0)
            if (token := page.next_page_token) is None:
                return

    async def forget_marker(self, entry: IndexedExecution) -> None:
        """Removes a marker whose record is not there, or cannot be read."""
        await self._store.delete(pending_key(entry.namespace, entry.created, entry.execution_id))

    async def delete(self, execution: Execution) -> None:
        """Removes an ended execution: artifacts, then record, then index entry, so that a half is found again."""
        prefix = artifacts_prefix(execution.namespace, execution.execution_id)
        while (page := await self._store.list(prefix)).items:
            for item in page.items:
                await self._store.delete(item.key)
        await self._store.delete(self._key(execution))
        await self._store.delete(_entry_of(execution))

    async def _read(self, namespace: str, keys: list[str]) -> AsyncIterator[Execution]:
        """Passes over an entry that lost its race: its time is not the record's."""
        for key in keys:
            try:
                found = await self.get(namespace, parse_index_key(key).execution_id)
            except (NotFound, DataLoss, InvalidKey):
                continue
            if _entry_of(found) == key:
                yield found

    async def _put_empty(self, key: ObjectKey) -> None:
        await self._store.put(key, b"", media_type=_EMPTY)

    async def _withdraw(self, loser: Execution) -> None:
        """Removes marker and entry of an execution whose id was taken, unless they are the winner's too."""
        with suppress(NotFound, DataLoss):
            if _entry_of(await self.get(loser.namespace, loser.execution_id)) != _entry_of(loser):
                await self.settle(loser)
                await self._store.delete(_entry_of(loser))

    def _key(self, execution: Execution) -> ObjectKey:
        return record_key(execution.namespace, execution.execution_id)

    def _marker(self, execution: Execution) -> ObjectKey:
        return pending_key(execution.namespace, _created(execution), execution.execution_id)


def has_ended(execution: Execution) -> bool:
    return execution.status in _ENDED


def marks(entry: IndexedExecution, execution: Execution) -> bool:
    """Whether it is the execution's own marker, and not one that lost the race for its id."""
    return pending_key(entry.namespace, entry.created, entry.execution_id) == pending_key(
        execution.namespace, _created(execution), execution.execution_id
    )


def since_acceptance(execution: Execution) -> float:
    """Milliseconds, by the clock on the wall: whatever processes had it in hand. None if that was set back."""
    return max(0.0, (now() - _created(execution)) / timedelta(milliseconds=1))


def _entry_of(execution: Execution) -> ObjectKey:
    return index_key(execution.namespace, _created(execution), execution.execution_id)


def now() -> datetime:
    return datetime.now(UTC)


def _created(execution: Execution) -> datetime:
    return execution.create_time.ToDatetime(tzinfo=UTC)


def _encode(record: ExecutionRecord, encoder: RecordEncoder) -> bytes:
    record.schema_version = SCHEMA_VERSION
    return encoder.encode(record)


def _decode(data: bytes) -> ExecutionRecord:
    try:
        fields = json.loads(data)
        if fields["schemaVersion"] != SCHEMA_VERSION:
            raise DataLoss(f"a record of schema version {fields['schemaVersion']}", reason=UNKNOWN_VERSION)
        record = ParseDict(fields, ExecutionRecord(), ignore_unknown_fields=True)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ParseError) as exc:
        raise DataLoss("the record of this execution is damaged", reason="RECORD_DAMAGED") from exc
    if not record.execution.execution_id:
        raise DataLoss("the record of this execution is damaged", reason="RECORD_DAMAGED")
    return record
