"""Stored definitions: versioned, immutable, the newest found without a scan."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from google.protobuf.json_format import MessageToJson, Parse, ParseError

from imageflow.v1.pipeline_pb2 import Pipeline, PipelineSummary
from imageflow_common.errors import AlreadyExists, DataLoss, NotFound, ObjectNotFound, WriteConflict
from imageflow_common.keys import (
    PIPELINES_PREFIX,
    definition_key,
    newest_key,
    newest_prefix,
    parse_newest_key,
    pipeline_key,
)
from imageflow_common.logs import EventLog
from imageflow_common.store import MAX_PAGE_SIZE, ObjectStore

from .records import now

_JSON = "application/json"
_EMPTY = "application/octet-stream"


log = EventLog(__name__)


class Definitions:
    """The definitions in a store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def create(self, pipeline: Pipeline) -> Pipeline:
        """Stores a definition; the same again is fine. Raises AlreadyExists when this id and version hold another."""
        key = definition_key(pipeline.pipeline_id, pipeline.version)
        data = MessageToJson(pipeline, indent=None, sort_keys=True).encode()
        try:
            await self._store.put(key, data, media_type=_JSON, if_absent=True)
        except WriteConflict as exc:
            if await self._read(pipeline.pipeline_id, pipeline.version) != pipeline:
                raise AlreadyExists(
                    f"version {pipeline.version!r} of {pipeline.pipeline_id!r} is another definition; "
                    "store this one under another version",
                    reason="PIPELINE_EXISTS",
                ) from exc
            if await self._is_listed(pipeline.pipeline_id, pipeline.version):
                return pipeline
        await self._list(pipeline)
        return pipeline

    async def get(self, pipeline_id: str, version: str = "") -> Pipeline:
        """The newest version unless one is named. Raises NotFound."""
        if version:
            return await self._read(pipeline_id, version)
        token: str | None = None
        while True:
            page = await self._store.list(newest_prefix(pipeline_id), page_size=1, page_token=token)
            for item in page.items:
                with suppress(NotFound):  # an entry whose definition is just being deleted
                    return await self._read(pipeline_id, parse_newest_key(item.key).version)
            if (token := page.next_page_token) is None:
                raise NotFound(f"there is no pipeline {pipeline_id!r}", reason="PIPELINE_NOT_FOUND")

    async def page(self, *, page_size: int, page_token: str | None) -> tuple[list[PipelineSummary], str | None]:
        """The newest version of each pipeline, by id."""
        page = await self._store.list(PIPELINES_PREFIX, page_size=page_size, page_token=page_token)
        ids = [item.key.removeprefix(PIPELINES_PREFIX) for item in page.items]
        summaries = []
        for pipeline_id in ids:
            found, _ = await self.versions(pipeline_id, page_size=1, page_token=None)
            summaries += found
        return summaries, page.next_page_token

    async def versions(
        self, pipeline_id: str, *, page_size: int, page_token: str | None
    ) -> tuple[list[PipelineSummary], str | None]:
        """The versions of one pipeline, the one stored last first."""
        page = await self._store.list(newest_prefix(pipeline_id), page_size=page_size, page_token=page_token)
        summaries = []
        for item in page.items:
            entry = parse_newest_key(item.key)
            summary = PipelineSummary(pipeline_id=pipeline_id, version=entry.version)
            summary.create_time.FromDatetime(entry.created)
            try:
                summary.pipeline_name = (await self._read(pipeline_id, entry.version)).pipeline_name
            except NotFound:
                continue
            except DataLoss:
                log.error("definition.damaged", pipeline_id=pipeline_id, version=entry.version)
            summaries.append(summary)
        return summaries, page.next_page_token

    async def delete(self, pipeline_id: str, version: str = "") -> None:
        """Deletes one version or all. Raises NotFound when there is none.

        The definition goes before its entry, so that what is broken off can be done again.
        """
        entries = await self._entries(pipeline_id)
        doomed = [entry for entry in entries if version in ("", entry[1])]
        if not doomed:
            what = f"version {version!r} of {pipeline_id!r}" if version else f"pipeline {pipeline_id!r}"
            raise NotFound(f"there is no {what}", reason="PIPELINE_NOT_FOUND")
        for created, each in doomed:
            await self._store.delete(definition_key(pipeline_id, each))
            await self._store.delete(newest_key(pipeline_id, created, each))
        if len(doomed) == len(entries):
            await self._store.delete(pipeline_key(pipeline_id))

    async def _entries(self, pipeline_id: str) -> list[tuple[datetime, str]]:
        found: list[tuple[datetime, str]] = []
        token: str | None = None
        while True:
            page = await self._store.list(newest_prefix(pipeline_id), page_size=MAX_PAGE_SIZE, page_token=token)
            found += [(entry.created, entry.version) for entry in map(parse_newest_key, (i.key for i in page.items))]
            if (token := page.next_page_token) is None:
                return found

    async def _is_listed(self, pipeline_id: str, version: str) -> bool:
        return any(known == version for _, known in await self._entries(pipeline_id))

    async def _list(self, pipeline: Pipeline) -> None:
        await self._store.put(newest_key(pipeline.pipeline_id, now(), pipeline.version), b"", media_type=_EMPTY)
        await self._store.put(pipeline_key(pipeline.pipeline_id), b"", media_type=_EMPTY)

    async def _read(self, pipeline_id: str, version: str) -> Pipeline:
        try:
            stored = await self._store.get(definition_key(pipeline_id, version))
            pipeline = Parse(stored.data, Pipeline(), ignore_unknown_fields=True)
        except ObjectNotFound as exc:
            raise NotFound(
                f"there is no version {version!r} of pipeline {pipeline_id!r}", reason="PIPELINE_NOT_FOUND"
            ) from exc
        except (ParseError, ValueError) as exc:
            raise _damaged() from exc
        if (pipeline.pipeline_id, pipeline.version) != (pipeline_id, version):
            raise _damaged()
        return pipeline


def _damaged() -> DataLoss:
    return DataLoss("the stored definition is damaged", reason="DEFINITION_DAMAGED")
