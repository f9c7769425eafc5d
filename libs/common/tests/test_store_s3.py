"""What the store on S3 promises beyond the contract, on real servers."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import tarfile
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
import pytest_asyncio

from backends.pytest_fixtures import own_bucket
from backends.s3 import SECRET_KEY, S3Server
from backends.server import free_ports
from imageflow_common.errors import (
    DataLoss,
    FailedPrecondition,
    ImageFlowError,
    InvalidKey,
    PermissionDenied,
    Unavailable,
    WriteConflict,
)
from imageflow_common.keys import UPLOADS_PREFIX
from imageflow_common.store import ObjectKey, parse_key
from imageflow_common.store_s3 import S3Store
from imageflow_common.store_s3_client import Credentials, S3Client, S3Config, connect
from imageflow_common.store_s3_read import RANGE_BYTES
from imageflow_common.store_s3_start import make_bucket, require_conditional_writes
from imageflow_common.store_s3_upload import AT_ONCE_BYTES, PART_BYTES

A = parse_key("a")
PNG = "image/png"


pytestmark = pytest.mark.asyncio(loop_scope="module")  # a client is dear to make, and belongs to one loop


@pytest.fixture(params=["minio", "seaweedfs"], scope="module")
def server(request: pytest.FixtureRequest) -> S3Server:
    return request.getfixturevalue(request.param)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(server: S3Server) -> AsyncIterator[S3Client]:
    connected = await connect(own_bucket(server))
    yield connected
    await connected.close()


@pytest.fixture
def config(server: S3Server) -> S3Config:
    """For a store of one's own, in the same bucket."""
    return own_bucket(server)


@pytest.fixture
def raw(client: S3Client, config: S3Config) -> S3Client:
    """The bucket without the store."""
    return client.of_bucket(config.bucket)


@pytest_asyncio.fixture(loop_scope="module")
async def store(client: S3Client, raw: S3Client, config: S3Config) -> AsyncIterator[S3Store]:
    await make_bucket(raw, config.region)
    opened = S3Store(client.of_bucket(config.bucket))
    yield opened
    await opened.close()


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def keys_of(raw: S3Client) -> list[str]:
    return [item["Key"] for item in (await raw.call("list_objects_v2")).get("Contents", [])]


@pytest.mark.parametrize("size", [PART_BYTES, 2 * PART_BYTES + 1])
async def test_a_long_stream_is_one_object_with_its_checksum(store: S3Store, raw: S3Client, size: int) -> None:
    data = os.urandom(size)
    info = await store.put(A, pieces(data, 1_000_000), media_type=PNG, metadata={"n": "1"})
    assert (info.size_bytes, info.sha256) == (size, hashlib.sha256(data).hexdigest())
    head = await store.head(A)
    assert (head.size_bytes, head.sha256, head.generation) == (size, info.sha256, info.generation)
    assert (head.media_type, dict(head.metadata)) == (PNG, {"n": "1"})
    assert (await store.get(A)).data == data
    assert await keys_of(raw) == ["a"]


async def test_a_long_stream_is_conditional_too(store: S3Store) -> None:
    first = await store.put(A, pieces(b"1" * PART_BYTES, 1_000_000), media_type=PNG, if_absent=True)
    with pytest.raises(WriteConflict):
        await store.put(A, pieces(b"2" * PART_BYTES, 1_000_000), media_type=PNG, if_absent=True)
    await store.put(A, b"3", media_type=PNG, if_generation=first.generation)
    with pytest.raises(WriteConflict):
        await store.put(A, pieces(b"4" * PART_BYTES, 1_000_000), media_type=PNG, if_generation=first.generation)
    assert (await store.get(A)).data == b"3"


async def test_a_long_stream_that_breaks_off_leaves_nothing(store: S3Store, raw: S3Client) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"x" * (2 * PART_BYTES)
        raise RuntimeError("the camera fell over")

    with pytest.raises(RuntimeError, match="camera"):
        await store.put(A, failing(), media_type=PNG)
    assert await keys_of(raw) == []
    assert (await raw.call("list_multipart_uploads", Prefix=UPLOADS_PREFIX)).get("Uploads", []) == []


