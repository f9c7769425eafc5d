"""A store that tells how long each of its operations takes and what goes wrong, by metrics, and by spans in traces."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from time import perf_counter
from typing import Final

from opentelemetry import metrics, trace

from .errors import ImageFlowError
from .store import (
    MAX_PAGE_SIZE,
    NO_METADATA,
    BytesLike,
    ObjectInfo,
    ObjectKey,
    ObjectReader,
    ObjectStore,
    Page,
    SignedUrl,
    StoredObject,
)
from .telemetry import Spans, duration_histogram

_ANSWERS: Final = {"NOT_FOUND", "ABORTED", "INVALID_ARGUMENT", "FAILED_PRECONDITION"}
"""The codes by which a store that works says no."""


class ObservedStore:
    """An `ObjectStore` around another. Spans are made only below one that is recorded: what the system does for itself,
    each second, would else be a trace each time."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        tracers: trace.TracerProvider | None = None,
        meters: metrics.MeterProvider | None = None,
    ) -> None:
        self._store = store
        self._spans = Spans(tracers)
        meter = metrics.get_meter("imageflow", meter_provider=meters)
        self._duration = duration_histogram(
            meter, "imageflow.store.operation.duration", "Time of one operation of the object store"
        )
        self._errors = meter.create_counter(
            "imageflow.store.errors.total", description="Operations of the object store that failed, by reason"
        )

    async def put(
        self,
        key: ObjectKey,
        data: BytesLike | AsyncIterable[bytes],
        *,
        media_type: str,
        metadata: Mapping[str, str] = NO_METADATA,
        if_absent: bool = False,
        if_generation: str | None = None,
    ) -> ObjectInfo:
        with self._observed("put", key):
            return await self._store.put(
                key,
                data,
                media_type=media_type,
                metadata=metadata,
                if_absent=if_absent,
                if_generation=if_generation,
            )

    async def get(self, key: ObjectKey) -> StoredObject:
        with self._observed("get", key):
            return await self._store.get(key)

    @asynccontextmanager
    async def open(self, key: ObjectKey, *, start: int = 0, end: int | None = None) -> AsyncIterator[ObjectReader]:
        """Observed until it is open: how fast it is read is its reader's affair."""
        opening = self._store.open(key, start=start, end=end)
        with self._observed("open", key):
            reader = await opening.__aenter__()
        try:
            yield reader
        except BaseException as exc:
            if not await opening.__aexit__(type(exc), exc, exc.__traceback__):
                raise
        else:
            await opening.__aexit__(None, None, None)

    async def head(self, key: ObjectKey) -> ObjectInfo:
        with self._observed("head", key):
            return await self._store.head(key)

    async def delete(self, key: ObjectKey, *, if_generation: str | None = None) -> None:
        with self._observed("delete", key):
            await self._store.delete(key, if_generation=if_generation)

    async def list(
        self,
        prefix: str,
        *,
        page_size: int = MAX_PAGE_SIZE,
        page_token: str | None = None,
        start_after: str | None = None,
    ) -> Page:
        with self._observed("list", prefix):
            return await self._store.list(prefix, page_size=page_size, page_token=page_token, start_after=start_after)

    async def sign_get(self, key: ObjectKey, *, lifetime: timedelta) -> SignedUrl:
        return await self._store.sign_get(key, lifetime=lifetime)

    async def sign_put(
        self, key: ObjectKey, *, lifetime: timedelta, media_type: str, sha256: str | None = None
    ) -> SignedUrl:
        return await self._store.sign_put(key, lifetime=lifetime, media_type=media_type, sha256=sha256)

    async def close(self) -> None:
        await self._store.close()

    @contextmanager
    def _observed(self, operation: str, key: str) -> Iterator[None]:
        begun, status = perf_counter(), "success"
        try:
            if self._spans.recording and trace.get_current_span().is_recording():
                with self._spans.current(f"store.{operation}", {"object.key": key}, kind=trace.SpanKind.CLIENT):
                    yield
            else:
                yield
        except ImageFlowError as exc:
            if exc.code not in _ANSWERS:
                status = "failed"
                self._errors.add(1, {"operation": operation, "reason": exc.reason})
            raise
        finally:
            self._duration.record(perf_counter() - begun, {"operation": operation, "status": status})
