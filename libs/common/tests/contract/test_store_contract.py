"""What every object store promises. A further store is a further entry of `STORES`."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio

from backends.pytest_fixtures import own_bucket
from imageflow_common.errors import (
    InvalidArgument,
    InvalidKey,
    ObjectNotFound,
    Unavailable,
    WriteConflict,
)
from imageflow_common.store import MAX_METADATA_BYTES, BytesLike, ObjectKey, ObjectStore, parse_key
from imageflow_common.store_local import LocalStore
from imageflow_common.store_observed import ObservedStore
from imageflow_common.store_s3 import S3Store
from imageflow_common.store_s3_client import S3Client, connect
from imageflow_common.store_s3_start import make_bucket

pytestmark = pytest.mark.asyncio(loop_scope="module")  # a client of S3 is dear to make, and belongs to one loop


@dataclass(frozen=True, slots=True)
class Kind:
    """A store, and in what its listings may differ."""

    name: str
    by_segments: bool = False
    lists_below_objects: bool = True

    def in_order(self, keys: Iterable[str]) -> list[str]:
        return sorted(keys, key=lambda key: key.encode().split(b"/") if self.by_segments else key.encode())


STORES = [
    Kind("local"),
    Kind("observed"),
    Kind("minio", lists_below_objects=False),
    Kind("seaweedfs", by_segments=True, lists_below_objects=False),
]


@pytest.fixture(params=STORES, ids=lambda kind: kind.name, scope="module")
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(kind: Kind, request: pytest.FixtureRequest) -> AsyncIterator[S3Client | None]:
    """The connections to the server of a kind that has one."""
    if kind.name in ("local", "observed"):
        yield None
        return
    connected = await connect(own_bucket(request.getfixturevalue(kind.name)))
    yield connected
    await connected.close()


@pytest_asyncio.fixture(loop_scope="module")
async def store(client: S3Client | None, kind: Kind, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    opened: ObjectStore
    opened = LocalStore(tmp_path / "store", durable=False) if client is None else await in_new_bucket(client)
    if kind.name == "observed":
        opened = ObservedStore(opened)
    try:
        yield opened
    finally:
        await opened.close()


async def in_new_bucket(client: S3Client) -> S3Store:
    own = client.of_bucket(f"contract-{uuid4().hex}")
    await make_bucket(own, "us-east-1")
    return S3Store(own)


A = parse_key("a")
PNG = "image/png"


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def put_all(store: ObjectStore, *keys: str) -> None:
    for key in keys:
        await store.put(parse_key(key), key.encode(), media_type=PNG)


async def list_keys(store: ObjectStore, prefix: str = "", *, page_size: int = 1000) -> list[str]:
    keys: list[str] = []
    token = None
    while True:
        page = await store.list(prefix, page_size=page_size, page_token=token)
        keys.extend(item.key for item in page.items)
        token = page.next_page_token
        if token is None:
            return keys


@pytest.mark.parametrize("data", [b"hello", bytearray(b"hello"), memoryview(b"hello"), b""])
async def test_what_was_put_is_got_with_all_that_belongs_to_it(store: ObjectStore, data: BytesLike) -> None:
    put = await store.put(A, data, media_type=PNG, metadata={"made-by": "resize 1.0"})
    got = await store.get(A)
    assert got.data == bytes(data)
    assert got.info == await store.head(A)
    assert (got.info.key, got.info.size_bytes, got.info.media_type) == (A, len(data), PNG)
    assert got.info.sha256 == put.sha256 == hashlib.sha256(data).hexdigest()
    assert got.info.metadata == {"made-by": "resize 1.0"}
    assert got.info.generation == put.generation
    assert abs(got.info.modified - datetime.now(UTC)) < timedelta(minutes=5)


async def test_a_stream_is_stored_as_its_bytes_are(store: ObjectStore) -> None:
    parts = [b"", b"ab", b"c" * 3_000_000, b"d"]
    info = await store.put(A, chunks(*parts), media_type=PNG)
    assert info.sha256 == hashlib.sha256(b"".join(parts)).hexdigest()
    assert (await store.get(A)).data == b"".join(parts)


async def test_an_empty_stream_is_an_empty_object(store: ObjectStore) -> None:
    await store.put(A, chunks(), media_type=PNG)
    assert (await store.get(A)).data == b""


async def test_a_stream_that_fails_leaves_the_old_object_and_its_own_error(store: ObjectStore) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"x" * 2_000_000
        raise RuntimeError("the camera fell over")

    await store.put(A, b"old", media_type=PNG)
    with pytest.raises(RuntimeError, match="camera"):
        await store.put(A, failing(), media_type=PNG)
    assert (await store.get(A)).data == b"old"


async def test_a_cancelled_stream_writes_nothing(store: ObjectStore) -> None:
    started = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x" * 2_000_000
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(store.put(A, endless(), media_type=PNG))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await list_keys(store) == []


async def test_a_put_replaces_bytes_and_metadata_together(store: ObjectStore) -> None:
    first = await store.put(A, b"one", media_type=PNG, metadata={"n": "1"})
    second = await store.put(A, b"two", media_type="image/jpeg")
    got = await store.get(A)
    assert (got.data, got.info.media_type, dict(got.info.metadata)) == (b"two", "image/jpeg", {})
    assert first.generation != second.generation == got.info.generation


async def test_a_reader_never_sees_one_write_with_the_metadata_of_another(store: ObjectStore) -> None:
    async def write(worker: int) -> None:
        for turn in range(40):
            text = f"{worker} {turn} " * (turn + 1)
            await store.put(A, text.encode(), media_type=PNG, metadata={"start": text[:10].strip()})

    async def read() -> None:
        while writing.done() is False:
            got = await store.get(A)
            assert hashlib.sha256(got.data).hexdigest() == got.info.sha256
            assert got.data.decode()[:10].strip() == got.info.metadata["start"]

    await store.put(A, b"0 0", media_type=PNG, metadata={"start": "0 0"})
    writing = asyncio.gather(*(write(worker) for worker in range(3)))
    await asyncio.gather(read(), read())
    await writing


async def test_an_object_that_is_not_there_is_not_found(store: ObjectStore) -> None:
    for key in ("a", "deep/er"):
        with pytest.raises(ObjectNotFound):
            await store.get(parse_key(key))
        with pytest.raises(ObjectNotFound):
            await store.head(parse_key(key))
        with pytest.raises(ObjectNotFound):
            async with store.open(parse_key(key)):
                pass


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(0, None, b"0123456789"), (3, None, b"3456789"), (0, 4, b"0123"), (8, 99, b"89"), (9, 10, b"9")],
)
async def test_a_range_is_read(store: ObjectStore, start: int, end: int | None, expected: bytes) -> None:
    await store.put(A, b"0123456789", media_type=PNG)
    async with store.open(A, start=start, end=end) as reader:
        assert reader.info.size_bytes == 10
        assert b"".join([chunk async for chunk in reader]) == expected


@pytest.mark.parametrize(("start", "end"), [(-1, None), (5, 5), (5, 2), (10, None), (11, 12)])
async def test_a_range_without_bytes_is_refused(store: ObjectStore, start: int, end: int | None) -> None:
    await store.put(A, b"0123456789", media_type=PNG)
    with pytest.raises(InvalidArgument):
        async with store.open(A, start=start, end=end):
            pass


async def test_an_empty_object_can_be_opened(store: ObjectStore) -> None:
    await store.put(A, b"", media_type=PNG)
    async with store.open(A) as reader:
        assert [chunk async for chunk in reader] == []


async def test_an_open_object_stays_what_it_was(store: ObjectStore) -> None:
    await store.put(A, b"old" * 1000, media_type=PNG)
    async with store.open(A) as reader:
        await store.put(A, b"new", media_type=PNG)
        assert b"".join([chunk async for chunk in reader]) == b"old" * 1000


async def test_if_absent_writes_only_where_nothing_is(store: ObjectStore) -> None:
    await store.put(A, b"one", media_type=PNG, if_absent=True)
    with pytest.raises(WriteConflict):
        await store.put(A, b"two", media_type=PNG, if_absent=True)
    assert (await store.get(A)).data == b"one"
    await store.delete(A)
    await store.put(A, b"three", media_type=PNG, if_absent=True)


async def test_if_generation_writes_only_over_that_generation(store: ObjectStore) -> None:
    first = await store.put(A, b"one", media_type=PNG)
    second = await store.put(A, b"two", media_type=PNG, if_generation=first.generation)
    with pytest.raises(WriteConflict):
        await store.put(A, b"three", media_type=PNG, if_generation=first.generation)
    assert (await store.head(A)).generation == second.generation


async def test_if_generation_conflicts_where_nothing_is(store: ObjectStore) -> None:
    info = await store.put(A, b"one", media_type=PNG)
    for key in ("b", "no/such/folder"):
        with pytest.raises(WriteConflict):
            await store.put(parse_key(key), b"x", media_type=PNG, if_generation=info.generation)
        with pytest.raises(WriteConflict):
            await store.delete(parse_key(key), if_generation=info.generation)
    assert await list_keys(store) == ["a"]


@pytest.mark.parametrize("fresh", [True, False])
async def test_of_many_conditional_writers_one_wins(store: ObjectStore, fresh: bool) -> None:
    before = None if fresh else (await store.put(A, b"before", media_type=PNG)).generation

    async def write(number: int) -> bool:
        try:
            await store.put(A, b"%d" % number, media_type=PNG, if_absent=fresh, if_generation=before)
        except WriteConflict:
            return False
        return True

    won = await asyncio.gather(*(write(number) for number in range(20)))
    assert sum(won) == 1
    assert (await store.get(A)).data == b"%d" % won.index(True)


async def test_delete_is_idempotent_unless_a_generation_is_expected(store: ObjectStore) -> None:
    first = await store.put(A, b"one", media_type=PNG)
    second = await store.put(A, b"two", media_type=PNG)
    with pytest.raises(WriteConflict):
        await store.delete(A, if_generation=first.generation)
    await store.delete(A, if_generation=second.generation)
    await store.delete(A)
    await store.delete(parse_key("never/was"))
    with pytest.raises(ObjectNotFound):
        await store.head(A)


@pytest.mark.parametrize("page_size", [1, 3, 1000])
async def test_a_key_is_an_object_and_a_prefix_at_once(store: ObjectStore, kind: Kind, page_size: int) -> None:
    keys = ["a", "a.png", "a.png/b", "a.png/b/c", "a/b", "a/b.dir", "a/b.dir/c", "a/b.object"]
    for key in keys:
        await put_all(store, key)
    for key in keys:
        assert (await store.get(parse_key(key))).data == key.encode()
    if kind.lists_below_objects:
        assert await list_keys(store, page_size=page_size) == kind.in_order(keys)
    await store.delete(A)
    for key in keys[1:]:
        assert (await store.get(parse_key(key))).data == key.encode()
    listed = await list_keys(store, "a/b", page_size=page_size)
    assert listed == keys[4:] or (not kind.lists_below_objects and listed == ["a/b", "a/b.dir", "a/b.object"])


async def test_keys_that_differ_in_case_alone_are_two(store: ObjectStore) -> None:
    await put_all(store, "Photo.PNG", "photo.png", "PHOTO/x.png")
    assert await list_keys(store) == ["PHOTO/x.png", "Photo.PNG", "photo.png"]


@pytest.mark.parametrize("page_size", [1, 2, 3, 1000])
async def test_a_listing_is_in_the_order_of_utf8_bytes_whatever_the_page(
    store: ObjectStore, kind: Kind, page_size: int
) -> None:
    keys = ["a", "a-b", "a0", "b/é", "b/z", "b/日本", "b/\U0001f600", "b/\ufb01", "b-c", "b/c/d", "b/c-d", "z.png"]
    await put_all(store, *reversed(keys))
    expected = kind.in_order(keys)
    assert await list_keys(store, page_size=page_size) == expected
    for prefix in ("a", "a/", "b/c", "b/", "b", "c", "b/z", "nowhere/x"):
        listed = await list_keys(store, prefix, page_size=page_size)
        assert listed == [key for key in expected if key.startswith(prefix)]


async def test_a_listing_begins_behind_a_key(store: ObjectStore) -> None:
    await put_all(store, "a/b", "a/c", "a/d/e", "b")
    for start_after, prefix, expected in [
        ("a/b", "", ["a/c", "a/d/e", "b"]),
        ("a/bb", "a/", ["a/c", "a/d/e"]),
        ("a/zzz", "a", []),
        ("a/\U0010ffff", "", ["b"]),
        ("a/b", "b", ["b"]),
        ("c", "b", []),
        ("a", "a/d", ["a/d/e"]),
    ]:
        page = await store.list(prefix, start_after=start_after)
        assert [item.key for item in page.items] == expected, (prefix, start_after)


async def test_a_listing_says_size_and_generation(store: ObjectStore) -> None:
    info = await store.put(A, b"12345", media_type=PNG)
    (item,) = (await store.list("")).items
    assert (item.size_bytes, item.generation) == (5, info.generation)
    assert abs(item.modified - info.modified) < timedelta(minutes=5)


async def test_a_page_goes_on_where_objects_were_deleted(store: ObjectStore) -> None:
    await put_all(store, "a", "b", "c")
    page = await store.list("", page_size=1)
    await store.delete(parse_key("a"))
    await store.delete(parse_key("b"))
    rest = await store.list("", page_token=page.next_page_token)
    assert [item.key for item in rest.items] == ["c"]
    assert rest.next_page_token is None


async def test_a_page_that_cannot_be_is_refused(store: ObjectStore) -> None:
    for page_size in (0, 1001):
        with pytest.raises(InvalidArgument):
            await store.list("", page_size=page_size)
    with pytest.raises(InvalidArgument):
        await store.list("", page_token="?!")
    with pytest.raises(InvalidArgument):
        await store.list("", page_token="YQ==", start_after="a")


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/..", "./a", "a\0b", "a\\b", "x" * 256])
async def test_a_key_that_was_not_parsed_is_refused_all_the_same(store: ObjectStore, key: str) -> None:
    for call in (store.get, store.head, store.delete):
        with pytest.raises(InvalidKey):
            await call(ObjectKey(key))
    with pytest.raises(InvalidKey):
        await store.put(ObjectKey(key), b"", media_type=PNG)
    with pytest.raises(InvalidKey):
        async with store.open(ObjectKey(key)):
            pass


@pytest.mark.parametrize("key", ["x" * 255, "/".join(["y" * 255] * 4), "é" * 127, "a" * 250 + ".png", "w/" * 60 + "w"])
async def test_long_keys_are_kept(store: ObjectStore, key: str) -> None:
    await put_all(store, key)
    assert (await store.get(parse_key(key))).data == key.encode()
    assert await list_keys(store) == [key]
    await store.delete(parse_key(key))
    assert await list_keys(store) == []


@pytest.mark.parametrize(
    ("media_type", "metadata"),
    [
        ("png", {}),
        ("", {}),
        ("image/png\r\nx: y", {}),
        (PNG, {"Upper": "x"}),
        (PNG, {"": "x"}),
        (PNG, {"a": "é"}),
        (PNG, {"a": "line\nbreak"}),
        (PNG, {"a": " x"}),
        (PNG, {"a": "x" * MAX_METADATA_BYTES}),
        (PNG, {"imageflow-sha256": "x"}),
    ],
)
async def test_options_that_no_store_could_keep_are_refused(
    store: ObjectStore, media_type: str, metadata: dict[str, str]
) -> None:
    with pytest.raises(InvalidArgument):
        await store.put(A, b"", media_type=media_type, metadata=metadata)


async def test_the_two_conditions_exclude_each_other(store: ObjectStore) -> None:
    with pytest.raises(InvalidArgument):
        await store.put(A, b"", media_type=PNG, if_absent=True, if_generation="x")


async def test_a_closed_store_is_unavailable(store: ObjectStore) -> None:
    await store.close()
    await store.close()
    with pytest.raises(Unavailable):
        await store.get(A)
