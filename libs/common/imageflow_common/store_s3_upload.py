"""Writing to S3: what is small at once, what is large in parts, what is as long as it likes in bounded memory.

S3 wants an object's metadata before its bytes, and the SHA-256 of a stream is known behind them. So a long stream is
written under a key of its own, out of sight, and copied within the server to where it belongs: the copy has the
checksum, and takes its place at once or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

from imageflow_common.errors import ImageFlowError, ObjectNotFound, WriteConflict
from imageflow_common.hashing import Hash, sha256_of
from imageflow_common.store import BytesLike, ObjectInfo
from imageflow_common.store_s3_client import Answer, S3Client
from imageflow_common.store_s3_objects import (
    WRITE_NAME,
    Write,
    header_of,
    info_of_put,
    own_metadata,
)

PART_BYTES = 5 << 20
"""The least that S3 takes of all parts but the last. Two of them, and what the connection holds, are in memory of a
stream."""
AT_ONCE_BYTES = 32 << 20
_COPY_BYTES = 64 << 20


class Uploads:
    """Puts objects. `scratch` begins the keys that streams have meanwhile."""

    def __init__(self, client: S3Client, scratch: str) -> None:
        self._client = client
        self._scratch = scratch

    async def put_bytes(self, data: BytesLike, write: Write) -> ObjectInfo:
        whole = bytes(data)  # a copy but of bytes: a memoryview cannot be sent again
        sha256 = await sha256_of(whole)
        put = self._put_at_once if len(whole) <= AT_ONCE_BYTES else self._put_in_parts
        answer = await self._decided(write, lambda write_id: put(whole, sha256, write, write_id))
        return info_of_put(write, answer, sha256=sha256, size_bytes=len(whole))

    async def put_stream(self, chunks: AsyncIterable[bytes], write: Write) -> ObjectInfo:
        async with aclosing(_parts_of(chunks)) as parts:
            first = await anext(parts, b"")
            if len(first) < PART_BYTES:
                return await self.put_bytes(first, write)
            name = f"{self._scratch}{uuid4().hex}"
            try:
                sha256, size_bytes = await self._put_aside(name, first, parts)
                answer = await self._decided(
                    write, lambda write_id: self._copy(name, sha256, size_bytes, write, write_id)
                )
            finally:
                await self._discard(self._client.call("delete_object", Key=name))
            return info_of_put(write, answer, sha256=sha256, size_bytes=size_bytes)

    async def _decided(self, write: Write, put: Callable[[str | None], Awaitable[Answer]]) -> Answer:
        """A write whose answer got lost is sent again, and refused because it has succeeded: what stands there tells by
        its id. Raises `WriteConflict` for a condition that was not met."""
        if not write.condition:
            return await put(None)
        write_id = uuid4().hex
        try:
            return await put(write_id)
        except (WriteConflict, ObjectNotFound) as exc:
            with suppress(ObjectNotFound):
                standing = await self._client.call("head_object", Key=write.name)
                if standing.get("Metadata", {}).get(WRITE_NAME) == write_id:
                    return standing
            raise WriteConflict("the object is not at the generation that was expected") from exc

    async def _put_at_once(self, data: bytes, sha256: str, write: Write, write_id: str | None) -> Answer:
        return await self._client.call(
            "put_object",
            Key=write.name,
            Body=data,
            ContentType=write.media_type,
            Metadata={**write.metadata, **own_metadata(sha256, write_id)},
            ChecksumSHA256=header_of(sha256),
            **write.condition,
        )

    async def _put_in_parts(self, data: bytes, sha256: str, write: Write, write_id: str | None) -> Answer:
        async with self._upload(write.name, **_described(write, sha256, write_id)) as upload:
            for start in range(0, len(data), PART_BYTES):
                await upload.send(data[start : start + PART_BYTES])
            return await upload.complete(write.condition)

    async def _copy(self, source: str, sha256: str, size_bytes: int, write: Write, write_id: str | None) -> Answer:
        async with self._upload(write.name, **_described(write, sha256, write_id)) as upload:
            for start in range(0, size_bytes, _COPY_BYTES):
                await upload.copy(source, start, min(start + _COPY_BYTES, size_bytes))
            return await upload.complete(write.condition)

    async def _put_aside(self, name: str, first: bytes, rest: AsyncGenerator[bytes, None]) -> tuple[str, int]:
        """Uploads a stream, a part while the next arrives; answers its SHA-256 and length."""
        digest, size_bytes, part = Hash(), 0, first
        async with self._upload(name) as upload:
            while part:
                async with _beside(upload.send(part)) as sending:
                    await digest.update(part)
                    size_bytes += len(part)
                    part = await anext(rest, b"")
                    await sending
            await upload.complete({})
        return digest.hex(), size_bytes

    @asynccontextmanager
    async def _upload(self, name: str, **described: Any) -> AsyncIterator[_Upload]:
        """An upload in parts; one that is not completed leaves nothing."""
        answer = await self._client.call("create_multipart_upload", Key=name, **described)
        upload = _Upload(self._client, name, answer["UploadId"])
        try:
            yield upload
        except BaseException:
            await self._discard(upload.abort())
            raise

    async def _discard(self, removing: Coroutine[Any, Any, object]) -> None:
        """What cannot be removed now is swept later. Goes on when this is cancelled."""
        with suppress(ImageFlowError):
            await asyncio.shield(removing)


class _Upload:
    """The parts of one upload, in order."""

    def __init__(self, client: S3Client, name: str, upload_id: str) -> None:
        self._client = client
        self._at = {"Key": name, "UploadId": upload_id}
        self._parts: list[dict[str, Any]] = []

    async def send(self, data: bytes) -> None:
        answer = await self._client.call("upload_part", **self._at, PartNumber=self._next, Body=data)
        self._parts.append({"PartNumber": self._next, "ETag": answer["ETag"]})

    async def copy(self, source: str, start: int, end: int) -> None:
        answer = await self._client.call(
            "upload_part_copy",
            **self._at,
            PartNumber=self._next,
            CopySource=self._client.source(source),
            CopySourceRange=f"bytes={start}-{end - 1}",
        )
        self._parts.append({"PartNumber": self._next, "ETag": answer["CopyPartResult"]["ETag"]})

    async def complete(self, condition: Mapping[str, str]) -> Answer:
        parts = {"Parts": self._parts}
        return await self._client.call("complete_multipart_upload", **self._at, MultipartUpload=parts, **condition)

    async def abort(self) -> None:
        await self._client.call("abort_multipart_upload", **self._at)

    @property
    def _next(self) -> int:
        return len(self._parts) + 1


def _described(write: Write, sha256: str, write_id: str | None) -> dict[str, Any]:
    return {
        "ContentType": write.media_type,
        "Metadata": {**write.metadata, **own_metadata(sha256, write_id)},
    }


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Does the work beside the block, and not beyond it."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _parts_of(chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    """The same bytes in pieces of `PART_BYTES`, but the last."""
    waiting: list[bytes] = []
    missing = PART_BYTES
    async for chunk in chunks:
        while len(chunk) >= missing:
            part = b"".join([*waiting, chunk[:missing]])
            chunk, missing = chunk[missing:], PART_BYTES
            waiting.clear()
            yield part
            del part
        if chunk:
            waiting.append(chunk)
            missing -= len(chunk)
    if waiting:
        yield b"".join(waiting)
