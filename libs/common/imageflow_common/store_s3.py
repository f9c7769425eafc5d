"""Objects in a bucket of an S3 server, for any number of machines."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from imageflow_common.errors import InvalidArgument, InvalidKey, ObjectNotFound, WriteConflict
from imageflow_common.keys import UPLOADS_PREFIX
from imageflow_common.store import (
    MAX_KEY_BYTES,
    MAX_PAGE_SIZE,
    NO_METADATA,
    BytesLike,
    ObjectInfo,
    ObjectKey,
    ObjectReader,
    ObjectSummary,
    Page,
    SignedUrl,
    StoredObject,
    check_page,
    check_put,
    check_range,
    parse_key,
    parse_prefix,
)
from imageflow_common.store_s3_client import Answer, S3Client, S3Config, connect
from imageflow_common.store_s3_objects import (
    SHA256_NAME,
    Write,
    check_sha256,
    header_of,
    info_of,
    own_metadata,
)
from imageflow_common.store_s3_read import open_range
from imageflow_common.store_s3_start import make_bucket, require_bucket, require_conditional_writes
from imageflow_common.store_s3_upload import Uploads

_LEAST_ASKED = 2
"""Asked for one object, MinIO answers the one whose key is the prefix, and that there are no others."""


class S3Store:
    """An `ObjectStore` in a bucket, made by `connect`.

    Every operation ends by the configuration's deadline, but for streams, of which each part does. What is read whole
    is checked against the SHA-256 that was written with it (`DataLoss`). Besides what the Protocol says, a missing
    bucket is `FailedPrecondition`; a read of a large object that is replaced meanwhile ends with `Unavailable`.

    Servers differ in their listings: see `docs/operations.md`.
    """

    def __init__(self, client: S3Client, prefix: str = "") -> None:
        self._client = client
        self._prefix = prefix
        self._uploads = Uploads(client, prefix + UPLOADS_PREFIX)

    @classmethod
    async def connect(cls, config: S3Config) -> S3Store:
        """Makes the bucket if that is asked for, and sees that the server keeps what a store promises.

        Raises `FailedPrecondition` for a missing bucket or a server without conditional writes, `PermissionDenied`,
        `Unavailable`.
        """
        client = await connect(config)
        try:
            if config.create_bucket:
                await make_bucket(client, config.region)
            await require_bucket(client, config.prefix)
            await require_conditional_writes(client, config.prefix)
        except BaseException:
            await client.close()
            raise
        return cls(client, config.prefix)

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
        key = parse_key(key)
        write = Write(key, self._name(key), media_type, metadata, if_absent, if_generation)
        if isinstance(data, bytes | bytearray | memoryview):
            return await self._uploads.put_bytes(data, write)
        return await self._uploads.put_stream(data, write)

    async def get(self, key: ObjectKey) -> StoredObject:
        key = parse_key(key)
        answer, data, sha256 = await self._client.read_hashed(Key=self._name(key))
        info = info_of(key, answer)
        check_sha256(info, sha256)
        return StoredObject(info, data)

    @asynccontextmanager
    async def open(self, key: ObjectKey, *, start: int = 0, end: int | None = None) -> AsyncIterator[ObjectReader]:
        check_range(start, end)
        key = parse_key(key)
        yield await open_range(self._client, key, self._name(key), start, end)

    async def head(self, key: ObjectKey) -> ObjectInfo:
        key = parse_key(key)
        return info_of(key, await self._head(self._name(key)))

    async def delete(self, key: ObjectKey, *, if_generation: str | None = None) -> None:
        """Not every S3 server has conditional deletes: between the look at the generation and the delete another
        write may be lost."""
        name = self._name(parse_key(key))
        if if_generation is not None:
            await self._expect(name, if_generation)
        await self._client.call("delete_object", Key=name)

    async def list(
        self,
        prefix: str,
        *,
        page_size: int = MAX_PAGE_SIZE,
        page_token: str | None = None,
        start_after: str | None = None,
    ) -> Page:
        check_page(page_size, page_token, start_after)
        prefix = parse_prefix(prefix)
        after = (start_after or "") if page_token is None else _read_token(page_token)
        if after.encode() >= prefix.encode() and not after.startswith(prefix):
            return Page((), None)  # behind all that begins so; some servers answer nonsense
        begin = {"StartAfter": self._prefix + after} if after.startswith(prefix) and after else {}
        answer = await self._client.call(
            "list_objects_v2", Prefix=self._prefix + prefix, MaxKeys=max(page_size, _LEAST_ASKED), **begin
        )
        return _page(answer, self._prefix, page_size)

    async def sign_get(self, key: ObjectKey, *, lifetime: timedelta) -> SignedUrl:
        return await self._sign("get_object", lifetime, Key=self._name(parse_key(key)))

    async def sign_put(
        self, key: ObjectKey, *, lifetime: timedelta, media_type: str, sha256: str | None = None
    ) -> SignedUrl:
        """Of what is uploaded by it without a checksum, `sha256` is None."""
        check_put(media_type=media_type, metadata=NO_METADATA, if_absent=False, if_generation=None)
        arguments: dict[str, Any] = {"Key": self._name(parse_key(key)), "ContentType": media_type}
        headers = {"content-type": media_type}
        if sha256 is not None:
            arguments |= {"Metadata": own_metadata(sha256, None), "ChecksumSHA256": header_of(sha256)}
            headers |= {f"x-amz-meta-{SHA256_NAME}": sha256, "x-amz-checksum-sha256": header_of(sha256)}
        return await self._sign("put_object", lifetime, headers, **arguments)

    async def _sign(
        self, operation: str, lifetime: timedelta, headers: Mapping[str, str] = NO_METADATA, **arguments: Any
    ) -> SignedUrl:
        url = await self._client.signed(operation, lifetime, **arguments)
        return SignedUrl(url, headers, datetime.now(UTC) + lifetime)

    async def close(self) -> None:
        await self._client.close()

    def _name(self, key: ObjectKey) -> str:
        name = self._prefix + key
        if len(name.encode()) > MAX_KEY_BYTES:
            raise InvalidKey("an object key is too long behind the store's prefix")
        return name

    async def _head(self, name: str) -> Answer:
        """An answer to HEAD has no body: only GET tells a missing object from a missing bucket."""
        try:
            return await self._client.call("head_object", Key=name)
        except ObjectNotFound:
            answer, _ = await self._client.read(Key=name)
            return answer

    async def _expect(self, name: str, generation: str) -> None:
        try:
            found = (await self._head(name))["ETag"]
        except ObjectNotFound as exc:
            raise WriteConflict("there is no object") from exc
        if found != generation:
            raise WriteConflict("the object is not at the generation that was expected")


def _page(answer: Answer, prefix: str, page_size: int) -> Page:
    """Passes over what other programs put under keys that are none, such as `folder/`."""
    found: list[Answer] = answer.get("Contents", [])
    items = []
    for item in found[:page_size]:
        with suppress(InvalidKey):
            key = parse_key(item["Key"].removeprefix(prefix))
            items.append(ObjectSummary(key, item["Size"], item["ETag"], item["LastModified"]))
    if len(found) <= page_size and not answer.get("IsTruncated"):
        return Page(tuple(items), None)
    return Page(tuple(items), _token(found[:page_size][-1]["Key"].removeprefix(prefix)))


def _token(last: str) -> str:
    return base64.urlsafe_b64encode(last.encode()).decode()


def _read_token(token: str) -> str:
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except ValueError as exc:
        raise InvalidArgument("the page token is not one of ours") from exc
