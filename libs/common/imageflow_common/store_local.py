"""Objects in a local directory, for one machine: the store when nothing is configured.

Objects are plain files below `objects/`, so they can be looked at, and files put there by hand are found
(without a checksum). Any number of processes may share the directory; it must be on a file system with hard
links and flock.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
import mimetypes
import os
import zlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

from imageflow_common.errors import (
    DataLoss,
    FailedPrecondition,
    ImageFlowError,
    InvalidArgument,
    ObjectNotFound,
    PermissionDenied,
    StorageFull,
    Unavailable,
)
from imageflow_common.store import (
    MAX_PAGE_SIZE,
    NO_METADATA,
    BytesLike,
    ObjectInfo,
    ObjectKey,
    ObjectReader,
    Page,
    SignedUrl,
    StoredObject,
    check_page,
    check_put,
    check_range,
    parse_key,
    parse_prefix,
)
from imageflow_common.store_local_listing import list_objects, modified_of
from imageflow_common.store_local_names import Names, spell
from imageflow_common.store_local_tree import Tree, generation_of, write_all

CHUNK_BYTES = 1 << 20
READ_BYTES = 1 << 18
"""A reader that does not go on holds a few of these: his own, and what gRPC has taken from him."""
_P = ParamSpec("_P")
_T = TypeVar("_T")
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)


@dataclass(frozen=True, slots=True)
class _Write:
    """A checked request to put."""

    key: ObjectKey
    media_type: str
    metadata: Mapping[str, str]
    if_absent: bool
    if_generation: str | None


class LocalStore:
    """An `ObjectStore` in the directory `root`, which is made if need be; leftovers of crashed processes
    are swept.

    What `put` and `delete` report survives the end of the process in any case, and with `durable` the
    machine's as well (fsync of the file, its metadata and their folders before the call returns); without
    it, an object written shortly before a loss of power may be gone, old, or damaged. Raises
    `PermissionDenied` and `FailedPrecondition` (a layout of another version) at once. All file work is in
    `threads` threads of its own; cancelling waits for the file operation under way.
    """

    def __init__(self, root: Path, *, durable: bool = True, threads: int = 8) -> None:
        self._tree = _with_our_errors(Tree, root, durable=durable)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="imageflow-store")
        self._closed = False

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
        check_put(media_type=media_type, metadata=metadata, if_absent=if_absent, if_generation=if_generation)
        write = _Write(parse_key(key), media_type, dict(metadata), if_absent, if_generation)
        if isinstance(data, bytes | bytearray | memoryview):
            return await self._run(self._put_bytes, memoryview(data).cast("B"), write)
        return await self._put_stream(data, write)

    async def get(self, key: ObjectKey) -> StoredObject:
        return await self._run(self._get, parse_key(key))

    @asynccontextmanager
    async def open(self, key: ObjectKey, *, start: int = 0, end: int | None = None) -> AsyncIterator[ObjectReader]:
        check_range(start, end)
        handle = _Handle(parse_key(key))
        try:
            info = await self._run(self._open, handle)
            if 0 < info.size_bytes <= start or (start and not info.size_bytes):
                raise InvalidArgument("the range starts behind the object's end", reason="RANGE_NOT_SATISFIABLE")
            stop = info.size_bytes if end is None else min(end, info.size_bytes)
            yield _Reader(info, self._chunks(handle, start, stop))
        finally:
            await self._let_go(handle.close)

    async def head(self, key: ObjectKey) -> ObjectInfo:
        return await self._run(self._head, parse_key(key))

    async def delete(self, key: ObjectKey, *, if_generation: str | None = None) -> None:
        await self._run(self._delete, parse_key(key), if_generation)

    async def list(
        self,
        prefix: str,
        *,
        page_size: int = MAX_PAGE_SIZE,
        page_token: str | None = None,
        start_after: str | None = None,
    ) -> Page:
        check_page(page_size, page_token, start_after)
        after = (start_after or "") if page_token is None else _read_token(page_token)
        return await self._run(self._list, parse_prefix(prefix), page_size, after)

    async def sign_get(self, key: ObjectKey, *, lifetime: timedelta) -> SignedUrl:
        raise _without_urls()

    async def sign_put(
        self, key: ObjectKey, *, lifetime: timedelta, media_type: str, sha256: str | None = None
    ) -> SignedUrl:
        raise _without_urls()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._pool.shutdown)
        await asyncio.to_thread(self._tree.close)

    # --- on the event loop

    async def _run(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        if self._closed:
            raise Unavailable("the object store is closed")
        loop = asyncio.get_running_loop()
        job = loop.run_in_executor(self._pool, lambda: _with_our_errors(function, *args, **kwargs))
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            await _settled(job)
            raise

    async def _let_go(self, release: Callable[[], None]) -> None:
        if not self._closed:
            await self._run(release)
            return
        with suppress(OSError):  # the store was closed meanwhile, and has swept up
            release()

    async def _put_stream(self, chunks: AsyncIterable[bytes], write: _Write) -> ObjectInfo:
        draft = _Draft(self._tree)
        try:
            async with aclosing(_batches(chunks)) as batches:
                async for batch in batches:
                    await self._run(draft.write, batch)
            return await self._run(self._commit, draft, write)
        finally:
            await self._let_go(draft.discard)

    async def _chunks(self, handle: _Handle, start: int, stop: int) -> AsyncIterator[bytes]:
        while start < stop:
            chunk = await self._run(handle.read, start, min(READ_BYTES, stop - start))
            start += len(chunk)
            yield chunk

    # --- in a thread

    def _put_bytes(self, data: memoryview, write: _Write) -> ObjectInfo:
        draft = _Draft(self._tree)
        try:
            draft.write(data)
            return self._commit(draft, write)
        finally:
            draft.discard()

    def _commit(self, draft: _Draft, write: _Write) -> ObjectInfo:
        name, fd = draft.opened()
        meta = {
            "key": write.key,
            "mediaType": write.media_type,
            "sha256": draft.digest.hexdigest(),
            "metadata": write.metadata,
        }
        status = self._tree.finish_draft(fd, meta)
        with self._tree.locked(_lock_of(write.key)):
            self._tree.place(name, self._spell(write.key), if_absent=write.if_absent, if_generation=write.if_generation)
        return _info(write.key, status, meta)

    def _get(self, key: ObjectKey) -> StoredObject:
        handle = _Handle(key)
        try:
            info = self._open(handle)
            return StoredObject(info, handle.read(0, info.size_bytes) if info.size_bytes else b"")
        finally:
            handle.close()

    def _head(self, key: ObjectKey) -> ObjectInfo:
        handle = _Handle(key)
        try:
            return self._open(handle)
        finally:
            handle.close()

    def _open(self, handle: _Handle) -> ObjectInfo:
        try:
            handle.fd, status, meta = self._tree.open_version(self._spell(handle.key))
        except OSError as exc:
            if exc.errno not in _ABSENT:
                raise
            raise ObjectNotFound(f"there is no object {handle.key[:200]!r}") from exc
        return _info(handle.key, status, meta)

    def _delete(self, key: ObjectKey, if_generation: str | None) -> None:
        with self._tree.locked(_lock_of(key)):
            self._tree.remove(self._spell(key), if_generation)

    def _list(self, prefix: str, page_size: int, after: str) -> Page:
        found = list(islice(list_objects(self._tree, prefix, after), page_size + 1))
        if len(found) <= page_size:
            return Page(tuple(found), None)
        return Page(tuple(found[:page_size]), _token(found[page_size - 1].key))

    def _spell(self, key: ObjectKey) -> Names:
        return spell(key, fold_case=self._tree.fold_case)


class _Draft:
    """A file being written, made at its first byte. `discard` in any case: it spares what was placed."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._file: tuple[str, int] | None = None
        self.digest = hashlib.sha256()

    def opened(self) -> tuple[str, int]:
        if self._file is None:
            fd, name = self._tree.create_draft()
            self._file = name, fd
        return self._file

    def write(self, data: BytesLike) -> None:
        _, fd = self.opened()
        self.digest.update(data)
        write_all(fd, memoryview(data))

    def discard(self) -> None:
        if self._file is None:
            return
        name, fd = self._file
        self._file = None
        os.close(fd)
        self._tree.drop(name)


