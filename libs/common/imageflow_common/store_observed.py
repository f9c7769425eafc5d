"""A store that tells how long each of its operations takes and what goes wrong: by metrics, by spans in traces, and to
whoever asks for readiness."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import timedelta
from time import perf_counter
from typing import Final

from opentelemetry import metrics, trace

from .errors import ImageFlowError
from .logs import EventLog
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

log = EventLog(__name__)

_ANSWERS: Final = {"NOT_FOUND", "ABORTED", "INVALID_ARGUMENT"}
"""The codes by which a store that works says no."""
_USES: Final = {"put": "written to", "get": "read", "open": "read", "head": "read", "list": "read"}
"""A full store deletes: what succeeds there says nothing of writes."""


class ObservedStore:
    """An `ObjectStore` around another. Spans are made only below one that is recorded: what the system does for itself,
    each second, would else be a trace each time. Each change for the worse or the better is logged once, for reads and
    for writes."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        tracers: trace.TracerProvider | None = None,
        meters: metrics.MeterProvider | None = None,
    ) -> None:
        self._store = store
        self._faults: dict[str, str] = {}
        self._spans = Spans(tracers)
        meter = metrics.get_meter("imageflow", meter_provider=meters)
        self._duration = duration_histogram(
            meter, "imageflow.store.operation.duration", "Time of one operation of the object store"
        )
        self._errors = meter.create_counter(
            "imageflow.store.errors.total", description="Operations of the object store that failed, by reason"
        )

    def degraded(self) -> list[str]:
        """What was wrong when it was last read, and when it was last written to, in words."""
        return [f"the object store could not be {use}: {fault}" for use, fault in sorted(self._faults.items())]

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
        async with AsyncExitStack() as closing:
            with self._observed("open", key):
                reader = await closing.enter_async_context(self._store.open(key, start=start, end=end))
            yield reader

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
            if exc.code in _ANSWERS:
                self._work(operation)
            else:
                status = "failed"
                self._errors.add(1, {"operation": operation, "reason": exc.reason})
                self._fail(operation, exc)
            raise
        else:
            self._work(operation)
        finally:
            self._duration.record(perf_counter() - begun, {"operation": operation, "status": status})

    def _fail(self, operation: str, error: ImageFlowError) -> None:
        if (use := _USES.get(operation)) is None:
            return
        if self._faults.get(use) != error.message:
            log.warning("store.fails", use=use, error_type=error.reason, error=error.message)
        self._faults[use] = error.message

    def _work(self, operation: str) -> None:
        if self._faults and self._faults.pop(_USES.get(operation, ""), None) is not None:
            log.info("store.works", use=_USES[operation])