async def test_many_bytes_in_hand_are_sent_in_parts(store: S3Store) -> None:
    data = os.urandom(AT_ONCE_BYTES + 1)
    info = await store.put(A, memoryview(data), media_type=PNG)
    assert info.generation.strip('"').endswith(f"-{AT_ONCE_BYTES // PART_BYTES + 1}")
    got = await store.get(A)
    assert (got.data, got.info.sha256) == (data, hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize(("start", "end"), [(0, None), (1, None), (RANGE_BYTES - 1, RANGE_BYTES + 1), (5, None)])
async def test_a_large_object_is_read_by_ranges(store: S3Store, start: int, end: int | None) -> None:
    data = os.urandom(2 * RANGE_BYTES + 5)
    await store.put(A, data, media_type=PNG)
    async with store.open(A, start=start, end=end) as reader:
        chunks = [chunk async for chunk in reader]
    assert b"".join(chunks) == data[start:end]
    assert max(map(len, chunks)) <= 1 << 20


async def test_a_large_object_that_is_replaced_while_it_is_read_is_not_a_mixture(store: S3Store) -> None:
    await store.put(A, b"1" * (RANGE_BYTES + 1), media_type=PNG)
    async with store.open(A) as reader:
        await store.put(A, b"2" * (RANGE_BYTES + 1), media_type=PNG)
        with pytest.raises(Unavailable) as caught:
            assert {chunk[0] async for chunk in reader} == {ord("1")}
    assert caught.value.reason == "OBJECT_CHANGED"


async def test_bytes_that_are_not_what_was_written_are_data_loss(store: S3Store, raw: S3Client) -> None:
    lie = {"imageflow-sha256": hashlib.sha256(b"good").hexdigest()}
    await raw.call("put_object", Key="a", Body=b"evil", Metadata=lie)
    with pytest.raises(DataLoss):
        await store.get(A)
    async with store.open(A) as reader:
        with pytest.raises(DataLoss):
            [chunk async for chunk in reader]
    async with store.open(A, start=1) as reader:
        assert [chunk async for chunk in reader] == [b"vil"]


async def test_what_other_programs_put_there_is_found(store: S3Store, raw: S3Client) -> None:
    await raw.call("put_object", Key="in.jpg", Body=b"jpeg", ContentType="image/jpeg", Metadata={"Camera": "x"})
    await raw.call("put_object", Key="folder/", Body=b"")
    got = await store.get(parse_key("in.jpg"))
    assert (got.data, got.info.media_type, got.info.sha256) == (b"jpeg", "image/jpeg", None)
    assert dict(got.info.metadata) == {"camera": "x"}
    assert [item.key for item in (await store.list("")).items] == ["in.jpg"]


async def put_empty(raw: S3Client, keys: list[ObjectKey]) -> None:
    """All by one request, of an archive: MinIO unpacks it."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for key in keys:
            tar.addfile(tarfile.TarInfo(key))
    await raw.call("put_object", Key="keys.tar", Body=archive.getvalue(), Metadata={"Snowball-Auto-Extract": "true"})


async def test_many_keys_are_listed_whole_and_in_order(store: S3Store, raw: S3Client, server: S3Server) -> None:
    proving = bool(os.environ.get("IMAGEFLOW_PROVE")) and server.name == "minio"
    count, page_size = (100_000, 1_000) if proving else (150, 40)
    keys = [parse_key(f"{number % 10}/{number:06d}") for number in range(count)]
    if proving:
        for start in range(0, count, 1_000):
            await put_empty(raw, keys[start : start + 1_000])
    else:
        await asyncio.gather(*(store.put(key, b"", media_type=PNG) for key in keys))
    listed: list[str] = []
    token = None
    while True:
        page = await store.list("", page_size=page_size, page_token=token)
        listed += [item.key for item in page.items]
        token = page.next_page_token
        if token is None:
            break
    assert listed == sorted(keys)


async def test_two_prefixes_of_a_bucket_are_two_stores(config: S3Config, store: S3Store, raw: S3Client) -> None:
    below = await S3Store.connect(replace(config, prefix="team/one/"))
    await below.put(parse_key("x/a"), b"theirs", media_type=PNG)
    await store.put(parse_key("x/b"), b"ours", media_type=PNG)
    assert [item.key for item in (await below.list("")).items] == ["x/a"]
    assert [item.key for item in (await below.list("", start_after="x/a")).items] == []
    assert (await below.get(parse_key("x/a"))).data == b"theirs"
    assert await keys_of(raw) == ["team/one/x/a", "x/b"]
    with pytest.raises(InvalidKey):
        await below.put(parse_key("/".join(["y" * 254] * 4)), b"", media_type=PNG)
    await below.close()


async def test_a_write_that_was_sent_twice_has_succeeded_once(store: S3Store, raw: S3Client) -> None:
    """The server does it, its answer gets lost, and the client sends it again."""
    sent: list[bool] = []

    async def twice(operation: str, **arguments: object) -> object:
        if operation == "put_object":
            sent.append(True)
            await raw.call(operation, **arguments)
        return await raw.call(operation, **arguments)

    writer = S3Store(raw)
    writer._uploads._client = type("Doubling", (), {"call": staticmethod(twice)})()
    first = await writer.put(A, b"one", media_type=PNG, if_absent=True)
    second = await writer.put(A, b"two", media_type=PNG, if_generation=first.generation)
    assert (len(sent), await store.head(A)) == (2, replace(second, modified=(await store.head(A)).modified))
    with pytest.raises(WriteConflict):
        await writer.put(A, b"three", media_type=PNG, if_generation=first.generation)


async def test_a_bucket_is_made_only_when_that_is_asked_for(config: S3Config) -> None:
    missing = replace(config, bucket=f"{config.bucket}-missing", create_bucket=False)
    with pytest.raises(FailedPrecondition) as caught:
        await S3Store.connect(missing)
    assert caught.value.reason == "BUCKET_NOT_FOUND"
    for _ in range(2):
        made = await S3Store.connect(replace(missing, create_bucket=True))
        await made.close()
    await (await S3Store.connect(missing)).close()


async def test_a_bucket_that_goes_is_told_from_an_object_that_is_not_there(store: S3Store, raw: S3Client) -> None:
    await raw.call("delete_bucket")
    for call in (store.get(A), store.head(A), store.list(""), store.put(A, b"", media_type=PNG)):
        with pytest.raises(FailedPrecondition) as caught:
            await call
        assert caught.value.reason == "BUCKET_NOT_FOUND"


@pytest.mark.parametrize("ignored", ["IfNoneMatch", "IfMatch"])
async def test_a_server_that_ignores_conditions_is_refused(raw: S3Client, store: S3Store, ignored: str) -> None:
    async def call(operation: str, **arguments: object) -> object:
        arguments.pop(ignored, None)
        return await raw.call(operation, **arguments)

    with pytest.raises(FailedPrecondition, match="If-") as caught:
        await require_conditional_writes(type("Ignoring", (), {"call": staticmethod(call)})(), "")
    assert caught.value.reason == "STORE_WITHOUT_CONDITIONS"
    assert await keys_of(raw) == []


@pytest.mark.parametrize(
    "credentials",
    [Credentials("nobody", SECRET_KEY), Credentials("imageflow", "wrong-secret-key")],
    ids=["unknown", "wrong"],
)
async def test_credentials_that_are_refused_are_not_told(config: S3Config, credentials: Credentials) -> None:
    with pytest.raises(PermissionDenied) as caught:
        await S3Store.connect(replace(config, credentials=credentials))
    told = f"{caught.value} {caught.value.__cause__} {caught.value.metadata} {config}"
    assert credentials.secret_key not in told
    assert SECRET_KEY not in told


async def test_a_server_that_is_not_there_is_unavailable(config: S3Config) -> None:
    (port,) = free_ports(1)
    nowhere = replace(config, endpoint=f"http://127.0.0.1:{port}", deadline=timedelta(seconds=5))
    with pytest.raises(Unavailable) as caught:
        await S3Store.connect(nowhere)
    assert caught.value.reason == "STORE_UNREACHABLE"
    assert str(port) not in caught.value.message


async def test_every_call_to_a_server_that_stands_still_ends(config: S3Config, server: S3Server) -> None:
    """Past every timeout, and in the middle of what is sent: then the server goes on, and so does the store."""
    store = await S3Store.connect(replace(config, attempt=timedelta(seconds=0.5), deadline=timedelta(seconds=1)))
    await store.put(A, b"before", media_type=PNG)
    large = os.urandom(AT_ONCE_BYTES)
    server.pause()
    try:
        calls = [
            store.put(A, b"small", media_type=PNG, if_absent=True),
            store.put(A, large, media_type=PNG),
            store.put(A, pieces(large, 1 << 20), media_type=PNG),
            store.get(A),
            store.head(A),
            store.list(""),
            store.delete(parse_key("b")),
        ]
        async with asyncio.timeout(30):
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
    finally:
        server.resume()
    assert [outcome.reason for outcome in outcomes if isinstance(outcome, ImageFlowError)] == ["STORE_TIMEOUT"] * 7
    async with asyncio.timeout(30):
        assert (await store.head(A)).sha256 is not None
        await store.close()