class _Handle:
    """A descriptor of an object that is open for reading, or none yet."""

    def __init__(self, key: ObjectKey) -> None:
        self.key = key
        self.fd = -1

    def read(self, start: int, size: int) -> bytes:
        """Exactly `size` bytes from `start`. Raises `DataLoss` when they are not there."""
        data = os.pread(self.fd, size, start)
        while len(data) < size:
            more = os.pread(self.fd, size - len(data), start + len(data))
            if not more:
                raise DataLoss("a stored object is truncated")
            data += more
        return data

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class _Reader:
    def __init__(self, info: ObjectInfo, chunks: AsyncIterator[bytes]) -> None:
        self.info = info
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks


async def _batches(chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    """The same bytes in pieces of at least `CHUNK_BYTES`, but the last: each costs a change of threads."""
    waiting = bytearray()
    async for chunk in chunks:
        if not waiting and len(chunk) >= CHUNK_BYTES:
            yield chunk
            continue
        waiting += chunk
        if len(waiting) >= CHUNK_BYTES:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)


async def _settled(job: asyncio.Future[Any]) -> None:
    """Wait for a thread that cannot be stopped, however often we are cancelled; its outcome is nobody's any
    more.
    """
    while not job.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([job])
    if not job.cancelled():
        job.exception()


def _info(key: ObjectKey, status: os.stat_result, meta: Mapping[str, Any] | None) -> ObjectInfo:
    guessed = mimetypes.guess_type(key)[0] or "application/octet-stream"
    return ObjectInfo(
        key=key,
        size_bytes=status.st_size,
        media_type=meta["mediaType"] if meta else guessed,
        sha256=meta["sha256"] if meta else None,
        generation=generation_of(status),
        modified=modified_of(status),
        metadata=MappingProxyType(meta["metadata"]) if meta else NO_METADATA,
    )


def _lock_of(key: ObjectKey) -> str:
    return f"{zlib.crc32(key.encode()) & 0xFF:02x}"


def _without_urls() -> FailedPrecondition:
    return FailedPrecondition("the object store is a directory, to which no URL leads", reason="STORE_WITHOUT_URLS")


def _token(last: str) -> str:
    return base64.urlsafe_b64encode(last.encode()).decode()


def _read_token(token: str) -> str:
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except ValueError as exc:
        raise InvalidArgument("the page token is not one of ours") from exc


def _with_our_errors(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    try:
        return function(*args, **kwargs)
    except OSError as exc:
        raise _our_error(exc) from exc


def _our_error(exc: OSError) -> ImageFlowError:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull("the object store is full")
    if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PermissionDenied("the object store refuses access")
    if exc.errno in (errno.ELOOP, errno.ENOTDIR, errno.EISDIR):
        return PermissionDenied("something that is no object of ours is in the place of this key")
    return Unavailable("the object store does not work at the moment")
