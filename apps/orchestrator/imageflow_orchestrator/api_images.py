"""The front door: ImageService. Raw bytes in and out, in chunks, never whole in memory."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterable, AsyncIterator
from datetime import timedelta
from uuid import uuid4

from google.api.httpbody_pb2 import HttpBody

from imageflow.v1 import stored_image_pb2 as stored
from imageflow_common.errors import ImageTooLarge, InvalidArgument, ObjectNotFound, Violation
from imageflow_common.keys import list_user_objects, parse_user_key
from imageflow_common.rpc import Context, Method
from imageflow_common.store import ObjectInfo, ObjectKey, ObjectStore, SignedUrl

from .paging import page_size

_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}/[a-z0-9][a-z0-9.+-]{0,63}")
_UNKNOWN = "application/octet-stream"
_SHA256 = re.compile("[0-9a-f]{64}")
_HEADS_AT_ONCE = 16
_LIFETIME = timedelta(minutes=15)
_LONGEST_LIFETIME = timedelta(hours=24)
_FORM = "application/x-www-form-urlencoded"


class ImageApi:
    """ImageService."""

    def __init__(self, store: ObjectStore, max_upload_bytes: int) -> None:
        self._store = store
        self._max_upload_bytes = max_upload_bytes
        self._heads = asyncio.Semaphore(_HEADS_AT_ONCE)

    def methods(self) -> dict[str, Method]:
        return {
            "UploadImage": self.upload,
            "DownloadImage": self.download,
            "HeadImage": self.head,
            "ListImages": self.list,
            "DeleteImage": self.delete,
            "SignImage": self.sign,
        }

    async def upload(self, requests: AsyncIterator[stored.UploadImageRequest], context: Context) -> stored.StoredImage:
        first = await anext(aiter(requests), None)
        if first is None:
            raise InvalidArgument("the upload has no parts")
        key = parse_user_key(first.key or f"uploads/{uuid4()}")
        info = await self._store.put(key, self._parts(first, requests), media_type=_media_type(first.body.content_type))
        return _describe(info)

    async def download(self, request: stored.DownloadImageRequest, context: Context) -> AsyncIterator[HttpBody]:
        async with self._store.open(parse_user_key(request.key)) as reader:
            info = reader.info
            await context.send_initial_metadata(_headers(info))
            empty = True
            async for chunk in reader:
                empty = False
                yield HttpBody(content_type=info.media_type, data=chunk)
            if empty:
                yield HttpBody(content_type=info.media_type)

    async def head(self, request: stored.HeadImageRequest, context: Context) -> HttpBody:
        info = await self._store.head(parse_user_key(request.key))
        await context.send_initial_metadata(_headers(info))
        return HttpBody(content_type=info.media_type)

    async def list(self, request: stored.ListImagesRequest, context: Context) -> stored.ListImagesResponse:
        page = await list_user_objects(
            self._store,
            request.prefix,
            page_size=page_size(request.page_size),
            page_token=request.page_token or None,
        )
        try:
            async with asyncio.TaskGroup() as heads:
                asked = [heads.create_task(self._described(item.key)) for item in page.items]
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
        images = [image for task in asked if (image := task.result()) is not None]
        return stored.ListImagesResponse(images=images, next_page_token=page.next_page_token or "")

    async def delete(self, request: stored.DeleteImageRequest, context: Context) -> stored.DeleteImageResponse:
        """Raises ObjectNotFound when there is none."""
        key = parse_user_key(request.key)
        await self._store.head(key)
        await self._store.delete(key)
        return stored.DeleteImageResponse()

    async def sign(self, request: stored.SignImageRequest, context: Context) -> stored.SignedImage:
        """Raises ObjectNotFound for a download of what is not there, FailedPrecondition where there are no URLs."""
        key, lifetime = parse_user_key(request.key), _lifetime(request)
        if request.access == stored.SignImageRequest.UPLOAD:
            signed = await self._store.sign_put(
                key, lifetime=lifetime, media_type=_media_type(request.media_type), sha256=_sha256(request)
            )
            return _signed("PUT", signed)
        signed = await self._store.sign_get(key, lifetime=lifetime)
        await self._store.head(key)
        return _signed("GET", signed)

    async def _described(self, key: ObjectKey) -> stored.StoredImage | None:
        """None when it was deleted since it was listed."""
        try:
            async with self._heads:
                return _describe(await self._store.head(key))
        except ObjectNotFound:
            return None

    async def _parts(
        self, first: stored.UploadImageRequest, rest: AsyncIterable[stored.UploadImageRequest]
    ) -> AsyncIterator[bytes]:
        size = len(first.body.data)
        self._check(size)
        yield first.body.data
        async for part in rest:
            size += len(part.body.data)
            self._check(size)
            yield part.body.data

    def _check(self, size: int) -> None:
        if size > self._max_upload_bytes:
            raise ImageTooLarge(f"the upload has more than {self._max_upload_bytes} bytes")


def _headers(info: ObjectInfo) -> tuple[tuple[str, str], ...]:
    size = ("imageflow-size-bytes", str(info.size_bytes))
    return (size, ("imageflow-sha256", info.sha256)) if info.sha256 else (size,)


def _media_type(declared: str) -> str:
    """What a client says, without parameters; nothing of use becomes application/octet-stream."""
    bare = declared.partition(";")[0].strip().lower()
    return bare if _MEDIA_TYPE.fullmatch(bare) and bare != _FORM else _UNKNOWN


def _describe(info: ObjectInfo) -> stored.StoredImage:
    image = stored.StoredImage(
        key=info.key, size_bytes=info.size_bytes, media_type=info.media_type, sha256=info.sha256 or ""
    )
    image.update_time.FromDatetime(info.modified)
    return image


def _lifetime(request: stored.SignImageRequest) -> timedelta:
    lifetime = request.lifetime.ToTimedelta() if request.HasField("lifetime") else _LIFETIME
    if not timedelta(seconds=1) <= lifetime <= _LONGEST_LIFETIME:
        raise _fault("lifetime", "not within 1 s to 24 h")
    return lifetime


def _sha256(request: stored.SignImageRequest) -> str | None:
    if request.sha256 and not _SHA256.fullmatch(request.sha256):
        raise _fault("sha256", "not 64 lower-case hexadecimal digits")
    return request.sha256 or None


def _fault(name: str, description: str) -> InvalidArgument:
    return InvalidArgument(f"{name}: {description}", violations=[Violation(name, description)])


def _signed(method: str, signed: SignedUrl) -> stored.SignedImage:
    answer = stored.SignedImage(url=signed.url, method=method, headers=signed.headers)
    answer.expire_time.FromDatetime(signed.expires)
    return answer
