"""Executions as the store keeps them: a record each, JSON with a schema version, and a time-ordered index.

Their keys: docs/adr/0004-key-layout.md.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from imageflow.v1.execution_pb2 import Execution
from imageflow_common.errors import AlreadyExists, DataLoss, InvalidKey, NotFound, ObjectNotFound, WriteConflict
from imageflow_common.keys import index_key, index_prefix, parse_index_key, record_key
from imageflow_common.store import ObjectKey, ObjectStore, StoredObject

SCHEMA_VERSION = 1
_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class HeldRecord:
    """A record as it stands in the store: what a conditional write needs."""

    execution: Execution
    generation: str


class Records:
    """The records of executions. Every write is conditional on what was read."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def create(self, execution: Execution) -> HeldRecord:
        """Claims the execution's id. Raises AlreadyExists when it is taken. The index entry comes first, so that no
        execution is ever without one."""
        entry = _entry_of(execution)
        await self._store.put(entry, b"", media_type="application/octet-stream")
        key = record_key(execution.namespace, execution.execution_id)
        try:
            info = await self._store.put(key, _encode(execution), media_type=_JSON, if_absent=True)
        except WriteConflict as exc:
            await self._withdraw(execution, entry)
            raise AlreadyExists(
                f"there is an execution {execution.execution_id!r} already", reason="EXECUTION_EXISTS"
            ) from exc
        return HeldRecord(execution, info.generation)

    async def replace(self, held: HeldRecord, execution: Execution) -> HeldRecord:
        """Writes the record again. Raises WriteConflict when somebody else did."""
        key = record_key(execution.namespace, execution.execution_id)
        info = await self._store.put(key, _encode(execution), media_type=_JSON, if_generation=held.generation)
        return HeldRecord(execution, info.generation)

    async def get(self, namespace: str, execution_id: str) -> Execution:
        """Raises NotFound, and DataLoss for a record that cannot be read."""
        try:
            return _decode(await self._store.get(record_key(namespace, execution_id)))
        except ObjectNotFound as exc:
            raise NotFound(f"there is no execution {execution_id!r}", reason="EXECUTION_NOT_FOUND") from exc

    async def page(
        self, namespace: str, *, page_size: int, page_token: str | None
    ) -> tuple[list[Execution], str | None]:
        """Executions, newest first. One whose record is gone or damaged is passed over."""
        page = await self._store.list(index_prefix(namespace), page_size=page_size, page_token=page_token)
        return [item async for item in self._read(namespace, [entry.key for entry in page.items])], page.next_page_token

    async def _read(self, namespace: str, keys: list[str]) -> AsyncIterator[Execution]:
        """Passes over an entry that lost its race: its time is not the record's."""
        for key in keys:
            try:
                found = await self.get(namespace, parse_index_key(key).execution_id)
            except (NotFound, DataLoss, InvalidKey):
                continue
            if _entry_of(found) == key:
                yield found

    async def _withdraw(self, loser: Execution, entry: ObjectKey) -> None:
        """Removes the entry of an execution whose id was taken, unless it is the winner's too."""
        with suppress(NotFound, DataLoss):
            if _entry_of(await self.get(loser.namespace, loser.execution_id)) != entry:
                await self._store.delete(entry)


def _entry_of(execution: Execution) -> ObjectKey:
    created = execution.create_time.ToDatetime(tzinfo=UTC)
    return index_key(execution.namespace, created, execution.execution_id)


def now() -> datetime:
    return datetime.now(UTC)


def _encode(execution: Execution) -> bytes:
    record = {"schemaVersion": SCHEMA_VERSION, "execution": MessageToDict(execution)}
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()


def _decode(stored: StoredObject) -> Execution:
    try:
        record = json.loads(stored.data)
        if record["schemaVersion"] != SCHEMA_VERSION:
            raise DataLoss(f"a record of schema version {record['schemaVersion']}", reason="UNKNOWN_RECORD_VERSION")
        return ParseDict(record["execution"], Execution(), ignore_unknown_fields=True)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ParseError) as exc:
        raise DataLoss("the record of this execution is damaged", reason="RECORD_DAMAGED") from exc
