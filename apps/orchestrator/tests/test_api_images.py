"""ImageService: raw bytes in and out, in parts, under keys that cannot lead anywhere else."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from google.api.httpbody_pb2 import HttpBody
from orchestrator_scripted import eventually
from orchestrator_served import Served, refused, served

from imageflow.v1.stored_image_pb2 import DownloadImageRequest, StoredImage, UploadImageRequest
from imageflow_common.errors import FailedPrecondition, ImageTooLarge, InvalidArgument, InvalidKey, ObjectNotFound
from imageflow_common.status import from_rpc_error

MEBIBYTE = 1024 * 1024
HOSTILE_KEYS = [
    "/etc/passwd",
    "../x",
    "a/../../x",
    "a//b",
    "a/",
    ".",
    "a\\b",
    "a\0b",
    "a\nb",
    "x" * 1_025,
    "x" * 256,
    ".imageflow/records/default/e",
    ".ImageFlow/x",
    ".imageflow",
]


async def upload(at: Served, *parts: UploadImageRequest) -> StoredImage:
    async def sent() -> AsyncIterator[UploadImageRequest]:
        for part in parts:
            yield part

    return await upload_stream(at, sent())


async def upload_stream(at: Served, parts: AsyncIterator[UploadImageRequest]) -> StoredImage:
    method: Any = at.channel.stream_unary(
        "/imageflow.v1.ImageService/UploadImage", UploadImageRequest.SerializeToString, StoredImage.FromString
    )
    try:
        stored: StoredImage = await method(parts, timeout=60)
    except grpc.aio.AioRpcError as exc:
        raise from_rpc_error(exc) from exc
    return stored


async def download(at: Served, key: str) -> tuple[list[HttpBody], dict[str, str]]:
    method: Any = at.channel.unary_stream(
        "/imageflow.v1.ImageService/DownloadImage", DownloadImageRequest.SerializeToString, HttpBody.FromString
    )
    call = method(DownloadImageRequest(key=key), timeout=60)
    try:
        return [chunk async for chunk in call], dict(await call.initial_metadata())
    except grpc.aio.AioRpcError as exc:
        raise from_rpc_error(exc) from exc


def part(data: bytes, key: str = "", content_type: str = "image/png") -> UploadImageRequest:
    return UploadImageRequest(key=key, body=HttpBody(content_type=content_type, data=data))


async def keys(at: Served, **fields: Any) -> list[str]:
    listed = await at.call("ImageService/ListImages", **fields)
    return [image.key for image in listed.images]


async def test_what_is_uploaded_in_parts_is_downloaded_with_its_checksum(at: Served) -> None:
    """R4, R30"""
    stored = await upload(at, part(b"one ", key="a/b.png"), part(b"two"), part(b""))

    digest = hashlib.sha256(b"one two").hexdigest()
    assert (stored.key, stored.size_bytes, stored.media_type, stored.sha256) == ("a/b.png", 7, "image/png", digest)
    chunks, headers = await download(at, "a/b.png")
    assert b"".join(chunk.data for chunk in chunks) == b"one two"
    assert chunks[0].content_type == "image/png"
    assert (headers["imageflow-sha256"], headers["imageflow-size-bytes"]) == (digest, "7")
    told = await at.call("ImageService/HeadImage", key="a/b.png")
    assert (told.content_type, told.data) == ("image/png", b"")


async def test_an_upload_without_a_key_gets_one(at: Served) -> None:
    first, second = await upload(at, part(b"x")), await upload(at, part(b"x"))

    assert first.key.startswith("uploads/")
    assert first.key != second.key


async def test_an_empty_object_is_an_object(at: Served) -> None:
    assert (await upload(at, part(b"", key="empty"))).size_bytes == 0

    chunks, headers = await download(at, "empty")

    assert [(chunk.data, chunk.content_type) for chunk in chunks] == [(b"", "image/png")]
    assert headers["imageflow-size-bytes"] == "0"


async def test_an_upload_without_parts_is_refused(at: Served) -> None:
    with pytest.raises(InvalidArgument):
        await upload(at)


@pytest.mark.parametrize(
    ("declared", "kept"),
    [
        ("image/PNG; q=1", "image/png"),
        ("", "application/octet-stream"),
        ("nonsense", "application/octet-stream"),
        ("text/html\r\nx: y", "application/octet-stream"),
        ("application/x-www-form-urlencoded", "application/octet-stream"),
    ],
)
async def test_a_media_type_is_kept_where_it_is_one(at: Served, declared: str, kept: str) -> None:
    assert (await upload(at, part(b"x", key="x", content_type=declared))).media_type == kept


@pytest.mark.parametrize("key", HOSTILE_KEYS)
async def test_a_hostile_key_is_refused_everywhere(at: Served, key: str) -> None:
    for attempt in (
        lambda: upload(at, part(b"x", key=key)),
        lambda: download(at, key),
        lambda: at.call("ImageService/DeleteImage", key=key),
        lambda: at.call("ImageService/SignImage", key=key),
    ):
        assert isinstance(await refused(attempt), InvalidKey | InvalidArgument)


async def test_the_systems_own_objects_are_invisible(at: Served) -> None:
    pipeline = {"pipelineId": "p", "version": "1", "steps": [{"stepId": "a", "componentName": "resize"}]}
    await at.json("PipelineService/CreatePipeline", pipeline)
    for key in ("-first", "a", "b/c"):
        await upload(at, part(b"x", key=key))

    assert await keys(at) == ["-first", "a", "b/c"]
    assert await keys(at, prefix=".") == []
    assert await keys(at, prefix=".image") == []
    error = await refused(lambda: keys(at, prefix=".imageflow/"))
    assert isinstance(error, InvalidKey | InvalidArgument)


async def test_images_are_listed_by_prefix_page_by_page(at: Served) -> None:
    for key in ("a/1", "a/2", "a/3", "b"):
        await upload(at, part(b"xy", key=key))

    first = await at.call("ImageService/ListImages", prefix="a/", page_size=2)
    rest = await at.call("ImageService/ListImages", prefix="a/", page_token=first.next_page_token)

    assert [image.key for image in (*first.images, *rest.images)] == ["a/1", "a/2", "a/3"]
    assert (first.images[0].size_bytes, first.images[0].media_type) == (2, "image/png")
    assert rest.next_page_token == ""


@pytest.mark.parametrize("fields", [{"page_token": "garbage"}, {"page_size": 1_001}, {"prefix": "../"}])
async def test_a_list_that_cannot_be_is_an_invalid_argument(at: Served, fields: dict[str, Any]) -> None:
    assert isinstance(await refused(lambda: keys(at, **fields)), InvalidArgument | InvalidKey)


async def test_what_is_deleted_is_gone(at: Served) -> None:
    await upload(at, part(b"x", key="x"))
    await at.call("ImageService/DeleteImage", key="x")

    for attempt in (lambda: download(at, "x"), lambda: at.call("ImageService/DeleteImage", key="x")):
        error = await refused(attempt)
        assert (type(error).code, error.reason) == (ObjectNotFound.code, ObjectNotFound.reason)


async def test_a_large_image_streams_in_and_out_in_less_memory_than_it_has_bytes(at: Served) -> None:
    """R4. The process is that of all tests, server and client in one: what its allocator holds comes on top."""
    process, most, size = psutil.Process(os.getpid()), 0, 192 * MEBIBYTE
    block = os.urandom(MEBIBYTE)

    async def parts() -> AsyncIterator[UploadImageRequest]:
        nonlocal most
        for number in range(size // MEBIBYTE):
            most = max(most, process.memory_info().rss)
            yield part(block, key="large" if number == 0 else "")

    before = process.memory_info().rss
    stored = await upload_stream(at, parts())
    method: Any = at.channel.unary_stream(
        "/imageflow.v1.ImageService/DownloadImage", DownloadImageRequest.SerializeToString, HttpBody.FromString
    )
    digest, read = hashlib.sha256(), 0
    async for chunk in method(DownloadImageRequest(key="large"), timeout=60):
        most = max(most, process.memory_info().rss)
        digest.update(chunk.data)
        read += len(chunk.data)

    assert (read, stored.size_bytes) == (size, size)
    assert digest.hexdigest() == stored.sha256
    assert most - before < size / 2


async def test_an_upload_past_the_limit_is_refused_and_nothing_is_stored(tmp_path: Path) -> None:
    async with served(tmp_path, max_upload_bytes=10) as at:
        error = await refused(lambda: upload(at, part(b"12345678", key="x"), part(b"12345678")))

        assert error.reason == ImageTooLarge.reason
        assert await keys(at) == []


async def test_an_upload_that_breaks_off_stores_nothing(at: Served, tmp_path: Path) -> None:
    async def parts() -> AsyncIterator[UploadImageRequest]:
        yield part(b"half", key="x")
        raise ZeroDivisionError

    with pytest.raises((ZeroDivisionError, asyncio.CancelledError)):
        await upload_stream(at, parts())

    assert await keys(at) == []
    await eventually(lambda: _left_in(tmp_path / "store") == [])


def _left_in(store: Path) -> list[str]:
    return [path.name for part in ("objects", "meta", "tmp") for path in (store / part).rglob("*") if path.is_file()]


async def test_no_url_leads_to_a_directory(at: Served) -> None:
    await upload(at, part(b"x", key="x"))
    for access in ("DOWNLOAD", "UPLOAD"):
        error = await refused(lambda access=access: at.call("ImageService/SignImage", key="x", access=access))
        assert (type(error), error.reason) == (FailedPrecondition, "STORE_WITHOUT_URLS")


@pytest.mark.parametrize(
    "fields", [{"lifetime": timedelta(hours=25)}, {"lifetime": timedelta(0)}, {"access": "UPLOAD", "sha256": "ab"}]
)
async def test_a_url_that_cannot_be_is_an_invalid_argument(at: Served, fields: dict[str, Any]) -> None:
    assert isinstance(await refused(lambda: at.call("ImageService/SignImage", key="x", **fields)), InvalidArgument)
